"""A recipe: one readable TOML file that says everything about a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosstime.crosscoders.refuse_uneven_features import refuse_uneven_features
from crosstime.errors import RecipeError, errors_at
from crosstime.runs.recipe.baselines import CUT_OUT, TRAINED, BaselinesRecipe
from crosstime.runs.recipe.build import build
from crosstime.runs.recipe.corpus import GENERATED, CorpusRecipe
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe, L1Recipe
from crosstime.runs.recipe.effects import EffectsRecipe
from crosstime.runs.recipe.evolution import DipRecipe, EvolveRecipe
from crosstime.runs.recipe.limits import at_least
from crosstime.runs.recipe.ngrams import NgramsRecipe
from crosstime.runs.recipe.null import NullRecipe
from crosstime.runs.recipe.overlay import Table, copy_table, merge, override
from crosstime.runs.recipe.remote import RemoteRecipe
from crosstime.runs.recipe.rows import RowsRecipe
from crosstime.runs.recipe.shipped_recipes import parse_toml, shipped_recipe_table, shipped_recipes
from crosstime.runs.recipe.stability import StabilityRecipe
from crosstime.runs.recipe.suite import TINY, CompareRecipe, SelectRecipe, SuiteRecipe
from crosstime.runs.recipe.task import TaskRecipe
from crosstime.suites.compute import Compute
from interventions import Site
from user_input.home import expanded
from user_input.not_utf8 import not_utf8

_PATHS = {
    "suite": ("source", "models", "tokenizer"),
    "corpus": ("source", "held_out"),
    "evolve": ("languages",),
    "baselines": ("sae",),
    "crosscoder": ("source",),
}
"""Keys of tables that hold paths; so does ``path`` of every task."""
_SERVER_IN_COMPUTE = "[compute] has no key 'remote': a server has a table of its own, [remote], with the key 'host'."


@dataclass(frozen=True)
class Recipe:
    """Everything about a run. The same recipe gives the same numbers on the same machine.

    Attributes:
        name: name of the run and of its folder.
        title: title of the report; default: the name.
        description: a sentence about the run.
        seed: seed of every random draw that has no seed of its own.
        suite, compare, select, ngrams, corpus, rows, crosscoder, tasks: the tables of the file.
        effects, evolve, dip, stability, baselines, null, compute, remote: the tables of the file.

    Raises:
        RecipeError: a value is out of range or does not fit another one; the message names the table and the key.

    Examples:
        >>> Recipe.named("demo").compare.site
        'resid.2'
    """

    name: str
    suite: SuiteRecipe
    compare: CompareRecipe = field(default_factory=CompareRecipe)
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    tasks: list[TaskRecipe] = field(default_factory=list)
    title: str = ""
    description: str = ""
    seed: int = 0
    select: SelectRecipe = field(default_factory=SelectRecipe)
    ngrams: NgramsRecipe = field(default_factory=NgramsRecipe)
    rows: RowsRecipe = field(default_factory=RowsRecipe)
    crosscoder: CrosscoderRecipe = field(default_factory=L1Recipe)
    effects: EffectsRecipe = field(default_factory=EffectsRecipe)
    evolve: EvolveRecipe = field(default_factory=EvolveRecipe)
    dip: DipRecipe = field(default_factory=DipRecipe)
    stability: StabilityRecipe = field(default_factory=StabilityRecipe)
    baselines: BaselinesRecipe = field(default_factory=BaselinesRecipe)
    null: NullRecipe = field(default_factory=NullRecipe)
    compute: Compute = field(default_factory=Compute)
    remote: RemoteRecipe = field(default_factory=RemoteRecipe)

    def __post_init__(self) -> None:
        if self.compute.remote is not None:
            raise RecipeError(_SERVER_IN_COMPUTE)

        # Models side by side are all compared, unless some are named
        if self.suite.models and self.compare.revisions is None:
            names = self.suite.revisions or list(self.suite.models)
            object.__setattr__(self, "compare", dataclasses.replace(self.compare, revisions=names))

        # A recipe has tasks, a text and a site, or rows of parameters
        if self.rows.matrices:
            self._refuse_beside_rows()
            object.__setattr__(self, "compare", dataclasses.replace(self.compare, site=self.rows.site))
        else:
            self._refuse_missing()

        # Tasks have names of their own, and a dip names one of them
        names = [task.name for task in self.tasks]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise RecipeError(f"tasks: {repeated[0]!r} is there twice, and results are told apart by the task's name.")
        self.refuse_unknown_checkpoints(self.compare.revisions)

        # A crosscoder that exists is of checkpoints that have names, and is not trained again
        if self.crosscoder.source is not None and self.compare.revisions is None:
            raise RecipeError("crosscoder.source: name its checkpoints as compare.revisions, in its order.")
        if self.crosscoder.source is not None and self.baselines.trains:
            raise RecipeError(
                "baselines: autoencoders are trained with the settings of [crosscoder], which crosscoder.source "
                "replaces: set baselines.sae to 'crosscoder' or to a file, and leave out sae-chain."
            )
        if self.crosscoder.source is not None and self.null.kinds:
            raise RecipeError(
                "null.kinds: null models train the crosscoder again, which crosscoder.source replaces: leave one out."
            )

        # The features can be divided among the processes that hold them
        with errors_at("compute.feature_shards"):
            refuse_uneven_features(self.crosscoder.n_features, self.compute.feature_shards)

        # Keys of the top level
        at_least(self, seed=0)
        if not self.name or not all(letter.isalnum() or letter in "-_." for letter in self.name) or self.name[0] == ".":
            raise RecipeError(
                f"name: it names the run's folder, so it has letters, digits, '-', '_' and '.' only; got {self.name!r}."
            )
        with errors_at("compare.site"):
            Site.parse(self.compare.site)

    def _refuse_beside_rows(self) -> None:
        """Refuse what a run on rows of parameters does not have: prompts, text, and what is computed with them."""
        if self.tasks:
            raise RecipeError("tasks: a run on rows of parameters has no prompts; leave out [[tasks]] or [rows].")
        if self.compare.site not in ("", self.rows.site):
            raise RecipeError(
                f"compare.site: rows of parameters are read from their matrices and not at {self.compare.site}: leave "
                "it out."
            )
        self.rows.refuse_others(vars(self))
        self.rows.refuse_text(self.corpus, trained_here=self.suite.source == TINY)
        self.rows.refuse_trained(self.crosscoder, self.compute.feature_shards)

    def _refuse_missing(self) -> None:
        """Refuse a recipe without what all but those on rows of parameters need."""
        if self.rows != RowsRecipe():
            raise RecipeError('rows.matrices: name at least one matrix, such as matrices = ["W_U"].')
        if not self.compare.site:
            raise RecipeError("[compare] needs a key 'site'.")
        if not self.corpus.source:
            raise RecipeError("[corpus] needs a key 'source'.")
        if not self.tasks:
            raise RecipeError("tasks: a recipe needs at least one [[tasks]] table.")

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file. Relative paths in it are relative to the file, if they exist there.

        Args:
            path: the file.
            overrides: ``table.key=value`` with a TOML value (a bare word is a string), applied last.

        Raises:
            RecipeError: the file is missing or not TOML, a key is unknown or missing, or a value is not
                allowed; the sentence names the key.
        """
        path = expanded(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise RecipeError(
                f"Cannot read recipe {path}: {error.strerror}; shipped recipes: {', '.join(shipped_recipes())}."
            ) from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not a TOML file: {not_utf8(error)}.") from error
        return cls.of(parse_toml(text, str(path)), where=str(path), base=path.parent, overrides=overrides)

    @classmethod
    def named(cls, name: str, overrides: Sequence[str] = ()) -> Recipe:
        """A shipped recipe, by name.

        Raises:
            RecipeError: there is no such recipe.
        """
        return cls.of(shipped_recipe_table(name), where=f"recipe {name}", overrides=overrides)

    @classmethod
    def of(
        cls,
        table: Mapping[str, Any],
        *,
        where: str = "recipe",
        base: Path | None = None,
        overrides: Sequence[str] = (),
    ) -> Recipe:
        """Build a recipe from nested tables, strictly.

        Args:
            table: the tables; a key ``extends`` names a shipped recipe, over which they are laid.
            where: name of the recipe, for errors.
            base: folder that relative paths are relative to, if they exist there.
            overrides: as for `load`.

        Raises:
            RecipeError: as for `load`.
        """
        tables = copy_table(table)
        if (parent := tables.pop("extends", None)) is not None:
            with errors_at(f"{where}: extends"):
                tables = merge(shipped_recipe_table(parent), tables)
        for assignment in overrides:
            with errors_at(where):
                override(tables, assignment)
        _resolve_paths(tables, base)
        compute = tables.get("compute")
        if isinstance(compute, Mapping) and "remote" in compute:
            raise RecipeError(f"{where}: {_SERVER_IN_COMPUTE}")
        return build(cls, tables, where)

    def refuse_unknown_checkpoints(self, compared: Sequence[str] | None) -> None:
        """Refuse keys that name a checkpoint which is not compared, or that need more checkpoints than are.

        Args:
            compared: the crosscoder's checkpoints; None if they are not chosen yet.

        Raises:
            RecipeError: the sentence names the key, and the nearest checkpoint.
        """
        self.dip.refuse_unknown([task.name for task in self.tasks], compared)
        self.baselines.refuse_unknown(compared, self.compute.feature_shards)
        self.null.refuse_unknown(compared)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for records and hashes."""
        values = dataclasses.asdict(self)
        crosscoder = {"kind": self.crosscoder.kind, **values["crosscoder"]}
        return values | {"crosscoder": crosscoder, "effects": self.effects.to_dict()}


def _resolve_paths(tables: Table, base: Path | None) -> None:
    """Expand, in place, ``~`` in every path, and find the paths that exist in the folder of the recipe."""

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if isinstance(value, dict):
            return {name: resolve(item) for name, item in value.items()}
        if not isinstance(value, str) or value in ("", TINY, GENERATED, TRAINED, CUT_OUT):
            return value
        if value.startswith("~"):
            return str(expanded(value))
        return str(base / value) if base is not None and (base / value).exists() else value

    tasks = tables.get("tasks")
    with_paths = [(tables.get(name), keys) for name, keys in _PATHS.items()]
    with_paths += [(task, ("path",)) for task in (tasks if isinstance(tasks, list) else ())]
    for table, keys in with_paths:
        if isinstance(table, dict):
            table.update({key: resolve(table[key]) for key in keys if key in table})
