"""The sparse crosscoder: one dictionary of features for the activations of several checkpoints."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crosstime.crosscoders.activation_functions import Activation, ReLU, activation_named
from crosstime.crosscoders.hub import OnHub
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.shown import Shown
from interventions import Codes, Decomposition, Site
from user_input.first_line import first_line
from user_input.parse_json import parse_json

FORMAT = "crosstime-crosscoder-1"


@dataclass(frozen=True)
class Origin:
    """What a crosscoder was trained on, kept with its weights.

    Attributes:
        suite: name of the suite.
        revisions: the C checkpoints, in the order of the crosscoder's first axis.
        site: where the activations come from.
        d_model: D.
        training: hyper-parameters, seed, tokens, corpus: whatever the trainer says of itself.
    """

    suite: str
    revisions: tuple[str, ...]
    site: Site
    d_model: int
    training: dict[str, Any] = field(default_factory=dict)


class CrossCoder(Shown, nn.Module, OnHub):
    """One code f for the activations x_c of C checkpoints on the same token, and a decoder for each.

    ::

        f   = act( sum_c W_enc[c] s_c x_c + b_enc )         F numbers, most of them zero
        x̂_c = ( f W_dec[:, c] + b_dec[c] ) / s_c

    The scales ``s_c = sqrt(D) / E||x_c||`` make activations of different checkpoints comparable. They are
    kept beside the weights and multiplied into these on the way in and out, so that thresholds and decoder
    norms always are on the scale of training; `fold` makes them part of the weights for good. ``act`` is a part
    (`crosstime.crosscoders.activation_functions`); with one checkpoint this is a sparse autoencoder.

    Args:
        origin: checkpoints, site and width.
        n_features: F.
        scales: s_c; ones if None.
        activation: the activation function, made for F features; ReLU if None.
        n_shared: the first so many features have one decoder direction for all checkpoints (kept as C equal
            rows of W_dec, so that all that reads it need not know).
        decoder_norm: norm of every decoder direction W_dec[i, c] at initialisation (CTT: 0.08); the encoder
            starts as the decoder's transpose.
        seed: of the initialisation.

    Shapes: W_enc ``C D F``, W_dec ``F C D``, b_enc ``F``, b_dec ``C D``, scales ``C``.

    Examples:
        >>> origin = Origin("tiny", ("step64", "main"), Site(1), d_model=8)
        >>> crosscoder = CrossCoder(origin, n_features=16)
        >>> crosscoder.encode(torch.randn(5, 2, 8)).shape
        torch.Size([5, 16])

    Source: Lindsey et al. 2024, Sparse Crosscoders; CTT (arXiv 2509.05291), section 3.1.
    """

    def __init__(
        self,
        origin: Origin,
        n_features: int,
        scales: Float[Tensor, " C"] | None = None,
        *,
        activation: Activation | None = None,
        n_shared: int = 0,
        decoder_norm: float = 0.08,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.origin = origin
        n_checkpoints, width = len(origin.revisions), origin.d_model
        if n_checkpoints < 1 or n_features < 1:
            raise CrosscoderError(
                f"A crosscoder needs at least one checkpoint and one feature, not {n_checkpoints} and {n_features}."
            )
        if not 0 <= n_shared <= n_features:
            raise CrosscoderError(f"n_shared must be between 0 and the {n_features} features, not {n_shared}.")
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(n_features, n_checkpoints, width, generator=generator)
        directions = directions / directions.norm(dim=-1, keepdim=True) * decoder_norm
        directions[:n_shared] = directions[:n_shared, :1]
        self.n_shared = n_shared
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(rearrange(directions, "f c d -> c d f").clone(memory_format=torch.contiguous_format))
        self.b_enc = nn.Parameter(torch.zeros(n_features))
        self.b_dec = nn.Parameter(torch.zeros(n_checkpoints, width))
        scales = torch.ones(n_checkpoints) if scales is None else scales.detach().clone().float()
        if scales.shape != (n_checkpoints,):
            raise CrosscoderError(f"{n_checkpoints} checkpoints need as many scales, not {tuple(scales.shape)}.")
        self.register_buffer("scales", scales)
        self.activation = activation if activation is not None else ReLU()
        self.register_buffer("norms_before_folding", None)

    def headline(self) -> str:
        """Its sizes, and what it was trained on."""
        origin = self.origin
        settings = ", ".join(f"{name} {value:g}" for name, value in self.activation.settings().items())
        kind = f"{self.activation.name} ({settings})" if settings else self.activation.name
        return f"{self.n_features:,} features, {kind}, of {origin.suite} at {origin.site}, d_model {origin.d_model:,}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Its checkpoints."""
        norms = self.decoder_norms().mean(1).tolist()
        columns = {"revision": self.origin.revisions, "scale": self.scales.tolist(), "mean decoder norm": norms}
        return {"checkpoints": pd.DataFrame(columns)}

    @property
    def n_checkpoints(self) -> int:
        """C."""
        return len(self.origin.revisions)

    @property
    def n_features(self) -> int:
        """F."""
        return self.W_dec.shape[0]

    def encode(self, x: Float[Tensor, "T C D"]) -> Float[Tensor, "T F"]:
        """Codes of tokens whose activations at all C checkpoints are given, in the models' own scale."""
        encoder = self.W_enc * self.scales.reshape(-1, 1, 1)
        return self.activation(self._pre(x, encoder), self.selection_norms())

    def encode_scaled(self, scaled: Float[Tensor, "T C D"]) -> Float[Tensor, "T F"]:
        """`encode` of activations that have been multiplied by the scales already."""
        return self.activation(self.pre_scaled(scaled), self.selection_norms())

    def pre_scaled(self, scaled: Float[Tensor, "T C D"]) -> Float[Tensor, "T F"]:
        """What goes into the activation function, of activations on the scale of training."""
        return self._pre(scaled, self.W_enc)

    def decode(self, codes: Float[Tensor, "T F"]) -> Float[Tensor, "T C D"]:
        """Reconstructions of the activations at every checkpoint, in the models' own scale."""
        scales = self.scales.unsqueeze(-1)
        return self._decode(codes, self.W_dec / scales, self.b_dec / scales)

    def decode_scaled(self, codes: Float[Tensor, "T F"]) -> Float[Tensor, "T C D"]:
        """`decode`, on the scale of training."""
        return self._decode(codes, self.W_dec, self.b_dec)

    def _pre(self, x: Tensor, encoder: Tensor) -> Tensor:
        flat = rearrange(x, "t c d -> t (c d)")
        return torch.addmm(self.b_enc, flat, rearrange(encoder, "c d f -> (c d) f"))

    def _decode(self, codes: Tensor, directions: Tensor, bias: Tensor) -> Tensor:
        flat = torch.addmm(rearrange(bias, "c d -> (c d)"), codes, rearrange(directions, "f c d -> f (c d)"))
        return rearrange(flat, "t (c d) -> t c d", c=self.n_checkpoints)

    def forward(self, x: Float[Tensor, "T C D"]) -> Float[Tensor, "T C D"]:
        """``decode(encode(x))``."""
        return self.decode(self.encode(x))

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """``||W_dec[i, c]||`` on the scale of training: what RelDec compares."""
        if self.norms_before_folding is not None:
            return self.norms_before_folding
        return self.W_dec.detach().norm(dim=-1).T

    def selection_norms(self) -> Float[Tensor, " F"]:
        """``n_i = sum_c ||W_dec[i, c]||`` on the scale of training: what codes are weighted by before selection."""
        return self.decoder_norms().sum(0)

    def fold(self) -> CrossCoder:
        """The same function with the scales made part of the weights and set to one.

        ``W_enc[c] *= s_c, W_dec[:, c] /= s_c, b_dec[c] /= s_c``. Which features fire is decided by decoder norms on
        the scale of training, so these are kept beside the folded weights, and thresholds stay as they are.
        Codes and reconstructions are equal bit for bit.

        Examples:
            >>> origin = Origin("tiny", ("step64", "main"), Site(1), d_model=8)
            >>> crosscoder, x = CrossCoder(origin, 16, torch.tensor([0.3, 2.0])), torch.randn(5, 2, 8)
            >>> torch.equal(crosscoder.fold()(x), crosscoder(x))
            True
        """
        folded = copy.deepcopy(self)
        scales = self.scales.unsqueeze(-1)
        with torch.no_grad():
            folded.W_enc.copy_(self.W_enc * scales.unsqueeze(-1))
            folded.W_dec.copy_(self.W_dec / scales)
            folded.b_dec.copy_(self.b_dec / scales)
            folded.scales.fill_(1)
            folded.norms_before_folding = self.decoder_norms().clone()
        return folded

    def tie_gradients(self) -> None:
        """Give all C rows of a shared feature the gradient of the one direction that they stand for, their sum."""
        if self.n_shared and self.W_dec.grad is not None:
            rows = self.W_dec.grad[: self.n_shared]
            rows.copy_(rows.sum(1, keepdim=True).expand_as(rows))

    @torch.no_grad()
    def decompose(self, x: Float[Tensor, "C T D"]) -> list[Decomposition]:
        """Each checkpoint's activations as features and error term, in the models' own scale.

        Encodes once, piece by piece; the codes are shared by all C decompositions.

        Raises:
            CrosscoderError: another number of checkpoints or another width than the crosscoder's.

        Examples:
            >>> origin = Origin("tiny", ("step64", "main"), Site(1), d_model=8)
            >>> early, late = CrossCoder(origin, 16).decompose(torch.randn(2, 5, 8))
            >>> torch.allclose(late.reconstruction + late.error, late.x)
            True
        """
        if x.shape[0] != self.n_checkpoints or x.shape[2] != self.origin.d_model:
            raise CrosscoderError(
                f"This crosscoder is for {self.n_checkpoints} checkpoints of width {self.origin.d_model}; "
                f"got activations of {x.shape[0]} of width {x.shape[2]}."
            )
        x = x.to(self.W_dec)
        scales = self.scales.unsqueeze(-1)
        # The activations are scaled, piece by piece: scaled weights would be a second set of weights.
        codes = Codes.encode(
            lambda piece: self.encode_scaled(piece * scales), rearrange(x, "c t d -> t c d"), self.n_features
        )
        return [
            Decomposition(x[c], codes, self.W_dec.detach()[:, c], self.b_dec.detach()[c] / scale, scale)
            for c, scale in enumerate(self.scales.tolist())
        ]

    def save(self, path: str | Path) -> None:
        """Write weights, scales and origin to one safetensors file, atomically."""
        origin = asdict(self.origin) | {"site": str(self.origin.site)}
        metadata = {
            "format": FORMAT,
            "activation": self.activation.name,
            "settings": json.dumps(self.activation.settings()),
            "n_shared": str(self.n_shared),
            "origin": json.dumps(origin),
        }
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
        write_tensors(Path(path), tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> CrossCoder:
        """Read what `save` wrote.

        Raises:
            CrosscoderError: the file is missing, damaged, or not a crosscoder of this format.
        """
        try:
            tensors, metadata = read_tensors(Path(path))
        except RunError as error:
            raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
        if metadata.get("format") != FORMAT:
            raise CrosscoderError(
                f"{path} is not a crosscoder file: its format is {metadata.get('format')!r}, not {FORMAT!r}."
            )
        try:
            origin = _origin(parse_json(metadata["origin"]))
            n_features = len(tensors["W_dec"])
            # Before memory is asked for: what the file says must be what it has.
            said = n_features, len(origin.revisions), origin.d_model
            for name, shape in (("W_dec", said), ("b_enc", said[:1])):
                if tuple(tensors[name].shape) != shape:
                    raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, and by its origin {shape}")
            settings = parse_json(metadata.get("settings", "{}"))
            activation = activation_named(metadata["activation"], n_features, settings)
            n_shared = int(metadata.get("n_shared", "0"))
            crosscoder = cls(origin, n_features, activation=activation, n_shared=n_shared).to(tensors["W_dec"].dtype)
            if "norms_before_folding" in tensors:
                crosscoder.norms_before_folding = torch.empty(crosscoder.n_checkpoints, n_features)
            expected = {name: tuple(tensor.shape) for name, tensor in crosscoder.state_dict().items()}
            found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            if found != expected:
                raise ValueError(f"its tensors are {found}, but its origin needs {expected}")
            crosscoder.load_state_dict(tensors, assign=True)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise CrosscoderError(
                f"{path} is not a valid crosscoder file: {type(error).__name__}: {first_line(error)}"
            ) from error
        return crosscoder.eval()


def _origin(fields: Any) -> Origin:
    """The origin that a file tells of; anything but its own kind of value in a field is an error."""
    suite, revisions, training = fields["suite"], fields["revisions"], fields["training"]
    if not isinstance(suite, str) or not isinstance(training, dict):
        raise TypeError("the suite is no text, or training no object")
    if not isinstance(revisions, list) or not all(isinstance(revision, str) for revision in revisions):
        raise TypeError("the revisions are no list of texts")
    return Origin(suite, tuple(revisions), Site.parse(str(fields["site"])), int(fields["d_model"]), training)


def fraction_of_variance_explained(
    x: Float[Tensor, "T C D"], reconstruction: Float[Tensor, "T C D"]
) -> Float[Tensor, " C"]:
    """``1 - sum ||x - x̂||² / sum ||x - mean x||²`` at each checkpoint.

    Examples:
        >>> x = torch.randn(9, 2, 4)
        >>> fraction_of_variance_explained(x, x).tolist()
        [1.0, 1.0]
    """
    missed = einsum((x - reconstruction) ** 2, "t c d -> c")
    spread = einsum((x - x.mean(0)) ** 2, "t c d -> c")
    return 1 - missed / spread
