"""What the report shows of models and text, written to files of the run, so that it is drawn without a model."""

from __future__ import annotations

import pandas as pd

from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.features.activation_statistics import density
from crosstime.features.contexts import contexts, corpus_contexts
from crosstime.features.logit_effects import COLUMNS as LOGIT_COLUMNS
from crosstime.features.logit_effects import logit_effects
from crosstime.report.about_models import about_models
from crosstime.report.page.context import Context
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.provenance import versions
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe
from crosstime.runs.recipe.effects import EffectsRecipe
from crosstime.runs.stages.evolve import FOLDER
from crosstime.runs.stored_contexts import write_contexts
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.similarity import similarity_table
from crosstime.suites.similarity_measures import MEASURES
from crosstime.suites.text_sample import TextSample

CORPUS_TOKENS = 1 << 16
"""Tokens of the text in which the strongest contexts of features are searched."""
SIMILARITY_TOKENS = 1 << 12
"""Tokens on which the activations of checkpoints are compared, if the run has not done so before."""

DATA = "report_data"
"""Folder of these files in that of the run."""
ABOUT = f"{DATA}/about.json"
"""The file that says what was done with what."""
REPORT_DATA = tuple(
    f"{DATA}/{name}" for name in ("about.json", "contexts.json", "facts.csv", "logit_effects.csv", "similarity.csv")
)
"""The files that `write_report_data` writes."""


def write_report_data(inputs: Inputs, folder: RunFolder) -> None:
    """Compute what the report shows of models and text, and write it to `REPORT_DATA`.

    ``about.json`` says what was done with what, and which parts the recipe asked for; ``contexts.json`` has the prompts
    and texts on which features fire; the tables have facts about features, the tokens that they promote, and how
    similar the checkpoints are. `crosstime.runs.report_input.report_input` reads them back.

    Args:
        inputs: what the run starts from.
        folder: the run's folder, with the results of all stages but the report.
    """
    recipe = inputs.recipe
    features = list(dict.fromkeys(folder.table("effects").feature.tolist()))
    text = _decompose_text(inputs, folder)

    # Contexts and tables
    by_feature = _contexts(inputs, folder, features, text)
    write_contexts(folder.path / DATA / "contexts.json", by_feature)
    folder.write_table(f"{DATA}/facts", _facts(folder.table(f"{FOLDER}/facts"), text))
    folder.write_table(f"{DATA}/logit_effects", _logit_effects(inputs, folder, features))
    folder.write_table(f"{DATA}/similarity", _similarity(inputs, folder, text))

    # What was done with what
    about = {
        "title": recipe.title or recipe.name,
        "setup": _setup(inputs, folder, text),
        "compared": list(inputs.compared.revisions),
        "ordered": inputs.compared.ordered,
        "languages": {task.name: task.language for task in inputs.tasks},
        "text": text is not None,
        "kinds": text is not None and recipe.evolve.kinds,
        "ngrams": bool(recipe.ngrams.sequences),
        "nulls": bool(recipe.null.kinds),
        "baselines": bool(recipe.baselines.names),
        "stability": bool(recipe.stability.comparisons),
        "seeds": list(recipe.crosscoder.seeds) if recipe.crosscoder.other_seeds else [],
    }
    folder.write_json(f"{DATA}/about", about)


def write_rows_about(inputs: Inputs, folder: RunFolder) -> None:
    """Write `ABOUT` of a run on rows of parameters, whose report shows no more of its models.

    Args:
        inputs: what the run starts from.
        folder: the run's folder, with the results of all stages but the report.
    """
    recipe, compared = inputs.recipe, inputs.compared
    about = {
        "title": recipe.title or recipe.name,
        "rows": inputs.rows_name,
        "setup": _rows_setup(inputs, folder),
        "compared": list(compared.revisions),
        "ordered": compared.ordered,
    }
    folder.write_json(f"{DATA}/about", about)


def _decompose_text(inputs: Inputs, folder: RunFolder) -> DecomposedText | None:
    """A sample of the held-out text, unless the recipe asks for no text."""
    if not inputs.recipe.evolve.text:
        return None
    length = inputs.recipe.corpus.sequence_length
    return decompose_text(
        inputs.compared,
        folder.crosscoder,
        inputs.corpus(held_out=True),
        sample=TextSample(max(1, CORPUS_TOKENS // length), length),
        compute=inputs.compute,
    )


def _similarity(inputs: Inputs, folder: RunFolder, text: DecomposedText | None) -> pd.DataFrame:
    """How similar checkpoints are: all of them if the run chose among them, else the compared ones."""
    if inputs.recipe.compare.revisions is None:
        return folder.table("similarity")
    if text is None:
        return pd.DataFrame(columns=["revision", "other", *MEASURES])
    activations = [decomposition.x[:SIMILARITY_TOKENS].float() for decomposition in text.decompositions]
    return similarity_table(dict(zip(inputs.compared.revisions, activations, strict=True)))


def _facts(facts: pd.DataFrame, text: DecomposedText | None) -> pd.DataFrame:
    """Facts about each feature, with how often it fires on the text."""
    if text is None:
        return facts
    return facts.assign(corpus_density=density(text.codes)[facts.feature.tolist()].tolist())


def _contexts(
    inputs: Inputs, folder: RunFolder, features: list[int], text: DecomposedText | None
) -> dict[int, list[Context]]:
    """Where each feature fires most strongly, in each task and in the text."""
    tokenizer = inputs.suite.tokenizer
    by_source: list[dict[int, list[Context]]] = []
    for task in range(len(inputs.tasks)):
        attribution = folder.attribution(task, inputs.decomposed(task, folder.crosscoder))
        by_source.append(contexts(attribution.decomposed, features, tokenizer, attribution=attribution))
    if text is not None:
        by_source.append(corpus_contexts(text, features, tokenizer))
    return {feature: [context for source in by_source for context in source[feature]] for feature in features}


def _logit_effects(inputs: Inputs, folder: RunFolder, features: list[int]) -> pd.DataFrame:
    """The tokens that features promote; empty if checkpoints run on a server, whose weights are not here."""
    if inputs.compute.hosted:
        return pd.DataFrame(columns=list(LOGIT_COLUMNS))
    return logit_effects(inputs.compared, folder.crosscoder, features, compute=inputs.compute)


def _seeds(crosscoder: CrosscoderRecipe) -> str:
    """The seed, or all of them, that of the run first."""
    if not crosscoder.seeds:
        return f"seed {crosscoder.seed}"
    return f"seed {crosscoder.seed} (other seeds: {', '.join(map(str, crosscoder.other_seeds))})"


def _place(checkpoint: Checkpoint) -> str:
    """Where a model comes from, in words."""
    at = "" if checkpoint.hub_revision is None else f"@{checkpoint.hub_revision}"
    return f"{checkpoint.source}{at}"


def _estimator(effects: EffectsRecipe) -> str:
    """How effects are estimated, in words."""
    method = effects.method or "ig"
    steps = "as many as completeness needs" if effects.steps is None else str(effects.steps)
    nodes = f", {effects.quadrature}, nodes: {steps}" if method == "ig" else ""
    name = f"{effects.name}: " if effects.name else ""
    return f"{name}{method}, {effects.baseline} baseline{nodes}; {effects.aggregation.summary()}"


def _suite_setup(inputs: Inputs) -> dict[str, str]:
    """The suite and its checkpoints, in words."""
    suite = inputs.suite
    noun = "checkpoints" if suite.ordered else "models"
    places = "; ".join(f"{checkpoint.revision}: {_place(checkpoint)}" for checkpoint in suite)
    equal = [str(group) for group in suite.equal_weights()] if suite.allow_equal_weights else []
    return {
        "suite": f"{suite.name}: {len(suite)} {noun}, d_model {suite.d_model}, {suite.n_layers} layers",
        **({} if suite.ordered else {"models": places}),
        **({"equal weights": "; ".join(equal)} if equal else {}),
        **({"code of the checkpoints": "run (trust_remote_code)"} if suite.trust_remote_code else {}),
    }


def _crosscoder_setup(inputs: Inputs, folder: RunFolder, unit: str) -> str:
    """The crosscoder and its training, in words.

    Args:
        inputs, folder: as for `write_report_data`.
        unit: what a batch consists of, in the plural.
    """
    crosscoder = inputs.recipe.crosscoder
    if crosscoder.source is not None:
        return f"{folder.crosscoder.n_features:,} features, from {crosscoder.source}"
    gate = crosscoder.activation().gate()
    gate = gate if inputs.suite.ordered else about_models(gate)
    return (
        f"{crosscoder.n_features:,} features, {crosscoder.summary()}, {gate}, {crosscoder.steps:,} steps of "
        f"{crosscoder.batch_size:,} {unit}, learning rate {crosscoder.lr:g}, {_seeds(crosscoder)}"
    )


def _versions() -> str:
    return ", ".join(f"{name} {number}" for name, number in versions().items())


def _rows_setup(inputs: Inputs, folder: RunFolder) -> dict[str, str]:
    """What a run on rows of parameters did with what, in words."""
    recipe = inputs.recipe
    return {
        **_suite_setup(inputs),
        "compared": ", ".join(inputs.compared.revisions),
        "rows": f"{int(folder.table('evaluation').rows.iloc[0]):,} of {inputs.rows_name}, as they are",
        "crosscoder": _crosscoder_setup(inputs, folder, "rows"),
        "shown features": f"those that write most of the rows, {recipe.rows.top} of each "
        f"{'life cycle' if inputs.suite.ordered else 'pattern'}",
        "seed of the run": str(recipe.seed),
        "versions": _versions(),
    }


def _setup(inputs: Inputs, folder: RunFolder, text: DecomposedText | None) -> dict[str, str]:
    """What was done with what, in words."""
    recipe, effects = inputs.recipe, inputs.recipe.effects
    completeness = folder.table("completeness").completeness_error.max()
    start = inputs.suite.tokenizer.convert_ids_to_tokens(list(folder.crosscoder.origin.text_start))
    return {
        **_suite_setup(inputs),
        **({"documents begin with": " ".join(start)} if start else {}),
        "compared": ", ".join(inputs.compared.revisions),
        "site": recipe.compare.site,
        "crosscoder": _crosscoder_setup(inputs, folder, "tokens"),
        "effects": _estimator(effects),
        "selected features": "selected on one half of each task's prompts, and tested and shown on the other"
        if effects.halves
        else "selected, tested and shown on the same prompts",
        "completeness error": f"at most {completeness:.2%}",
        "tasks": "; ".join(f"{task.name}: {task.summary()}" for task in inputs.tokenized),
        "corpus contexts": "none" if text is None else f"from {text.codes.n_tokens:,} tokens of held-out text",
        **({"null models": f"{', '.join(recipe.null.kinds)}; seeds: {recipe.null.seeds}"} if recipe.null.kinds else {}),
        "seed of the run": str(recipe.seed),
        "versions": _versions(),
    }
