"""Names of the stages of a run, in order, and which of them a recipe has; readable without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from crosstime.errors import RunError
from crosstime.runs.recipe.suite import TINY
from user_input.nearest import nearest

NAMES = (
    "suite",
    "select",
    "ngrams",
    "train",
    "evaluate",
    "attribute",
    "ablate",
    "evolve",
    "explain",
    "replicate",
    "stability",
    "baselines",
    "null",
    "report",
)
ROW_NAMES = ("suite", "train", "evaluate", "evolve", "report")
"""The stages of a recipe on rows of parameters, see ``[rows]``; others run prompts or text through models."""
_ASKED_FOR_BY: dict[str, tuple[str, str, Callable[[object], bool]]] = {
    "suite": ("suite", "source", lambda source: source == TINY),
    "ngrams": ("ngrams", "sequences", bool),
    # The first seed is that of the stage `train`
    "replicate": ("crosscoder", "seeds", lambda seeds: isinstance(seeds, list) and len(seeds) > 1),
    "stability": ("stability", "comparisons", bool),
    "baselines": ("baselines", "names", bool),
    "null": ("null", "kinds", bool),
}
"""Table, key and condition by which a recipe asks for a stage that not every recipe has."""


def asks_for(recipe: object, stage: str) -> bool:
    """Whether a recipe has a stage.

    Args:
        recipe: the recipe as plain values, as `Recipe.to_dict` gives and a manifest records; a table or key that it
            does not have, such as one of a newer version, asks for nothing.
        stage: one of `NAMES`.

    Examples:
        >>> asks_for({"null": {"kinds": ["random-weights"]}}, "null"), asks_for({}, "null"), asks_for({}, "train")
        (True, False, True)
    """
    if has_rows(recipe) and stage not in ROW_NAMES:
        return False
    if stage not in _ASKED_FOR_BY:
        return True
    table, key, condition = _ASKED_FOR_BY[stage]
    values = recipe.get(table) if isinstance(recipe, Mapping) else None
    return isinstance(values, Mapping) and condition(values.get(key))


def has_rows(recipe: object) -> bool:
    """Whether a recipe, as plain values, is one on rows of parameters."""
    rows = recipe.get("rows") if isinstance(recipe, Mapping) else None
    return isinstance(rows, Mapping) and bool(rows.get("matrices"))


def refuse_unknown(names: Sequence[str]) -> None:
    """Refuse names of stages that do not exist.

    Raises:
        RunError: the sentence names the nearest stage.
    """
    for name in names:
        if name not in NAMES:
            raise RunError(f"there is no stage {name!r}: {nearest(name, NAMES)}")
