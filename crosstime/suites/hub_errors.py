"""What the Hub's client raises, whichever HTTP library its release is built on."""

from __future__ import annotations


def hub_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors of a request to the Hub (an unknown name, an answer with an error, no connection), and `others`.

    huggingface_hub 1 is built on httpx and 2 on httpx2; the base classes of its own error are those of the library
    that is in use.

    Examples:
        >>> OSError in hub_errors()
        True
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    return (OSError, HFValidationError, *HfHubHTTPError.__bases__, *others)
