"""Decompose the activations of a task, or of text, into a crosscoder's features at every checkpoint.

The algorithm, for a crosscoder of C checkpoints, F features and width D:

1. *Read the activations.* Each of the C models runs the T tokens up to the crosscoder's site, one model in memory at a
   time. That gives ``x``, of shape C T D, in each model's own scale.
2. *Encode once.* All checkpoints share one code, ``f = act(sum_c W_enc[c] s_c x_c + b_enc)``, of shape T F, of which
   only the non-zeros are kept (`interventions.Codes`). A crosscoder with a gate per checkpoint has a code ``f_c`` at
   each of them, which takes the place of f below.
3. *Decompose at every checkpoint.* ``x_c = f @ directions_c + bias_c + error_c`` with
   ``directions_c = W_dec[:, c] / s_c`` and ``bias_c = b_dec[c] / s_c``: the scales ``s_c = sqrt(D) / E||x_c||``, which
   made the checkpoints comparable in training, are divided out again. The error term is what the crosscoder does not
   reconstruct. Since it is kept, the sum is exact, and a feature can be changed while everything else in the
   activation stays as it was.

Source: Lindsey et al. 2024, Sparse Crosscoders; CTT (arXiv 2509.05291), section 3.1; the error term is that of Marks et
al. (arXiv 2403.19647), section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, DictionarySource, as_crosscoder
from crosstime.crosscoders.training_setting import start_of_prompts, trained_checkpoints, trained_start
from crosstime.display import Display
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.read_text import read_text
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Baseline, Codes, Decomposition, Model, Prompts, Sequences, Site, fetch
from interventions.option_names import BASELINES
from tasks import Task, TokenizedTask
from tasks.registry import as_task
from user_input.nearest import nearest


@dataclass(frozen=True, eq=False, repr=False)
class DecomposedTask(Display):
    """A task's prompts, decomposed into the crosscoder's features at every checkpoint.

    Attributes:
        task: the tokenized task.
        prompts: its prompts, in the form that `interventions` takes.
        clean: decomposition of the prompts at each checkpoint; all of them share their codes, unless the crosscoder has
            a gate per checkpoint.
        patched: the same for the patch prompts; None if the task has none.
    """

    task: TokenizedTask
    prompts: Prompts
    clean: tuple[Decomposition, ...]
    patched: tuple[Decomposition, ...] | None

    def headline(self) -> str:
        """The number of prompts, tokens and checkpoints, and the mean number of active features of a token."""
        codes = self.codes
        return (
            f"{len(self.prompts):,} prompts of {self.task.name}, {codes.n_tokens:,} tokens, at {len(self.clean)} "
            f"checkpoints; {codes.l0:.1f} of {codes.n_features:,} features fire on a token"
        )

    @cached_property
    def codes(self) -> Codes:
        """Activations of the features on the prompts; see `joint_codes`."""
        return joint_codes(self.clean)

    def baseline(self, name: str, checkpoint_index: int, *, seed: int = 0) -> Baseline:
        """The state that features are moved to at one checkpoint, by the name of the baseline.

        Args:
            name: zero, mean, resample or patch.
            checkpoint_index: index of the checkpoint.
            seed: of the draw of prompts, for ``resample``.

        Raises:
            CrosscoderError: there is no such baseline, or the task has no patch prompts.
        """
        refuse_baseline(name, self)
        patched = None if self.patched is None else self.patched[checkpoint_index]
        return Baseline.named(name, self.clean[checkpoint_index], self.prompts, patched, seed=seed)


TaskInput = Task | TokenizedTask | DecomposedTask | str
"""The forms in which a task is given: its name, minimal pairs, their tokens, or what `decompose_task` returned."""


def refuse_baseline(name: str, task: TaskInput) -> None:
    """Refuse a baseline that does not exist, or that needs patch prompts which a task does not have.

    Raises:
        CrosscoderError: names the nearest baseline, or the task.
    """
    if name not in BASELINES:
        raise CrosscoderError(f"There is no baseline {name!r}: {nearest(name, BASELINES)}")
    task = as_task(task)
    match task:
        case DecomposedTask():
            task_name, has_patch = task.task.name, task.patched is not None
        case TokenizedTask():
            task_name, has_patch = task.name, task.patch is not None
        case _:
            task_name, has_patch = task.name, task.has_patch
    if name == "patch" and not has_patch:
        raise CrosscoderError(f"Task {task_name} has no patch prompts; use baseline='zero' or 'mean'.")


Transform = Callable[[Float[Tensor, "C N D"]], Float[Tensor, "C N D"]]
"""A change of the activations of N tokens at C checkpoints, in the models' own scale."""


@dataclass(frozen=True, eq=False, repr=False)
class DecomposedText(Display):
    """Token sequences, decomposed into a crosscoder's features at every checkpoint.

    The first token of every sequence is left out, as in training: its activation has an unusually large norm. N is the
    number of the other tokens.

    Attributes:
        text: the sequences, T tokens.
        decompositions: decomposition of the N tokens at each checkpoint; all of them share their codes, unless the
            crosscoder has a gate per checkpoint.
        token_mask: for each of the T tokens, whether it is one of the N.
    """

    text: Sequences
    decompositions: tuple[Decomposition, ...]
    token_mask: Bool[Tensor, " T"]

    def headline(self) -> str:
        """The amount of text, and the mean number of active features of a token."""
        codes = self.codes
        return (
            f"{len(self.text):,} sequences, {codes.n_tokens:,} tokens, at {len(self.decompositions)} checkpoints; "
            f"{codes.l0:.1f} of {codes.n_features:,} features fire on a token"
        )

    @cached_property
    def codes(self) -> Codes:
        """Activations of the features on the N tokens; see `joint_codes`."""
        return joint_codes(self.decompositions)

    @property
    def tokens(self) -> Int[Tensor, " N"]:
        """Ids of the N tokens."""
        return self.text.tokens[self.token_mask]

    @property
    def previous(self) -> Int[Tensor, " N"]:
        """Ids of the tokens that precede the N tokens."""
        return self.text.tokens[self.token_mask.nonzero().squeeze(1) - 1]


def joint_codes(decompositions: Sequence[Decomposition]) -> Codes:
    """The activation of each feature on each token, whatever the checkpoint: the largest at any of them.

    With one gate for all checkpoints, these are the codes that all of them share. With a gate per checkpoint, f_ic is
    either ``relu(pre_i)`` or zero, and the gate opens first where the decoder norm is largest: the joint code is that
    of the checkpoint at which the feature's decoder norm peaks.

    Args:
        decompositions: of the same tokens at each checkpoint, as `CrossCoder.decompose` returns them.
    """
    return Codes.maximum([decomposition.codes for decomposition in decompositions])


def prepare_task(
    suite: Suite, crosscoder: Dictionary, task: TaskInput, compute: Compute = Compute(), *, baseline: str | None = None
) -> tuple[Suite, DecomposedTask]:
    """Select the crosscoder's checkpoints and decompose a task at them, unless it is decomposed already.

    Every function that works on a task and a crosscoder begins with this.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features.
        task: a task in any form; passing a `DecomposedTask` saves reading the activations again.
        compute: where and how the checkpoints run.
        baseline: name of the baseline that will be asked for, which is checked before any activation is read.

    Returns:
        The suite of the crosscoder's C checkpoints in its order, and the decomposed task.

    Raises:
        CrosscoderError: the crosscoder was trained on other checkpoints or another width, or the task was decomposed
            with a crosscoder of another size, or there is no such baseline for it.
        EmptyTaskError: no pair is left after tokenization.

    Examples:
        >>> checkpoints, decomposed = prepare_task(suite, crosscoder, task)  # doctest: +SKIP
        >>> len(checkpoints) == len(decomposed.clean)  # doctest: +SKIP
        True
    """
    checkpoints = trained_checkpoints(suite, crosscoder)
    task = as_task(task)
    if baseline is not None:
        refuse_baseline(baseline, task)
    decomposed = task if isinstance(task, DecomposedTask) else decompose_task(suite, crosscoder, task, compute=compute)
    _check_size(decomposed, crosscoder)
    return checkpoints, decomposed


def decompose_task(
    suite: Suite,
    crosscoder: DictionarySource,
    task: Task | TokenizedTask | str,
    *,
    compute: Compute = Compute(),
) -> DecomposedTask:
    """Read a task's activations at every checkpoint of the crosscoder and decompose them, one model at a time.

    With ``Compute(remote=...)``, a server runs the checkpoints, several at a time, and sends the activations. The start
    token of a prompt is left as it is in all that follows (`Decomposition.fixed`), since training leaves it out.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, or its path or repository.
        task: minimal pairs, or their tokens, or the name of a task.
        compute: where and how the checkpoints run.

    Returns:
        The prompts, and their decomposition at each checkpoint; also that of the patch prompts, if the task has them.

    Raises:
        CrosscoderError: the crosscoder was trained on other checkpoints or another width.
        EmptyTaskError: no pair is left after tokenization.

    Examples:
        >>> decompose_task(suite, crosscoder, ct.tasks.load("agreement"))  # doctest: +SKIP
    """
    crosscoder = as_crosscoder(crosscoder)
    checkpoints = trained_checkpoints(suite, crosscoder)

    # Tokenize the prompts, and the patch prompts of tasks that have them
    resolved_task = as_task(task)
    tokenized = resolved_task if isinstance(resolved_task, TokenizedTask) else resolved_task.tokenize(suite.tokenizer)
    prompts = Prompts.of(tokenized)
    texts: list[Sequences] = [prompts] if prompts.patch is None else [prompts, prompts.patched]

    masks = start_of_prompts(texts, checkpoints, crosscoder)

    # Read the activations at every checkpoint
    title = f"Reading {tokenized.name}"
    activations = _read_activations(checkpoints, crosscoder.origin.site, texts, compute, title)

    # Encode once, and decompose at every checkpoint
    clean, *patched = (tuple(crosscoder.decompose(x, fixed)) for x, fixed in zip(activations, masks, strict=True))
    return DecomposedTask(tokenized, prompts, clean, patched[0] if patched else None)


def decompose_text(
    suite: Suite,
    crosscoder: CrosscoderSource,
    corpus: TextSource | Iterable[str] | Sequences,
    *,
    sample: TextSample = TextSample(),
    transform: Transform | None = None,
    compute: Compute = Compute(),
) -> DecomposedText:
    """Read text at every checkpoint of a crosscoder, one model at a time, and decompose it into features.

    The activations of all checkpoints, C T D numbers, are held in memory.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features.
        corpus: text as `train` takes it, of which the first sequences are read; or the sequences themselves.
        sample: how much of a corpus is read; sequences that are given are read in full.
        transform: applied to the activations of all checkpoints before they are decomposed, as a null model asks for;
            by default nothing.
        compute: where and how the checkpoints run.

    Returns:
        The sequences, and their decomposition at each checkpoint.

    Raises:
        CorpusError: the text is missing or broken, or does not fill one sequence.
        CrosscoderError: the crosscoder was trained on other checkpoints or another width.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> text.codes.n_tokens == int(text.token_mask.sum())  # doctest: +SKIP
        True
    """
    crosscoder = as_crosscoder(crosscoder)
    checkpoints = trained_checkpoints(suite, crosscoder)
    if isinstance(corpus, Sequences):
        text = corpus
    else:
        text = read_text(suite, corpus, sample, start=trained_start(suite, crosscoder))
    token_mask = text.position_of_token > 0
    site = crosscoder.origin.site
    (activations,) = _read_activations(checkpoints, site, [text], compute, "Reading text", token_mask)
    if transform is not None:
        activations = transform(activations)
    return DecomposedText(text, tuple(crosscoder.decompose(activations)), token_mask)


def _read_activations(
    checkpoints: Suite,
    site: Site,
    texts: Sequence[Sequences],
    compute: Compute,
    title: str,
    token_mask: Bool[Tensor, " T"] | None = None,
) -> list[Float[Tensor, "C N D"]]:
    """Activations of each text at every checkpoint; `token_mask` selects the tokens to keep, by default all."""
    keep = slice(None) if token_mask is None else token_mask
    n_tokens = [text.n_tokens if token_mask is None else int(token_mask.sum()) for text in texts]
    activations = [torch.empty(len(checkpoints), n, checkpoints.d_model) for n in n_tokens]
    with track(title, len(checkpoints), "checkpoints") as bar:

        def read(checkpoint_index: int, model: Model) -> None:
            bar.note(checkpoints.revisions[checkpoint_index])
            for text, x in zip(texts, activations, strict=True):
                x[checkpoint_index] = fetch(model, text, [site])[site][keep]
            bar.advance()

        compute.each(checkpoints, read)
    return activations


def _check_size(decomposed: DecomposedTask, crosscoder: Dictionary) -> None:
    """Refuse a task that was decomposed with a crosscoder of another size."""
    n_checkpoints, n_features = len(decomposed.clean), decomposed.clean[0].codes.n_features
    if (n_checkpoints, n_features) != (crosscoder.n_checkpoints, crosscoder.n_features):
        raise CrosscoderError(
            f"Task {decomposed.task.name} was decomposed with a crosscoder of {n_checkpoints} checkpoints and "
            f"{n_features} features, but this one has {crosscoder.n_checkpoints} and {crosscoder.n_features}."
        )
