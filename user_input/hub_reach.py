"""Whether the Hugging Face Hub can be reached, which is asked once and not at every file.

The Hub's client tries each file six times within 25 seconds, and writes a line about every attempt, before it looks
into its cache or gives up. A checkpoint is many files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from user_input.reason import reason

_PATIENCE = 10.0
"""Seconds in which the Hub has to answer, as long as its client waits."""
_REMEMBERED = 60.0
"""Seconds for which an answer holds."""

_answers: dict[str, tuple[float, str | None]] = {}


def why_unreachable() -> str | None:
    """Why the Hub cannot be reached; None if it answers, or the client is offline by ``HF_HUB_OFFLINE``."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HfHubHTTPError

    # Take the last answer
    endpoint, now = constants.ENDPOINT, time.monotonic()
    if constants.is_offline_mode():
        return None
    asked, answer = _answers.get(endpoint, (float("-inf"), None))
    if now - asked < _REMEMBERED:
        return answer

    # Ask; whatever the server answers, it can be reached
    answer = None
    # The client's own error derives from those of its HTTP library, which is another one in huggingface_hub 2
    errors: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        get_session().head(endpoint, timeout=_PATIENCE)
    except errors as error:
        answer = f"the Hub at {endpoint} cannot be reached: {reason(error)}"
    _answers[endpoint] = time.monotonic(), answer
    return answer


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """While the block runs, the Hub's client reads from its cache alone if the Hub cannot be reached.

    Examples:
        >>> with hub_or_cache():
        ...     config = AutoConfig.from_pretrained("EleutherAI/pythia-70m")  # doctest: +SKIP
    """
    from huggingface_hub import constants

    if constants.is_offline_mode() or why_unreachable() is None:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
