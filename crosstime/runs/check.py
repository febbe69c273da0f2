"""Checks of a recipe that need its suite, tasks or store: what cannot work is refused before anything is computed."""

from __future__ import annotations

from crosstime.activations.store import ActivationStore, store_at
from crosstime.errors import RecipeError, SuiteError
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.corpus import GENERATED
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.suite import TINY
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.read_lines import read_lines
from crosstime.suites.suite import Suite

BROKEN = {"bigscience/bloom-1b1-intermediate": ("global_step400000",)}
"""Checkpoints on the Hub whose weights are damaged."""


def check(inputs: Inputs) -> None:
    """Refuse what cannot work, before anything is computed.

    Raises:
        CorpusError, RecipeError, SiteError, StoreError, SuiteError, TaskError: what is missing, or does not fit.
    """
    recipe, store = inputs.recipe, inputs.store
    refuse_broken(recipe)
    if store is not None:
        _refuse_unfit(recipe, store)

    # Every text can be opened
    trained_on = recipe.corpus.source if store is None else None
    for source in (trained_on, recipe.corpus.held_out, *recipe.evolve.languages.values()):
        if source is not None and source != GENERATED:
            read_lines(source)

    # The compared checkpoints exist; those of a suite that is trained here are known by their names only
    trained_here = recipe.suite.source == TINY
    suite = _planned(recipe) if trained_here else inputs.suite
    if not trained_here:
        inputs.compute.verify(suite)
    n_layers = recipe.suite.tiny.n_layers if trained_here else suite.n_layers
    if recipe.compare.revisions is not None:
        compared = suite.select(recipe.compare.revisions)
        if store is not None:
            store.refuse_other(compared, inputs.site)
        if not trained_here:
            inputs.compute.verify(compared, distinct=True)
            n_layers = compared.n_layers
            _ = inputs.tokenized  # which raises where a task has nothing for this tokenizer

    inputs.site.resolve(n_layers)


def refuse_broken(recipe: Recipe) -> None:
    """Refuse checkpoints that are known to be damaged.

    Raises:
        SuiteError: the recipe names such a checkpoint.
    """
    for revision in BROKEN.get(recipe.suite.source, ()):
        if revision in (recipe.suite.revisions or []) or revision in (recipe.compare.revisions or []):
            raise SuiteError(
                f"checkpoint {revision} of {recipe.suite.source} is broken on the Hub, and its numbers would mean "
                f"nothing: take the one before or after it"
            )


def _planned(recipe: Recipe) -> Suite:
    """The suite that the run will train, by its checkpoints' names."""
    steps = recipe.suite.tiny.checkpoints
    suite = Suite(TINY, tuple(Checkpoint(f"step{step}", step, None, TINY, None) for step in steps))
    return suite.select(recipe.suite.revisions or suite.revisions)


def _refuse_unfit(recipe: Recipe, store: ActivationStore) -> None:
    """Refuse what a recipe asks for and stored activations cannot give."""
    if recipe.suite.source == TINY:
        raise RecipeError("corpus.source: a suite that is trained in the run has no stored activations; give a text.")
    if recipe.compare.revisions is None:
        revisions = ", ".join(store.revisions)
        raise RecipeError(f"compare.revisions: name those of the store {store.folder}, which are {revisions}.")
    if recipe.crosscoder.validation:
        raise RecipeError("crosscoder.validation must be 0: a store of activations has no documents to hold out.")
    if recipe.corpus.held_out is None:
        raise RecipeError(
            f"corpus.held_out: name a text to evaluate on, since the store {store.folder} holds activations only."
        )
    if store_at(recipe.corpus.held_out) is not None:
        raise RecipeError(f"corpus.held_out must be a text; {recipe.corpus.held_out} is a store of activations.")
