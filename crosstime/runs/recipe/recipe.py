"""A recipe: one readable TOML file that says everything about a run."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from crosstime.activations.store import ActivationStore, store_at
from crosstime.errors import RecipeError
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe, L1Recipe
from crosstime.runs.recipe.evolution import DipRecipe, EvolveRecipe
from crosstime.runs.recipe.tables import at_least, build, copied, merged, one_of, override
from crosstime.suites.compute import Compute
from crosstime.suites.tiny_config import TinyConfig
from interventions import METRICS, Remote, Site
from interventions.baselines import BASELINES
from interventions.errors import InterventionError
from interventions.estimator import METHODS
from interventions.quadrature import RULES as QUADRATURES
from tasks.answer_tokens import RULES
from tasks.start_token import STARTS
from user_input.first_line import first_line
from user_input.nearest import nearest

GENERATED = "agreement"
"""Names the generated agreement text as a corpus."""
TINY = "tiny"
"""Names the suite that is trained in the run itself."""
_SERVER_IN_COMPUTE = "compute: a server has a table of its own, [remote], with the key 'host'."


@dataclass(frozen=True)
class SuiteRecipe:
    """Where the checkpoints come from.

    Attributes:
        source: a folder of checkpoints, a Hub repository, or ``tiny``: trained in this run.
        revisions: which to measure accuracy at; default all that there are.
        name: of the suite, for figures; default the source's.
        tokenizer: folder or repository, for checkpoints that come without one.
        tokens_per_step: training tokens of a step, for names that tell only steps.
        tiny: what to train, with ``source = "tiny"``.
    """

    source: str
    revisions: list[str] | None = None
    name: str | None = None
    tokenizer: str | None = None
    tokens_per_step: int | None = None
    tiny: TinyConfig = field(default_factory=TinyConfig)


@dataclass(frozen=True)
class CompareRecipe:
    """Which checkpoints the crosscoder compares, and where in the model.

    Attributes:
        site: component and layer, such as ``resid.2``.
        revisions: the C checkpoints, in this order; default those that ``[select]`` chooses.
    """

    site: str
    revisions: list[str] | None = None


@dataclass(frozen=True)
class SelectRecipe:
    """How checkpoints are measured and, where ``compare.revisions`` is not given, chosen; see `crosstime.select`.

    Attributes:
        k: how many to choose.
        weight: of accuracy against likeness of activations, 0 to 1.
        measure: of likeness: cosine, pearson or cka.
        sequences: of text on which likeness is measured.
        sentences: also measure the accuracy of whole sentences.
    """

    k: int = 3
    weight: float = 0.5
    measure: str = "cosine"
    sequences: int = 64
    sentences: bool = False

    def __post_init__(self) -> None:
        at_least(self, k=2, sequences=1)
        one_of(self, measure=("cosine", "pearson", "cka"))
        if not 0 <= self.weight <= 1:
            raise RecipeError(f"weight must lie between 0 and 1, not {self.weight}.")


@dataclass(frozen=True)
class CorpusRecipe:
    """Text for the crosscoder (and for a tiny suite).

    Attributes:
        source: text files, a Hub data set ``hf:ORG/NAME``, ``agreement``: generated sentences; or a folder that
            `crosstime.harvest` wrote: the crosscoder is then trained on its activations, and no model is run for it.
        held_out: text to evaluate on; default: generated anew, or the same text. With a store it must be given.
        sentences: how many to generate.
        sequence_length: tokens of a sequence.
        phrase_share: share of generated sentences with a phrase between subject and verb.
        attractor_share: share of those in which its noun has the other number than the subject.
    """

    source: str | list[str]
    held_out: str | list[str] | None = None
    sentences: int = 50_000
    sequence_length: int = 64
    phrase_share: float = 0.6
    attractor_share: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, sentences=1, sequence_length=2)
        for name in ("phrase_share", "attractor_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} must lie between 0 and 1, not {getattr(self, name)}.")

    def store(self) -> ActivationStore | None:
        """The stored activations that the source names; None where it is text.

        Raises:
            StoreError: a store that is unfinished or damaged, or stands beside other sources.
        """
        return None if self.source == GENERATED else store_at(self.source)


@dataclass(frozen=True)
class TaskRecipe:
    """One task.

    Attributes:
        name: as `crosstime tasks` lists it, such as ``blimp/regular_plural_subject_verb_agreement_1``.
        path: folder or file of its data; default its own source.
        limit: most pairs that are used, drawn at random.
        rule: how answers are found in the tokens: ``first-difference`` or ``ctt``; default the task's own.
        prepend: token that begins every prompt: ``bos``, ``eos`` or ``bos-or-eos``; default as the tokenizer does.
    """

    name: str
    path: str | None = None
    limit: int | None = None
    rule: str | None = None
    prepend: str | None = None

    def __post_init__(self) -> None:
        at_least(self, limit=1)
        one_of(self, rule=RULES, prepend=STARTS)


@dataclass(frozen=True)
class EffectsRecipe:
    """How effects are computed, and which features are looked at; see `crosstime.attribute`.

    Attributes:
        method, baseline, metric, quadrature, steps, tolerance: as there.
        top: features taken at each checkpoint and task, by |IE|.
        resamples: of the bootstrap over prompts.
    """

    method: str | None = None
    baseline: str = "zero"
    metric: str = "logit_difference"
    quadrature: str = "gauss-legendre"
    steps: int | None = None
    tolerance: float = 0.02
    top: int = 10
    resamples: int = 10_000

    def __post_init__(self) -> None:
        at_least(self, steps=1, top=1, resamples=1)
        one_of(self, method=METHODS, baseline=BASELINES, metric=METRICS, quadrature=QUADRATURES)
        if self.tolerance <= 0:
            raise RecipeError(f"tolerance must be positive, not {self.tolerance}.")


@dataclass(frozen=True)
class RemoteRecipe:
    """Where checkpoints run, if not here; see `interventions.Remote`.

    Attributes:
        host: URL of an NDIF server, ``hosted`` for the public one, or ``local`` for a simulation; default here.
        sandboxed: whether its requests run in a sandbox, which has no gradients: true, false, or ``auto``: find out.
        wire: what activations travel in: float32, bfloat16 or float16; default the server's own.
    """

    host: str | None = None
    sandboxed: str | bool = "auto"
    wire: str | None = None

    def __post_init__(self) -> None:
        try:
            self.place({})
        except InterventionError as error:
            raise RecipeError(str(error)) from error

    def place(self, jobs: MutableMapping[str, str]) -> Remote | None:
        """The server, or None for here; ids of its jobs are kept in `jobs`."""
        if self.host is None:
            return None
        return Remote(self.host, self.sandboxed, self.wire, jobs=jobs)


@dataclass(frozen=True)
class Recipe:
    """Everything about a run. The same recipe gives the same numbers on one machine.

    Attributes:
        name: of the run and its folder.
        title: of the report; default the name.
        description: a sentence for people.
        seed: of all that is drawn at random and has no seed of its own.
        suite, compare, select, corpus, crosscoder, tasks, effects, evolve, dip, compute, remote: the tables of
            the file.

    Examples:
        >>> Recipe.named("demo").compare.site
        'resid.2'
    """

    name: str
    suite: SuiteRecipe
    compare: CompareRecipe
    corpus: CorpusRecipe
    tasks: list[TaskRecipe]
    title: str = ""
    description: str = ""
    seed: int = 0
    select: SelectRecipe = field(default_factory=SelectRecipe)
    crosscoder: CrosscoderRecipe = field(default_factory=L1Recipe)
    effects: EffectsRecipe = field(default_factory=EffectsRecipe)
    evolve: EvolveRecipe = field(default_factory=EvolveRecipe)
    dip: DipRecipe = field(default_factory=DipRecipe)
    compute: Compute = field(default_factory=Compute)
    remote: RemoteRecipe = field(default_factory=RemoteRecipe)

    def __post_init__(self) -> None:
        if self.compute.remote is not None:
            raise RecipeError(_SERVER_IN_COMPUTE)
        if not self.tasks:
            raise RecipeError("tasks: a recipe needs at least one [[tasks]] table.")
        names = [task.name for task in self.tasks]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise RecipeError(f"tasks: {repeated[0]!r} is there twice, and results are told apart by the task's name.")
        self.dip.refuse_other(names, self.compare.revisions)
        at_least(self, seed=0)
        if not self.name or not all(letter.isalnum() or letter in "-_." for letter in self.name) or self.name[0] == ".":
            raise RecipeError(
                f"name: it names the run's folder, so it has letters, digits, '-', '_' and '.' only; got {self.name!r}."
            )
        try:
            Site.parse(self.compare.site)
        except InterventionError as error:
            raise RecipeError(f"compare.site: {error}") from error

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file. Relative paths in it are relative to the file, where they exist there.

        Args:
            path: the file.
            overrides: ``table.key=value`` with a TOML value (a bare word is a string), applied last.

        Raises:
            RecipeError: the file is missing or not TOML, a key is unknown or missing, or a value is not
                allowed; the sentence names the key.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(
                f"Cannot read recipe {path}: {error.strerror}; shipped recipes: {', '.join(shipped())}."
            ) from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not a TOML file: {error}.") from error
        return cls.of(_parsed(text, str(path)), where=str(path), base=path.parent, overrides=overrides)

    @classmethod
    def named(cls, name: str, overrides: Sequence[str] = ()) -> Recipe:
        """A shipped recipe, by name.

        Raises:
            RecipeError: there is no such recipe.
        """
        return cls.of(_shipped(name), where=f"recipe {name}", overrides=overrides)

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

        A key ``extends`` names a shipped recipe, over which the tables are laid.
        """
        table = copied(table)
        if (parent := table.pop("extends", None)) is not None:
            table = merged(_shipped(parent), table)
        for text in overrides:
            override(table, text)
        if base is not None:
            _resolve_paths(table, base)
        compute = table.get("compute")
        if isinstance(compute, Mapping) and "remote" in compute:
            raise RecipeError(f"{where}: {_SERVER_IN_COMPUTE}")
        return build(cls, table, where)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for records and hashes."""
        values = dataclasses.asdict(self)
        return values | {"crosscoder": {"kind": self.crosscoder.kind, **values["crosscoder"]}}


def crosscoder_table(table: Mapping[str, Any], overrides: Sequence[str] = ()) -> CrosscoderRecipe:
    """The ``[crosscoder]`` table of a recipe by itself, for training without one.

    Args:
        table: its keys, `kind` among them.
        overrides: ``key=value`` with a TOML value (a bare word is a string), applied last.

    Raises:
        RecipeError: there is no such kind or key, or a value is not allowed; the sentence names the key.

    Examples:
        >>> crosscoder_table({"kind": "topk", "k": 8}, ["lr=1e-3"]).lr
        0.001
    """
    table = copied(table)
    for text in overrides:
        override(table, text)
    return build(CrosscoderRecipe, table, "crosscoder", "crosscoder")


def _shipped(name: Any) -> dict[str, Any]:
    """The tables of a shipped recipe, laid over those of the one that it extends."""
    if not isinstance(name, str) or name not in shipped():
        raise RecipeError(f"There is no recipe {name!r}: {nearest(str(name), shipped())}")
    text = (files("crosstime") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    table = _parsed(text, f"recipe {name}")
    parent = table.pop("extends", None)
    return table if parent is None else merged(_shipped(parent), table)


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not all of them are TOMLDecodeErrors: numbers without end
        raise RecipeError(f"{where} is not a TOML file: {first_line(error)}.") from error


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files("crosstime") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _resolve_paths(table: dict[str, Any], base: Path) -> None:
    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if isinstance(value, dict):
            return {name: resolve(item) for name, item in value.items()}
        if isinstance(value, str) and value not in (TINY, GENERATED) and (base / value).exists():
            return str(base / value)
        return value

    places = [
        (table.get("suite"), ("source", "tokenizer")), (table.get("corpus"), ("source", "held_out")),
        (table.get("evolve"), ("languages",)),
    ]  # fmt: skip
    listed = table.get("tasks")
    places += [(task, ("path",)) for task in (listed if isinstance(listed, list) else ())]
    for place, keys in places:
        if isinstance(place, dict):
            place.update({key: resolve(place[key]) for key in keys if key in place})
