"""Cut work into batches under a token budget, and halve the budget when a batch does not fit into memory."""

from __future__ import annotations

import ctypes
import gc
import os
import warnings
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from interventions.errors import MemoryBudgetError
from interventions.prompts import Batch, Sequences

_LIBC = ctypes.CDLL(None) if os.name == "posix" else None


def split_by_tokens(lengths: Int[Tensor, " P"], max_tokens: int, *, equal_lengths: bool = False) -> Iterator[slice]:
    """Cut lengths into runs whose padded size, count times longest, stays within `max_tokens`.

    Lengths in ascending order need the least padding. A single length above the budget is a run by itself. With
    `equal_lengths`, a run holds one length only and needs no padding.

    Yields:
        A slice of `lengths` for each run.

    Examples:
        >>> list(split_by_tokens(torch.tensor([2, 2, 3, 9]), 8))
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start = longest = 0
    for end, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        differs = equal_lengths and end > start and longest != int(lengths[start])
        if end > start and (differs or (end - start + 1) * longest > max_tokens):
            yield slice(start, end)
            start, longest = end, length
    if start < len(lengths):
        yield slice(start, len(lengths))


def for_each_run(
    lengths: Int[Tensor, " P"],
    max_tokens: int,
    work: Callable[[slice, int], None],
    *,
    equal_lengths: bool = False,
) -> None:
    """Call ``work(run, budget)`` on runs of `lengths`; when a run does not fit into memory, halve the budget.

    A warning says which budget did fit, to be set from the start.

    Args:
        lengths: tokens of each sequence.
        max_tokens: the budget of the first run.
        work: called with the slice of `lengths` and the current budget. It is called again for the same sequences after
            it ran out of memory, so it must write its results to fixed positions instead of appending them.
        equal_lengths: see `split_by_tokens`.

    Raises:
        MemoryBudgetError: a run of one sequence does not fit.
    """
    budget, start = max_tokens, 0
    while start < len(lengths):
        # Work until the end, or until a run does not fit into memory
        for run in split_by_tokens(lengths[start:], budget, equal_lengths=equal_lengths):
            run = slice(run.start + start, run.stop + start)
            try:
                work(run, budget)
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                width = int(lengths[run].max())
                if run.stop - run.start == 1 and budget <= width:
                    raise MemoryBudgetError(
                        f"Out of memory on a single sequence of {width} tokens; use shorter prompts, a smaller dtype, "
                        "or a machine with more memory."
                    ) from error

                # Cut the rest, from this run on, with half the budget
                start, budget = run.start, budget // 2
                free_memory()
                break
        else:
            start = len(lengths)

    # Say which budget did fit
    if budget != max_tokens:
        warnings.warn(
            f"Batches of max_tokens={max_tokens} did not fit into memory; {budget} did. Set max_tokens={budget} to "
            "save the attempts.",
            RuntimeWarning,
            stacklevel=2,
        )


def for_each_batch(
    sequences: Sequences,
    max_tokens: int,
    work: Callable[[Batch, int], None],
    rows: Int[Tensor, " R"] | None = None,
    *,
    equal_lengths: bool = False,
) -> None:
    """Call ``work(batch, budget)`` on batches of sequences in order of their lengths; see `for_each_run`.

    Args:
        sequences: the sequences.
        max_tokens: budget of the first batch.
        work: called with each batch and the current budget.
        rows: which sequences; None is all.
        equal_lengths: see `split_by_tokens`.

    Examples:
        >>> for_each_batch(Sequences(((5, 6), (7,))), 8, lambda batch, budget: print(batch.input_ids.tolist()))
        [[0, 7], [5, 6]]
    """
    rows = torch.arange(len(sequences)) if rows is None else rows
    rows = rows[torch.argsort(sequences.lengths[rows], stable=True)]
    for_each_run(
        sequences.lengths[rows],
        max_tokens,
        lambda run, budget: work(sequences.batch(rows[run]), budget),
        equal_lengths=equal_lengths,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out.

    PyTorch has a class of errors for the memory of a GPU, but none for that of the CPU.

    Examples:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not fit"))
        (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def free_memory() -> None:
    """Collect garbage, and return freed memory to the device and the operating system.

    The C library keeps freed memory that lies between blocks in use, so that a process that opens and closes many
    models would grow; glibc's ``malloc_trim`` returns it.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
