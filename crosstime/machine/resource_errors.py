"""What the machine ran out of, said in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEPT = "what is finished is kept, and the same command goes on from there"


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Say in one sentence that memory or disk gave out, or that the system refused something, while the block ran.

    Raises:
        RunError: that sentence; all other errors pass as they are.

    Examples:
        >>> with plain_errors("stage 'train'"):
        ...     raise MemoryError
        Traceback (most recent call last):
        crosstime.errors.RunError: out of memory in stage 'train': take a smaller ...
    """
    try:
        yield
    except ValueError:  # our own errors, which are sentences already
        raise
    except Exception as error:
        sentence = _sentence(error, doing)
        if sentence is None:
            raise
        # Here, for the command line also waits for this module where there is nothing to do.
        from crosstime.errors import RunError

        raise RunError(f"{sentence}; {KEPT}") from error


def _sentence(error: Exception, doing: str) -> str | None:
    from interventions.budget import is_out_of_memory

    if is_out_of_memory(error):
        return (
            f"out of memory in {doing}: take a smaller compute.max_tokens, crosscoder.buffer_tokens or "
            "crosscoder.batch_size"
        )
    if isinstance(error, OSError):
        if error.errno in OUT_OF_SPACE:
            return f"no space is left on the disk in {doing}"
        return f"{doing} was stopped by the system: {error}"
    from safetensors import SafetensorError

    from user_input.first_line import first_line

    if isinstance(error, SafetensorError):
        if any(f"os error {number}" in str(error) for number in OUT_OF_SPACE):
            return f"no space is left on the disk in {doing}"
        return f"{doing} cannot write its tensors: {first_line(error)}"
    return None
