"""A task's prompts, read at every checkpoint of a crosscoder and decomposed into its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crosstime.compute import Compute
from crosstime.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.progress import track
from crosstime.showing import Shown
from crosstime.suite import Suite
from interventions import Baseline, Decomposition, Model, Prompts, Remote, Sequences, fetch
from tasks import Task, TokenizedTask
from tasks.errors import nearest

BASELINES = ("zero", "mean", "resample", "patch")
"""What features can be moved to, by name; see `baseline_named`."""


@dataclass(frozen=True, eq=False, repr=False)
class Spliced(Shown):
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


def splice(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask,
    *,
    compute: Compute = Compute(),
    remote: Remote | str | bool | None = None,
    progress: bool | None = None,
) -> Spliced:
    """Read a task's activations at every checkpoint of the crosscoder and decompose them, one model at a time.

    With `remote`, a server runs the checkpoints, several at a time, and sends the activations; see `Compute`.

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
    compute = compute.at(remote)
    with track(f"Reading {tokenized.name}", len(chosen), shown=progress) as bar:

        def fill(c: int, model: Model) -> None:
            bar.note(chosen.revisions[c])
            for sequences, activations in zip(both, found, strict=True):
                activations[c] = fetch(model, sequences, [site], max_tokens=compute.max_tokens)[site]
            bar.advance()

        compute.each(chosen, fill)
    clean, *patched = (tuple(crosscoder.decompose(activations)) for activations in found)
    return Spliced(tokenized, prompts, clean, patched[0] if patched else None)


def baseline_named(name: str, spliced: Spliced, checkpoint: int, seed: int) -> Baseline:
    """The state of a task's prompts that features are moved to, by name: zero, mean, resample or patch.

    Raises:
        CrosscoderError: there is no such baseline, or the task has no patch prompts.
    """
    clean: Decomposition = spliced.clean[checkpoint]
    if name == "zero":
        return Baseline.zero(clean)
    if name == "mean":
        return Baseline.mean(clean)
    if name == "resample":
        return Baseline.resample(clean, spliced.prompts, seed=seed)
    if name != "patch":
        raise CrosscoderError(f"There is no baseline {name!r}: {nearest(name, BASELINES)}")
    if spliced.patched is None:
        raise CrosscoderError(f"Task {spliced.task.name} has no patch prompts; use baseline='zero' or 'mean'.")
    return Baseline.patch(spliced.patched[checkpoint])


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


def refuse_foreign(spliced: Spliced, crosscoder: CrossCoder) -> None:
    """Make sure that prompts were decomposed by a crosscoder of this size.

    Raises:
        CrosscoderError: they have another number of checkpoints or features.
    """
    found = len(spliced.clean), spliced.clean[0].codes.n_features
    if found != (crosscoder.n_checkpoints, crosscoder.n_features):
        raise CrosscoderError(
            f"Task {spliced.task.name} was spliced with a crosscoder of {found[0]} checkpoints and {found[1]} "
            f"features, but this one has {crosscoder.n_checkpoints} and {crosscoder.n_features}."
        )
