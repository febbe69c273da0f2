"""Which features to look at: those with the largest effects."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CrosstimeError


def select_top(effects: Float[Tensor, "C F"], k: int = 10, *, by: str = "magnitude") -> list[int]:
    """Select the union over checkpoints of the k features with the largest effects at each.

    Args:
        effects: indirect effect of every feature at every checkpoint.
        k: number of features at each checkpoint; a feature without any effect is never selected. Of features with equal
            effects, those with the lower numbers are selected first.
        by: ``magnitude`` (|IE|), ``positive`` (largest IE: features that help), ``negative`` (smallest IE), or ``both``
            (the k largest and the k smallest IE).

    Returns:
        Feature numbers, sorted by their largest |IE| at any checkpoint, the largest first.

    Raises:
        CrosstimeError: an unknown `by`, k below 1, or an effect that is NaN, which has no place in an order.

    Examples:
        >>> import torch
        >>> select_top(torch.tensor([[0.0, 2.0, -3.0], [1.0, 0.0, 0.0]]), k=1)
        [2, 0]
    """
    sort_keys = {
        "magnitude": [effects.abs()],
        "positive": [effects],
        "negative": [-effects],
        "both": [effects, -effects],
    }
    if by not in sort_keys:
        raise CrosstimeError(f"Features are selected by one of {', '.join(sort_keys)}, not {by!r}.")
    if k < 1:
        raise CrosstimeError(f"k must be at least 1, not {k}.")

    if bool(effects.isnan().any()):
        checkpoint, feature = effects.isnan().nonzero()[0].tolist()
        raise CrosstimeError(
            f"{int(effects.isnan().sum()):,} effects are NaN, first that of feature {feature} at checkpoint "
            f"{checkpoint}; features without a known effect cannot be selected."
        )

    # Take the k largest of every checkpoint; a stable sort, because topk decides ties by chance
    selected: set[int] = set()
    for sort_key in sort_keys[by]:
        for checkpoint_effects in sort_key:
            values, features = checkpoint_effects.sort(descending=True, stable=True)
            selected.update(features[:k][values[:k] > 0].tolist())

    # Sort them; features of equal effect keep the order of their numbers
    largest = effects.abs().amax(0)
    return sorted(selected, key=lambda feature: (-float(largest[feature]), feature))
