"""Sparse autoencoders as dictionaries of several checkpoints: that of one applied to all, or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.baselines.linear_basis import CHUNK, refuse_few_tokens, refuse_other_sizes
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from interventions import DecoderSource, Decomposition
from user_input.nearest import nearest


@dataclass(frozen=True, eq=False)
class Alignment:
    """The similarity that maps activations of a checkpoint on those of an autoencoder's checkpoint.

    ``y = scale (x - source) @ rotation + target``, whose inverse is ``x = (y - target) @ rotation.T / scale + source``.

    Attributes:
        scale: factor; 1 leaves the size as it is.
        rotation: orthogonal matrix; None leaves the directions as they are.
        source, target: centres of the activations before and after the rotation; None is the origin.

    Examples:
        >>> Alignment(scale=2.0).apply(torch.ones(1, 3)).tolist()
        [[2.0, 2.0, 2.0]]
    """

    scale: float = 1.0
    rotation: Float[Tensor, "D D"] | None = None
    source: Float[Tensor, " D"] | None = None
    target: Float[Tensor, " D"] | None = None

    def apply(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Activations as the autoencoder takes them."""
        centred = self.scale * (x if self.source is None else x - self.source)
        turned = centred if self.rotation is None else centred @ self.rotation
        return turned if self.target is None else turned + self.target

    def turned_back(self, directions: Float[Tensor, "F D"]) -> Float[Tensor, "F D"]:
        """Directions of the autoencoder in the checkpoint's own space, before the division by the scale."""
        return directions if self.rotation is None else directions @ self.rotation.T

    def undone(self, y: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The activation of the checkpoint that `apply` maps on y."""
        centred = self.turned_back((y if self.target is None else y - self.target).unsqueeze(0))[0] / self.scale
        return centred if self.source is None else centred + self.source


@dataclass(frozen=True, eq=False)
class Autoencoders:
    """A dictionary with a sparse autoencoder (a crosscoder of one checkpoint) for each of C checkpoints.

    Attributes:
        origin: checkpoints, site and width.
        autoencoders: one for each checkpoint, or the same one several times.
        alignments: how the activations of each checkpoint are mapped before they are encoded; and what is decoded is
            mapped back.

    Raises:
        CrosscoderError: an autoencoder of more than one checkpoint, of another site, width or number of features, or
            not one for each checkpoint.
    """

    origin: Origin
    autoencoders: Sequence[CrossCoder]
    alignments: Sequence[Alignment]

    def __post_init__(self) -> None:
        n_checkpoints = len(self.origin.revisions)
        if not len(self.autoencoders) == len(self.alignments) == n_checkpoints:
            raise CrosscoderError(
                f"{n_checkpoints} checkpoints need as many autoencoders and alignments, not {len(self.autoencoders)} "
                f"and {len(self.alignments)}."
            )
        for autoencoder in self.autoencoders:
            refuse_unfit(self.origin, autoencoder)
        if len({autoencoder.n_features for autoencoder in self.autoencoders}) != 1:
            sizes = ", ".join(str(autoencoder.n_features) for autoencoder in self.autoencoders)
            raise CrosscoderError(f"The autoencoders must have the same number of features, not {sizes}.")

    @property
    def n_checkpoints(self) -> int:
        """C."""
        return len(self.autoencoders)

    @property
    def n_features(self) -> int:
        """F."""
        return self.autoencoders[0].n_features

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """Norms of the decoder directions on the scale of each autoencoder's training."""
        return torch.cat([autoencoder.decoder_norms() for autoencoder in self.autoencoders])

    @torch.no_grad()
    def decompose(self, x: Float[Tensor, "C T D"], fixed: Bool[Tensor, " T"] | None = None) -> list[Decomposition]:
        """See `crosstime.crosscoders.dictionary.Dictionary.decompose`.

        Raises:
            CrosscoderError: the number of checkpoints or the width is another one.
        """
        refuse_other_sizes(self.origin, x)
        return [
            _decompose(activations, autoencoder, alignment, fixed)
            for activations, autoencoder, alignment in zip(x, self.autoencoders, self.alignments, strict=True)
        ]


def chain(origin: Origin, autoencoders: Sequence[CrossCoder]) -> Autoencoders:
    """One autoencoder for each checkpoint, each trained from the one before; see `crosstime.train_chain`.

    Raises:
        CrosscoderError: they are not those of the checkpoints, in order; see `Autoencoders`.
    """
    revisions = tuple(revision for autoencoder in autoencoders for revision in autoencoder.origin.revisions)
    if revisions != origin.revisions:
        raise CrosscoderError(
            f"The chain has autoencoders of {', '.join(revisions) or 'no checkpoint'}, and the crosscoder compares "
            f"{', '.join(origin.revisions)}."
        )
    return Autoencoders(origin, tuple(autoencoders), (Alignment(),) * len(revisions))


def transferred(origin: Origin, autoencoder: CrossCoder, alignments: Sequence[Alignment] | None = None) -> Autoencoders:
    """The autoencoder of one checkpoint applied to all; without alignments, to the activations as they are.

    Raises:
        CrosscoderError: see `Autoencoders`.
    """
    n_checkpoints = len(origin.revisions)
    return Autoencoders(origin, (autoencoder,) * n_checkpoints, tuple(alignments or (Alignment(),) * n_checkpoints))


def rescaling(x: Float[Tensor, "C N D"], at: int) -> list[Alignment]:
    """Factors that give the activations of every checkpoint the mean norm of those at checkpoint `at`.

    Examples:
        >>> [alignment.scale for alignment in rescaling(torch.tensor([[[1.0, 0.0]], [[0.0, 4.0]]]), at=1)]
        [4.0, 1.0]
    """
    norms = [float(activations.norm(dim=1).double().mean()) for activations in x]
    if not min(norms) > 0:
        raise CrosscoderError("The activations of a checkpoint are all zero, so that they cannot be rescaled.")
    return [Alignment(scale=norms[at] / norm) for norm in norms]


def rotations(x: Float[Tensor, "C N D"], at: int) -> list[Alignment]:
    """Rotations (or reflections) of the rescaled activations of every checkpoint on those at checkpoint `at`.

    Of each pair of checkpoints the centred activations of the same N tokens are compared: the rotation R minimises
    ``||s (x_c - mean) R - (x_at - mean)||`` over all orthogonal matrices.

    Raises:
        CrosscoderError: there are not more tokens than dimensions, or all activations of a checkpoint are zero.

    Source: Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem".
    """
    refuse_few_tokens(x.shape[1], x.shape[2])
    means = x.mean(1)
    aligned: list[Alignment] = []
    for c, alignment in enumerate(rescaling(x, at)):
        if c == at:
            aligned.append(Alignment())
            continue
        rotation = procrustes(x[c] - means[c], x[at] - means[at]).to(x)
        aligned.append(Alignment(alignment.scale, rotation, means[c], means[at]))
    return aligned


def procrustes(source: Float[Tensor, "N D"], target: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """The orthogonal matrix R that minimises ``||source @ R - target||``, in float64.

    Examples:
        >>> turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> x = torch.randn(9, 2)
        >>> torch.allclose(procrustes(x, x @ turn).float(), turn, atol=1e-5)
        True

    Source: Schönemann 1966. `scipy.linalg.orthogonal_procrustes` computes the same from arrays in main memory; here the
    product is summed over chunks on the device of the activations, which need not fit there in float64.
    """
    product = torch.zeros(source.shape[1], source.shape[1], dtype=torch.float64, device=source.device)
    for rows, others in zip(source.split(CHUNK), target.split(CHUNK), strict=True):
        product += rows.double().T @ others.double()
    left, _, right = torch.linalg.svd(product)
    return left @ right


def refuse_unfit(origin: Origin, autoencoder: CrossCoder) -> None:
    """Refuse a sparse autoencoder that is not one of a checkpoint, the site and the width of an origin.

    Raises:
        CrosscoderError: the sentence says what it is, and what is needed.
    """
    own = autoencoder.origin
    if autoencoder.n_checkpoints != 1:
        raise CrosscoderError(
            f"A sparse autoencoder is of one checkpoint, and this is a crosscoder of {', '.join(own.revisions)}."
        )
    if own.revisions[0] not in origin.revisions:
        raise CrosscoderError(
            f"The sparse autoencoder is of {own.revisions[0]!r}, which is not compared: "
            f"{nearest(own.revisions[0], origin.revisions)}"
        )
    if (own.site, own.d_model) != (origin.site, origin.d_model):
        raise CrosscoderError(
            f"The sparse autoencoder is for {own.site} of width {own.d_model}, and the crosscoder for {origin.site} of "
            f"width {origin.d_model}."
        )


def _decompose(
    x: Float[Tensor, "T D"], autoencoder: CrossCoder, alignment: Alignment, fixed: Bool[Tensor, " T"] | None
) -> Decomposition:
    """Decompose the activations of one checkpoint with the autoencoder of another."""
    x = x.to(autoencoder.b_dec)
    (codes,) = autoencoder.sparse_codes(alignment.apply(x).unsqueeze(1))
    if fixed is not None:
        codes = codes.without(fixed.to(codes.token.device))

    # Turn the decoder back whenever it is needed, since a turned copy for each checkpoint may not fit the memory
    decoder, scale = autoencoder.decoder_at(0), float(autoencoder.scales[0])
    if alignment.rotation is not None:
        decoder = DecoderSource(
            (autoencoder.n_features, x.shape[1]), lambda: alignment.turned_back(_read(autoencoder.decoder_at(0)))
        )
    bias = alignment.undone(autoencoder.b_dec.detach()[0] / scale)
    return Decomposition(x, codes, decoder, bias, scale * alignment.scale, fixed)


def _read(decoder: Float[Tensor, "F D"] | DecoderSource) -> Float[Tensor, "F D"]:
    return decoder.read() if isinstance(decoder, DecoderSource) else decoder
