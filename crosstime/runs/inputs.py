"""What a run starts from: its checkpoints, tasks and text, each opened when it is first used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property

from crosstime.activations.null_batches import NullBatches
from crosstime.activations.parameter_rows import JOIN, parameter_rows, resolved_matrix
from crosstime.activations.row_source import Rows
from crosstime.activations.store import ActivationStore
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, Transform, decompose_task
from crosstime.errors import errors_at
from crosstime.machine.checksum import checksum_of
from crosstime.runs.folder import RunFolder, read_selection
from crosstime.runs.given_crosscoder import given_crosscoder
from crosstime.runs.jobs import JobFile
from crosstime.runs.open_suite import open_suite
from crosstime.runs.recipe.corpus import GENERATED, CorpusRecipe
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.suite import TINY
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import corpus_hash
from crosstime.suites.read_lines import text_files
from crosstime.suites.suite import Suite
from interventions import Site
from tasks import Task, TokenizedTask, load
from tasks.agreement import sentences


class Inputs:
    """The inputs of a run, as its recipe names them.

    Args:
        recipe: the recipe of the run.
        folder: the run's folder, which may hold the suite and the choice of checkpoints.

    Raises:
        TaskError: a task of the recipe cannot be loaded; the sentence says which.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder) -> None:
        self.recipe, self.folder = recipe, folder
        self.tasks: list[Task] = []
        for index, table in enumerate(recipe.tasks):
            with errors_at(f"tasks[{index}]"):
                self.tasks.append(load(table.name, path=table.path))
        self._decomposed: dict[int, DecomposedTask] = {}

    @cached_property
    def suite(self) -> Suite:
        """The suite, with every checkpoint at which accuracy is measured."""
        table = self.recipe.suite
        trained_here = str(self.folder.path / self.folder.SUITE) if table.source == TINY else None
        return open_suite(table, self.recipe.name, trained_here=trained_here, text_start=self.recipe.corpus.text_start)

    @cached_property
    def compared(self) -> Suite:
        """The checkpoints of the crosscoder: those that the recipe names, or else those that `select` chose.

        A run on rows of parameters chooses none, and takes all.
        """
        revisions = self.recipe.compare.revisions
        if revisions is None and self.recipe.rows.matrices:
            return self.suite
        if revisions is None:
            revisions = read_selection(self.folder.path / self.folder.SELECTION)
            self.recipe.refuse_unknown_checkpoints(revisions)
        with errors_at("compare.revisions"):
            return self.suite.select(revisions)

    @cached_property
    def given_crosscoder(self) -> CrossCoder | None:
        """The crosscoder that the recipe names in place of a training; None where one is trained.

        Raises:
            CrosscoderError, RecipeError: it cannot be read, or is of other checkpoints or another site.
        """
        source = self.recipe.crosscoder.source
        if source is None:
            return None
        compared = self.compared
        with errors_at("crosscoder.source"):
            return given_crosscoder(source, compared, self.site, self.rows_name)

    @cached_property
    def rows(self) -> Rows:
        """The rows of parameters that the crosscoder is trained on; see ``[rows]`` of the recipe."""
        return parameter_rows(self.compared, self.recipe.rows.matrices, compute=self.compute)

    @property
    def rows_name(self) -> str | None:
        """Their name, which needs no model; None in a recipe with tasks and a text."""
        names = [resolved_matrix(name, self.compared.n_layers) for name in self.recipe.rows.matrices]
        return JOIN.join(names) or None

    @cached_property
    def compute(self) -> Compute:
        """Where and how checkpoints run; the ids of jobs on a server are kept in the run's folder."""
        remote = self.recipe.remote.open(JobFile(self.folder.path / self.folder.JOBS))
        compute = self.recipe.compute
        if remote is None:
            return compute
        # The batch budget of a recipe that does not set one was chosen for this machine, not for the server
        chosen = Compute(compute.device, compute.dtype).max_tokens
        max_tokens = None if compute.max_tokens == chosen else compute.max_tokens
        return Compute(compute.device, compute.dtype, max_tokens, remote)

    @property
    def null_batches(self) -> NullBatches | None:
        """What a null model does to the activations of the training; None for the run itself."""
        return None

    @property
    def transform(self) -> Transform | None:
        """What a null model does to the activations of held-out text; None for the run itself."""
        return None if self.null_batches is None else self.null_batches.held_out

    @cached_property
    def site(self) -> Site:
        """Where in the model activations are read."""
        return Site.parse(self.recipe.compare.site)

    @cached_property
    def tokenized(self) -> list[TokenizedTask]:
        """The tasks in token ids."""
        tokenized: list[TokenizedTask] = []
        for index, (task, table) in enumerate(zip(self.tasks, self.recipe.tasks, strict=True)):
            with errors_at(f"tasks[{index}]"):
                tokens = task.tokenize(
                    self.suite.tokenizer,
                    rule=table.rule,
                    prepend=table.prepend,
                    limit=table.limit,
                    seed=self.recipe.seed,
                )
            tokenized.append(tokens)
        return tokenized

    @cached_property
    def store(self) -> ActivationStore | None:
        """The store of activations to train on; None where the recipe names a text."""
        with errors_at("corpus.source"):
            return self.recipe.corpus.store()

    def corpus(self, *, held_out: bool = False) -> str | list[str]:
        """The text to train on (unless there is a `store`) or to evaluate on, as `crosstime.train` takes it."""
        table, seed = self.recipe.corpus, self.recipe.seed
        source = table.held_out if held_out and table.held_out is not None else table.source
        return list(_generated(table, seed + 1 if held_out else seed)) if source == GENERATED else source

    def decomposed(self, task: int, crosscoder: CrossCoder) -> DecomposedTask:
        """A task's prompts, read at every compared checkpoint and decomposed; read once in a run.

        Args:
            task: index of the task in the recipe.
            crosscoder: the crosscoder of this run.
        """
        if task not in self._decomposed:
            self._decomposed[task] = decompose_task(
                self.compared, crosscoder, self.tokenized[task], compute=self.compute
            )
        return self._decomposed[task]

    def corpus_identity(self) -> dict[str, object]:
        """Plain values that tell this run's text from any other: settings, and checksums of files."""
        table = self.recipe.corpus
        sources = [source for source in (table.source, table.held_out) if source is not None]
        named = {name: path for source in sources for name, path in text_files(source).items()}
        text = {name: checksum_of(path) for name, path in named.items() if path.is_file()}
        stored = {} if self.store is None else {"store": self.store.digest}
        settings = asdict(table)
        # The default is left out, as in runs that were made before there was a choice
        if table.text_start == CorpusRecipe.text_start:
            del settings["text_start"]
        return {"settings": settings, "text": text, **stored}

    def task_identity(self) -> dict[str, object]:
        """Plain values that tell this run's tasks, and how they are scored, from any other."""
        recipe = self.recipe
        return {
            "tasks": [asdict(table) for table in recipe.tasks],
            "pairs": [
                _pairs_hash(task, table.rule or task.rule) for table, task in zip(recipe.tasks, self.tasks, strict=True)
            ],
            "seed": recipe.seed,
            "dtype": self.compute.precision,
            "resamples": recipe.effects.resamples,
        }


def _pairs_hash(task: Task, rule: str) -> str:
    """Hash of the pairs of a task; what the rule ``ctt`` counts is part of it only where this rule is used."""
    plain = [asdict(pair) for pair in task.pairs]
    if rule != "ctt":
        for pair in plain:
            del pair["ctt_count"]
    return corpus_hash(map(json.dumps, plain))


def _generated(table: CorpusRecipe, seed: int) -> Iterable[str]:
    """Generated sentences of the agreement grammar."""
    return sentences(table.sentences, seed=seed, attractor_share=table.attractor_share, phrase_share=table.phrase_share)
