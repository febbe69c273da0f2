"""The input of the report of a run, from the files in its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from crosstime.errors import RunError
from crosstime.evolution.replicated_claims import replication_sentences
from crosstime.features.annotation import annotate
from crosstime.report.page.context import Context
from crosstime.report.page.report_input import ReportInput
from crosstime.report.replicates import replicates
from crosstime.runs import stored_contexts
from crosstime.runs.descriptions.report_tables import described_facts, described_input
from crosstime.runs.descriptions.sentences import description_sentences
from crosstime.runs.findings import absorption_sentences, dip_count, emergence, presence_sentences, summary
from crosstime.runs.folder import RunFolder
from crosstime.runs.report_data import ABOUT, DATA
from crosstime.runs.report_input_of_rows import report_input_of_rows
from crosstime.runs.stability_sentences import stability_sentences
from crosstime.runs.stages.baselines import BASELINES
from crosstime.runs.stages.evolve import FOLDER
from crosstime.runs.stages.null import NULLS
from crosstime.runs.stages.replicate import AGREEMENT, REPLICATION
from crosstime.runs.stages.stability import STABILITY

_YES_OR_NO = {True: "yes", False: "no", None: ""}


def report_input(path: str | Path, annotations: pd.DataFrame | None = None) -> ReportInput:
    """Everything that the report of a run shows, read from the run's folder: no model and no text is opened.

    Args:
        path: the folder of a run that has reached its report.
        annotations: descriptions of features, as `crosstime.read_annotations` returns them, to show on their cards.

    Raises:
        RunError: a file of the run is missing or damaged.
        AnnotationError: a feature is annotated that the run does not have.

    Examples:
        >>> from crosstime.report.page.write_report import write_report
        >>> write_report(report_input("runs/demo"), Path("elsewhere"))  # doctest: +SKIP
    """
    folder = RunFolder(Path(path))
    about = _about(folder)
    if about.get("rows"):
        return report_input_of_rows(folder, about, annotations)
    accuracy, effects, ablation = (folder.table(name) for name in ("accuracy", "effects", "ablation"))
    lives = folder.table(f"{FOLDER}/life_cycles")
    nulls = folder.table(NULLS) if about["nulls"] else None
    replication = folder.table(REPLICATION) if about["seeds"] else None

    # The findings in words
    compared, ordered = about["compared"], about["ordered"]
    presence = presence_sentences(folder.table(f"{FOLDER}/presence"), nulls, ordered=ordered) if about["text"] else []
    absorbed = absorption_sentences(folder.table(f"{FOLDER}/absorption")) if about["text"] else []
    findings = [*presence, *absorbed, *emergence(lives, nulls, ordered=ordered), *_dip_sentences(folder, nulls)]
    if replication is not None:
        findings += replication_sentences(replication, about["seeds"], float(folder.table(AGREEMENT).mcc.mean()))
    findings += description_sentences(folder.path)
    stability = folder.table(STABILITY) if about["stability"] else None
    findings += [] if stability is None else stability_sentences(stability)

    # Facts about features
    facts = described_facts(_facts(folder, replication), folder.path)
    if annotations is not None:
        # What people write takes the place of what a language model wrote
        facts = annotate(facts.drop(columns=annotations.columns.drop("feature"), errors="ignore"), annotations)

    return ReportInput(
        title=about["title"],
        summary=summary(accuracy, effects, ablation, compared, nulls, ordered=ordered),
        setup=about["setup"],
        accuracy=accuracy,
        compared=compared,
        effects=pd.concat([effects, folder.table("error_term")], ignore_index=True),
        temporal=effects,
        classes=effects.drop_duplicates(["task", "feature"]),
        ablation=ablation,
        training=folder.table("training"),
        evaluation=folder.table("evaluation"),
        contexts=read_contexts(folder),
        faithfulness=folder.table("faithfulness"),
        life_cycles=folder.table(f"{FOLDER}/life_cycle_shares"),
        rotation=folder.table(f"{FOLDER}/rotation"),
        rotation_steps=folder.table(f"{FOLDER}/rotation_steps"),
        dimensionality=folder.table(f"{FOLDER}/dimensionality"),
        onsets=_onsets(folder, with_kinds=about["kinds"]),
        similarity=folder.table(f"{DATA}/similarity"),
        **({"ngrams": folder.table("ngrams")} if about["ngrams"] else {}),
        lives=lives[lives.strongest],
        dips=folder.table("dips"),
        **({} if nulls is None else {"nulls": nulls}),
        **({} if stability is None else {"stability": stability}),
        **({} if replication is None else {"replication": replication}),
        **({"baselines": folder.table(BASELINES)} if about["baselines"] else {}),
        **described_input(folder.path),
        findings=findings,
        facts=facts,
        logit_effects=folder.table(f"{DATA}/logit_effects").fillna({"token": ""}),
        rows="",
        advice={},
        left_out=(),
        ordered=ordered,
        languages=about["languages"],
    )


def shown_features(path: str | Path) -> list[int]:
    """The features whose cards the report of a run shows, which are those that can be annotated.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    folder = RunFolder(Path(path))
    if _about(folder).get("rows"):
        features = folder.table(f"{FOLDER}/facts").feature
    else:
        features = folder.table("effects").feature
    return [int(feature) for feature in features.unique()]


def read_contexts(folder: RunFolder) -> dict[int, list[Context]]:
    """The prompts and texts on which each selected feature of a run fires, as the report shows them.

    Raises:
        RunError: the file is missing or damaged.
    """
    return stored_contexts.read_contexts(folder.path / DATA / "contexts.json", advice=AGAIN)


AGAIN = "run the recipe again with --force report"
"""What to do about a damaged file of the report."""


def _about(folder: RunFolder) -> dict[str, Any]:
    """What the report says about the run, and which parts it has."""
    types = {
        "title": str,
        "setup": dict,
        "compared": list,
        "ordered": bool,
        "languages": dict,
        "text": bool,
        "kinds": bool,
        "ngrams": bool,
        "nulls": bool,
        "baselines": bool,
        "stability": bool,
        "seeds": list,
    }
    path = folder.path / ABOUT
    if not path.is_file():
        raise RunError(
            f"{folder.path} has no {ABOUT}, which the report is drawn from: the run is of an earlier version; {AGAIN}"
        )
    stored = folder.json(f"{DATA}/about")
    # Runs of earlier versions found kinds of features wherever they read text
    about = {"kinds": stored.get("text"), **stored} if isinstance(stored, dict) else {}
    if "rows" in about:
        types = {"rows": str, **{name: types[name] for name in ("title", "setup", "compared", "ordered")}}
    wrong = [name for name, kind in types.items() if not isinstance(about.get(name), kind)]
    if wrong:
        raise RunError(f"{path} is damaged at {wrong[0]!r}; {AGAIN}")
    return about


def _onsets(folder: RunFolder, *, with_kinds: bool) -> pd.DataFrame:
    """Onset and kind of every feature that has an onset; without text, the kinds are not known."""
    onsets = folder.table(f"{FOLDER}/evolution")[["feature", "onset"]].dropna()
    if not with_kinds:
        return onsets.assign(kind="features")
    return onsets.merge(folder.table(f"{FOLDER}/kinds")[["feature", "kind"]], on="feature")


def _dip_sentences(folder: RunFolder, nulls: pd.DataFrame | None) -> list[str]:
    """The findings about dips, and with null models how many are explained beside how many are expected to be."""
    dips = folder.dips
    counts = [] if nulls is None else dip_count([bool(dip["explained"]) for dip in dips], nulls)
    return [*(dip["sentence"] for dip in dips), *counts]


def _facts(folder: RunFolder, replication: pd.DataFrame | None) -> pd.DataFrame:
    """Facts about each feature, and whether other seeds have it."""
    facts = folder.table(f"{DATA}/facts")
    if replication is None:
        return facts
    by_feature = dict(zip(replication.feature, replicates(replication), strict=True))
    return facts.assign(replicates=[_YES_OR_NO[by_feature.get(feature)] for feature in facts.feature])
