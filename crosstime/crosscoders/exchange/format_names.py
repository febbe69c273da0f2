"""Names of the formats, so that they can be checked without PyTorch."""

from __future__ import annotations

from crosstime.errors import CrosscoderError
from user_input.nearest import nearest

FORMAT_NAMES = (
    "crosstime", "ctt", "ckkissane", "saelens", "llamascopium", "dictionary_learning", "sparsify", "crosscode",
    "finetuning",
)  # fmt: skip
"""In the order in which `detect` tries them; the last one takes any file of `torch.save`."""
WRITABLE_FORMATS = ("crosstime", "ctt", "ckkissane", "saelens", "llamascopium", "finetuning")
"""Those that can be written; the others are read only."""


def refuse_unknown_format(name: str) -> None:
    """Refuse a format that is not known.

    Raises:
        CrosscoderError: the sentence names the nearest format.
    """
    if name not in FORMAT_NAMES:
        raise CrosscoderError(f"there is no format {name!r}: {nearest(name, FORMAT_NAMES)}")


def refuse_read_only(name: str) -> None:
    """Refuse a format that is not known, or that cannot be written.

    Raises:
        CrosscoderError: names the formats that can.
    """
    refuse_unknown_format(name)
    if name not in WRITABLE_FORMATS:
        raise CrosscoderError(f"the format {name} is read only; {', '.join(WRITABLE_FORMATS)} can be written")
