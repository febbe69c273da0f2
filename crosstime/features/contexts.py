"""The prompts and the text on which features fire, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.report.page.context import Context

if TYPE_CHECKING:
    from crosstime.crosscoders.decompose import DecomposedText
    from crosstime.effects.attribute import Attribution
    from interventions import Codes


def contexts(
    decomposed: DecomposedTask,
    features: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    attribution: Attribution | None = None,
    most: int = 6,
) -> dict[int, list[Context]]:
    """For each feature, the prompts of a task on which it fires most strongly, with every token's activation.

    Args:
        decomposed: a task's decomposed prompts; the codes are those shared by all checkpoints.
        features: which features.
        tokenizer: gives each token's text.
        attribution: of the same prompts; adds the effect of the feature at each token and checkpoint, where it was
            measured by position (``ig``, ``atp``).
        most: prompts a feature.

    Examples:
        >>> contexts(decomposed, [3, 17], suite.tokenizer)[3][0].tokens  # doctest: +SKIP
        ('the', ' author', ' near', ' the', ' guards')
    """
    codes, prompts = decomposed.clean[0].codes, decomposed.prompts
    found: dict[int, list[Context]] = {}
    for feature in features:
        activation = _activation(codes, feature)
        peak = torch.zeros(len(prompts)).scatter_reduce(0, prompts.sequence_of_token, activation, "amax")
        strongest = torch.argsort(peak, descending=True, stable=True)[:most].tolist()
        effects = {} if attribution is None else _effects(attribution, feature)
        found[feature] = [
            _context(decomposed, prompt, activation, effects, tokenizer) for prompt in strongest if peak[prompt] > 0
        ]
    return found


def corpus_contexts(
    found: DecomposedText,
    features: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str = "corpus",
    most: int = 6,
    window: int = 12,
) -> dict[int, list[Context]]:
    """For each feature, the pieces of text on which it fires most strongly, one a sequence and no two alike.

    Args:
        found: text decomposed by the crosscoder: `crosstime.crosscoders.decompose.decompose_text`.
        features: which features.
        tokenizer: gives each token's text.
        name: what the text is called.
        most: pieces a feature.
        window: tokens shown on either side of the strongest.

    Examples:
        >>> found = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> corpus_contexts(found, [3, 17], suite.tokenizer)[3][0].peak  # doctest: +SKIP
        4.2
    """
    text, codes = found.text, found.codes
    listed: dict[int, list[Context]] = {}
    for feature in features:
        activation = torch.zeros(text.n_tokens)
        activation[found.token_mask] = _activation(codes, feature)
        peak = torch.zeros(len(text)).scatter_reduce(0, text.sequence_of_token, activation, "amax")
        strongest = torch.argsort(peak, descending=True, stable=True)[: int((peak > 0).sum())].tolist()
        listed[feature], seen = [], set()
        for sequence in strongest:
            if len(listed[feature]) == most:
                break
            start, length = int(text.starts[sequence]), int(text.lengths[sequence])
            here = activation[start : start + length]
            centre = int(here.argmax())
            first, last = max(0, centre - window), min(length, centre + window + 1)
            ids = tuple(text.ids[sequence][first:last])
            if ids in seen:
                continue
            seen.add(ids)
            listed[feature].append(
                Context(
                    task=name,
                    tokens=tuple(tokenizer.decode([token]) for token in ids),
                    activations=tuple(here[first:last].tolist()),
                    source="corpus",
                )
            )
    return listed


def density(codes: Codes) -> Float[Tensor, " F"]:
    """Share of tokens on which each feature fires.

    Examples:
        >>> from interventions import Codes
        >>> density(Codes.from_dense(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))).tolist()
        [0.5, 1.0]
    """
    fires = torch.bincount(codes.feature[codes.value != 0], minlength=codes.n_features)
    return fires.double() / max(1, codes.n_tokens)


def _activation(codes: Codes, feature: int) -> Float[Tensor, " T"]:
    entries = codes.feature == feature
    activation = torch.zeros(codes.n_tokens)
    activation[codes.token[entries]] = codes.value[entries].float()
    return activation


def _effects(attribution: Attribution, feature: int) -> dict[str, Float[Tensor, " T"]]:
    """The feature's effect at each token of all prompts, by checkpoint."""
    prompts = attribution.decomposed.prompts
    found = {}
    for revision, result in zip(attribution.revisions, attribution.effects, strict=True):
        if result.position is None:
            continue
        entries = result.feature == feature
        token = prompts.starts[result.prompt[entries]] + result.position[entries]
        found[revision] = torch.zeros(prompts.n_tokens).index_add(0, token, result.value[entries].float())
    return found


def _context(
    decomposed: DecomposedTask,
    prompt: int,
    activation: Float[Tensor, " T"],
    effects: dict[str, Float[Tensor, " T"]],
    tokenizer: PreTrainedTokenizerBase,
) -> Context:
    prompts, pair = decomposed.prompts, decomposed.task.pairs[prompt]
    start, length = int(prompts.starts[prompt]), int(prompts.lengths[prompt])
    return Context(
        task=decomposed.task.name,
        tokens=tuple(tokenizer.decode([token]) for token in prompts.ids[prompt]),
        activations=tuple(activation[start : start + length].tolist()),
        right=tokenizer.decode([prompts.right[prompt]]),
        wrong=tokenizer.decode([prompts.wrong[prompt]]),
        label=pair.labels.get("case", ""),
        effects={revision: tuple(values[start : start + length].tolist()) for revision, values in effects.items()},
    )
