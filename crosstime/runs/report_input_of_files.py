"""The input of a report without a run: a crosscoder, and the tables that single commands have written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import RunError
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.evolution.evolve import DECODER
from crosstime.evolution.life_cycles import life_cycle_shares
from crosstime.features.annotation import annotate
from crosstime.machine.long_table import long_table
from crosstime.machine.storage import read_table
from crosstime.report.columns import COLUMNS, ERROR_TERM
from crosstime.report.page.report_input import ReportInput
from crosstime.runs.findings import emergence, presence_sentences
from crosstime.runs.folder import TEXT_COLUMNS
from crosstime.runs.stored_contexts import read_contexts

WRITTEN_BY = {
    "accuracy": "accuracy",
    "similarity": "similarity",
    "ngrams": "ngrams",
    "training": "train",
    "evaluation": "evaluate",
    "effects": "attribute",
    "ablation": "ablate",
    "evolution": "evolve",
    "rotation": "evolve",
    "rotation_steps": "evolve",
    "dimensionality": "evolve",
    "life_cycles": "evolve",
    "life_cycle_shares": "evolve",
    "kinds": "evolve",
    "presence": "evolve",
    "facts": "evolve",
}
"""The tables that are read, and the command that writes each."""
CONTEXTS = "contexts.json"
"""The file of `crosstime attribute` with the prompts on which features fire."""


_NEEDED = {
    "effects": tuple(dict.fromkeys(COLUMNS["effects"] + COLUMNS["temporal"] + COLUMNS["classes"])),
    "evaluation": ("revision",),
    "ablation": ("features",),
    "evolution": ("feature", "onset"),
    "life_cycles": (*COLUMNS["lives"], "strongest"),
    "kinds": ("feature", "kind"),
    "presence": ("feature", "life_cycle", "label"),
    "facts": ("feature",),
}
"""Columns that are read here; the report checks those of the other tables."""


class Tables:
    """The tables in the folders of single commands, each read once.

    Args:
        folders: such as ``effects`` of ``crosstime attribute``.

    Raises:
        RunError: a folder is missing or has no such table, or two have the same.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._paths: dict[str, Path] = {}
        for folder in folders:
            if not folder.is_dir():
                raise RunError(f"there is no folder of tables at {folder}")
            names = [*(f"{name}.csv" for name in WRITTEN_BY), CONTEXTS]
            there = [name for name in names if (folder / name).is_file()]
            if not there:
                verbs = ", ".join(dict.fromkeys(WRITTEN_BY.values()))
                raise RunError(f"{folder} has no table of crosstime {verbs}")
            for name in there:
                if (earlier := self._paths.get(name)) is not None:
                    raise RunError(f"{name} is both in {earlier.parent} and in {folder}: name one of them")
                self._paths[name] = folder / name

    def __contains__(self, name: str) -> bool:
        return f"{name}.csv" in self._paths

    def read(self, name: str) -> pd.DataFrame | None:
        """A table; None if no folder has it.

        Raises:
            RunError: it is damaged, or lacks a column.
        """
        path = self._paths.get(f"{name}.csv")
        if path is None:
            return None
        table = read_table(path, dtypes=TEXT_COLUMNS)
        for column in _NEEDED.get(name, ()):
            if column not in table:
                verb = WRITTEN_BY[name]
                raise RunError(f"{path} has no column {column}: have crosstime {verb} of this version write it again")
        return table

    def path(self, name: str) -> Path | None:
        """Path of a file; None if no folder has it."""
        return self._paths.get(name)


def report_input_of_files(
    crosscoder: CrossCoder, tables: Tables, *, title: str, annotations: pd.DataFrame | None = None
) -> ReportInput:
    """The input of a report from a crosscoder and the given tables; sections without a table are left out.

    Rotation, dimensionality, onsets and life cycles by decoder norm are computed from the weights, where `tables` has
    none of ``crosstime evolve``.

    Args:
        crosscoder: the crosscoder of all tables.
        tables: the tables.
        title: heading of the page.
        annotations: descriptions of features, to show on their cards.

    Raises:
        RunError: a table is damaged, or of another crosscoder.
        AnnotationError: a feature is annotated that no table has.
    """
    ordered, compared = crosscoder.origin.ordered, list(crosscoder.origin.revisions)
    effects, ablation, lives = (tables.read(name) for name in ("effects", "ablation", "life_cycles"))
    for name in ("effects", "life_cycles", "facts", "evaluation"):
        _refuse_other(crosscoder, tables.path(f"{name}.csv"), tables.read(name))
    evaluation = tables.read("evaluation")
    if evaluation is not None and evaluation.revision.duplicated().any():
        raise RunError(f"{tables.path('evaluation.csv')} is of several crosscoders: evaluate this one alone")

    # The decoders of all features
    decoders = {name: tables.read(name) for name in ("rotation", "rotation_steps", "dimensionality", "evolution")}
    if any(table is None for table in decoders.values()):
        decoders |= decoder_evolution(crosscoder)
    shares = tables.read("life_cycle_shares")
    if shares is None:
        shares = life_cycle_shares(crosscoder.decoder_norms().T, ordered=ordered).assign(source=DECODER)
    onsets = _table(decoders["evolution"], "onsets", kind="")[["feature", "onset"]].dropna(subset="onset")
    kinds = tables.read("kinds")
    onsets = onsets.assign(kind="features") if kinds is None else onsets.merge(kinds[["feature", "kind"]], on="feature")

    # The features that have a card
    facts = tables.read("facts")
    listed = [] if effects is None else effects.feature[effects.feature != ERROR_TERM].unique().tolist()
    features = list(dict.fromkeys([*listed, *([] if facts is None else facts.feature.tolist())]))
    facts = pd.DataFrame({"feature": features}) if facts is None else facts
    contexts_path = tables.path(CONTEXTS)
    contexts = {} if contexts_path is None else read_contexts(contexts_path, advice="run crosstime attribute again")

    # The findings in words
    presence = tables.read("presence")
    findings = [] if presence is None else presence_sentences(presence, ordered=ordered)
    findings += [] if lives is None else emergence(lives, ordered=ordered)

    advice = {
        "evaluation": "crosstime evaluate SUITE TEXT CROSSCODER writes evaluation.csv into the folder of --out",
        "training": "crosstime train writes training.csv beside the crosscoder",
    }
    left_out = [name for name in ("accuracy", "effects", "ablation") if name not in tables]
    return ReportInput(
        title=title,
        summary=_summary(crosscoder, listed, ordered=ordered),
        findings=findings,
        setup=_setup(crosscoder, tables),
        compared=compared,
        ordered=ordered,
        rows="",
        advice={name: f"{sentence}: name that folder with --tables." for name, sentence in advice.items()},
        left_out=[*left_out, *(["temporal"] if effects is None else [])],
        accuracy=_table(tables.read("accuracy"), "accuracy"),
        effects=_table(effects, "effects"),
        temporal=_table(effects, "temporal"),
        classes=_table(effects, "classes").drop_duplicates(["task", "feature"]),
        ablation=_ablation(ablation),
        decoders=_decoders(crosscoder, features),
        training=_table(tables.read("training"), "training"),
        evaluation=_table(evaluation, "evaluation"),
        similarity=_table(tables.read("similarity"), "similarity"),
        ngrams=_table(tables.read("ngrams"), "ngrams"),
        contexts=contexts,
        life_cycles=shares,
        rotation=_table(decoders["rotation"], "rotation"),
        rotation_steps=_table(decoders["rotation_steps"], "rotation_steps"),
        dimensionality=_table(decoders["dimensionality"], "dimensionality"),
        onsets=onsets,
        lives=_table(None if lives is None else lives[lives.strongest], "lives"),
        facts=facts if annotations is None else annotate(facts, annotations),
    )


def listed_features(tables: Tables) -> list[int]:
    """The features that tables list, which are those that can be annotated.

    Raises:
        RunError: no table lists any.
    """
    frames = [frame for name in ("effects", "facts") if (frame := tables.read(name)) is not None]
    features = {int(feature) for frame in frames for feature in frame.feature} - {ERROR_TERM}
    if not features:
        raise RunError("no table lists a feature: name the folder of crosstime attribute")
    return sorted(features)


def _table(frame: pd.DataFrame | None, name: str, **more: str) -> pd.DataFrame:
    """A table, or one of the report without rows."""
    return pd.DataFrame(columns=list(COLUMNS[name])) if frame is None else frame.assign(**more)


def _ablation(frame: pd.DataFrame | None) -> pd.DataFrame:
    """Ablations with their kind: single features are named by their number."""
    if frame is None:
        return _table(None, "ablation")
    kinds = ["single" if name.isdecimal() else "set" for name in frame.features]
    return frame if "kind" in frame else frame.assign(kind=kinds)


def _decoders(crosscoder: CrossCoder, features: list[int]) -> pd.DataFrame:
    """Decoder norm and RelDec of features at every checkpoint."""
    norms = crosscoder.decoder_norms().T[features].double()
    total = norms.sum(1, keepdim=True)
    shares = torch.where(total > 0, norms / total, torch.nan)
    axes = {"feature": features, "revision": crosscoder.origin.revisions}
    return long_table(axes, {"reldec": shares, "decoder_norm": norms})


def _refuse_other(crosscoder: CrossCoder, path: Path | None, frame: pd.DataFrame | None) -> None:
    """Refuse a table of features or checkpoints that a crosscoder does not have."""
    if frame is None:
        return
    for feature in frame.feature if "feature" in frame else []:
        if feature != ERROR_TERM and not 0 <= feature < crosscoder.n_features:
            raise RunError(
                f"{path} is of another crosscoder: it has feature {feature}, and this one has 0 to "
                f"{crosscoder.n_features - 1}"
            )
    others = [] if "revision" not in frame else sorted(set(frame.revision) - set(crosscoder.origin.revisions))
    if others:
        raise RunError(
            f"{path} is of another crosscoder: it has checkpoint {others[0]}, and this one has "
            f"{', '.join(crosscoder.origin.revisions)}"
        )


def _summary(crosscoder: CrossCoder, listed: list[int], *, ordered: bool) -> str:
    """What was compared, and how many features are listed, in words."""
    noun = "checkpoints" if ordered else "models"
    origin = crosscoder.origin
    first = (
        f"A crosscoder of {crosscoder.n_features:,} features compares {len(origin.revisions)} {noun} of {origin.suite} "
        f"at {origin.site}."
    )
    return f"{first} {len(listed)} features were selected by their indirect effect." if listed else first


def _setup(crosscoder: CrossCoder, tables: Tables) -> dict[str, str]:
    """What the page was made of, in words."""
    origin = crosscoder.origin
    names = [name for name in WRITTEN_BY if name in tables]
    return {
        "suite": origin.suite,
        "compared": ", ".join(origin.revisions),
        "site": str(origin.site),
        "crosscoder": crosscoder.headline(),
        "tables": ", ".join(names) or "none",
    }
