"""Orthonormal bases of the activation space as dictionaries: neurons and principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import Codes, Decomposition

CHUNK = 4_096
"""Tokens whose activations are in float64 at a time."""


@dataclass(frozen=True, eq=False)
class LinearBasis:
    """A dictionary whose features are orthonormal directions, at each checkpoint its own.

    ``f_c = (x_c - bias_c) @ directions_c.T``. Codes have both signs and are dense. With F = D directions the error term
    is zero up to rounding.

    Attributes:
        origin: checkpoints, site and width.
        directions: for each checkpoint, F orthonormal rows.
        bias: what is left when no feature fires.

    Raises:
        CrosscoderError: the sizes do not fit the origin, or the rows are not orthonormal.

    Examples:
        >>> from interventions import Site
        >>> basis = neurons(Origin("tiny", ("step64", "main"), Site(1), d_model=8))
        >>> early, late = basis.decompose(torch.randn(2, 5, 8))
        >>> bool(late.error.abs().max() == 0)
        True
    """

    origin: Origin
    directions: Sequence[Float[Tensor, "F D"]]
    bias: Float[Tensor, "C D"]

    def __post_init__(self) -> None:
        n_checkpoints, width = len(self.origin.revisions), self.origin.d_model
        sizes = {tuple(directions.shape) for directions in self.directions}
        if len(self.directions) != n_checkpoints or len(sizes) != 1 or next(iter(sizes))[1] != width:
            raise CrosscoderError(
                f"{n_checkpoints} checkpoints of width {width} need as many bases of equal size, not {sorted(sizes)}."
            )
        if tuple(self.bias.shape) != (n_checkpoints, width):
            raise CrosscoderError(
                f"{n_checkpoints} checkpoints of width {width} need a bias of that shape, not {tuple(self.bias.shape)}."
            )
        for directions in self.directions:
            if not torch.allclose(directions @ directions.T, torch.eye(len(directions)).to(directions), atol=1e-4):
                raise CrosscoderError("The directions of a basis must be orthogonal to each other and of norm 1.")

    @property
    def n_checkpoints(self) -> int:
        """C."""
        return len(self.directions)

    @property
    def n_features(self) -> int:
        """F, the number of directions."""
        return len(self.directions[0])

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """Ones."""
        return torch.stack([directions.norm(dim=1) for directions in self.directions])

    @torch.no_grad()
    def decompose(self, x: Float[Tensor, "C T D"], fixed: Bool[Tensor, " T"] | None = None) -> list[Decomposition]:
        """See `crosstime.crosscoders.dictionary.Dictionary.decompose`.

        Raises:
            CrosscoderError: the number of checkpoints or the width is another one.
        """
        refuse_other_sizes(self.origin, x)
        return [
            _decompose(x[c].to(directions), directions, bias, fixed)
            for c, (directions, bias) in enumerate(zip(self.directions, self.bias, strict=True))
        ]


def neurons(origin: Origin) -> LinearBasis:
    """The neurons of the site: one feature for each of the D numbers of an activation, which is 0 if it does not fire.

    Examples:
        >>> from interventions import Site
        >>> neurons(Origin("tiny", ("step64", "main"), Site(1), d_model=8)).n_features
        8
    """
    identity = torch.eye(origin.d_model)
    return LinearBasis(origin, [identity] * len(origin.revisions), torch.zeros(len(origin.revisions), origin.d_model))


def principal_components(origin: Origin, x: Float[Tensor, "C N D"], count: int | None = None) -> LinearBasis:
    """Principal components of the activations at each checkpoint, those of the largest variance first.

    Args:
        origin: checkpoints, site and width.
        x: activations of N tokens of text at each checkpoint.
        count: number of components; all D by default.

    Raises:
        CrosscoderError: there are not more tokens than dimensions, or not as many components.

    Examples:
        >>> from interventions import Site
        >>> origin = Origin("tiny", ("step64", "main"), Site(1), d_model=8)
        >>> principal_components(origin, torch.randn(2, 50, 8), count=3).n_features
        3

    Source: Hotelling 1933, "Analysis of a complex of statistical variables into principal components".
    """
    count = _refuse_count(origin, x, count)
    directions = [_strongest(covariance(activations), count).to(x) for activations in x]
    return LinearBasis(origin, directions, x.mean(1))


def difference_components(
    origin: Origin, x: Float[Tensor, "C N D"], scales: Float[Tensor, " C"], count: int | None = None
) -> LinearBasis:
    """Principal components of the differences between checkpoints on the same token: one basis for all of them.

    The covariance is the sum of those of ``s_a x_a - s_b x_b`` over all pairs of checkpoints, which is C times the sum
    of those of ``s_c x_c - mean over checkpoints``.

    Args:
        origin: checkpoints, site and width.
        x: activations of N tokens of text at each checkpoint.
        scales: s_c, which give the activations of all checkpoints the same mean norm, so that a difference is more
            than growth; those of the crosscoder.
        count: number of components; all D by default.

    Raises:
        CrosscoderError: there is a single checkpoint, or as for `principal_components`.

    Examples:
        >>> from interventions import Site
        >>> origin = Origin("tiny", ("step64", "main"), Site(1), d_model=8)
        >>> basis = difference_components(origin, torch.randn(2, 50, 8), torch.ones(2))
        >>> torch.equal(*basis.directions)
        True
    """
    if len(origin.revisions) < 2:
        raise CrosscoderError("Differences between checkpoints need at least two checkpoints.")
    count = _refuse_count(origin, x, count)
    scaled_mean = sum((scale * activations for scale, activations in zip(scales, x, strict=True)), x.new_zeros(()))
    scaled_mean = scaled_mean / len(x)
    total = torch.zeros(origin.d_model, origin.d_model, dtype=torch.float64)
    for scale, activations in zip(scales, x, strict=True):
        total += covariance(scale * activations - scaled_mean)
    directions = _strongest(total, count).to(x)
    return LinearBasis(origin, [directions] * len(x), x.mean(1))


def refuse_other_sizes(origin: Origin, x: Float[Tensor, "C T D"]) -> None:
    """Refuse activations of another number of checkpoints or another width than those of an origin.

    Raises:
        CrosscoderError: the sentence has both.
    """
    if (len(x), x.shape[2]) != (len(origin.revisions), origin.d_model):
        raise CrosscoderError(
            f"This dictionary is for {len(origin.revisions)} checkpoints of width {origin.d_model}; got activations "
            f"of {len(x)} of width {x.shape[2]}."
        )


def covariance(x: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """Covariance of the rows in float64, a chunk at a time.

    Examples:
        >>> covariance(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    mean = torch.stack([chunk.double().sum(0) for chunk in x.split(CHUNK)]).sum(0) / len(x)
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for chunk in x.split(CHUNK):
        centred = chunk.double() - mean
        total += centred.T @ centred
    return total / len(x)


def _strongest(matrix: Float[Tensor, "D D"], count: int) -> Float[Tensor, "K D"]:
    """The eigenvectors of the largest eigenvalues, as rows; the largest number of each is positive."""
    vectors = torch.linalg.eigh(matrix).eigenvectors.flip(1).T[:count]
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * largest.sign()


def _refuse_count(origin: Origin, x: Float[Tensor, "C N D"], count: int | None) -> int:
    """The number of components, if there are as many."""
    refuse_other_sizes(origin, x)
    refuse_few_tokens(x.shape[1], origin.d_model)
    if count is not None and not 1 <= count <= origin.d_model:
        raise CrosscoderError(f"There are 1 to {origin.d_model} principal components, not {count}.")
    return origin.d_model if count is None else count


def refuse_few_tokens(n_tokens: int, width: int) -> None:
    """Refuse to fit a basis or a rotation of D dimensions to no more than D tokens.

    Raises:
        CrosscoderError: the sentence has both numbers.
    """
    if n_tokens <= width:
        raise CrosscoderError(
            f"Components and rotations of width {width} need activations of more than {width} tokens, not {n_tokens}: "
            "read more text."
        )


def _decompose(
    x: Float[Tensor, "T D"],
    directions: Float[Tensor, "F D"],
    bias: Float[Tensor, " D"],
    fixed: Bool[Tensor, " T"] | None,
) -> Decomposition:
    """Project the activations of one checkpoint on its directions."""
    codes = Codes.encode(lambda chunk: (chunk - bias) @ directions.T, x, len(directions))
    if fixed is not None:
        codes = codes.without(fixed.to(codes.token.device))
    return Decomposition(x, codes, directions, bias, fixed=fixed)
