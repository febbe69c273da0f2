"""The features that people can annotate, with what a sheet shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crosstime.errors import RunError
from crosstime.report.page.context import Context
from crosstime.runs.draw_report import require_finished
from crosstime.runs.report_input import report_input, shown_features
from crosstime.runs.report_input_of_files import CONTEXTS, Tables, listed_features
from crosstime.runs.stored_contexts import read_contexts


@dataclass(frozen=True, eq=False)
class AnnotatedFeatures:
    """Features to annotate.

    Attributes:
        contexts: for each feature the prompts and texts on which it fires most.
        facts: one row for each feature with facts about it; None without any.
    """

    contexts: Mapping[int, Sequence[Context]]
    facts: pd.DataFrame | None


def features_of_run(run: Path) -> AnnotatedFeatures:
    """The features whose cards the report of a finished run shows.

    Raises:
        RunError: the run is not finished, or a file of it is damaged.
    """
    require_finished(run)
    shown = report_input(run)
    return AnnotatedFeatures({feature: shown.contexts.get(feature, ()) for feature in shown_features(run)}, shown.facts)


def features_of_tables(folders: Sequence[Path]) -> AnnotatedFeatures:
    """The features that the tables of single commands list.

    Args:
        folders: that of ``crosstime attribute``, which has the prompts on which its features fire, and that of
            ``crosstime evolve``, which has facts about features.

    Raises:
        RunError: a folder has no tables, no table lists a feature, or none says on what features fire.
    """
    tables = Tables(folders)
    features, path = listed_features(tables), tables.path(CONTEXTS)
    if path is None:
        raise RunError(
            f"no folder has {CONTEXTS}, the prompts on which features fire: name that of crosstime attribute"
        )
    contexts = read_contexts(path, advice="run crosstime attribute again")
    return AnnotatedFeatures({feature: contexts.get(feature, ()) for feature in features}, tables.read("facts"))
