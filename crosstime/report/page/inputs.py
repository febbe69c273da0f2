"""What a report is made of: the tables of one run, checked when they are handed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.columns import COLUMNS, checked, checked_facts
from crosstime.report.page.contexts import Context


def _empty(table: str) -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS[table]))


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows. Tables may be empty; NaN is a value that does not exist.

    Attributes:
        title: the page's heading.
        summary: a sentence or two of plain text: what was compared, on what, and the finding.
        setup: names and values for the reader who wants to repeat it (suite, site, seeds, versions, ...).
        accuracy: revision, step, tokens, task, n, accuracy, low, high, logit_difference;
            one row per checkpoint of the suite and task.
        compared: the revisions the crosscoder was trained on, in order.
        effects: task, feature, revision, ie, low, high; feature -1 is the error term.
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        classes: task, feature, class_ie, class_dec.
        ablation: task, features ("123", "top-10"), kind ("single", "set" or "random"), revision, accuracy,
            accuracy_change, logit_difference, logit_difference_change; where they are known also the bounds of the
            two changes: accuracy_change_low, accuracy_change_high, and low, high of the logit difference.
        training: step, loss, l2, sparsity, l0, dead.
        evaluation: revision, fve (fraction of variance explained), ce_clean, ce_spliced, ce_recovered, l0.
        contexts: per feature, prompts and texts it fires on.
        faithfulness: as `crosstime.faithfulness` gives it: how much of a task the top n features keep; with a
            column ``features`` ("top" or "random") where there is a control.
        life_cycles: source ("decoder norm", "IE: TASK"), life_cycle, count, share, low, high: how many features
            have which life cycle.
        rotation: revision, other, cosine: mean cosine of the decoder directions of two checkpoints.
        rotation_steps: revision, previous, degrees, share, turning: how far decoders turn at each step.
        dimensionality: revision, total, alive: how many dimensions the features fill.
        similarity: as `crosstime.similarity` gives it: how alike the activations of two checkpoints are.
        lives: task, feature, life_cycle, label (the same in words, with checkpoints), support: what became of each
            selected feature, by its effects on the task, the most important first.
        dips: dip (its task), at, other (its checkpoints), and the columns of `explain_dip.Dip.table`: what features
            that are given up, or have emerged, do to a task that dips.
        findings: sentences that stand below the summary.
        logit_effects: as `crosstime.logit_effects` gives it: tokens that a decoder direction promotes.
        facts: one row a feature: ``feature``, and any columns of numbers or short text that are to stand on its
            card (onset, life cycle, ...).
        languages: task -> language, to filter by.

    Raises:
        ReportError: when no checkpoint was compared, or a table lacks a column or has text among numbers.
    """

    title: str
    summary: str
    setup: Mapping[str, str]
    accuracy: pd.DataFrame
    compared: Sequence[str]
    effects: pd.DataFrame
    temporal: pd.DataFrame
    classes: pd.DataFrame
    ablation: pd.DataFrame
    training: pd.DataFrame
    evaluation: pd.DataFrame
    contexts: Mapping[int, Sequence[Context]]
    faithfulness: pd.DataFrame = field(default_factory=partial(_empty, "faithfulness"))
    life_cycles: pd.DataFrame = field(default_factory=partial(_empty, "life_cycles"))
    rotation: pd.DataFrame = field(default_factory=partial(_empty, "rotation"))
    rotation_steps: pd.DataFrame = field(default_factory=partial(_empty, "rotation_steps"))
    dimensionality: pd.DataFrame = field(default_factory=partial(_empty, "dimensionality"))
    similarity: pd.DataFrame = field(default_factory=partial(_empty, "similarity"))
    lives: pd.DataFrame = field(default_factory=partial(_empty, "lives"))
    dips: pd.DataFrame = field(default_factory=partial(_empty, "dips"))
    findings: Sequence[str] = ()
    logit_effects: pd.DataFrame = field(default_factory=partial(_empty, "logit_effects"))
    facts: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=["feature"]))
    languages: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.compared, str) or not self.compared:
            raise ReportError("a report needs the list of revisions that were compared, at least one")
        # A frozen dataclass: the checked copies replace the caller's tables, which stay as they are.
        for table in COLUMNS:
            object.__setattr__(self, table, checked(getattr(self, table), table))
        object.__setattr__(self, "facts", checked_facts(self.facts))
