"""The names of sites in TransformerLens, which several formats use."""

from __future__ import annotations

import re
import reprlib

from crosstime.errors import CrosscoderError
from interventions import Site

_HOOK = re.compile(r"blocks\.(?P<layer>\d{1,5})\.hook_(?P<part>resid_pre|resid_post|attn_out|mlp_out)")
_COMPONENT = {"resid_pre": "resid", "resid_post": "resid", "attn_out": "attn", "mlp_out": "mlp"}
_BLOCK = re.compile(r"(?:[a-z_]+\.)+(?:layers|layer|h|blocks|block)\.(?P<layer>\d{1,5})")
"""The path of a decoder block in transformers: ``model.layers.3``, ``transformer.h.3``, ``gpt_neox.layers.3``."""


def site_of(hook: str) -> Site:
    """The site of a hook point; ``resid_pre`` of a block is ``resid`` of the block before it.

    The path of a block in transformers, whose activation is the block's output, is understood as well.

    Raises:
        CrosscoderError: the hook point is not a site, such as the embedding before the first block.

    Examples:
        >>> site_of("blocks.9.hook_resid_pre"), site_of("blocks.2.hook_mlp_out"), site_of("model.layers.3")
        (Site(layer=8, component='resid'), Site(layer=2, component='mlp'), Site(layer=3, component='resid'))
    """
    if (block := _BLOCK.fullmatch(hook)) is not None:
        return Site(int(block["layer"]))
    match = _HOOK.fullmatch(hook)
    if match is None:
        raise CrosscoderError(
            f"the hook point {reprlib.repr(hook)} is no site: a crosscoder can be used if it reads the output of a "
            "block (hook_resid_post, or hook_resid_pre of the next block) or what attention (hook_attn_out) or MLP "
            "(hook_mlp_out) adds to it"
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
