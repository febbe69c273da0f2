"""Which tokens a feature's decoder direction promotes and suppresses, at each checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.training_setting import trained_checkpoints
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.suites.token_text import token_text
from interventions import Model, readout

COLUMNS = ("feature", "revision", "side", "rank", "token", "effect")
"""Columns of `logit_effects`."""
CHUNK = 64
"""Features whose effects on the whole vocabulary are in memory at a time."""

Row = tuple[int, str, str, int, str, float]


@torch.no_grad()
def logit_effects(
    suite: Suite,
    crosscoder: CrossCoder,
    features: Sequence[int],
    *,
    top: int = 8,
    fold_norm: bool = True,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Find the tokens whose logits each feature's decoder direction raises most, and lowers most.

    ``W_U (g * W_dec[i, c] / s_c)`` minus its mean over the vocabulary: the direct path from the site to the logits for
    a feature that fires with activation 1; see `interventions.readout` for g, the weight of the folded final norm.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: trained at a site of the residual stream, or on what a component adds to it.
        features: feature numbers.
        top: number of tokens on each side.
        fold_norm: whether the weight of the final norm is included.
        compute: where and how the checkpoints are opened.

    Returns:
        One row for each checkpoint, side, feature and rank: feature, revision, side ("promoted", "suppressed"), rank
        (from 1), token (its text), effect (on the logit).

    Raises:
        CrosscoderError: a feature that does not exist, `top` below 1, or a crosscoder that does not fit the suite.

    Examples:
        >>> logit_effects(suite, crosscoder, [3, 17], top=5)  # doctest: +SKIP

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens", applied to decoder directions.
    """
    checkpoints = trained_checkpoints(suite, crosscoder)
    for feature in features:
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )
    if top < 1:
        raise CrosscoderError(f"top must be at least 1, not {top}.")
    tokenizer = suite.tokenizer

    with track("Logit effects", len(checkpoints), "checkpoints") as bar:

        def rows_at(checkpoint_index: int, model: Model) -> list[Row]:
            revision = checkpoints.revisions[checkpoint_index]
            bar.note(revision)
            rows: list[Row] = []
            for start in range(0, len(features), CHUNK):
                chunk = list(features[start : start + CHUNK])
                directions = crosscoder.directions()[chunk, checkpoint_index] / crosscoder.scales[checkpoint_index]
                effects = readout(model, directions, fold_norm=fold_norm).cpu()
                # Rows of the unembedding beyond the vocabulary are padding and stand for no token.
                effects = effects[:, : len(tokenizer)]
                rows.extend(_extreme_tokens(effects, chunk, revision, top, tokenizer))
            bar.advance()
            return rows

        rows_by_checkpoint = compute.each(checkpoints, rows_at)

    rows = [row for checkpoint_rows in rows_by_checkpoint for row in checkpoint_rows]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _extreme_tokens(
    effects: torch.Tensor, features: Sequence[int], revision: str, top: int, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Row]:
    """Rows of the `top` tokens on each side, from the effects of features (K) on the vocabulary (V), ``K V``."""
    for side, sign in (("promoted", 1), ("suppressed", -1)):
        values, tokens = (sign * effects).topk(min(top, effects.shape[1]))
        for feature, strengths, ids in zip(features, values.tolist(), tokens.tolist(), strict=True):
            for rank, (strength, token) in enumerate(zip(strengths, ids, strict=True), 1):
                yield feature, revision, side, rank, token_text(tokenizer, token), sign * strength
