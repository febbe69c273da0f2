"""Which tokens a feature's decoder direction promotes and suppresses, at each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import fitting
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import readout

AT_ONCE = 64
"""Features whose effects on all tokens are held at the same time."""


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
    """The `top` tokens whose logit each feature's decoder direction raises most, and lowers most.

    ``W_U (g * W_dec[i, c] / s_c)``, less its mean over the vocabulary: the direct path from the site to the logits
    for a feature that fires with strength 1; see `interventions.readout` for g, the folded final norm.

    Args:
        suite: a suite that has the crosscoder's checkpoints.
        crosscoder: trained on them at a site of the residual stream, or on what is added to it.
        features: which features.
        top: tokens of each side.
        fold_norm: whether the final norm's weight is part of it.
        compute: how the checkpoints are opened.

    Returns:
        One row for each feature, checkpoint, side and rank: feature, revision, side ("promoted", "suppressed"),
        rank (from 1), token (its text), effect.

    Raises:
        CrosscoderError: a feature that does not exist, `top` below 1, or a crosscoder that does not fit.

    Examples:
        >>> logit_effects(suite, crosscoder, [3, 17], top=5)  # doctest: +SKIP
    """
    chosen = fitting(suite, crosscoder)
    for feature in features:
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )
    if top < 1:
        raise CrosscoderError(f"top must be at least 1, not {top}.")
    rows: list[dict[str, object]] = []
    with track("Logit effects", len(chosen)) as bar:
        for c, checkpoint in enumerate(chosen):
            bar.note(checkpoint.revision)
            with compute.open(chosen, checkpoint.revision) as model:
                for start in range(0, len(features), AT_ONCE):
                    some = list(features[start : start + AT_ONCE])
                    directions = crosscoder.W_dec[some, c] / crosscoder.scales[c]
                    effects = readout(model, directions, fold_norm=fold_norm).cpu()
                    # Rows of the unembedding beyond the vocabulary are padding that stands for no token.
                    effects = effects[:, : len(suite.tokenizer)]
                    for side, sign in (("promoted", 1), ("suppressed", -1)):
                        values, tokens = (sign * effects).topk(min(top, effects.shape[1]))
                        for feature, strengths, ids in zip(some, values.tolist(), tokens.tolist(), strict=True):
                            rows += [
                                {
                                    "feature": feature,
                                    "revision": checkpoint.revision,
                                    "side": side,
                                    "rank": rank,
                                    "token": token_text(suite.tokenizer, token),
                                    "effect": sign * strength,
                                }
                                for rank, (strength, token) in enumerate(zip(strengths, ids, strict=True), 1)
                            ]
            bar.advance()
    return pd.DataFrame(rows, columns=["feature", "revision", "side", "rank", "token", "effect"])


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as text; one that is only a part of a character as its number.

    Examples:
        >>> token_text(suite.tokenizer, 262)  # doctest: +SKIP
        ' the'
    """
    text = tokenizer.decode([token])
    return f"<{token}>" if "\N{REPLACEMENT CHARACTER}" in text else text
