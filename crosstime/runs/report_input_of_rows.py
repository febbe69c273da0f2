"""The input of the report of a run on rows of parameters, from the files in its folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crosstime.features.annotation import annotate
from crosstime.report.columns import COLUMNS
from crosstime.report.page.context import ROWS, Context
from crosstime.report.page.report_input import ReportInput
from crosstime.runs.folder import RunFolder
from crosstime.runs.row_findings import onset_sentences, row_sentences, row_summary
from crosstime.runs.stages.evolve import FOLDER
from crosstime.runs.stages.evolve_rows import DECODERS, TOP_ROWS

LEFT_OUT = ("accuracy", "effects", "temporal", "ablation")
"""Sections about tasks, which rows of parameters do not have."""


def report_input_of_rows(
    folder: RunFolder, about: Mapping[str, Any], annotations: pd.DataFrame | None = None
) -> ReportInput:
    """Everything that the report of a run on rows of parameters shows.

    Args:
        folder: the folder of the run.
        about: what was done with what, as the run recorded it.
        annotations: descriptions of features, to show on their cards.
    """
    evaluation, rows, facts = (folder.table(name) for name in ("evaluation", TOP_ROWS, f"{FOLDER}/facts"))
    rows = rows.fillna({"label": ""})
    evolution, steps = folder.table(f"{FOLDER}/evolution"), folder.table(f"{FOLDER}/rotation_steps")
    name, compared, ordered = about["rows"], about["compared"], about["ordered"]
    losses = dict.fromkeys(("ce_clean", "ce_spliced", "ce_recovered"), float("nan"))
    onsets = evolution[["feature", "onset"]].dropna().assign(kind="features")
    return ReportInput(
        title=about["title"],
        summary=row_summary(name, evaluation, evolution, ordered=ordered),
        findings=[*onset_sentences(evolution, steps, compared), *row_sentences(facts, rows)],
        setup=about["setup"],
        compared=compared,
        ordered=ordered,
        rows=name,
        left_out=LEFT_OUT,
        accuracy=_none("accuracy"),
        effects=_none("effects"),
        temporal=_none("temporal"),
        classes=_none("classes"),
        ablation=_none("ablation"),
        decoders=folder.table(f"{FOLDER}/{DECODERS}"),
        training=folder.table("training"),
        evaluation=evaluation.assign(**losses),
        contexts=_contexts(name, facts.feature.tolist(), rows),
        life_cycles=folder.table(f"{FOLDER}/life_cycle_shares"),
        rotation=folder.table(f"{FOLDER}/rotation"),
        rotation_steps=steps,
        dimensionality=folder.table(f"{FOLDER}/dimensionality"),
        onsets=onsets,
        facts=facts if annotations is None else annotate(facts, annotations),
    )


def _none(table: str) -> pd.DataFrame:
    """A table of the report without rows."""
    return pd.DataFrame(columns=list(COLUMNS[table]))


def _contexts(name: str, features: list[int], rows: pd.DataFrame) -> dict[int, list[Context]]:
    """For each feature that is shown the rows on which it fires most strongly, as one strip."""
    contexts: dict[int, list[Context]] = {}
    by_feature = dict(iter(rows[rows.feature.isin(features)].groupby("feature")))
    for feature in features:
        strongest = by_feature.get(feature)
        if strongest is None:
            contexts[feature] = []
            continue
        labels, activations = tuple(strongest.label), tuple(strongest.activation.tolist())
        contexts[feature] = [Context(name, labels, activations, source=ROWS)]
    return contexts
