"""Build HTML so that every string is escaped unless a function of this module made it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

_VOID = frozenset({"img", "meta", "input", "br", "hr", "wbr"})


class Markup(str):
    """A string of finished HTML; `element` and `join` escape every string that is not of this class."""

    __slots__ = ()


Child: TypeAlias = str | Iterable[str] | None
"""Content of an element: text (escaped), `Markup` (kept), an iterable of both, or None (skipped)."""


def element(name: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """Build one HTML element, so that no caller ever concatenates text into markup.

    Args:
        name: the tag.
        children: text, which is escaped; `Markup`, which is not; iterables of both; None is skipped.
        attributes: a trailing underscore is dropped (``class_``), other underscores become dashes (``aria_label``);
            True writes an attribute without a value, False and None omit it.

    Examples:
        >>> element("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    opening = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opening if name in _VOID else f"{opening}{join(*children)}</{name}>")


def join(*children: Child, separator: str = "") -> Markup:
    """Concatenate text and markup, escaping the text.

    Examples:
        >>> join("a & b", element("br"))
        'a &amp; b<br>'
    """
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        items = [child] if isinstance(child, str) else child
        parts.extend(item if isinstance(item, Markup) else html.escape(item) for item in items)
    return Markup(separator.join(parts))


def inline(name: str, code: str, /, **attributes: str | bool | None) -> Markup:
    """Build an element that contains a style sheet, a script or JSON, whose content HTML does not unescape.

    Raises:
        ValueError: when `code` would end the element early; for JSON, `script_json` prevents that.
    """
    if f"</{name}" in code.lower() or "<!--" in code:
        raise ValueError(f"the content of a <{name}> element must hold neither '</{name}' nor '<!--'")
    return element(name, Markup(code), **attributes)


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(value)}"'
