"""The four tensors that every format has, checked against each other, and the crosscoder made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import Activation, JumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.machine.tensors import check_finite, check_tensor


@dataclass(frozen=True, eq=False)
class Weights:
    """Encoder, decoder and biases on the scale of training, in the layout of `CrossCoder`.

    Attributes:
        W_enc: encoder, ``C D F``.
        b_enc: encoder bias, ``F``.
        W_dec: decoder, ``F C D``.
        b_dec: decoder bias, ``C D``.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    @classmethod
    def checked(
        cls, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, *, names: Mapping[str, str] | None = None
    ) -> Weights:
        """Convert tensors of a file to float32 weights, after making sure that they fit each other.

        Args:
            W_enc, b_enc, W_dec, b_dec: the tensors.
            names: names of the tensors in the file, for errors; those of the arguments if None.

        Raises:
            TensorError: a tensor has the wrong shape, or a number that is not finite.
        """
        tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        names = {name: name for name in tensors} if names is None else names
        check_tensor(names["W_dec"], W_dec, (None, None, None))
        n_features, n_checkpoints, width = W_dec.shape
        shapes = {
            "W_enc": (n_checkpoints, width, n_features),
            "b_enc": (n_features,),
            "W_dec": (n_features, n_checkpoints, width),
            "b_dec": (n_checkpoints, width),
        }
        sizes = f"{n_checkpoints} checkpoints, width {width} and {n_features} features"
        floats = {}
        for name, tensor in tensors.items():
            check_tensor(
                f"{names[name]} does not fit {names['W_dec']}, which has {sizes}: as {name} it", tensor, shapes[name]
            )
            floats[name] = check_finite(names[name], tensor.detach().float().contiguous())
        return cls(**floats)

    @classmethod
    def of_autoencoder(
        cls, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, *, names: Mapping[str, str] | None = None
    ) -> Weights:
        """The weights of a sparse autoencoder, ``D F``, ``F``, ``F D`` and ``D``: a crosscoder of one checkpoint.

        Raises:
            TensorError: a tensor has the wrong shape, or a number that is not finite.
        """
        label = (names or {}).get("W_dec", "W_dec")
        check_tensor(label, W_dec, (None, None))
        return cls.checked(W_enc.unsqueeze(0), b_enc, W_dec.unsqueeze(1), b_dec.unsqueeze(0), names=names)

    def for_centred_input(self) -> Weights:
        """Weights that do to x what these do to x - b_dec: ``W (x - b_dec) + b = W x + (b - W b_dec)``."""
        b_enc = self.b_enc - torch.einsum("cd,cdf->f", self.b_dec, self.W_enc)
        return replace(self, b_enc=b_enc)

    def with_codes_times(self, factor: Float[Tensor, " F"]) -> Weights:
        """Weights of the same function, whose codes before any selection are multiplied by positive factors."""
        return replace(
            self,
            W_enc=self.W_enc * factor,
            b_enc=self.b_enc * factor,
            W_dec=self.W_dec / factor.reshape(-1, 1, 1),
        )

    def norms(self) -> Float[Tensor, " F"]:
        """Decoder norm of every feature, summed over the checkpoints."""
        return self.W_dec.norm(dim=-1).sum(1)

    def jumprelu(self, threshold: Float[Tensor, " F"]) -> JumpReLU:
        """The JumpReLU with thresholds on codes as they are; ours are on codes times decoder norm."""
        activation = JumpReLU(self.n_features)
        with torch.no_grad():
            activation.log_threshold.copy_((threshold * self.norms()).log())
        return activation

    @property
    def n_features(self) -> int:
        """Number of features, F."""
        return self.W_dec.shape[0]

    @property
    def n_checkpoints(self) -> int:
        """Number of checkpoints, C."""
        return self.W_dec.shape[1]

    @property
    def d_model(self) -> int:
        """Width of the activations, D."""
        return self.W_dec.shape[2]

    def crosscoder(
        self, origin: Origin, scales: Float[Tensor, " C"] | None, activation: Activation | None = None
    ) -> CrossCoder:
        """The crosscoder with these weights.

        Raises:
            CrosscoderError: the number of scales is not that of the checkpoints.
        """
        crosscoder = CrossCoder(origin, self.n_features, scales, activation=activation)
        with torch.no_grad():
            for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
                getattr(crosscoder, name).copy_(getattr(self, name))
        return crosscoder.eval()
