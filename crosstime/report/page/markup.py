"""HTML in which nothing is markup unless a function here made it: every other string is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

_VOID = frozenset({"img", "meta", "input", "br", "hr", "wbr"})


class Markup(str):
    """A string that is finished HTML; `element` and `join` escape every string that is not one."""

    __slots__ = ()


Child: TypeAlias = str | Iterable[str] | None
"""What an element may hold: text (escaped), `Markup` (kept), several of them, or nothing."""


def element(name: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """Build one HTML element, so that no caller ever concatenates text into markup.

    Args:
        name: the tag.
        children: text, which is escaped; `Markup`, which is not; iterables of both; None is skipped.
        attributes: a trailing underscore is dropped (``class_``), others become dashes (``aria_label``);
            True writes a bare attribute, False and None leave it out.

    Examples:
        >>> element("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    opening = f"<{name}{written}>"
    return Markup(opening if name in _VOID else f"{opening}{join(*children)}</{name}>")


def join(*children: Child, between: str = "") -> Markup:
    """Put text and markup one after the other, escaping the text.

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
    return Markup(between.join(parts))


def inline(name: str, code: str, /, **attributes: str | bool | None) -> Markup:
    """Hold a style sheet, script or JSON in an element whose content HTML does not unescape.

    Raises:
        ValueError: when `code` would end the element early; JSON is made safe by `json_text` instead.
    """
    if f"</{name}" in code.lower() or "<!--" in code:
        raise ValueError(f"the content of a <{name}> element must hold neither '</{name}' nor '<!--'")
    return element(name, Markup(code), **attributes)


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(value)}"'
