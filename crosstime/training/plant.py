"""Planted problems, whose answer is known: features planted at some checkpoints, and activations made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosstimeError
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site


@dataclass(frozen=True)
class Dependence:
    """Which planted features do not fire independently, for `plant`.

    Attributes:
        hierarchy: fraction of the specific features that are pairs of a parent, planted at the first half of the
            checkpoints, and its child, planted at the others. The child fires on half of the parent's tokens and on no
            others, and its direction has a cosine of about .7 with the parent's.
        correlated: fraction of the other features that are pairs, one of which does on half of the tokens what the
            other one does. Both fire as often as features that are independent, and their directions are random.

    Raises:
        CrosstimeError: a fraction outside [0, 1].
    """

    hierarchy: float = 0.0
    correlated: float = 0.0

    def __post_init__(self) -> None:
        for name, fraction in (("hierarchy", self.hierarchy), ("correlated", self.correlated)):
            if not 0 <= fraction <= 1:
                raise CrosstimeError(f"{name} is a fraction between 0 and 1, not {fraction}.")


@dataclass(frozen=True, eq=False)
class PlantedProblem:
    """Features with known directions at every checkpoint, from which activations are generated.

    ::

        x_c = sum_i f_i directions[i, c] + noise      f_i = 0, or with probability density / F uniform in [1, 2]

    Attributes:
        directions: F C D; zero where a feature is absent.
        density: mean number of active features per token.
        noise: standard deviation of the noise in each of the D dimensions.
        parents: the parent of each feature, or -1. A child fires on half of the tokens on which its parent fires, and
            on no others. None if no feature has a parent.
        partners: the partner of each feature, or -1. A feature with a partner does on half of the tokens what its
            partner does, so that it fires as often as others, and on about half of its partner's tokens. None if no
            feature has a partner.
    """

    directions: Float[Tensor, "F C D"]
    density: float | int
    noise: float
    parents: Int[Tensor, " F"] | None = None
    partners: Int[Tensor, " F"] | None = None

    @property
    def present(self) -> Bool[Tensor, "F C"]:
        """Whether each feature is planted at each checkpoint."""
        return self.directions.norm(dim=-1) > 0

    @property
    def n_features(self) -> int:
        """F."""
        return len(self.directions)

    @property
    def n_checkpoints(self) -> int:
        """C."""
        return self.directions.shape[1]

    @property
    def d_model(self) -> int:
        """D."""
        return self.directions.shape[2]

    @property
    def origin(self) -> Origin:
        """The origin of crosscoders of this problem."""
        revisions = tuple(f"c{c}" for c in range(self.n_checkpoints))
        return Origin("planted", revisions, Site(0), self.d_model)

    def codes(self, n_tokens: int, generator: torch.Generator) -> Float[Tensor, "B F"]:
        """Sample the true activations of the features on some tokens."""
        fires = torch.rand(n_tokens, self.n_features, generator=generator) < self.density / self.n_features
        values = 1 + torch.rand(n_tokens, self.n_features, generator=generator)
        if self.partners is not None:
            copies = (self.partners >= 0) & (torch.rand(fires.shape, generator=generator) < 0.5)
            fires = torch.where(copies, fires[:, self.partners], fires)
        if self.parents is not None:
            nested = fires[:, self.parents] & (torch.rand(fires.shape, generator=generator) < 0.5)
            fires = torch.where(self.parents >= 0, nested, fires)
        return fires * values

    def activations(self, codes: Float[Tensor, "B F"], generator: torch.Generator) -> Float[Tensor, "B C D"]:
        """The activations of all checkpoints for given codes, with noise."""
        clean = codes @ self.directions.reshape(self.n_features, -1)
        clean = clean.reshape(-1, self.n_checkpoints, self.d_model)
        return clean + self.noise * torch.randn(clean.shape, generator=generator)

    def crosscoder(self) -> CrossCoder:
        """The ideal crosscoder: its decoder is the planted directions, and its encoder their transpose."""
        crosscoder = CrossCoder(self.origin, self.n_features)
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
    dependence: Dependence | None = None,
    density: float | int = 8.0,
    noise: float = 0.02,
    seed: int = 0,
) -> PlantedProblem:
    """Make a problem of random unit directions, of which some are shared by all checkpoints and the others specific.

    Each specific feature is planted at one checkpoint, and the checkpoints take turns.

    Args:
        n_features: F.
        n_checkpoints: C.
        d_model: D.
        shared: fraction of the features that are present at all checkpoints, with the same direction.
        turned: fraction of the shared features whose direction rotates by about 45 degrees from each checkpoint to the
            next.
        weak: fraction of the shared features that have a fifth of their strength at all checkpoints but one. An L1
            penalty tends to shrink them to zero there, so that they look specific.
        dependence: features that are correlated or form a hierarchy; by default, all are independent.
        density: mean number of active features per token; children of a hierarchy fire half as often as others.
        noise: standard deviation of the noise in each dimension.
        seed: seed of the directions, and of which features are correlated.

    Raises:
        CrosstimeError: a fraction outside [0, 1], or a size below 1.

    Examples:
        >>> planted = plant(8, 2, 4, shared=0.5)
        >>> planted.present.sum(1).tolist()
        [2, 2, 2, 2, 1, 1, 1, 1]
    """
    # Check the arguments.
    if min(n_features, n_checkpoints, d_model) < 1 or density <= 0 or noise < 0:
        raise CrosstimeError("A planted problem needs sizes of at least 1, a positive density and noise of at least 0.")
    for name, fraction in (("shared", shared), ("turned", turned), ("weak", weak)):
        if not 0 <= fraction <= 1:
            raise CrosstimeError(f"{name} is a fraction between 0 and 1, not {fraction}.")

    # Random directions, the same at all checkpoints; the turned features rotate from one checkpoint to the next.
    generator = torch.Generator().manual_seed(seed)
    n_shared = round(shared * n_features)
    n_turned, n_weak = round(turned * n_shared), round(weak * n_shared)
    directions = _unit(torch.randn(n_features, 1, d_model, generator=generator)).repeat(1, n_checkpoints, 1)
    for c in range(1, n_checkpoints):
        offsets = torch.randn(n_features, d_model, generator=generator)[:n_turned] / d_model**0.5
        directions[:n_turned, c] = _unit(directions[:n_turned, c - 1] + offsets)

    # Specific features are absent at all checkpoints but one, weak features are faint there.
    only_checkpoint = torch.arange(n_features) % n_checkpoints
    is_only = torch.nn.functional.one_hot(only_checkpoint, n_checkpoints).float()
    strength = torch.ones(n_features, n_checkpoints)
    strength[n_shared:] = is_only[n_shared:]
    weak_features = slice(n_shared - n_weak, n_shared)
    strength[weak_features] = 0.2 + 0.8 * is_only[weak_features]
    if dependence is None:
        return PlantedProblem(directions * strength.unsqueeze(-1), density, noise)

    # The last specific features are parents, which end, and their children, which follow them.
    n_pairs = round(dependence.hierarchy * (n_features - n_shared)) // 2
    if n_pairs and n_checkpoints < 2:
        raise CrosstimeError("A hierarchy needs at least two checkpoints: a parent's, and then its child's.")
    children = torch.arange(n_features - n_pairs, n_features)
    is_early = (torch.arange(n_checkpoints) < n_checkpoints // 2).float()
    strength[children - n_pairs], strength[children] = is_early, 1 - is_early
    directions[children] = _unit(directions[children - n_pairs] + directions[children])
    parents = torch.full((n_features,), -1)
    parents[children] = children - n_pairs

    # Pairs of the others fire together.
    others = torch.randperm(n_features - 2 * n_pairs, generator=generator)
    n_correlated = round(dependence.correlated * len(others)) // 2
    partners = torch.full((n_features,), -1)
    partners[others[n_correlated : 2 * n_correlated]] = others[:n_correlated]
    return PlantedProblem(directions * strength.unsqueeze(-1), density, noise, parents, partners)


def train_planted(
    planted: PlantedProblem, config: TrainerConfig, *, batch_size: int = 1024, seed: int = 0
) -> CrossCoder:
    """Train a crosscoder on a planted problem, with newly sampled activations at every step.

    Args:
        planted: the problem.
        config: kind, size and hyper-parameters of the crosscoder.
        batch_size: tokens per step.
        seed: seed of the tokens.

    Examples:
        >>> from crosstime.training.topk_config import BatchTopKConfig
        >>> config = BatchTopKConfig(n_features=8, k=1, k_start=None, steps=2, lr=1e-3)
        >>> train_planted(plant(8, 2, 4, density=1), config, batch_size=16).n_features
        8
    """
    # Measure the scales on a sample.
    generator = torch.Generator().manual_seed(seed)
    sample = planted.activations(planted.codes(4 * batch_size, generator), generator)
    scales = planted.d_model**0.5 / sample.norm(dim=-1).mean(0)

    # Train.
    trainer = trainer_of(config, config.crosscoder(planted.origin, scales))
    for step in range(config.steps):
        trainer.update(step, planted.activations(planted.codes(batch_size, generator), generator))
    return trainer.crosscoder.eval()


def planted_effects(
    planted: PlantedProblem, readouts: Float[Tensor, "C D"] | Sequence[Sequence[float]], codes: Float[Tensor, "P F"]
) -> Float[Tensor, "P F C"]:
    """The exact indirect effects of planted features on a linear readout ``m_c = <readout_c, x_c>``.

    Setting feature i to zero removes ``f_i direction_ic`` from x_c, so ``IE_ic = -f_i <readout_c, direction_ic>``.

    Args:
        planted: the problem.
        readouts: for each checkpoint, the direction that the metric reads.
        codes: true activations of the features on P prompts of one token.

    Examples:
        >>> planted = PlantedProblem(torch.eye(2).reshape(2, 1, 2), density=1.0, noise=0.0)
        >>> planted_effects(planted, [[3.0, 0.0]], torch.tensor([[2.0, 5.0]])).flatten().tolist()
        [-6.0, -0.0]
    """
    effect_of_unit = torch.einsum("fcd,cd->fc", planted.directions, torch.as_tensor(readouts, dtype=torch.float32))
    return -codes.unsqueeze(-1) * effect_of_unit


def _unit(directions: Tensor) -> Tensor:
    return directions / directions.norm(dim=-1, keepdim=True)
