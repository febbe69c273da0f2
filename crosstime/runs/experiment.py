"""What the stages of a run share: the recipe, the folder, and what is loaded from them when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from crosstime.activations.store import ActivationStore, store_at
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task
from crosstime.effects.attribute import Attribution
from crosstime.effects.effects_file import read_effects
from crosstime.errors import RecipeError, RunError
from crosstime.machine import storage
from crosstime.machine.processes import ALONE, Processes
from crosstime.runs.jobs import JobFile
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import TEXT_COLUMNS, checksum
from crosstime.runs.plan.known_models import refuse_broken
from crosstime.runs.recipe.recipe import GENERATED, TINY, CorpusRecipe, Recipe, TaskRecipe
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import corpus_hash
from crosstime.suites.read_lines import read_lines
from crosstime.suites.suite import Suite
from interventions import Site
from tasks import Task, TokenizedTask, load
from tasks.agreement import sentences
from tasks.errors import TaskError

SUITE = "suite"
CROSSCODER = "crosscoder.safetensors"
SELECTION = "selection.json"


class Experiment:
    """One run: its recipe, its folder, and everything in it, loaded once.

    Args:
        recipe: what to do.
        folder: where; made if missing.
        processes: those that work on it together, as this one sees them.

    Raises:
        TaskError: a task of the recipe cannot be loaded; the sentence says which.
        RunError: the folder cannot be made, or holds a damaged manifest.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, processes: Processes = ALONE) -> None:
        self.recipe, self.folder, self.processes = recipe, folder, processes
        self.tasks = [_load(index, settings) for index, settings in enumerate(recipe.tasks)]
        self.ledger = Ledger(folder)
        self._spliced: dict[int, DecomposedTask] = {}

    @cached_property
    def suite(self) -> Suite:
        """All checkpoints: those that accuracy is measured at."""
        settings = self.recipe.suite
        trained_here = settings.source == TINY
        return Suite.open(
            self.folder / SUITE if trained_here else settings.source, settings.revisions,
            name=settings.name or (self.recipe.name if trained_here else None),
            tokenizer=settings.tokenizer, tokens_per_step=settings.tokens_per_step,
        )  # fmt: skip

    @cached_property
    def compared(self) -> Suite:
        """The checkpoints of the crosscoder: those that the recipe names, or else those that were chosen."""
        named = self.recipe.compare.revisions
        return self.suite.select(chosen_revisions(self.folder / SELECTION) if named is None else named)

    @cached_property
    def compute(self) -> Compute:
        """Where and how checkpoints are run."""
        place = self.recipe.remote.place(JobFile(self.folder / "jobs.json"))
        return self.recipe.compute if place is None else replace(self.recipe.compute, remote=place)

    @cached_property
    def site(self) -> Site:
        """Where in the model."""
        return Site.parse(self.recipe.compare.site)

    @cached_property
    def tokenized(self) -> list[TokenizedTask]:
        """The tasks in token ids."""
        return [
            task.tokenize(
                self.suite.tokenizer, rule=settings.rule, prepend=settings.prepend, limit=settings.limit,
                seed=self.recipe.seed,
            )
            for task, settings in zip(self.tasks, self.recipe.tasks, strict=True)
        ]  # fmt: skip

    @cached_property
    def crosscoder(self) -> CrossCoder:
        """The crosscoder that was trained."""
        return CrossCoder.load(self.folder / CROSSCODER)

    def decomposed(self, task: int) -> DecomposedTask:
        """A task's prompts, read at every checkpoint and decomposed."""
        if task not in self._spliced:
            self._spliced[task] = decompose_task(
                self.compared, self.crosscoder, self.tokenized[task], compute=self.compute,
            )  # fmt: skip
        return self._spliced[task]

    def attribution(self, task: int) -> Attribution:
        """A task's indirect effects, as the stage `attribute` left them."""
        found = self.tokenized[task]
        effects = read_effects(self.folder / effects_file(task))
        return Attribution(
            found.name, self.compared.revisions, effects, self.crosscoder.decoder_norms(), self.decomposed(task)
        )

    @cached_property
    def store(self) -> ActivationStore | None:
        """The activations to train on, where the recipe names a store of them in the place of a text."""
        return self.recipe.corpus.store()

    def corpus(self, *, held_out: bool = False) -> str | list[str] | Iterable[str]:
        """The text to train on (where there is no `store`), or that to evaluate on, as `crosstime.train` takes it."""
        corpus, seed = self.recipe.corpus, self.recipe.seed
        source = corpus.held_out if held_out and corpus.held_out is not None else corpus.source
        return list(_generated(corpus, seed + 1 if held_out else seed)) if source == GENERATED else source

    def table(self, name: str) -> pd.DataFrame:
        """A table of the run's folder."""
        return storage.read_table(self.folder / f"{name}.csv", dtypes=TEXT_COLUMNS)

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Write a table into the run's folder."""
        storage.write_table(self.folder / f"{name}.csv", table)

    def corpus_inputs(self) -> dict[str, Any]:
        """What the text is, for the keys of stages."""
        corpus = self.recipe.corpus
        sources = [source for source in (corpus.source, corpus.held_out) if source is not None]
        paths = [path for source in sources for path in ([source] if isinstance(source, str) else source)]
        text = {path: checksum(Path(path)) for path in paths if Path(path).is_file()}
        stored = {} if self.store is None else {"store": self.store.digest}
        return {"settings": asdict(corpus), "text": text, **stored}

    def task_inputs(self) -> dict[str, Any]:
        """What the tasks are, for the keys of stages."""
        recipe = self.recipe
        return {
            "tasks": [asdict(task) for task in recipe.tasks], "pairs": [_hash(task) for task in self.tasks],
            "seed": recipe.seed, "dtype": self.compute.precision, "resamples": recipe.effects.resamples,
        }  # fmt: skip

    def check(self) -> None:
        """Refuse what cannot work, before anything is computed.

        Raises:
            CorpusError, SuiteError, TaskError, SiteError: what is missing, or does not fit.
        """
        settings, compare, corpus = self.recipe.suite, self.recipe.compare, self.recipe.corpus
        refuse_broken(self.recipe)
        if self.store is not None:
            _refuse_unfit(self.recipe, self.store)
        languages = self.recipe.evolve.languages.values()
        for source in (corpus.source if self.store is None else None, corpus.held_out, *languages):
            if source is not None and source != GENERATED:
                read_lines(source)
        if settings.source == TINY:
            steps = settings.tiny.checkpoints
            planned = Suite(TINY, tuple(Checkpoint(f"step{step}", step, None, TINY, None) for step in steps))
            planned = planned.select(settings.revisions or planned.revisions)
            n_layers = settings.tiny.n_layers
        else:
            planned, n_layers = self.suite, self.suite.n_layers
        if compare.revisions is not None:
            compared = planned.select(compare.revisions)
            if self.store is not None:
                self.store.refuse_other(compared, self.site)
            if settings.source != TINY:
                n_layers = compared.n_layers
                _ = compared.d_model, self.tokenized
        self.site.resolve(n_layers)


def chosen_revisions(path: Path) -> list[str]:
    """The checkpoints that the stage `select` chose.

    Raises:
        RunError: the file is missing, or does not name them.
    """
    found = storage.read_json(path)
    names = found.get("revisions") if isinstance(found, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RunError(f"{path} does not name the checkpoints that were chosen; remove it, and they are chosen anew")
    return names


def effects_file(task: int) -> str:
    """Name of the file with a task's effects, by the task's place in the recipe."""
    return f"attribution/{task}.safetensors"


def _refuse_unfit(recipe: Recipe, store: ActivationStore) -> None:
    """Refuse what a recipe asks for and cannot have of stored activations."""
    if recipe.suite.source == TINY:
        raise RecipeError("corpus.source: a suite that is trained in the run has no stored activations; give a text.")
    if recipe.compare.revisions is None:
        named = ", ".join(store.revisions)
        raise RecipeError(f"compare.revisions: name those of the store {store.folder}, which are {named}.")
    if recipe.crosscoder.validation:
        raise RecipeError("crosscoder.validation must be 0: a store of activations has no documents to hold out.")
    if recipe.corpus.held_out is None:
        raise RecipeError(
            f"corpus.held_out: name a text to evaluate on, since the store {store.folder} holds activations only."
        )
    if store_at(recipe.corpus.held_out) is not None:
        raise RecipeError(f"corpus.held_out must be a text; {recipe.corpus.held_out} is a store of activations.")


def _load(index: int, settings: TaskRecipe) -> Task:
    try:
        return load(settings.name, path=settings.path)
    except TaskError as error:
        raise type(error)(f"tasks[{index}]: {error}") from error


def _hash(task: Task) -> str:
    return corpus_hash(json.dumps(asdict(pair)) for pair in task.pairs)


def _generated(corpus: CorpusRecipe, seed: int) -> Iterable[str]:
    return sentences(
        corpus.sentences, seed=seed, attractor_share=corpus.attractor_share, phrase_share=corpus.phrase_share
    )
