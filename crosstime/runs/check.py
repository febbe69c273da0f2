"""Checks of a recipe that need its suite, tasks or store: what cannot work is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from crosstime.activations.parameter_rows import resolved_matrix
from crosstime.activations.store import ActivationStore, store_at
from crosstime.crosscoders.decompose import refuse_baseline
from crosstime.crosscoders.origin import Origin
from crosstime.effects.least_prompts import refuse_few_prompts
from crosstime.effects.refuse_missing_gradients import refuse_missing_gradients
from crosstime.effects.stability_options import DTYPE
from crosstime.errors import CrosscoderError, RecipeError, SuiteError, errors_at
from crosstime.evolution.null_names import NOISE, RANDOM, SAME
from crosstime.runs.inputs import Inputs
from crosstime.runs.read_autoencoder import read_autoencoder
from crosstime.runs.recipe.corpus import GENERATED
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.suite import TINY
from crosstime.suites.check_length import check_length
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import documents
from crosstime.suites.read_lines import read_lines
from crosstime.suites.read_text import read_text
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.training.data import check_tokens
from crosstime.training.held_out_documents import without_held_out
from crosstime.training.loggers import refuse_missing_loggers
from crosstime.training.memory import refuse_too_large
from interventions import Estimator

BROKEN = {"bigscience/bloom-1b1-intermediate": ("global_step400000",)}
"""Checkpoints on the Hub whose weights are damaged."""


def check(inputs: Inputs) -> None:
    """Refuse what cannot work, before anything is computed.

    Raises:
        CorpusError, RecipeError, SiteError, StoreError, SuiteError, TaskError: what is missing, or does not fit.
    """
    recipe, store = inputs.recipe, inputs.store
    refuse_broken(recipe)
    if recipe.rows.matrices:
        _check_rows(inputs)
        return
    if store is not None:
        _refuse_unfit(recipe, store)
    _refuse_null(inputs)
    refuse_stability(recipe.stability.comparisons, inputs.compute)
    _refuse_baselines(inputs)

    # Every task has what the baseline needs
    with errors_at("effects.baseline"):
        for task in inputs.tasks:
            refuse_baseline(str(recipe.effects.baseline), task)

    # Every task has prompts for two halves
    _refuse_few_prompts(recipe, [len(task.pairs) for task in inputs.tasks])

    # Every text can be opened
    for key, source in _texts(inputs).items():
        with errors_at(key):
            read_lines(source)

    # The compared checkpoints exist; those of a suite that is trained here are known by their names only
    trained_here = recipe.suite.source == TINY
    suite = _planned(recipe) if trained_here else inputs.suite
    if not trained_here:
        if recipe.suite.tokenizer is not None:
            with errors_at("suite.tokenizer"):
                _ = suite.tokenizer
        with errors_at("suite.models" if recipe.suite.models else "suite.source"):
            inputs.compute.verify(suite)
    n_layers = recipe.suite.tiny.n_layers if trained_here else suite.n_layers
    d_model = recipe.suite.tiny.d_model if trained_here else suite.d_model
    if recipe.compare.revisions is not None:
        with errors_at("compare.revisions"):
            compared = suite.select(recipe.compare.revisions)
        if store is not None:
            with errors_at("corpus.source"):
                store.refuse_other(compared, inputs.site)
        if not trained_here:
            with errors_at("compare.revisions"):
                inputs.compute.verify(compared, distinct=True)
            n_layers = compared.n_layers
            # Raises where a task has nothing for this tokenizer
            _refuse_few_prompts(recipe, [len(task) for task in inputs.tokenized])
    elif recipe.select.k > len(suite):
        raise RecipeError(
            f"select.k must be at most {len(suite)}, the number of checkpoints of the suite, not {recipe.select.k}."
        )

    with errors_at("compare.site"):
        site = inputs.site.resolve(n_layers)
    if recipe.baselines.sae_file is not None:
        names = tuple(recipe.compare.revisions or suite.revisions)
        with errors_at("baselines.sae"):
            read_autoencoder(recipe.baselines, Origin(suite.name, names, site, d_model))
    if not trained_here:
        _refuse_missing_gradients(inputs, suite if recipe.compare.revisions is None else compared)

    # A crosscoder that exists is of the compared checkpoints, as far as these exist
    if recipe.crosscoder.source is not None and not trained_here:
        _ = inputs.given_crosscoder

    # The crosscoder fits the memory, and the texts are long enough
    table, revisions = recipe.crosscoder, recipe.compare.revisions
    n_checkpoints = recipe.select.k if revisions is None else len(revisions)
    if table.source is None:
        with errors_at("crosscoder.n_features"):
            refuse_too_large(
                table.configs(), n_checkpoints, d_model, recipe.compute.torch_device, recipe.compute.feature_shards
            )
        with errors_at("crosscoder.loggers"):
            refuse_missing_loggers(table.loggers)
    _refuse_short_texts(inputs)


def _check_rows(inputs: Inputs) -> None:
    """Check a recipe on rows of parameters: its checkpoints, its layers and its memory."""
    recipe, trained_here = inputs.recipe, inputs.recipe.suite.source == TINY
    if trained_here and inputs.store is not None:
        raise RecipeError("corpus.source: a suite that is trained in the run needs a text, and no stored activations.")
    if trained_here and recipe.corpus.source != GENERATED:
        with errors_at("corpus.source"):
            read_lines(recipe.corpus.source)

    # The compared checkpoints exist; those of a suite that is trained here are known by their names only
    suite = _planned(recipe) if trained_here else inputs.suite
    with errors_at("compare.revisions" if recipe.compare.revisions is not None else "suite.source"):
        compared = suite if recipe.compare.revisions is None else suite.select(recipe.compare.revisions)
        if not trained_here:
            inputs.compute.verify(compared, distinct=True)
    tiny = recipe.suite.tiny
    n_layers, d_model = (tiny.n_layers, tiny.d_model) if trained_here else (compared.n_layers, compared.d_model)
    with errors_at("rows.matrices"):
        for name in recipe.rows.matrices:
            resolved_matrix(name, n_layers)

    # A crosscoder that exists is of these checkpoints and rows; one that is trained fits the memory
    if recipe.crosscoder.source is None:
        with errors_at("crosscoder.n_features"):
            refuse_too_large(recipe.crosscoder.configs(), len(compared), d_model, recipe.compute.torch_device, 1)
    elif not trained_here:
        _ = inputs.given_crosscoder


def _texts(inputs: Inputs) -> dict[str, str | list[str]]:
    """The texts of a recipe by their keys, without those that are generated."""
    corpus = inputs.recipe.corpus
    texts = {"corpus.source": corpus.source if inputs.store is None else None, "corpus.held_out": corpus.held_out}
    texts |= {f"evolve.languages.{name}": text for name, text in inputs.recipe.evolve.languages.items()}
    return {key: text for key, text in texts.items() if text is not None and text != GENERATED}


def _refuse_missing_gradients(inputs: Inputs, compared: Suite) -> None:
    """Refuse a method, an aggregation or a comparison that needs gradients, if a server has none.

    Args:
        inputs: what the run starts from.
        compared: the checkpoints that are compared, which the server runs.
    """
    recipe, effects = inputs.recipe, inputs.recipe.effects
    with errors_at("effects.aggregation" if effects.method in (None, "exact") else "effects.method"):
        refuse_missing_gradients(compared, inputs.compute, effects)
    with errors_at("stability.comparisons"):
        refuse_missing_gradients(compared, inputs.compute, Estimator(), recipe.stability.comparisons)


def refuse_broken(recipe: Recipe) -> None:
    """Refuse checkpoints that are known to be damaged.

    Raises:
        SuiteError: the recipe names such a checkpoint.
    """
    for revision in BROKEN.get(recipe.suite.source, ()):
        if revision in (recipe.suite.revisions or []) or revision in (recipe.compare.revisions or []):
            key = "suite.revisions" if revision in (recipe.suite.revisions or []) else "compare.revisions"
            raise SuiteError(
                f"{key}: checkpoint {revision} of {recipe.suite.source} is broken on the Hub, and its numbers would "
                f"mean nothing: take the one before or after it"
            )


def _refuse_short_texts(inputs: Inputs) -> None:
    """Refuse texts that cannot fill a batch of training, or a sequence of evaluation."""
    recipe = inputs.recipe
    length = recipe.corpus.sequence_length
    data = recipe.crosscoder.data_config(sequence_length=length, seed=recipe.seed)

    # The tokenizer of a suite that is trained here does not exist yet, but a token has at least one byte
    if recipe.suite.source == TINY:
        lines, in_memory = documents(inputs.corpus())
        if in_memory and (n_bytes := sum(len(line.encode()) + 1 for line in lines)) < data.batch_size:
            raise CrosscoderError(
                f"corpus.source: the text has {n_bytes:,} bytes, which cannot be the {data.batch_size:,} tokens of a "
                "batch: give more text, or take a smaller batch (crosscoder.batch_size)."
            )
        return

    # Count the tokens up to one batch, and one sequence of the other texts; a stream is not read in advance
    with errors_at("corpus.sequence_length"):
        check_length(inputs.suite, length)
    if inputs.store is None and recipe.crosscoder.source is None:
        lines, in_memory = documents(inputs.corpus())
        if in_memory:
            with errors_at("corpus.source"):
                check_tokens(without_held_out(lines, data.validation) if data.validation else lines, inputs.suite, data)
    for key, text in _texts(inputs).items():
        trained_on_only = key == "corpus.source" and recipe.corpus.held_out is not None
        if documents(text)[1] and not trained_on_only:
            with errors_at(key):
                read_text(inputs.suite, text, TextSample(1, length))


def _refuse_few_prompts(recipe: Recipe, counts: Sequence[int]) -> None:
    """Refuse tasks with too few prompts to select features on one half and test them on the other.

    Args:
        recipe: the recipe.
        counts: number of prompts of each task, or of pairs, of which some may turn out to have no prompt.
    """
    if not recipe.effects.halves:
        return
    for table, count in zip(recipe.tasks, counts, strict=True):
        n_prompts = min(count, table.limit or count)
        with errors_at("effects.halves"):
            refuse_few_prompts(table.name, n_prompts, instead="halves = false", error=RecipeError)


def _refuse_null(inputs: Inputs) -> None:
    """Refuse null models of other checkpoints, where there are activations only, or weights are on a server."""
    for kind in inputs.recipe.null.kinds:
        if inputs.store is not None and kind in (SAME, NOISE, RANDOM):
            raise RecipeError(
                f"null.kinds: {kind} needs a text to train on, since the store {inputs.store.folder} holds activations "
                "of other checkpoints."
            )
        if inputs.compute.hosted and kind == RANDOM:
            raise RecipeError(
                f"null.kinds: {kind} needs the weights on this machine, and a server runs the checkpoints."
            )


def refuse_stability(comparisons: Sequence[str], compute: Compute) -> None:
    """Refuse to compare dtypes on a server, which has one.

    Args:
        comparisons: over which the effects are compared.
        compute: where the checkpoints run.

    Raises:
        RecipeError: the sentence names the comparison.
    """
    if DTYPE in comparisons and compute.hosted:
        raise RecipeError("stability.comparisons: a server has one dtype, so that dtype cannot be compared there.")


def _refuse_baselines(inputs: Inputs) -> None:
    """Refuse to train autoencoders where there are activations only."""
    table = inputs.recipe.baselines
    if table.trains and inputs.store is not None:
        raise RecipeError(
            f"baselines: autoencoders need a text to train on, since the store {inputs.store.folder} holds activations "
            "of all checkpoints; name a file with baselines.sae, or take baselines.sae = 'crosscoder'."
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
