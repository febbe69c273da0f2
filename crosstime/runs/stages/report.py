"""Write the report."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import pandas as pd

from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.evolution.replicated_claims import replication_sentences
from crosstime.features.activation_statistics import density
from crosstime.features.contexts import contexts, corpus_contexts
from crosstime.features.logit_effects import logit_effects
from crosstime.report.about_models import about_models
from crosstime.report.page.context import Context
from crosstime.report.page.report_input import ReportInput
from crosstime.report.page.write_report import write_report
from crosstime.report.replicates import replicates
from crosstime.runs.descriptions.report_tables import described_facts, described_input, description_checksums
from crosstime.runs.descriptions.sentences import description_sentences
from crosstime.runs.findings import dip_count, emergence, summary
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost, Work
from crosstime.runs.provenance import versions
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe
from crosstime.runs.recipe.effects import EffectsRecipe
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stability_sentences import stability_sentences
from crosstime.runs.stages.baselines import BASELINES
from crosstime.runs.stages.evolve import FOLDER
from crosstime.runs.stages.null import NULLS
from crosstime.runs.stages.replicate import AGREEMENT, REPLICATION
from crosstime.runs.stages.stability import STABILITY
from crosstime.runs.stages.stage import Stage
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.similarity import similarity_table
from crosstime.suites.similarity_measures import MEASURES
from crosstime.suites.text_sample import TextSample

CORPUS_TOKENS = 1 << 16
"""Tokens of the text in which the strongest contexts of features are searched."""
SIMILARITY_TOKENS = 1 << 12
"""Tokens on which the activations of checkpoints are compared, if the run has not done so before."""
PAGE_BYTES = 5e6
"""Bytes of a report with its charts and tables."""


class Report(Stage):
    """Writes report.html, charts/, tables/ and summary.csv."""

    name: ClassVar[str] = "report"
    title: ClassVar[str] = "the report"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """All earlier stages, and the version of crosstime."""
        names = ["select", "evaluate", "attribute", "ablate", "evolve", "explain"]
        names += ["ngrams"] if inputs.recipe.ngrams.sequences else []
        names += ["stability"] if inputs.recipe.stability.comparisons else []
        names += ["baselines"] if inputs.recipe.baselines.names else []
        names += ["replicate"] if inputs.recipe.crosscoder.other_seeds else []
        names += ["null"] if inputs.recipe.null.kinds else []
        keys: list[object] = [[ledger.key(name) for name in names], version("crosstime"), CORPUS_TOKENS]
        return [*keys, *description_checksums(inputs.folder.path)]

    def files(self, recipe: Recipe) -> list[str]:
        """The page, and the findings in words."""
        return [RunFolder.REPORT, "summary.csv"]

    def cost(self, sizes: Sizes) -> Cost:
        """Charts and tables, which take no matrix products."""
        return sizes.cost(
            self.name,
            "charts and tables",
            Work(),
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(sizes.prompt_tokens),
            disk=PAGE_BYTES,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.report`."""
        recipe, revisions = inputs.recipe, inputs.compared.revisions
        accuracy, effects, ablation = (folder.table(name) for name in ("accuracy", "effects", "ablation"))
        evolution = {name: folder.table(f"{FOLDER}/{name}") for name in _EVOLUTION}
        features = list(dict.fromkeys(effects.feature.tolist()))
        text = _decompose_text(inputs, folder)
        nulls = folder.table(NULLS) if recipe.null.kinds else None

        # The findings in words
        ordered = inputs.compared.ordered
        sentences = summary(accuracy, effects, ablation, revisions, nulls, ordered=ordered)
        replication = folder.table(REPLICATION) if recipe.crosscoder.other_seeds else None
        findings = [*emergence(evolution["life_cycles"], nulls, ordered=ordered), *_dip_sentences(folder, nulls)]
        if replication is not None:
            mcc = float(folder.table(AGREEMENT).mcc.mean())
            findings += replication_sentences(replication, recipe.crosscoder.seeds, mcc)
        findings += description_sentences(folder.path)
        findings += stability_sentences(folder.table(STABILITY)) if recipe.stability.comparisons else []
        folder.write_table("summary", pd.DataFrame({"text": [sentences, *findings]}))

        # The page
        report = ReportInput(
            title=recipe.title or recipe.name,
            summary=sentences,
            setup=_setup(inputs, folder, text),
            accuracy=accuracy,
            compared=revisions,
            effects=pd.concat([effects, folder.table("error_term")], ignore_index=True),
            temporal=effects,
            classes=effects.drop_duplicates(["task", "feature"]),
            ablation=ablation,
            training=folder.table("training"),
            evaluation=folder.table("evaluation"),
            contexts=_contexts(inputs, folder, features, text),
            faithfulness=folder.table("faithfulness"),
            life_cycles=evolution["life_cycle_shares"],
            rotation=evolution["rotation"],
            rotation_steps=evolution["rotation_steps"],
            dimensionality=evolution["dimensionality"],
            onsets=_onsets(inputs, folder),
            similarity=_similarity(inputs, folder, text),
            **({"ngrams": folder.table("ngrams")} if recipe.ngrams.sequences else {}),
            lives=evolution["life_cycles"][evolution["life_cycles"].strongest],
            dips=folder.table("dips"),
            **({} if nulls is None else {"nulls": nulls}),
            **({} if replication is None else {"replication": replication}),
            **({"baselines": folder.table(BASELINES)} if recipe.baselines.names else {}),
            **described_input(folder.path),
            findings=findings,
            facts=described_facts(_facts(evolution["facts"], text, replication), folder.path),
            logit_effects=_logit_effects(inputs, folder, features),
            ordered=ordered,
            languages={task.name: task.language for task in inputs.tasks},
        )
        write_report(report, folder.path)


_YES_OR_NO = {True: "yes", False: "no", None: ""}

_EVOLUTION = ("facts", "life_cycles", "life_cycle_shares", "rotation", "rotation_steps", "dimensionality")
"""Tables of the stage `evolve` that the report shows."""


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


def _onsets(inputs: Inputs, folder: RunFolder) -> pd.DataFrame:
    """Onset and kind of every feature that has an onset; without text, the kinds are not known."""
    onsets = folder.table(f"{FOLDER}/evolution")[["feature", "onset"]].dropna()
    if not inputs.recipe.evolve.text:
        return onsets.assign(kind="features")
    return onsets.merge(folder.table(f"{FOLDER}/kinds")[["feature", "kind"]], on="feature")


def _dip_sentences(folder: RunFolder, nulls: pd.DataFrame | None) -> list[str]:
    """The findings about dips, and with null models how many are explained beside how many are expected to be."""
    counts = [] if nulls is None else dip_count([bool(dip["explained"]) for dip in folder.dips], nulls)
    return [*(dip["sentence"] for dip in folder.dips), *counts]


def _similarity(inputs: Inputs, folder: RunFolder, text: DecomposedText | None) -> pd.DataFrame:
    """How similar checkpoints are: all of them if the run chose among them, else the compared ones."""
    if inputs.recipe.compare.revisions is None:
        return folder.table("similarity")
    if text is None:
        return pd.DataFrame(columns=["revision", "other", *MEASURES])
    activations = [decomposition.x[:SIMILARITY_TOKENS].float() for decomposition in text.decompositions]
    return similarity_table(dict(zip(inputs.compared.revisions, activations, strict=True)))


def _facts(facts: pd.DataFrame, text: DecomposedText | None, replication: pd.DataFrame | None) -> pd.DataFrame:
    """Facts about each feature, with how often it fires on the text, and whether other seeds have it."""
    if text is not None:
        facts = facts.assign(corpus_density=density(text.codes)[facts.feature.tolist()].tolist())
    if replication is not None:
        by_feature = dict(zip(replication.feature, replicates(replication), strict=True))
        facts = facts.assign(replicates=[_YES_OR_NO[by_feature.get(feature)] for feature in facts.feature])
    return facts


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
        return pd.DataFrame(columns=["feature", "revision", "side", "rank", "token", "effect"])
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


def _setup(inputs: Inputs, folder: RunFolder, text: DecomposedText | None) -> dict[str, str]:
    """What was done with what, in words."""
    recipe, crosscoder, effects = inputs.recipe, inputs.recipe.crosscoder, inputs.recipe.effects
    suite = inputs.suite
    completeness = folder.table("completeness").completeness_error.max()
    start = suite.tokenizer.convert_ids_to_tokens(list(folder.crosscoder.origin.text_start))
    noun = "checkpoints" if suite.ordered else "models"
    gate = crosscoder.activation().gate()
    gate = gate if suite.ordered else about_models(gate)
    places = "; ".join(f"{checkpoint.revision}: {_place(checkpoint)}" for checkpoint in suite)
    equal = [str(group) for group in suite.equal_weights()] if suite.allow_equal_weights else []
    return {
        "suite": f"{suite.name}: {len(suite)} {noun}, d_model {suite.d_model}, {suite.n_layers} layers",
        **({} if suite.ordered else {"models": places}),
        **({"equal weights": "; ".join(equal)} if equal else {}),
        **({"code of the checkpoints": "run (trust_remote_code)"} if suite.trust_remote_code else {}),
        **({"documents begin with": " ".join(start)} if start else {}),
        "compared": ", ".join(inputs.compared.revisions),
        "site": recipe.compare.site,
        "crosscoder": f"{crosscoder.n_features:,} features, {crosscoder.summary()}, {gate}, "
        f"{crosscoder.steps:,} steps of "
        f"{crosscoder.batch_size:,} tokens, learning rate {crosscoder.lr:g}, {_seeds(crosscoder)}"
        if crosscoder.source is None
        else f"{folder.crosscoder.n_features:,} features, from {crosscoder.source}",
        "effects": _estimator(effects),
        "selected features": "selected on one half of each task's prompts, and tested and shown on the other"
        if effects.halves
        else "selected, tested and shown on the same prompts",
        "completeness error": f"at most {completeness:.2%}",
        "tasks": "; ".join(f"{task.name}: {task.summary()}" for task in inputs.tokenized),
        "corpus contexts": "none" if text is None else f"from {text.codes.n_tokens:,} tokens of held-out text",
        **({"null models": f"{', '.join(recipe.null.kinds)}; seeds: {recipe.null.seeds}"} if recipe.null.kinds else {}),
        "seed": str(recipe.seed),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
