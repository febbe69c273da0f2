"""Crosscoder problems whose answer is known: features planted at some checkpoints, activations made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosstimeError
from crosstime.training.trainer import TrainerConfig
from interventions import Site


@dataclass(frozen=True, eq=False)
class Planted:
    """Features with known directions at every checkpoint, and the activations that they make.

    ::

        x_c = sum_i f_i directions[i, c] + noise      f_i = 0, or with probability `density` uniform in [1, 2]

    Attributes:
        directions: F C D; zero where a feature is absent.
        density: active features of a token, on average.
        noise: standard deviation of the noise in each of the D dimensions.
    """

    directions: Float[Tensor, "F C D"]
    density: float
    noise: float

    @property
    def where(self) -> Bool[Tensor, "F C"]:
        """The checkpoints at which each feature is planted."""
        return self.directions.norm(dim=-1) > 0

    @property
    def n_features(self) -> int:
        """F."""
        return len(self.directions)

    def codes(self, n_tokens: int, generator: torch.Generator) -> Float[Tensor, "B F"]:
        """Draw the features' true activations on some tokens."""
        fires = torch.rand(n_tokens, self.n_features, generator=generator) < self.density / self.n_features
        return fires * (1 + torch.rand(n_tokens, self.n_features, generator=generator))

    def activations(self, codes: Float[Tensor, "B F"], generator: torch.Generator) -> Float[Tensor, "B C D"]:
        """What the checkpoints' activations are when the features are as given."""
        _, n_checkpoints, width = self.directions.shape
        clean = (codes @ self.directions.reshape(self.n_features, -1)).reshape(-1, n_checkpoints, width)
        return clean + self.noise * torch.randn(clean.shape, generator=generator)

    def crosscoder(self) -> CrossCoder:
        """The crosscoder that has the planted directions as decoder and their transpose as encoder."""
        _, n_checkpoints, width = self.directions.shape
        origin = Origin("planted", tuple(f"c{c}" for c in range(n_checkpoints)), Site(0), width)
        crosscoder = CrossCoder(origin, self.n_features)
        with torch.no_grad():
            crosscoder.W_dec.copy_(self.directions)
            crosscoder.W_enc.copy_(self.directions.permute(1, 2, 0))
        return crosscoder.eval()


def plant(
    n_features: int = 512,
    n_checkpoints: int = 3,
    d_model: int = 128,
    *,
    shared: float = 0.5,
    turned: float = 0.0,
    weak: float = 0.0,
    density: float = 8.0,
    noise: float = 0.02,
    seed: int = 0,
) -> Planted:
    """Make a problem: random unit directions, of which some are shared by all checkpoints and the others specific.

    Args:
        n_features, n_checkpoints, d_model: F, C and D.
        shared: share of features that all checkpoints have, with one direction.
        turned: share of those shared ones whose direction is another at every checkpoint, by about 45 degrees a step.
        weak: share of the shared ones that are a fifth as strong at all checkpoints but one: what an L1 penalty is
            prone to shrink away there, so that they look specific.
        density: active features of a token, on average.
        noise: standard deviation of the noise in each dimension.
        seed: of all that is drawn.

    Each specific feature is planted at one checkpoint, the checkpoints taking turns.

    Raises:
        CrosstimeError: a share outside 0 to 1, or a size below 1.

    Examples:
        >>> planted = plant(8, 2, 4, shared=0.5)
        >>> planted.where.sum(1).tolist()
        [2, 2, 2, 2, 1, 1, 1, 1]
    """
    if min(n_features, n_checkpoints, d_model) < 1 or density <= 0 or noise < 0:
        raise CrosstimeError("A planted problem needs sizes of at least 1, a positive density and noise of at least 0.")
    for name, share in (("shared", shared), ("turned", turned), ("weak", weak)):
        if not 0 <= share <= 1:
            raise CrosstimeError(f"{name} is a share between 0 and 1, not {share}.")
    generator = torch.Generator().manual_seed(seed)
    count = round(shared * n_features)
    base = _unit(torch.randn(n_features, 1, d_model, generator=generator)).repeat(1, n_checkpoints, 1)
    for c in range(1, n_checkpoints):
        rows = slice(0, round(turned * count))
        aside = torch.randn(n_features, d_model, generator=generator)[rows] / d_model**0.5
        base[rows, c] = _unit(base[rows, c - 1] + aside)
    strength = torch.ones(n_features, n_checkpoints)
    places = torch.arange(n_features) % n_checkpoints
    only = torch.nn.functional.one_hot(places, n_checkpoints).float()
    strength[count:] = only[count:]
    faint = slice(count - round(weak * count), count)
    strength[faint] = 0.2 + 0.8 * only[faint]
    return Planted(base * strength.unsqueeze(-1), density, noise)


def train_planted(planted: Planted, config: TrainerConfig, *, batch_size: int = 1024, seed: int = 0) -> CrossCoder:
    """Train a crosscoder on activations of a planted problem, drawn anew for every step.

    Args:
        planted: the problem.
        config: kind, size and hyper-parameters of the crosscoder.
        batch_size: tokens of a step.
        seed: of the tokens.

    Examples:
        >>> from crosstime.training.topk import BatchTopKConfig
        >>> config = BatchTopKConfig(n_features=8, k=1, k_start=None, steps=2, lr=1e-3)
        >>> train_planted(plant(8, 2, 4, density=1), config, batch_size=16).n_features
        8
    """
    generator = torch.Generator().manual_seed(seed)
    sample = planted.activations(planted.codes(4 * batch_size, generator), generator)
    scales = planted.directions.shape[2] ** 0.5 / sample.norm(dim=-1).mean(0)
    _, n_checkpoints, width = planted.directions.shape
    origin = Origin("planted", tuple(f"c{c}" for c in range(n_checkpoints)), Site(0), width)
    trainer = config.trainer(config.crosscoder(origin, scales))
    for step in range(config.steps):
        trainer.update(step, planted.activations(planted.codes(batch_size, generator), generator))
    return trainer.crosscoder.eval()


def planted_effects(
    planted: Planted, readouts: Float[Tensor, "C D"] | Sequence[Sequence[float]], codes: Float[Tensor, "P F"]
) -> Float[Tensor, "P F C"]:
    """Indirect effects, known exactly, of planted features on a linear readout ``m_c = <readout_c, x_c>``.

    Setting feature i to zero takes ``f_i direction_ic`` out of x_c, so ``IE_ic = -f_i <readout_c, direction_ic>``.

    Args:
        planted: the problem.
        readouts: one direction a checkpoint along which the metric reads.
        codes: true activations of P prompts of one token.

    Examples:
        >>> planted = Planted(torch.eye(2).reshape(2, 1, 2), density=1.0, noise=0.0)
        >>> planted_effects(planted, [[3.0, 0.0]], torch.tensor([[2.0, 5.0]])).flatten().tolist()
        [-6.0, -0.0]
    """
    per_unit = torch.einsum("fcd,cd->fc", planted.directions, torch.as_tensor(readouts, dtype=torch.float32))
    return -codes.unsqueeze(-1) * per_unit


def _unit(directions: Tensor) -> Tensor:
    return directions / directions.norm(dim=-1, keepdim=True)
