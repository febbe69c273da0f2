"""The prompts and the text on which features fire, for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.report.page.context import Context
from crosstime.suites.token_text import readable_parts, token_text

if TYPE_CHECKING:
    from crosstime.crosscoders.decompose import DecomposedText
    from crosstime.effects.attribution import Attribution
    from interventions import Codes, Sequences


def contexts(
    decomposed: DecomposedTask,
    features: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    attribution: Attribution | None = None,
    most: int = 6,
) -> dict[int, list[Context]]:
    """Find, for each feature, the prompts of a task on which it fires most strongly.

    Args:
        decomposed: the decomposed task.
        features: feature numbers.
        tokenizer: gives the text of each token.
        attribution: of the same prompts. It adds the effect of the feature at each token and checkpoint, if effects
            were estimated by position (``ig``, ``atp``).
        most: largest number of prompts for each feature.

    Returns:
        For each feature its contexts, with the activation on every token, the strongest first.

    Examples:
        >>> contexts(decomposed, [3, 17], suite.tokenizer)[3][0].tokens  # doctest: +SKIP
        ('the', ' author', ' near', ' the', ' guards')
    """
    codes, prompts = decomposed.codes, decomposed.prompts
    contexts_of: dict[int, list[Context]] = {}
    for feature in features:
        activation = _activation(codes, feature)
        peak = _peak(activation, prompts)
        strongest = torch.argsort(peak, descending=True, stable=True)[:most].tolist()
        effects = {} if attribution is None else _token_effects(attribution, feature)
        contexts_of[feature] = [
            _task_context(decomposed, prompt, activation, effects, tokenizer)
            for prompt in strongest
            if peak[prompt] > 0
        ]
    return contexts_of


def corpus_contexts(
    decomposed: DecomposedText,
    features: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str = "corpus",
    most: int = 6,
    window: int = 12,
) -> dict[int, list[Context]]:
    """Find, for each feature, the excerpts of a text on which it fires most strongly.

    Every sequence gives at most one excerpt, and no two excerpts have the same tokens.

    Args:
        decomposed: decomposed text, see `decompose_text`.
        features: feature numbers.
        tokenizer: gives the text of each token.
        name: of the text.
        most: largest number of excerpts for each feature.
        window: number of tokens on either side of the strongest.

    Returns:
        For each feature its contexts, with the activation on every token, the strongest first.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> corpus_contexts(text, [3, 17], suite.tokenizer)[3][0].peak  # doctest: +SKIP
        4.2
    """
    text = decomposed.text
    contexts_of: dict[int, list[Context]] = {}
    for feature in features:
        # Sequences on which the feature fires, the strongest first
        activation = torch.zeros(text.n_tokens)
        activation[decomposed.token_mask] = _activation(decomposed.codes, feature)
        peak = _peak(activation, text)
        strongest = torch.argsort(peak, descending=True, stable=True)[: int((peak > 0).sum())].tolist()

        # A window around the strongest token of each, without repetitions
        excerpts: dict[tuple[int, ...], Context] = {}
        for sequence in strongest:
            if len(excerpts) == most:
                break
            start, length = int(text.starts[sequence]), int(text.lengths[sequence])
            sequence_activation = activation[start : start + length]
            centre = int(sequence_activation.argmax())
            first, last = max(0, centre - window), min(length, centre + window + 1)
            ids = tuple(text.ids[sequence][first:last])
            if ids not in excerpts:
                tokens, activations, _ = _by_part(tokenizer, ids, sequence_activation[first:last], {})
                excerpts[ids] = Context(name, tokens, activations, source="corpus")
        contexts_of[feature] = list(excerpts.values())

    return contexts_of


def silent_contexts(
    decomposed: DecomposedText,
    features: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str = "corpus",
    most: int = 6,
    window: int = 12,
    seed: int = 0,
) -> dict[int, list[Context]]:
    """Draw, for each feature, random excerpts of a text on which it does not fire.

    Every sequence gives at most one excerpt, and no two excerpts of a feature have the same tokens.

    Args:
        decomposed: decomposed text, see `decompose_text`.
        features: feature numbers.
        tokenizer: gives the text of each token.
        name: of the text.
        most: largest number of excerpts for each feature; features that fire nearly everywhere get fewer.
        window: an excerpt has twice as many tokens and one, or those of a shorter sequence, as in `corpus_contexts`.
        seed: of the draw.

    Returns:
        For each feature its excerpts, with zero activations.

    Examples:
        >>> silent_contexts(text, [3, 17], suite.tokenizer)[3][0].peak  # doctest: +SKIP
        0
    """
    text = decomposed.text
    contexts_of: dict[int, list[Context]] = {}
    for feature in features:
        activation = torch.zeros(text.n_tokens)
        activation[decomposed.token_mask] = _activation(decomposed.codes, feature)

        # A random window of each sequence, in random order
        generator = torch.Generator().manual_seed(seed)
        excerpts: dict[tuple[int, ...], Context] = {}
        for sequence in torch.randperm(len(text), generator=generator).tolist():
            start, length = int(text.starts[sequence]), int(text.lengths[sequence])
            n_tokens = min(length, 2 * window + 1)
            first = int(torch.randint(length - n_tokens + 1, (), generator=generator))
            ids = tuple(text.ids[sequence][first : first + n_tokens])
            if ids not in excerpts and not activation[start + first : start + first + n_tokens].any():
                tokens, activations, _ = _by_part(tokenizer, ids, torch.zeros(n_tokens), {})
                excerpts[ids] = Context(name, tokens, activations, source="corpus")
            if len(excerpts) == most:
                break
        contexts_of[feature] = list(excerpts.values())

    return contexts_of


def _activation(codes: Codes, feature: int) -> Float[Tensor, " T"]:
    """Activation of a feature on every token."""
    entries = codes.feature == feature
    activation = torch.zeros(codes.n_tokens)
    activation[codes.token[entries]] = codes.value[entries].float()
    return activation


def _peak(activation: Float[Tensor, " T"], sequences: Sequences) -> Float[Tensor, " P"]:
    """The largest activation in each sequence; 0 where the feature does not fire."""
    return torch.zeros(len(sequences)).scatter_reduce(0, sequences.sequence_of_token, activation, "amax")


def _token_effects(attribution: Attribution, feature: int) -> dict[str, Float[Tensor, " T"]]:
    """Effect of a feature at each token of all prompts, for the checkpoints with effects by position."""
    prompts = attribution.decomposed.prompts
    token_effects: dict[str, Tensor] = {}
    for revision, effects in zip(attribution.revisions, attribution.effects, strict=True):
        if effects.position is None:
            continue
        entries = effects.feature == feature
        token = prompts.starts[effects.prompt[entries]] + effects.position[entries]
        zeros = torch.zeros(prompts.n_tokens)
        token_effects[revision] = zeros.index_add(0, token, effects.value[entries].float())
    return token_effects


def _task_context(
    decomposed: DecomposedTask,
    prompt: int,
    activation: Float[Tensor, " T"],
    effects: Mapping[str, Float[Tensor, " T"]],
    tokenizer: PreTrainedTokenizerBase,
) -> Context:
    """The context of one prompt, from activation and effects on the tokens of all prompts."""
    prompts, pair = decomposed.prompts, decomposed.task.pairs[prompt]
    start, length = int(prompts.starts[prompt]), int(prompts.lengths[prompt])
    own_effects = {revision: values[start : start + length] for revision, values in effects.items()}
    tokens, activations, effects_by_part = _by_part(
        tokenizer, prompts.ids[prompt], activation[start : start + length], own_effects
    )
    return Context(
        task=decomposed.task.name,
        tokens=tokens,
        activations=activations,
        right=token_text(tokenizer, int(prompts.right[prompt])),
        wrong=token_text(tokenizer, int(prompts.wrong[prompt])),
        label=pair.labels.get("case", ""),
        effects=effects_by_part,
    )


def _by_part(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    activation: Float[Tensor, " T"],
    effects: Mapping[str, Float[Tensor, " T"]],
) -> tuple[tuple[str, ...], tuple[float, ...], dict[str, tuple[float, ...]]]:
    """Text, activation and effects of each token; those that make one character together are one.

    Such tokens have the largest of their activations, and the sum of their effects.
    """
    parts = list(readable_parts(tokenizer, ids))
    spans = [slice(start, start + n_tokens) for start, _, n_tokens in parts]
    texts = tuple(text for _, text, _ in parts)
    largest = tuple(activation[span].max().item() for span in spans)
    sums = {revision: tuple(values[span].sum().item() for span in spans) for revision, values in effects.items()}
    return texts, largest, sums
