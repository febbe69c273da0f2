"""The table of a recipe about indirect effects: ``[effects]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import interventions
from crosstime.errors import RecipeError
from crosstime.runs.recipe.limits import at_least
from interventions.estimator import NAMED, Estimator
from user_input.nearest import nearest

UNDEFINED = {"ctt-as-released": 0.5}
"""RelIE of 0/0 that belongs to a named estimator."""


@dataclass(frozen=True)
class EffectsRecipe(Estimator):
    """How effects are estimated, and which features are selected by them; see `crosstime.attribute`.

    The keys of `Estimator` (method, baseline, metric, quadrature, steps, tolerance, and the table aggregation), and
    these. A key `estimator` names an estimator of `Estimator.named`, which sets them.

    Attributes:
        top: features that are selected at each checkpoint and task, by |IE|.
        resamples: number of resamples of the bootstrap over prompts.
        halves: whether features are selected on one half of each task's prompts and tested on the other, rather than
            both on all prompts.
        undefined: RelIE of a feature without any effect, 0/0, from 0 to 1; None leaves it undefined. CTT's code writes
            .5.
    """

    top: int = 10
    resamples: int = 10_000
    halves: bool = True
    undefined: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, top=1, resamples=1)
        if self.undefined is not None and not 0 <= self.undefined <= 1:
            raise RecipeError(f"undefined: a RelIE is from 0 to 1, not {self.undefined}.")

    def to_dict(self) -> dict[str, Any]:
        """The table as plain values, without keys at their defaults that runs of earlier versions did not have.

        Finished runs are known by these values.
        """
        values, defaults = asdict(self), asdict(EffectsRecipe())
        later = ("aggregation", "undefined")
        return {
            field.name: values[field.name]
            for field in fields(self)
            if field.name not in later or values[field.name] != defaults[field.name]
        }

    def bootstrap(self, seed: int) -> interventions.Bootstrap:
        """The bootstrap over prompts."""
        return interventions.Bootstrap(self.resamples, seed)


def with_named_estimator(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the table in which the key `estimator` is replaced by the options that it stands for.

    Raises:
        RecipeError: there is no such estimator, or another key contradicts it.

    Examples:
        >>> with_named_estimator({"estimator": "ctt-as-released", "aggregation": {"columns": 6}})["aggregation"]
        {'name': 'ctt-released', 'columns': 6}
    """
    # A bare name of an aggregation stands for its table
    keys = dict(table)
    if isinstance(aggregation := keys.get("aggregation"), str):
        keys["aggregation"] = {"name": aggregation}
    if "estimator" not in keys:
        return keys

    # Add the options of the estimator, unless another key says otherwise
    name = keys.pop("estimator")
    if not isinstance(name, str) or name not in NAMED:
        raise RecipeError(f"estimator: there is none named {name!r}: {nearest(str(name), NAMED)}")
    for option, value in NAMED[name].items():
        setting = keys.get(option, value)
        if isinstance(value, Mapping) and isinstance(setting, Mapping):
            setting = {**value, **setting}
        named, chosen = (v["name"] if isinstance(v, Mapping) else v for v in (value, setting))
        if chosen != named:
            raise RecipeError(
                f"estimator {name!r} has {option} {named!r}, but the recipe says {chosen!r}: remove one of the two keys"
            )
        keys[option] = setting
    if name in UNDEFINED:
        keys.setdefault("undefined", UNDEFINED[name])
    return keys
