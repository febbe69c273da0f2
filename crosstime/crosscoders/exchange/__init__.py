"""Crosscoders in the file formats of other tools, read and written.

Example:
    >>> import crosstime as ct
    >>> crosscoder = ct.exchange.read("version_12")  # doctest: +SKIP
    >>> ct.exchange.write(crosscoder, "for_saelens", format="saelens")  # doctest: +SKIP
"""

from crosstime.crosscoders.exchange.formats import FORMATS, SCALES_NOTE, check_target, detect, read, write

__all__ = ["FORMATS", "SCALES_NOTE", "check_target", "detect", "read", "write"]
