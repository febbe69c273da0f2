"""Names of the formats, so that they can be checked without PyTorch."""

from __future__ import annotations

from crosstime.errors import CrosscoderError
from user_input.nearest import nearest

FORMAT_NAMES = ("crosstime", "ctt", "ckkissane", "finetuning", "saelens", "llamascopium")
"""In the order in which `detect` tries them."""


def refuse_unknown_format(name: str) -> None:
    """Refuse a format that is not known.

    Raises:
        CrosscoderError: the sentence names the nearest format.
    """
    if name not in FORMAT_NAMES:
        raise CrosscoderError(f"there is no format {name!r}: {nearest(name, FORMAT_NAMES)}")
