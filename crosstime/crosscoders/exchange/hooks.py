"""The names of sites in TransformerLens, which several formats use."""

from __future__ import annotations

import re

from crosstime.errors import CrosscoderError
from interventions import Site

_HOOK = re.compile(r"blocks\.(?P<layer>\d+)\.hook_(?P<part>resid_pre|resid_post|attn_out|mlp_out)")
_COMPONENT = {"resid_pre": "resid", "resid_post": "resid", "attn_out": "attn", "mlp_out": "mlp"}


def site_of(hook: str) -> Site:
    """The site of a hook point; ``resid_pre`` of a block is ``resid`` of the block before it.

    Raises:
        CrosscoderError: the name has another form, or is that of the embedding before the first block, which is not a
            site.

    Examples:
        >>> site_of("blocks.9.hook_resid_pre"), site_of("blocks.2.hook_mlp_out")
        (Site(layer=8, component='resid'), Site(layer=2, component='mlp'))
    """
    match = _HOOK.fullmatch(hook)
    if match is None:
        raise CrosscoderError(
            f"the hook point {hook!r} names no site: a block's resid_pre, resid_post, attn_out or mlp_out does; give "
            "the site yourself"
        )
    layer = int(match["layer"]) - (match["part"] == "resid_pre")
    if layer < 0:
        raise CrosscoderError(f"the hook point {hook!r} is the embedding, before the first block: that is no site")
    return Site(layer, _COMPONENT[match["part"]])


def hook_of(site: Site, *, before: bool = False) -> str:
    """The hook point of a site.

    Args:
        site: the site.
        before: whether to name a residual stream by the block that reads it rather than the block that writes it.

    Examples:
        >>> hook_of(Site(8)), hook_of(Site(8), before=True), hook_of(Site(2, "attn"))
        ('blocks.8.hook_resid_post', 'blocks.9.hook_resid_pre', 'blocks.2.hook_attn_out')
    """
    if site.component != "resid":
        return f"blocks.{site.layer}.hook_{site.component}_out"
    return f"blocks.{site.layer + 1}.hook_resid_pre" if before else f"blocks.{site.layer}.hook_resid_post"
