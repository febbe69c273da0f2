"""Running out of memory or disk space becomes one sentence that says what to do.

This module is imported when the command line starts, so it imports PyTorch, safetensors and our other packages only
after an error.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESUMABLE = "finished work is kept, and the same command resumes from there"


@contextmanager
def explain_resource_errors(activity: str) -> Iterator[None]:
    """Turn an error into one sentence if the block ran out of memory or disk space, or the system refused something.

    Args:
        activity: what the block does, for the sentence.

    Raises:
        RunError: that sentence. All other errors pass unchanged.

    Examples:
        >>> with explain_resource_errors("stage 'train'"):
        ...     raise MemoryError
        Traceback (most recent call last):
        crosstime.errors.RunError: out of memory in stage 'train': take a smaller ...
    """
    try:
        yield
    except ValueError:  # our own errors are sentences already
        raise
    except Exception as error:
        sentence = _explanation(error, activity)
        if sentence is None:
            raise
        from crosstime.errors import RunError

        raise RunError(f"{sentence}; {RESUMABLE}") from error


def _explanation(error: Exception, activity: str) -> str | None:
    """The sentence for an error of the machine; None for any other error."""
    from safetensors import SafetensorError

    from interventions.budget import is_out_of_memory
    from user_input.reason import reason

    if is_out_of_memory(error):
        return (
            f"out of memory in {activity}: take a smaller compute.max_tokens, crosscoder.buffer_tokens or "
            "crosscoder.batch_size"
        )
    if isinstance(error, OSError):
        if error.errno in DISK_FULL:
            return f"no space is left on the disk in {activity}"
        return f"{activity} was stopped by the system: {error}"
    if isinstance(error, SafetensorError):
        if any(f"os error {number}" in str(error) for number in DISK_FULL):
            return f"no space is left on the disk in {activity}"
        return f"{activity} cannot write its tensors: {reason(error)}"
    return None
