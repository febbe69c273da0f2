"""Write the report."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, ClassVar

import pandas as pd

from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.features.contexts import contexts, corpus_contexts, density
from crosstime.features.logit_lens import logit_effects
from crosstime.machine.storage import read_json
from crosstime.report.page.context import Context
from crosstime.report.page.report_input import ReportInput
from crosstime.report.page.write_report import write_report
from crosstime.runs.experiment import Experiment
from crosstime.runs.findings import emergence, summary
from crosstime.runs.parts import Pieces
from crosstime.runs.provenance import versions
from crosstime.runs.stages.evolve import FOLDER
from crosstime.runs.stages.stage import Stage
from crosstime.suites.corpus import TextSample
from crosstime.suites.similarity import MEASURES, similarity_table

CORPUS_TOKENS = 1 << 16
"""Most tokens of the corpus that are searched for the strongest contexts of features."""
ALIKE_TOKENS = 1 << 12
"""Most of these on which the activations of checkpoints are compared, where the run has not done so before."""


class Report(Stage):
    """Writes report.html, charts/, tables/ and summary.csv."""

    name: ClassVar[str] = "report"
    title: ClassVar[str] = "the report"

    def inputs(self, experiment: Experiment) -> Any:
        """Everything before it."""
        names = ("select", "evaluate", "attribute", "ablate", "evolve", "explain")
        return [[experiment.ledger.key(name) for name in names], version("crosstime"), CORPUS_TOKENS]

    def files(self, experiment: Experiment) -> list[str]:
        """The page, and the finding in words."""
        return ["report.html", "summary.csv"]

    def work(self, experiment: Experiment, pieces: Pieces) -> None:
        """See `crosstime.report`."""
        effects, ablation = experiment.table("effects"), experiment.table("ablation")
        measured, revisions = experiment.table("accuracy"), experiment.compared.revisions
        features = list(dict.fromkeys(effects.feature.tolist()))
        read = _read(experiment)
        text = summary(measured, effects, ablation, revisions)
        lives = experiment.table(f"{FOLDER}/life_cycles")
        findings = [
            *emergence(lives),
            *(one["sentence"] for one in read_json(experiment.folder / "dips.json")),
        ]
        experiment.write("summary", pd.DataFrame({"text": [text, *findings]}))
        report = ReportInput(
            title=experiment.recipe.title or experiment.recipe.name,
            summary=text,
            setup=_setup(experiment, read),
            accuracy=measured,
            compared=revisions,
            effects=pd.concat([effects, experiment.table("error_term")], ignore_index=True),
            temporal=effects,
            classes=effects.drop_duplicates(["task", "feature"]),
            ablation=ablation,
            training=experiment.table("training"),
            evaluation=experiment.table("evaluation"),
            contexts=_contexts(experiment, features, read),
            faithfulness=experiment.table("faithfulness"),
            life_cycles=experiment.table(f"{FOLDER}/life_cycle_shares"),
            rotation=experiment.table(f"{FOLDER}/rotation"),
            rotation_steps=experiment.table(f"{FOLDER}/rotation_steps"),
            dimensionality=experiment.table(f"{FOLDER}/dimensionality"),
            similarity=_similarity(experiment, read),
            lives=lives[lives.strongest],
            dips=experiment.table("dips"),
            findings=findings,
            facts=_facts(experiment, read),
            logit_effects=_logit_effects(experiment, features),
            languages={task.name: task.language for task in experiment.tasks},
        )
        write_report(report, experiment.folder)


def _read(experiment: Experiment) -> DecomposedText | None:
    """A sample of the held-out text, unless the recipe wants features not to be looked at on text."""
    recipe = experiment.recipe
    if not recipe.evolve.text:
        return None
    length = recipe.corpus.sequence_length
    return decompose_text(
        experiment.compared, experiment.crosscoder, experiment.corpus(held_out=True),
        sample=TextSample(max(1, CORPUS_TOKENS // length), length), compute=experiment.compute,
    )  # fmt: skip


def _similarity(experiment: Experiment, read: DecomposedText | None) -> pd.DataFrame:
    """How alike checkpoints are: all of them where the run chose among them, else the compared ones."""
    if experiment.recipe.compare.revisions is None:
        return experiment.table("similarity")
    if read is None:
        return pd.DataFrame(columns=["revision", "other", *MEASURES])
    return similarity_table(
        {
            revision: one.x[:ALIKE_TOKENS].float()
            for revision, one in zip(experiment.compared.revisions, read.decompositions, strict=True)
        }
    )


def _facts(experiment: Experiment, read: DecomposedText | None) -> pd.DataFrame:
    facts = experiment.table(f"{FOLDER}/facts")
    if read is None:
        return facts
    return facts.assign(corpus_density=density(read.codes)[facts.feature.tolist()].tolist())


def _contexts(experiment: Experiment, features: list[int], read: DecomposedText | None) -> dict[int, list[Context]]:
    found: dict[int, list[Context]] = {feature: [] for feature in features}
    for index in range(len(experiment.tasks)):
        attribution, tokenizer = experiment.attribution(index), experiment.suite.tokenizer
        listed = contexts(attribution.decomposed, features, tokenizer, attribution=attribution)
        for feature in features:
            found[feature] += listed[feature]
    if read is not None:
        for feature, listed in corpus_contexts(read, features, experiment.suite.tokenizer).items():
            found[feature] += listed
    return found


def _logit_effects(experiment: Experiment, features: list[int]) -> pd.DataFrame:
    """What features write to the logits; not of models that run elsewhere, whose weights are not here."""
    if experiment.compute.hosted:
        return pd.DataFrame(columns=["feature", "revision", "side", "rank", "token", "effect"])
    return logit_effects(experiment.compared, experiment.crosscoder, features, compute=experiment.compute)


def _setup(experiment: Experiment, read: DecomposedText | None) -> dict[str, str]:
    recipe, crosscoder, effects = experiment.recipe, experiment.recipe.crosscoder, experiment.recipe.effects
    suite = experiment.suite
    steps = "as many as completeness needs" if effects.steps is None else str(effects.steps)
    completeness = experiment.table("completeness").completeness_error.max()
    return {
        "suite": f"{suite.name}: {len(suite)} checkpoints, d_model {suite.d_model}, {suite.n_layers} layers",
        "compared": ", ".join(experiment.compared.revisions),
        "site": recipe.compare.site,
        "crosscoder": f"{crosscoder.n_features:,} features, {crosscoder.summary()}, {crosscoder.steps:,} steps of "
        f"{crosscoder.batch_size:,} tokens, learning rate {crosscoder.lr:g}, seed {crosscoder.seed}",
        "effects": f"{effects.method or 'ig'}, {effects.baseline} baseline, {effects.quadrature}, nodes: {steps}",
        "completeness error": f"at most {completeness:.2%}",
        "tasks": "; ".join(f"{task.name}: {task.summary()}" for task in experiment.tokenized),
        "corpus contexts": "none" if read is None else f"from {read.codes.n_tokens:,} tokens of held-out text",
        "seed": str(recipe.seed),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
