"""Read a task or a text at every checkpoint of a crosscoder, and decompose the activations into its features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CorpusError, CrosscoderError
from crosstime.machine.progress import track
from crosstime.shown import Shown
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import TextSource, documents, sequences
from crosstime.suites.suite import Suite
from interventions import Baseline, Codes, Decomposition, Model, Prompts, Sequences, fetch
from interventions.estimator import BASELINES
from tasks import Task, TokenizedTask
from user_input.nearest import nearest


@dataclass(frozen=True, eq=False, repr=False)
class DecomposedTask(Shown):
    """A task's prompts, decomposed into the crosscoder's features at every checkpoint.

    Attributes:
        task: the tokenized task.
        prompts: its prompts as `interventions` takes them.
        clean: one decomposition a checkpoint; the codes are shared.
        patched: the same of the patch prompts, if the task has any.
    """

    task: TokenizedTask
    prompts: Prompts
    clean: tuple[Decomposition, ...]
    patched: tuple[Decomposition, ...] | None

    def headline(self) -> str:
        """How many prompts, and how many features fire on a token."""
        codes = self.clean[0].codes
        return (
            f"{len(self.prompts):,} prompts of {self.task.name}, {codes.n_tokens:,} tokens, at {len(self.clean)} "
            f"checkpoints; {codes.l0:.1f} of {codes.n_features:,} features fire on a token"
        )


def decompose_task(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask,
    *,
    compute: Compute = Compute(),
) -> DecomposedTask:
    """Read a task's activations at every checkpoint of the crosscoder and decompose them, one model at a time.

    With ``Compute(remote=...)``, a server runs the checkpoints, several at a time, and sends the activations.

    Raises:
        CrosscoderError: the crosscoder was trained on other checkpoints or another width.
        EmptyTaskError: no pair is left after tokenization.
    """
    chosen = fitting(suite, crosscoder)
    tokenized = task if isinstance(task, TokenizedTask) else task.tokenize(suite.tokenizer)
    prompts = Prompts.of(tokenized)
    both: list[Sequences] = [prompts] + ([prompts.patched] if prompts.patch is not None else [])
    site = crosscoder.origin.site
    found = [torch.empty(len(chosen), sequences.n_tokens, chosen.d_model) for sequences in both]
    with track(f"Reading {tokenized.name}", len(chosen)) as bar:

        def fill(c: int, model: Model) -> None:
            bar.note(chosen.revisions[c])
            for sequences, activations in zip(both, found, strict=True):
                activations[c] = fetch(model, sequences, [site], max_tokens=compute.max_tokens)[site]
            bar.advance()

        compute.each(chosen, fill)
    clean, *patched = (tuple(crosscoder.decompose(activations)) for activations in found)
    return DecomposedTask(tokenized, prompts, clean, patched[0] if patched else None)


def baseline_named(name: str, decomposed: DecomposedTask, checkpoint: int, seed: int) -> Baseline:
    """The state of a task's prompts that features are moved to, by name: zero, mean, resample or patch.

    Raises:
        CrosscoderError: there is no such baseline, or the task has no patch prompts.
    """
    clean: Decomposition = decomposed.clean[checkpoint]
    if name == "zero":
        return Baseline.zero(clean)
    if name == "mean":
        return Baseline.mean(clean)
    if name == "resample":
        return Baseline.resample(clean, decomposed.prompts, seed=seed)
    if name != "patch":
        raise CrosscoderError(f"There is no baseline {name!r}: {nearest(name, BASELINES)}")
    if decomposed.patched is None:
        raise CrosscoderError(f"Task {decomposed.task.name} has no patch prompts; use baseline='zero' or 'mean'.")
    return Baseline.patch(decomposed.patched[checkpoint])


def fitting(suite: Suite, crosscoder: CrossCoder) -> Suite:
    """The suite's checkpoints that the crosscoder was trained on, in its order.

    Raises:
        CrosscoderError: one of them is not in the suite, or has another width.
    """
    origin = crosscoder.origin
    missing = [revision for revision in origin.revisions if revision not in suite.revisions]
    if missing:
        raise CrosscoderError(
            f"This crosscoder was trained on {', '.join(origin.revisions)} of suite {origin.suite!r}, but suite "
            f"{suite.name!r} has no {', '.join(missing)}; it has {', '.join(suite.revisions)}."
        )
    chosen = suite.select(origin.revisions)
    if chosen.d_model != origin.d_model:
        raise CrosscoderError(
            f"This crosscoder is for activations of width {origin.d_model}, but those of suite {suite.name!r} have "
            f"{chosen.d_model}."
        )
    return chosen


def refuse_foreign(decomposed: DecomposedTask, crosscoder: CrossCoder) -> None:
    """Make sure that prompts were decomposed by a crosscoder of this size.

    Raises:
        CrosscoderError: they have another number of checkpoints or features.
    """
    found = len(decomposed.clean), decomposed.clean[0].codes.n_features
    if found != (crosscoder.n_checkpoints, crosscoder.n_features):
        raise CrosscoderError(
            f"Task {decomposed.task.name} was decomposed with a crosscoder of {found[0]} checkpoints and {found[1]} "
            f"features, but this one has {crosscoder.n_checkpoints} and {crosscoder.n_features}."
        )


@dataclass(frozen=True, eq=False, repr=False)
class DecomposedText(Shown):
    """Sequences of tokens, decomposed into a crosscoder's features at every checkpoint.

    Attributes:
        text: the sequences.
        decomposed: one decomposition a checkpoint, of all tokens but each sequence's first, whose activation is of
            another size and was left out of training.
        later: which tokens of `text` these are.
    """

    text: Sequences
    decomposed: tuple[Decomposition, ...]
    later: Bool[Tensor, " T"]

    def headline(self) -> str:
        """How much text, and how many features fire on a token of it."""
        codes = self.codes
        return (
            f"{len(self.text):,} sequences, {codes.n_tokens:,} tokens, at {len(self.decomposed)} checkpoints; "
            f"{codes.l0:.1f} of {codes.n_features:,} features fire on a token"
        )

    @property
    def codes(self) -> Codes:
        """The features' activations on those tokens, the same for all checkpoints."""
        return self.decomposed[0].codes

    @property
    def tokens(self) -> Int[Tensor, " N"]:
        """Ids of those tokens."""
        return self.text.tokens[self.later]

    @property
    def previous(self) -> Int[Tensor, " N"]:
        """Ids of the tokens before them."""
        return self.text.tokens[self.later.nonzero().squeeze(1) - 1]


def decompose_text(
    suite: Suite,
    crosscoder: CrossCoder,
    corpus: TextSource | Iterable[str] | Sequences,
    *,
    n_sequences: int = 128,
    sequence_length: int = 64,
    compute: Compute = Compute(),
) -> DecomposedText:
    """Read text at every checkpoint of a crosscoder, one model at a time, and decompose it into features.

    The activations of all checkpoints, C T D numbers, are held in memory.

    Args:
        suite, crosscoder: as for `attribute`.
        corpus: as for `train`, of which the first sequences are read; or the sequences themselves.
        n_sequences, sequence_length: how much of a corpus.
        compute: how the checkpoints are run.

    Raises:
        CorpusError: sequences of fewer than two tokens, none, or a text that does not fill one.
        CrosscoderError: the crosscoder was trained on other checkpoints or another width.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> text.codes.n_tokens == int(text.later.sum())  # doctest: +SKIP
        True
    """
    text = corpus if isinstance(corpus, Sequences) else _packed(suite, corpus, n_sequences, sequence_length)
    chosen = fitting(suite, crosscoder)
    site, later = crosscoder.origin.site, text.position_of_token > 0
    activations = torch.empty(len(chosen), int(later.sum()), chosen.d_model)
    with track("Reading text", len(chosen)) as bar:
        for c, checkpoint in enumerate(chosen):
            bar.note(checkpoint.revision)
            with compute.open(chosen, checkpoint.revision) as model:
                activations[c] = fetch(model, text, [site], max_tokens=compute.max_tokens)[site][later]
            bar.advance()
    return DecomposedText(text, tuple(crosscoder.decompose(activations)), later)


def _packed(suite: Suite, corpus: TextSource | Iterable[str], n_sequences: int, sequence_length: int) -> Sequences:
    if n_sequences < 1 or sequence_length < 2:
        raise CorpusError(f"reading needs at least one sequence of two tokens, not {n_sequences} of {sequence_length}")
    lines, _ = documents(corpus)
    rows = islice(sequences(lines, suite.tokenizer, sequence_length), n_sequences)
    return Sequences([tuple(row.tolist()) for row in rows])
