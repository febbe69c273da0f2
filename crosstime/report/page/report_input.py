"""The input of a report: the tables of one run, validated on construction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from crosstime.errors import ReportError
from crosstime.report.about_models import about_models
from crosstime.report.check_table import check_facts, check_table
from crosstime.report.columns import COLUMNS
from crosstime.report.page.context import Context


def _table(name: str) -> Callable[[], pd.DataFrame]:
    """Return a factory of an empty table."""
    return partial(pd.DataFrame, columns=list(COLUMNS[name]))


@dataclass(frozen=True)
class ReportInput:
    """Everything that a report shows. Tables may be empty; NaN stands for a value that does not exist.

    The tables are checked by `check_table` on construction; the caller's tables are not changed.

    Attributes:
        title: heading of the page.
        summary: one or two sentences of plain text: what was compared, on what, and the main finding.
        setup: names and values that a reader needs to repeat the run (suite, site, seeds, versions, ...).
        accuracy: revision, step, tokens, task, n, accuracy, low, high, logit_difference; one row per checkpoint of the
            suite and task.
        compared: the revisions that the crosscoder was trained on, in order.
        effects: task, feature, revision, ie, low, high; feature -1 is the error term.
        temporal: task, feature, revision, relie, relie_low, relie_high, reldec, decoder_norm.
        classes: task, feature, class_ie, class_dec.
        decoders: feature, revision, reldec, decoder_norm: of features without effects, in place of `temporal`.
        ablation: task, features ("123", "top-10"), kind ("single", "set" or "random"), revision, accuracy,
            accuracy_change, logit_difference, logit_difference_change; optionally the bounds of both changes:
            accuracy_change_low and accuracy_change_high, and low and high for the logit difference.
        training: step, loss, l2, sparsity, l0, dead.
        evaluation: revision, fve (fraction of variance explained), ce_clean, ce_spliced, ce_recovered, l0; also
            fve_without_outliers, outliers, top_norm_share.
        contexts: prompts and texts on which each feature fires.
        faithfulness: how much of a task the top n features keep, as `crosstime.faithfulness` returns it; with a
            control, the column ``features`` is "top" or "random".
        life_cycles: source ("decoder norm", "test of presence", "IE: TASK"), life_cycle, count, share, low, high: the
            number of features with each life cycle.
        rotation: revision, other, cosine: mean cosine of the decoder directions of two checkpoints.
        rotation_steps: revision, previous, degrees, share, turning: rotation of the decoders at each step.
        dimensionality: revision, total, alive: number of dimensions that the features fill.
        onsets: feature, onset (checkpoint), kind: when each feature of the dictionary emerges, and what it responds to.
        ngrams: tokens, loss, unigram_kl, bigram_kl, unigram_entropy, bigram_entropy: how close the predictions of each
            checkpoint are to unigrams and bigrams, as `crosstime.ngram_divergence` returns it.
        similarity: similarity of the activations of two checkpoints, as `crosstime.similarity` returns it.
        lives: task, feature, life_cycle, label (the life cycle in words, with its checkpoints), support: life cycle of
            each selected feature by its effects on the task, the most important feature first.
        dips: dip (its task), at, other (its checkpoints), and the columns of `Dip.table`: what features that
            disappear, or have emerged, do to a task that dips.
        nulls: what the same pipeline claims under null models, and how many claims are expected where they are false:
            null, source, claim, false ("True" or "False": whether the claim is false by construction), count, n, seeds,
            null_count, null_n, and rate, expected and fdr with their bounds.
        baselines: the crosscoder beside other dictionaries, as `crosstime.baselines` returns it.
        stability: whether the strongest features stay the same under other prompts and options, as
            `crosstime.effect_stability` returns it.
        replication: for each selected feature, how many other seeds have it and the same claims about it, as
            `crosstime.evolution.replicated_claims.replicated_claims` returns it. Charts and tables with a mark or a row
            for each feature then show those that most seeds have.
        descriptions: one row for the run and for each null model whose features a language model described: source,
            asked, described, and means and correlations with their bounds, as `crosstime.describe` returns it.
        complexity: source, feature, drawn (at random), selected (by effects), description, complexity, onset,
            detection, fuzzing: features that a language model described.
        findings: sentences below the summary.
        logit_effects: tokens that each decoder direction promotes, from
            `crosstime.features.logit_effects.logit_effects`.
        facts: one row per feature: ``feature``, and any columns of numbers or short text to show on its card (onset,
            life cycle, ...).
        languages: language of each task, to filter by.
        rows: name of the rows of parameters that the crosscoder was trained on (``W_U``); empty for activations.
        advice: how to make tables that are missing: a sentence by the name of the table, which the page says in place
            of what the table would show.
        left_out: anchors of sections that the page does not have, since nothing was computed for them; with
            "accuracy", the decoder norms take its place at the head of the page.
        ordered: whether the checkpoints are points of one training; the report of models side by side speaks of
            models, and has no axis of training tokens.

    Raises:
        ReportError: when `compared` is empty, or a table lacks a column or has text in a numeric column.
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
    faithfulness: pd.DataFrame = field(default_factory=_table("faithfulness"))
    life_cycles: pd.DataFrame = field(default_factory=_table("life_cycles"))
    rotation: pd.DataFrame = field(default_factory=_table("rotation"))
    rotation_steps: pd.DataFrame = field(default_factory=_table("rotation_steps"))
    dimensionality: pd.DataFrame = field(default_factory=_table("dimensionality"))
    onsets: pd.DataFrame = field(default_factory=_table("onsets"))
    ngrams: pd.DataFrame = field(default_factory=_table("ngrams"))
    similarity: pd.DataFrame = field(default_factory=_table("similarity"))
    lives: pd.DataFrame = field(default_factory=_table("lives"))
    dips: pd.DataFrame = field(default_factory=_table("dips"))
    nulls: pd.DataFrame = field(default_factory=_table("nulls"))
    baselines: pd.DataFrame = field(default_factory=_table("baselines"))
    stability: pd.DataFrame = field(default_factory=_table("stability"))
    replication: pd.DataFrame = field(default_factory=_table("replication"))
    descriptions: pd.DataFrame = field(default_factory=_table("descriptions"))
    complexity: pd.DataFrame = field(default_factory=_table("complexity"))
    findings: Sequence[str] = ()
    logit_effects: pd.DataFrame = field(default_factory=_table("logit_effects"))
    facts: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=["feature"]))
    languages: Mapping[str, str] = field(default_factory=dict)
    decoders: pd.DataFrame = field(default_factory=_table("decoders"))
    rows: str = ""
    advice: Mapping[str, str] = field(default_factory=dict)
    left_out: Collection[str] = ()
    ordered: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.compared, str) or not self.compared:
            raise ReportError("a report needs the list of revisions that were compared, at least one")

        # Replace the caller's tables by checked copies; object.__setattr__ because the class is frozen
        for table in COLUMNS:
            object.__setattr__(self, table, check_table(getattr(self, table), table))
        object.__setattr__(self, "facts", check_facts(self.facts))

    @property
    def decoder_norms(self) -> pd.DataFrame:
        """Decoder norm and RelDec of each feature at each checkpoint, with the columns of `decoders`."""
        if self.temporal.empty:
            return self.decoders
        return self.temporal.drop_duplicates(["feature", "revision"])[list(COLUMNS["decoders"])]

    @property
    def begins_with_norms(self) -> bool:
        """Whether the decoder norms are the chart at the head of the page, since no accuracy was measured."""
        return "accuracy" in self.left_out

    def missing(self, sentence: str, table: str) -> str:
        """A sentence in place of a table that is missing, with the advice on how to make it, if there is any."""
        return f"{sentence} {self.advice[table]}" if table in self.advice else sentence

    def words(self, text: str) -> str:
        """A sentence of the report about checkpoints, which for models side by side is about models."""
        return text if self.ordered else about_models(text)
