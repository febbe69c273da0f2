"""The whole message of an error in one line, to give it as a reason in a sentence."""

from __future__ import annotations

import re

MAX_LENGTH = 2_000
"""Characters of a reason; of a longer one, the beginning and the end are kept."""

_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\):\n"  # its frames are lines that are indented
    r"(?:[ \t]+.*\n|\n(?=[ \t]))*",
)
_AROUND = re.compile(
    r"Could not load model .* with any of the following classes: .*\. See the original errors:"
    r"|while loading with \w+, an error is thrown:"
    r"|The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:"
)
"""What transformers and Python write around tracebacks."""


def reason(error: BaseException) -> str:
    """Return an error's message in one line without its full stop, or the error's class if it has no message.

    Of tracebacks that the message quotes, as those of transformers do, the errors are kept and the frames left out.

    Examples:
        >>> reason(OSError("no route to host.\\nCheck the cable."))
        'no route to host. Check the cable'
        >>> reason(KeyError())
        'KeyError'
    """
    # Leave out the frames of quoted tracebacks
    text = _AROUND.sub("", _TRACEBACK.sub("", str(error)))

    # Join the lines; the same error is often quoted twice
    lines = [" ".join(line.split()) for line in text.splitlines()]
    joined = " ".join(dict.fromkeys(line for line in lines if line)).rstrip(".")
    if len(joined) > MAX_LENGTH:
        joined = f"{joined[: MAX_LENGTH // 2]} [...] {joined[-MAX_LENGTH // 2 :]}"
    return joined or type(error).__name__
