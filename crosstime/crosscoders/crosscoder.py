"""The sparse crosscoder: one dictionary of features for the activations of several checkpoints."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crosstime.crosscoders.activation_functions import Activation, ReLU, refuse_shared
from crosstime.crosscoders.crosscoder_file import CrosscoderFile
from crosstime.crosscoders.feature_shard import FeatureShard
from crosstime.crosscoders.hub import OnHub
from crosstime.crosscoders.origin import Origin
from crosstime.crosscoders.stored_directions import StoredDirections
from crosstime.display import Display
from crosstime.errors import CrosscoderError
from interventions import Codes, DecoderSource, Decomposition

_ROWS_DRAWN = 1_024
"""Rows of the initial weights that are drawn at a time for a shard; a multiple of 16."""


class CrossCoder(Display, nn.Module, OnHub):
    """One code f for the activations x_c of C checkpoints on the same token, and one decoder for each checkpoint.

    ::

        f   = act( sum_c W_enc[c] s_c x_c + b_enc )         F numbers, most of them zero
        x̂_c = ( f W_dec[:, c] + b_dec[c] ) / s_c

    The scales ``s_c = sqrt(D) / E||x_c||`` make activations of different checkpoints comparable. They are stored
    separately from the weights and applied on the way in and out, so that thresholds and decoder norms are always on
    the scale of training; `fold` multiplies them into the weights. ``act`` is a submodule
    (`crosstime.crosscoders.activation_functions`). With one checkpoint, this is a sparse autoencoder.

    An activation function with a gate per checkpoint has codes ``f_ic`` that differ between checkpoints. Codes are then
    ``T C F`` instead of ``T F``, and ``x̂_c = ( f_c W_dec[:, c] + b_dec[c] ) / s_c``.

    Args:
        origin: checkpoints, site and width.
        n_features: F.
        scales: s_c; ones if None.
        activation: the activation function for F features; ReLU if None.
        n_shared: the first `n_shared` features have one decoder direction for all checkpoints. It is stored as C equal
            rows of W_dec, so that most code need not know about it.
        decoder_norm: norm of every decoder direction W_dec[i, c] at initialisation (CTT: 0.08); the encoder is
            initialised as the transpose of the decoder.
        seed: of the initialisation.
        shard: the features that this process holds; None for all. Weights, codes and norms are then those of the shard
            alone, and reconstructions are those of all features.

    Shapes: W_enc ``C D F``, W_dec ``F C D``, b_enc ``F``, b_dec ``C D``, scales ``C``.

    Raises:
        CrosscoderError: there is no checkpoint or no feature, `scales` or `n_shared` does not fit them, or features are
            shared under a gate per checkpoint.

    Examples:
        >>> from interventions import Site
        >>> origin = Origin("tiny", ("step64", "main"), Site(1), d_model=8)
        >>> crosscoder = CrossCoder(origin, n_features=16)
        >>> crosscoder.encode(torch.randn(5, 2, 8)).shape
        torch.Size([5, 16])

    Source: Lindsey et al. 2024, Sparse Crosscoders; CTT (arXiv 2509.05291), section 3.1.
    """

    scales: Tensor
    norms_before_folding: Tensor | None

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
        shard: FeatureShard | None = None,
    ) -> None:
        super().__init__()
        self.origin = origin
        n_checkpoints, width = len(origin.revisions), origin.d_model

        # Refuse sizes that do not fit each other
        if n_checkpoints < 1 or n_features < 1:
            raise CrosscoderError(
                f"A crosscoder needs at least one checkpoint and one feature, not {n_checkpoints} and {n_features}."
            )
        if not 0 <= n_shared <= n_features:
            raise CrosscoderError(f"n_shared must be between 0 and the {n_features} features, not {n_shared}.")
        activation = activation if activation is not None else ReLU()
        refuse_shared(activation, n_shared)
        scales = torch.ones(n_checkpoints) if scales is None else scales.detach().clone().float()
        if scales.shape != (n_checkpoints,):
            raise CrosscoderError(f"{n_checkpoints} checkpoints need as many scales, not {tuple(scales.shape)}.")

        # Draw the decoder directions, and make the encoder their transpose
        self.shard = shard or FeatureShard(n_features)
        self.n_shared = n_shared
        n_tied = self.shard.overlap(n_shared)
        directions = _random_directions(self.shard, n_checkpoints, width, seed)
        directions = directions / directions.norm(dim=-1, keepdim=True) * decoder_norm
        directions[:n_tied] = directions[:n_tied, :1]
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(rearrange(directions, "f c d -> c d f").clone(memory_format=torch.contiguous_format))
        self.b_enc = nn.Parameter(torch.zeros(self.shard.size))
        self.b_dec = nn.Parameter(torch.zeros(n_checkpoints, width))

        # Scales, activation function, and the norms that folding preserves
        self.register_buffer("scales", scales)
        self.register_buffer("norms_before_folding", None)
        self.activation: Activation = activation
        self.activation.restrict(self.shard)

    def headline(self) -> str:
        """Sizes, activation function and origin."""
        origin = self.origin
        settings = ", ".join(f"{name} {value:g}" for name, value in self.activation.settings().items())
        kind = f"{self.activation.name} ({settings})" if settings else self.activation.name
        kind = f"{kind} with {self.activation.gate()}" if self.activation.gate_per_checkpoint else kind
        return f"{self.n_features:,} features, {kind}, of {origin.suite} at {origin.site}, d_model {origin.d_model:,}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The checkpoints, with their scales and mean decoder norms."""
        norms = self.decoder_norms().mean(1).tolist()
        columns = {"revision": self.origin.revisions, "scale": self.scales.tolist(), "mean decoder norm": norms}
        return {"checkpoints": pd.DataFrame(columns)}

    @property
    def n_checkpoints(self) -> int:
        """Number of checkpoints, C."""
        return len(self.origin.revisions)

    @property
    def n_features(self) -> int:
        """Number of features, F; of a shard, the number of its own."""
        return self.W_dec.shape[0]

    def encode(self, x: Float[Tensor, "T C D"]) -> Float[Tensor, "T *gates F"]:
        """Codes of T tokens, from their activations at all C checkpoints in the models' own scale."""
        encoder = self.W_enc * self.scales.reshape(-1, 1, 1)
        return self.activation(self._pre(x, encoder), self.selection_norms())

    def encode_scaled(self, scaled: Float[Tensor, "T C D"]) -> Float[Tensor, "T *gates F"]:
        """Codes of activations that are already on the scale of training."""
        return self.activation(self.pre_scaled(scaled), self.selection_norms())

    def pre_scaled(self, scaled: Float[Tensor, "T C D"]) -> Float[Tensor, "T F"]:
        """Pre-activations ``sum_c W_enc[c] s_c x_c + b_enc``, from activations on the scale of training."""
        return self._pre(scaled, self.W_enc)

    def decode(self, codes: Float[Tensor, "T *gates F"]) -> Float[Tensor, "T C D"]:
        """Reconstructions of the activations at all C checkpoints, in the models' own scale."""
        scales = self.scales.unsqueeze(-1)
        return self._decode(codes, self.W_dec / scales, self.b_dec / scales)

    def decode_scaled(self, codes: Float[Tensor, "T *gates F"]) -> Float[Tensor, "T C D"]:
        """Reconstructions on the scale of training."""
        return self._decode(codes, self.W_dec, self.b_dec)

    def forward(self, x: Float[Tensor, "T C D"]) -> Float[Tensor, "T C D"]:
        """``decode(encode(x))``."""
        return self.decode(self.encode(x))

    def _pre(self, x: Tensor, encoder: Tensor) -> Tensor:
        flat = rearrange(x, "t c d -> t (c d)")
        return torch.addmm(self.b_enc, flat, rearrange(encoder, "c d f -> (c d) f"))

    def _decode(self, codes: Tensor, directions: Tensor, bias: Tensor) -> Tensor:
        if self.activation.gate_per_checkpoint:
            return self._decode_by_checkpoint(codes, directions, bias)
        bias, directions = rearrange(bias, "c d -> (c d)"), rearrange(directions, "f c d -> f (c d)")
        if self.shard.processes.size == 1:
            flat = torch.addmm(bias, codes, directions)
        else:
            flat = self.shard.processes.total(codes @ directions) + bias
        return rearrange(flat, "t (c d) -> t c d", c=self.n_checkpoints)

    def _decode_by_checkpoint(self, codes: Tensor, directions: Tensor, bias: Tensor) -> Tensor:
        by_checkpoint, of_checkpoint = codes.transpose(0, 1), directions.transpose(0, 1)
        if self.shard.processes.size == 1:
            return torch.baddbmm(bias.unsqueeze(1), by_checkpoint, of_checkpoint).transpose(0, 1)
        total = self.shard.processes.total(torch.bmm(by_checkpoint, of_checkpoint))
        return (total + bias.unsqueeze(1)).transpose(0, 1)

    def decoder_norms(self) -> Float[Tensor, "C F"]:
        """Norms ``||W_dec[i, c]||`` of the decoder directions on the scale of training, which RelDec compares."""
        if self.norms_before_folding is not None:
            return self.norms_before_folding
        return self.W_dec.detach().norm(dim=-1).T

    def selection_norms(self) -> Float[Tensor, "*gates F"]:
        """Weights of the codes in the selection of active features.

        ``n_i = sum_c ||W_dec[i, c]||``; with a gate per checkpoint ``||W_dec[i, c]||``, ``C F``.
        """
        norms = self.decoder_norms()
        return norms if self.activation.gate_per_checkpoint else norms.sum(0)

    def fold(self) -> CrossCoder:
        """A copy that computes the same function with the scales multiplied into the weights, and then set to one.

        ``W_enc[c] *= s_c, W_dec[:, c] /= s_c, b_dec[c] /= s_c``. The selection of active features depends on decoder
        norms on the scale of training, so these are stored with the folded weights, and thresholds are unchanged.
        Codes and reconstructions are equal bit for bit.

        Examples:
            >>> from interventions import Site
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
        """Give all C rows of each shared feature the same gradient, the sum of theirs, so that the rows stay equal."""
        n_tied = self.shard.overlap(self.n_shared)
        if n_tied and self.W_dec.grad is not None:
            rows = self.W_dec.grad[:n_tied]
            rows.copy_(rows.sum(1, keepdim=True).expand_as(rows))

    @torch.no_grad()
    def decompose(self, x: Float[Tensor, "C T D"], fixed: Bool[Tensor, " T"] | None = None) -> list[Decomposition]:
        """Decompose the activations of every checkpoint into features and an error term, in the models' own scale.

        The tokens are encoded once, chunk by chunk. All C decompositions share their codes, unless the crosscoder has a
        gate per checkpoint: then each has its own.

        Args:
            x: activations of T tokens at the C checkpoints.
            fixed: tokens on which no feature fires and which effects leave as they are; see `Decomposition`.

        Raises:
            CrosscoderError: the number of checkpoints or the width is not that of the crosscoder.

        Examples:
            >>> from interventions import Site
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
        x = x.to(self.b_dec)
        codes = self.sparse_codes(rearrange(x, "c t d -> t c d"))
        if fixed is not None:
            codes = [gate.without(fixed.to(gate.token.device)) for gate in codes]
        by_checkpoint = codes if len(codes) == self.n_checkpoints else codes * self.n_checkpoints
        return [
            Decomposition(x[c], by_checkpoint[c], self.decoder_at(c), self.b_dec.detach()[c] / scale, scale, fixed)
            for c, scale in enumerate(self.scales.tolist())
        ]

    @torch.no_grad()
    def sparse_codes(self, x: Float[Tensor, "T C D"]) -> list[Codes]:
        """The non-zero codes of tokens, from activations in the models' own scale, without a dense T x F matrix.

        Returns:
            Codes of the gate that all checkpoints have; with a gate per checkpoint, those of each checkpoint.
        """
        scales = self.scales.unsqueeze(-1)
        n_gates = self.n_checkpoints if self.activation.gate_per_checkpoint else 1
        # Scale the activations of a chunk rather than the weights, which would need a second copy of all weights
        codes = Codes.encode(lambda chunk: self.encode_scaled(chunk * scales).flatten(1), x, n_gates * self.n_features)
        return codes.split(n_gates) if n_gates > 1 else [codes]

    def decoder_at(self, checkpoint_index: int) -> Float[Tensor, "F D"] | DecoderSource:
        """``W_dec[:, c]``, the decoder at one checkpoint, as a `Decomposition` takes it."""
        return self.W_dec.detach()[:, checkpoint_index]

    def directions(self) -> Float[Tensor, "F C D"] | StoredDirections:
        """The decoder directions ``W_dec`` of all features, which are indexed like a tensor."""
        return self.W_dec.detach()

    def facts(self) -> dict[str, Any]:
        """Origin, sizes, activation function and scales as plain values, for a JSON file."""
        return self.origin.to_json() | {
            "activation": self.activation.name,
            "n_features": self.n_features,
            "settings": self.activation.settings(),
            "n_shared": self.n_shared,
            "scales": self.scales.tolist(),
        }

    def save(self, path: str | Path) -> None:
        """Write weights, scales and origin to one safetensors file, atomically.

        If the features are divided among processes, all of them call this together. Each writes a file of its own, and
        the first an index, ``NAME.index.json``; `load` reads them by the same name.

        Raises:
            RunError: the file cannot be written.
        """
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
        if self.shard.writes:
            file = CrosscoderFile(self.origin, self.activation, self.n_shared, tensors)
            file.write(path, self.shard.processes)

    @classmethod
    def load(cls, path: str | Path) -> CrossCoder:
        """Read what `save` wrote, one file or several; the result has all features.

        Raises:
            CrosscoderError: a file is missing, damaged, or not a crosscoder of this format.
        """
        return cls.of(CrosscoderFile.read(path))

    @classmethod
    def of(cls, file: CrosscoderFile) -> CrossCoder:
        """The crosscoder of a file that was read."""
        crosscoder = CrossCoder(file.origin, file.n_features, activation=file.activation, n_shared=file.n_shared)
        # A crosscoder that was not folded has no such buffer
        crosscoder.norms_before_folding = file.tensors.get("norms_before_folding")
        crosscoder.load_state_dict(file.tensors, assign=True)
        return crosscoder.eval()


def _random_directions(shard: FeatureShard, n_checkpoints: int, width: int, seed: int) -> Float[Tensor, "F C D"]:
    """The shard's rows of a normal random tensor ``F C D``, which is never in memory as a whole.

    The generator draws blocks of 16 numbers, so that drawing 16 rows at a time gives the same numbers as drawing all at
    once.
    """
    generator = torch.Generator().manual_seed(seed)
    if shard.processes.size == 1:
        return torch.randn(shard.n_features, n_checkpoints, width, generator=generator)

    # The last block takes the rest, since fewer than 16 numbers would be drawn in another way
    n_blocks = max(1, shard.n_features // _ROWS_DRAWN)
    bounds = [*range(0, n_blocks * _ROWS_DRAWN, _ROWS_DRAWN), shard.n_features]
    directions = torch.empty(shard.size, n_checkpoints, width)
    for start, stop in pairwise(bounds):
        rows = torch.randn(stop - start, n_checkpoints, width, generator=generator)
        first, last = max(start, shard.start), min(stop, shard.stop)
        if first < last:
            directions[first - shard.start : last - shard.start] = rows[first - start : last - start]
    return directions
