"""The sections of a report from top to bottom: each has a few sentences, its charts and the numbers behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from crosstime.report.charts.ablation import ablated_name
from crosstime.report.charts.faithfulness import WIDEST_INTERVAL
from crosstime.report.charts.panels import ABSENT_BELOW, SPECIFIC_ABOVE
from crosstime.report.columns import ERROR_TERM, distinct
from crosstime.report.expected_under_null import expected_number, expected_under_null
from crosstime.report.numbers import UNDEFINED, count, decimals_for
from crosstime.report.outlier_note import outlier_note
from crosstime.report.page.baselines import CAPTION as BASELINES_CAPTION
from crosstime.report.page.baselines import baselines_section
from crosstime.report.page.browser import feature_browser
from crosstime.report.page.decoders import NO_NORMS, decoder_captions, decoders_section
from crosstime.report.page.descriptions import CAPTION as COMPLEXITY_CAPTION
from crosstime.report.page.descriptions import descriptions_section
from crosstime.report.page.dips import dips_section
from crosstime.report.page.expected_ablations import EXPECTED_NOTE, ExpectedAblations
from crosstime.report.page.features import (
    feature_link,
    replication_note,
    shown_ablations,
    shown_features,
    strongest_note,
)
from crosstime.report.page.figures import Pictures, figure, optional_figure, remark
from crosstime.report.page.lives import lives_table
from crosstime.report.page.markup import Child, Markup, element
from crosstime.report.page.nulls import nulls_section
from crosstime.report.page.stability import stability_section
from crosstime.report.page.strongest_rows import rows_section
from crosstime.report.page.tables import Cell, agreement, definitions, interval_cell, number_cell, table
from crosstime.report.rows import rows

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput

FOLDED_FROM = 12
"""Rows of the ablation table above which it is folded."""

_LOSSES = {
    "ce_clean": "cross-entropy, clean (nats)",
    "ce_spliced": "cross-entropy, spliced (nats)",
    "ce_recovered": "loss recovered",
}
"""Columns of the evaluation that are next-token losses, and their headings."""

BASELINES_TITLE = "What the crosscoder adds"


class Section(NamedTuple):
    """A section: its anchor, its title in the navigation, and its HTML."""

    anchor: str
    title: str
    markup: Markup


def sections(report: ReportInput, pictures: Pictures) -> list[Section]:
    """Return all sections of a report in order.

    Args:
        report: the checked tables.
        pictures: picture of each chart, by name; where a chart is absent, the section says so.
    """
    parts = [
        _section("overview", "Overview", *_overview(report, pictures)),
        _section("crosscoder", "Crosscoder", *_crosscoder(report, pictures)),
        _section("effects", "Indirect effects", *_effects(report, pictures)),
        _section("temporal", "RelIE and RelDec", *_temporal(report, pictures)),
        _section("decoders", "Decoders", *decoders_section(report, pictures)),
        _section("ablation", "Ablation", *_ablation(report, pictures)),
        *([] if report.lives.empty else [_section("lives", _lives_title(report), *_lives(report))]),
        *([] if report.dips.empty else [_section("dips", "Dips", *_dips(report))]),
        *([] if report.baselines.empty else [_section("baselines", BASELINES_TITLE, *_baselines(report, pictures))]),
        *([] if report.stability.empty else [_section("stability", "Stability", *_stability(report))]),
        *([] if report.nulls.empty else [_section("nulls", "Null models", *_nulls(report))]),
        *_descriptions_section(report, pictures),
        *([_section("rows", "Strongest rows", *rows_section(report))] if report.rows else []),
        _section("features", "Features", *feature_browser(report)),
    ]
    return [part for part in parts if part.anchor not in report.left_out]


def main_figure(report: ReportInput, pictures: Pictures) -> Markup:
    """The chart that stands beside the finding at the head of the page.

    Accuracy over training, or of each model; without it, the decoder norms of features.
    """
    if report.begins_with_norms:
        return figure("norms", pictures, decoder_captions(report)["norms"], NO_NORMS)
    caption = (
        "Accuracy on minimal pairs against training tokens. Bands are intervals over the pairs; dotted rules "
        "and large points mark the checkpoints that were compared."
        if report.ordered
        else "Accuracy of each model on minimal pairs, with intervals over the pairs."
    )
    return figure("accuracy", pictures, caption, "No accuracy was measured.")


def _section(anchor: str, title: str, *content: Child) -> Section:
    return Section(anchor, title, element("section", element("h2", title), *content, id=anchor))


def _overview(report: ReportInput, pictures: Pictures) -> list[Child]:
    # One row per task and compared checkpoint
    accuracy = report.accuracy[report.accuracy["revision"].isin(list(report.compared))]
    logit_decimals = decimals_for(accuracy["logit_difference"])
    cells: list[list[Cell | str]] = [
        [
            row.text("task"),
            row.text("revision"),
            *([Cell(count(row.number("tokens")), row.number("tokens"))] if report.ordered else []),
            interval_cell(row.number("accuracy"), row.number("low"), row.number("high")),
            number_cell(row.number("logit_difference"), logit_decimals),
            number_cell(row.number("n"), 0),
        ]
        for row in rows(_in_order_of_tasks(accuracy))
    ]
    time = ["training tokens"] if report.ordered else []
    columns = ["task", report.words("checkpoint"), *time, "accuracy", "logit difference", "pairs"]

    # Captions of the charts
    similarity_caption = report.words(
        "Mean cosine between the activations of two checkpoints on the same text, at the crosscoder's site: how far "
        "the representation moves between them."
    )
    ngrams_caption = report.words(
        "How far the predictions of each checkpoint are from the unigrams and the bigrams of the text, beside its loss "
        "and their entropies: where the loss falls below an entropy, the model has learned more than these statistics."
    )

    return [
        definitions(report.setup) if report.setup else None,
        table(columns, cells, caption=report.words("Accuracy at the compared checkpoints")) if cells else None,
        optional_figure("similarity", pictures, similarity_caption),
        optional_figure("ngrams", pictures, ngrams_caption),
    ]


def _crosscoder(report: ReportInput, pictures: Pictures) -> list[Child]:
    # One row per checkpoint; rows of parameters have no losses
    losses = {} if report.rows else _LOSSES
    unit = "row" if report.rows else "token"
    cells: list[list[Cell | str]] = [
        [
            row.text("revision"),
            *(number_cell(row.number(name), 3) for name in ("fve", *losses)),
            number_cell(row.number("l0"), 1),
        ]
        for row in rows(report.evaluation)
    ]
    columns = [report.words("checkpoint"), "variance explained", *losses.values(), f"active features per {unit}"]
    measured_on = "on the rows that it was trained on" if report.rows else "on held-out text"
    caption = report.words(f"How faithful the crosscoder is to each checkpoint, {measured_on}")

    introduction = element(
        "p",
        report.words("One sparse dictionary is shared by the checkpoints "),
        element("strong", ", ".join(report.compared)),
        report.words(
            "; each has its own encoder and decoder. A feature's decoder norm at a checkpoint is how strongly the "
            "dictionary writes it there."
        ),
    )
    # Sentences in place of what is missing
    unevaluated = report.missing("The crosscoder was not evaluated.", "evaluation")
    untrained = report.missing("No training curves were kept.", "training")

    return [
        introduction,
        table(columns, cells, caption=caption) if cells else remark(unevaluated),
        remark(report.words(note)) if (note := outlier_note(report.evaluation)) else None,
        figure("training", pictures, "Training of the crosscoder.", untrained),
    ]


def _effects(report: ReportInput, pictures: Pictures) -> list[Child]:
    # One row per task and checkpoint for the error term
    error_term = report.effects[report.effects["feature"] == ERROR_TERM]
    decimals = decimals_for(error_term["ie"])
    cells: list[list[Cell | str]] = [
        [
            row.text("task"),
            row.text("revision"),
            interval_cell(row.number("ie"), row.number("low"), row.number("high"), decimals),
        ]
        for row in rows(error_term)
    ]

    caption = report.words(
        "Indirect effect of each selected feature at each compared checkpoint. Coloured: the strongest, with "
        "their intervals; grey: the others; "
        + ("dashed: the crosscoder's error term." if report.ordered else "labelled: the strongest of each model.")
    )
    introduction = (
        "The indirect effect (IE) of a feature is how much the metric would change if the feature took its "
        "baseline value and all else stayed. Far from zero, the feature matters to the answer. The error term "
        "is what the crosscoder does not explain. A click on a feature in a chart shows its card."
    )
    notes = [note for note in (replication_note(report), strongest_note(report)) if note]

    return [
        element("p", introduction),
        figure("effects", pictures, caption, "No indirect effects were measured."),
        [remark(note) for note in notes],
        table(["task", report.words("checkpoint"), "IE"], cells, caption="Indirect effect of the error term")
        if cells
        else None,
    ]


def _temporal(report: ReportInput, pictures: Pictures) -> list[Child]:
    # Captions of the charts
    checkpoints = f"of {report.compared[-1]}" if len(report.compared) <= 2 else report.words("of each checkpoint")
    shares = report.words("How the features' RelIE is spread at each checkpoint; dotted rules bound the classes.")
    ternary = report.words(
        "RelIE at three checkpoints at once: a feature in a corner matters at that checkpoint only, one in the middle "
        "at all three. Dashed: a share of 0.3, from which on a feature belongs to a checkpoint."
    )
    absent = report.words("the feature is absent from the checkpoint")
    temporal = (
        f"RelIE against RelDec {checkpoints}: below {ABSENT_BELOW} {absent}, above {SPECIFIC_ABOVE} specific to it. "
        "Bars are intervals of RelIE."
    )

    # Count the features that the chart of RelIE against RelDec omits
    undefined = report.temporal[report.temporal[["relie", "reldec"]].isna().any(axis=1)]
    n = len(undefined[["task", "feature"]].drop_duplicates())
    omitted: Markup | None = None
    if n and "temporal" in pictures:
        pairs = "One pair of feature and task has" if n == 1 else f"{n} pairs of feature and task have"
        omitted = remark(report.words(f"{pairs} an undefined value at some checkpoint, and no point there."))

    # Cross-tabulate the classes of each task
    classes = report.classes
    crossed = [
        agreement(
            classes[classes["task"] == task], report.compared, f"Classes on {task}", _expected_classes(report, task)
        )
        for task in distinct(classes["task"])
    ]
    legend = "Each cell counts features; outlined cells are those where RelIE and RelDec agree."

    return [
        element(
            "p",
            report.words("RelIE is a checkpoint's share of a feature's |IE|: "),
            element("code", "|IE_c| / Σ |IE|"),
            ". RelDec is the same share of its decoder norms. Where the two disagree, the dictionary's geometry does "
            f"not tell {'when' if report.ordered else 'where'} the feature is used. A share of nothing (0/0) is ",
            element("em", UNDEFINED),
            ".",
        ),
        figure("shares", pictures, shares, "No feature has a RelIE."),
        optional_figure("ternary", pictures, ternary),
        figure("temporal", pictures, temporal, "No feature has both a RelIE and a RelDec."),
        omitted,
        element("h3", "Classes"),
        element("div", crossed, class_="beside") if crossed else remark("No feature was classed."),
        element("p", legend) if crossed else None,
    ]


def _expected_classes(report: ReportInput, task: str) -> dict[str, str]:
    """For each class by RelIE, how many features of a task are expected to have it under the null."""
    source = f"RelIE: {task}"
    classes = distinct(report.nulls.loc[report.nulls["source"] == source, "claim"])
    numbers = {name: expected_under_null(report.nulls, source, name) for name in classes}
    return {name: expected_number(*values) for name, values in numbers.items() if values is not None}


def _ablation(report: ReportInput, pictures: Pictures) -> list[Child]:
    # One row per ablation, task and checkpoint
    expected = ExpectedAblations(report.nulls, report.classes)
    logit_decimals = decimals_for(report.ablation["logit_difference_change"])
    cells: list[list[Cell | str]] = [
        [
            Cell(_ablated(row.text("features"), row.text("kind"))),
            row.text("kind"),
            row.text("task"),
            row.text("revision"),
            number_cell(row.number("accuracy"), 3),
            number_cell(row.number("accuracy_change"), 3, sign=True),
            number_cell(row.number("logit_difference"), logit_decimals),
            number_cell(row.number("logit_difference_change"), logit_decimals, sign=True),
            *([] if report.nulls.empty else [expected.cell(row)]),
        ]
        for row in rows(_sets_first(shown_ablations(report)))
    ]
    columns = ["ablated", "kind", "task", report.words("checkpoint"), "accuracy", "change"]
    columns += ["logit difference", "change in logit difference"]
    columns += [] if report.nulls.empty else ["of this class, expected under the null"]

    # Fold a long table
    listed: Markup | None = None
    if cells:
        listed = table(columns, cells, caption="Ablations", id_="ablation-table", sortable=True)
    if len(cells) > FOLDED_FROM:
        listed = element("details", element("summary", f"All {len(cells)} ablations as a table"), listed)

    # Captions of the charts
    ablation = (
        "Change in accuracy when features are ablated: sets and random sets of the same size first, then single "
        "features by the size of the change."
    )
    faithfulness = report.words(
        "Left: share of the task's metric that is kept when only the top n features and the error term stay; "
        "right: share that is left when these n are taken away. Bands are intervals over prompts; where "
        f"one is wider than {WIDEST_INTERVAL:g}, as at a checkpoint that does not do the task, nothing is drawn."
    )

    note = None if report.nulls.empty or listed is None else remark(EXPECTED_NOTE)
    introduction = report.words(
        "An effect says that a feature contributes; an ablation tests whether the task needs it. Features are removed "
        "at one checkpoint, everything else in the activation stays, and the task is scored again. Random sets of the "
        "same size are the control."
    )

    return [
        element("p", introduction),
        figure("ablation", pictures, ablation, "Nothing was ablated."),
        optional_figure("faithfulness", pictures, faithfulness),
        listed,
        note,
    ]


def _stability(report: ReportInput) -> list[Child]:
    return stability_section(report.stability, report.compared, ordered=report.ordered)


def _nulls(report: ReportInput) -> list[Child]:
    return nulls_section(report.nulls, ordered=report.ordered)


def _descriptions_section(report: ReportInput, pictures: Pictures) -> list[Section]:
    if report.descriptions.empty:
        return []
    chart = optional_figure("complexity", pictures, COMPLEXITY_CAPTION)
    content = descriptions_section(report.descriptions, report.complexity, chart, ordered=report.ordered)
    return [_section("descriptions", "Descriptions", *content)]


def _lives_title(report: ReportInput) -> str:
    return "Emerging and given up" if report.ordered else "Specific and shared"


def _lives(report: ReportInput) -> list[Child]:
    same = "has the same life" if report.ordered else "is there for the same models"
    return [
        element(
            "p",
            "By its effect on a task a feature is present where it reaches 3/7 of its maximum. Support is the share of "
            f"resamples of the prompts in which it {same}.",
        ),
        lives_table(
            report.lives,
            report.nulls,
            ordered=report.ordered,
            replicated=None if report.replication.empty else shown_features(report),
        ),
    ]


def _dips(report: ReportInput) -> list[Child]:
    return dips_section(report.dips, report.nulls, ordered=report.ordered)


def _baselines(report: ReportInput, pictures: Pictures) -> list[Child]:
    introduction, *tables = baselines_section(report.baselines, ordered=report.ordered)
    return [introduction, optional_figure("baselines", pictures, report.words(BASELINES_CAPTION)), *tables]


def _ablated(features: str, kind: str) -> Markup | str:
    """Name what was ablated; a single feature is linked to its card."""
    if kind == "single" and features.isdecimal():
        return feature_link(int(features))
    return ablated_name(features, kind)


def _in_order_of_tasks(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Sort the checkpoints of each task by training tokens; tasks are in the order of the run, as in the charts."""
    place = {task: index for index, task in enumerate(distinct(accuracy["task"]))}
    keys = accuracy.assign(place=accuracy["task"].map(place))
    return accuracy.loc[keys.sort_values(["place", "tokens"], kind="stable").index]


def _sets_first(ablation: pd.DataFrame) -> pd.DataFrame:
    order = {"set": 0, "random": 1}
    return ablation.assign(place=[order.get(kind, 2) for kind in ablation["kind"]]).sort_values("place", kind="stable")
