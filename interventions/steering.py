"""Push features up or down, hold them at a value, or carry them from one model into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.codes import Codes, Decomposition
from interventions.errors import InterventionError, ShapeError
from interventions.metrics import LOGIT_DIFFERENCE, AnyMetric
from interventions.model import Model
from interventions.prompts import Prompts
from interventions.site import Site
from interventions.upward import Upward


@dataclass(frozen=True, eq=False)
class Steered:
    """The metric of each prompt with an activation changed, and as it was.

    Attributes:
        metric: changed.
        clean: as it was.
    """

    metric: Float[Tensor, " P"]
    clean: Float[Tensor, " P"]

    @property
    def change(self) -> Float[Tensor, " P"]:
        """``metric - clean``."""
        return self.metric - self.clean


def steer(
    model: Model,
    prompts: Prompts,
    site: Site,
    clean: Decomposition,
    amounts: Mapping[int, float],
    *,
    positions: str | Sequence[tuple[int, int]] = "all",
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Steered:
    """Add a multiple of features' decoder directions: ``x + sum_i amount_i direction_i``.

    Args:
        model, prompts, site, clean: as for `indirect_effects`.
        amounts: feature -> how much is added to its activation.
        positions: ``all``, ``last``, or a token span (first, end) for each prompt.
        metric: what is scored.

    Raises:
        InterventionError: no feature, or one that does not exist.

    Examples:
        >>> steer(model, prompts, site, clean, {17: 5.0}, positions="last").change.mean()  # doctest: +SKIP
    """
    features = _known(amounts, clean)
    amount = torch.tensor([amounts[feature] for feature in features], dtype=clean.x.dtype)
    push = amount @ clean.directions[features]
    where = prompts.at(positions).to(clean.x).unsqueeze(1)
    return _scored(Upward(model, prompts, site, metric), clean.x, where * push)


def clamp(
    model: Model,
    prompts: Prompts,
    site: Site,
    clean: Decomposition,
    values: Mapping[int, float],
    *,
    positions: str | Sequence[tuple[int, int]] = "all",
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Steered:
    """Hold features at fixed activations: ``x + sum_i (value_i - f_i) direction_i``.

    Args and errors as for `steer`, with the value that each feature is held at.

    Examples:
        >>> clamp(model, prompts, site, clean, {17: 0.0, 3: 2.5}).metric  # doctest: +SKIP
    """
    features = _known(values, clean)
    held = torch.zeros(clean.codes.n_features, dtype=clean.x.dtype)
    held[features] = torch.tensor([values[feature] for feature in features], dtype=clean.x.dtype)
    change = Codes.constant(held, clean.codes.n_tokens) + (-clean.codes.of(features))
    where = prompts.at(positions).to(clean.x).unsqueeze(1)
    return _scored(Upward(model, prompts, site, metric), clean.x, where * change.decode(clean.directions))


def transplant(
    model: Model,
    prompts: Prompts,
    site: Site,
    target: Decomposition,
    source: Decomposition,
    features: Sequence[int],
    *,
    scale: float = 1.0,
    metric: AnyMetric = LOGIT_DIFFERENCE,
) -> Steered:
    """Carry features of one model into another model's forward pass, and see what the other makes of them.

    ``x_B + sum_i (scale f_i(A) direction_i(A) - f_i(B) direction_i(B))``: each feature's part in model B's
    activation is taken out, and the part it has in model A put in its place. If B's answer then changes as A's
    would, B could read the feature before (or after) it made it.

    Args:
        model: model B, whose upper blocks run.
        prompts, site: as for `indirect_effects`.
        target: B's decomposition of the prompts.
        source: A's decomposition of the same prompts, by the same dictionary.
        features: which are carried over.
        scale: length of B's activations relative to A's, s_A / s_B for a crosscoder's scales.
        metric: what is scored.

    Raises:
        InterventionError: no feature, or one that does not exist.
        ShapeError: the two decompositions are of other tokens or dictionaries.

    Examples:
        >>> transplant(early, prompts, site, clean_early, clean_late, [17]).change  # doctest: +SKIP
    """
    chosen = _known(features, target)
    if source.x.shape != target.x.shape or source.decoder.shape != target.decoder.shape:
        raise ShapeError(
            f"Features of {tuple(source.decoder.shape)} on {len(source.x)} tokens cannot be carried into a model "
            f"with {tuple(target.decoder.shape)} on {len(target.x)} tokens."
        )
    put = scale * source.codes.of(chosen).decode(source.directions)
    taken = target.codes.of(chosen).decode(target.directions)
    return _scored(Upward(model, prompts, site, metric), target.x, put - taken)


def _known(features: Mapping[int, float] | Sequence[int], clean: Decomposition) -> list[int]:
    chosen = list(features)
    if not chosen:
        raise InterventionError("There is no feature to change: the list is empty.")
    for feature in chosen:
        clean.codes.check(feature)
    return chosen


def _scored(upward: Upward, x: Float[Tensor, "T D"], change: Float[Tensor, "T D"]) -> Steered:
    return Steered(upward.score(x + change), upward.score(x))
