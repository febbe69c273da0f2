"""Crosscoders in the file formats of other tools, read and written.

Example:
    >>> import crosstime as ct
    >>> crosscoder = ct.exchange.read("version_12")  # doctest: +SKIP
    >>> ct.exchange.write(crosscoder, "for_saelens", format="saelens")  # doctest: +SKIP
"""

from crosstime.crosscoders.exchange.formats import FORMATS, detect, read, write

__all__ = ["FORMATS", "detect", "read", "write"]
