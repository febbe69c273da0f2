"""The place in a model at which an activation is read or written."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from interventions.errors import SiteError
from user_input.nearest import nearest

COMPONENTS = ("attn", "mlp", "resid")
"""In the order in which a block computes them."""


@dataclass(frozen=True, order=True)
class Site:
    """One activation of a decoder block, at every position.

    TransformerLens' ``blocks.9.hook_resid_pre`` is ``Site(8)``.

    Attributes:
        layer: index of the block; negative indices count from the last block.
        component: ``resid`` is the residual stream after the block (the block's output), ``attn`` and ``mlp`` are what
            attention and MLP add to it.

    Raises:
        SiteError: `component` is none of attn, mlp, resid, or `layer` is not a whole number. The text of a site is read
            by `Site.parse`.

    Examples:
        >>> Site(8), str(Site(2, "mlp")), Site.parse("resid.2") == Site(2)
        (Site(layer=8, component='resid'), 'mlp.2', True)
    """

    layer: int
    component: str = "resid"

    def __post_init__(self) -> None:
        if isinstance(self.layer, str):
            raise SiteError(f"The layer of a site is a number; Site.parse({self.layer!r}) reads the text of a site.")
        if not isinstance(self.layer, Integral) or isinstance(self.layer, bool):
            raise SiteError(f"The layer of a site is a whole number, not {self.layer!r}.")
        if self.component not in COMPONENTS:
            raise SiteError(f"There is no component {self.component!r}: {nearest(self.component, COMPONENTS)}")

    def __str__(self) -> str:
        return f"{self.component}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """Parse a site from the form that `str` writes, such as ``"resid.2"``.

        Raises:
            SiteError: the text is not of that form.
        """
        component, _, layer = text.partition(".")
        try:
            return cls(int(layer), component)
        except ValueError as error:
            if isinstance(error, SiteError):
                raise
            raise SiteError(f"A site is written COMPONENT.LAYER, for instance resid.2; got {text!r}.") from None

    @classmethod
    def of(cls, site: Site | str) -> Site:
        """The site itself, or the one that a text such as ``"resid.2"`` names.

        Raises:
            SiteError: the text is not of that form.

        Examples:
            >>> Site.of("resid.2") == Site.of(Site(2))
            True
        """
        return cls.parse(site) if isinstance(site, str) else site

    def resolve(self, n_layers: int) -> Site:
        """Return the same site with its layer counted from the first block.

        Raises:
            SiteError: a model of `n_layers` blocks has no such layer.
        """
        if not -n_layers <= self.layer < n_layers:
            raise SiteError(f"Layer {self.layer} does not exist: the model has layers 0 to {n_layers - 1}.")
        return Site(self.layer % n_layers, self.component)

    @property
    def order(self) -> tuple[int, int]:
        """Sort key that follows the order of computation."""
        return self.layer, COMPONENTS.index(self.component)
