"""Crosscoders in the file formats of other tools, read and written.

Example:
    >>> import crosstime as ct
    >>> crosscoder = ct.exchange.read("version_12")  # doctest: +SKIP
    >>> ct.exchange.write(crosscoder, "for_saelens", format="saelens")  # doctest: +SKIP
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
