"""The sections of a report, top to bottom: each a few sentences, a chart and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from crosstime.report.charts.ablation import UNTOLD, ablated_name
from crosstime.report.charts.panels import ABSENT_BELOW, SPECIFIC_ABOVE
from crosstime.report.columns import ERROR_TERM, in_order
from crosstime.report.numbers import UNDEFINED, count, decimals_for, with_interval
from crosstime.report.page.browser import feature_browser
from crosstime.report.page.features import feature_link, strongest_note
from crosstime.report.page.lives import lives_table
from crosstime.report.page.markup import Child, Markup, element
from crosstime.report.page.tables import Cell, agreement, facts, numeric, table

if TYPE_CHECKING:
    from crosstime.report.page.inputs import ReportInput


_SHARES = "How the features' RelIE is spread at each checkpoint; dotted rules bound the classes."
_TERNARY = (
    "RelIE at three checkpoints at once: a feature in a corner matters at that checkpoint only, one in the middle at "
    "all three. Dashed: a share of 0.3, from which on a feature belongs to a checkpoint."
)


class Section(NamedTuple):
    """A section: its anchor, its name in the navigation, and its HTML."""

    anchor: str
    title: str
    markup: Markup


def sections(report: ReportInput, pictures: Mapping[str, str]) -> list[Section]:
    """Return all sections of a report in order.

    Args:
        report: what to show.
        pictures: chart name -> data URI; a chart that is not among them is said to have nothing to show.
    """
    return [
        _section("overview", "Overview", *_overview(report, pictures)),
        _section("crosscoder", "Crosscoder", *_crosscoder(report, pictures)),
        _section("effects", "Indirect effects", *_effects(report, pictures)),
        _section("temporal", "RelIE and RelDec", *_temporal(report, pictures)),
        _section("decoders", "Decoders", *_decoders(report, pictures)),
        _section("ablation", "Ablation", *_ablation(report, pictures)),
        *([] if report.lives.empty else [_section("lives", "Emerging and given up", *_lives(report))]),
        *([] if report.dips.empty else [_section("dips", "Dips", *_dips(report))]),
        _section("features", "Features", *feature_browser(report)),
    ]


def _section(anchor: str, title: str, *content: Child) -> Section:
    return Section(anchor, title, element("section", element("h2", title), *content, id=anchor))


def _text(*content: Child) -> Markup:
    return element("p", *content)


def _nothing(sentence: str) -> Markup:
    return element("p", sentence, class_="none")


def _figure(name: str, pictures: Mapping[str, str], caption: str, otherwise: str) -> Markup:
    """A chart that `charts.js` makes interactive; until then, and without scripts, its picture."""
    if name not in pictures:
        return _nothing(otherwise)
    picture = element("img", src=pictures[name], alt=caption, loading="lazy")
    return element(
        "figure",
        element("div", picture, class_="chart", data_chart=name),
        element("figcaption", caption),
    )


def _overview(report: ReportInput, pictures: Mapping[str, str]) -> list[Child]:
    caption = (
        "Accuracy on minimal pairs against training tokens. Bands are intervals over the pairs; dotted rules "
        "and large points mark the checkpoints that were compared."
    )
    accuracy = report.accuracy[report.accuracy["revision"].isin(list(report.compared))]
    logit = decimals_for(accuracy["logit_difference"])
    rows = [
        [
            row.task,
            row.revision,
            Cell(count(row.tokens), row.tokens),
            Cell(with_interval(row.accuracy, row.low, row.high), row.accuracy),
            numeric(row.logit_difference, logit),
            numeric(row.n, 0),
        ]
        for row in accuracy.sort_values(["task", "tokens"], kind="stable").itertuples()
    ]
    columns = ["task", "checkpoint", "training tokens", "accuracy", "logit difference", "pairs"]
    alike = (
        "Mean cosine between the activations of two checkpoints on the same text, at the crosscoder's site: how far "
        "the representation moves between them."
    )
    return [
        facts(report.setup) if report.setup else None,
        _figure("accuracy", pictures, caption, "No accuracy was measured."),
        table(columns, rows, caption="Accuracy at the compared checkpoints") if rows else None,
        _figure("similarity", pictures, alike, "") if "similarity" in pictures else None,
    ]


def _crosscoder(report: ReportInput, pictures: Mapping[str, str]) -> list[Child]:
    rows = [
        [
            row.revision,
            numeric(row.fve, 3),
            numeric(row.ce_clean, 3),
            numeric(row.ce_spliced, 3),
            numeric(row.ce_recovered, 3),
            numeric(row.l0, 1),
        ]
        for row in report.evaluation.itertuples()
    ]
    columns = [
        "checkpoint",
        "variance explained",
        "cross-entropy, clean (nats)",
        "cross-entropy, spliced (nats)",
        "loss recovered",
        "active features per token",
    ]
    caption = "How faithful the crosscoder is to each checkpoint, on held-out text"
    return [
        _text(
            "One sparse dictionary is shared by the checkpoints ",
            element("strong", ", ".join(report.compared)),
            "; each has its own encoder and decoder. A feature's decoder norm at a checkpoint is how strongly the "
            "dictionary writes it there.",
        ),
        table(columns, rows, caption=caption) if rows else _nothing("The crosscoder was not evaluated."),
        _figure("training", pictures, "Training of the crosscoder.", "No training curves were kept."),
    ]


def _effects(report: ReportInput, pictures: Mapping[str, str]) -> list[Child]:
    caption = (
        "Indirect effect of each selected feature at each compared checkpoint. Coloured: the strongest, with "
        "their intervals; grey: the others; dashed: the crosscoder's error term."
    )
    error = report.effects[report.effects["feature"] == ERROR_TERM]
    decimals = decimals_for(error["ie"])
    rows = [
        [
            row.task,
            row.revision,
            Cell(with_interval(row.ie, row.low, row.high, decimals), row.ie),
        ]
        for row in error.itertuples()
    ]
    return [
        _text(
            "The indirect effect (IE) of a feature is how much the metric would change if the feature took its "
            "baseline value and all else stayed. Far from zero, the feature matters to the answer. The error term "
            "is what the crosscoder does not explain. A click on a feature in a chart shows its card."
        ),
        _figure("effects", pictures, caption, "No indirect effects were measured."),
        element("p", note, class_="none") if (note := strongest_note(report)) else None,
        table(["task", "checkpoint", "IE"], rows, caption="Indirect effect of the error term") if rows else None,
    ]


def _temporal(report: ReportInput, pictures: Mapping[str, str]) -> list[Child]:
    which = f"of {report.compared[-1]}" if len(report.compared) <= 2 else "of each checkpoint"
    caption = (
        f"RelIE against RelDec {which}: below {ABSENT_BELOW} the feature is absent from the checkpoint, above "
        f"{SPECIFIC_ABOVE} specific to it. Bars are intervals of RelIE."
    )
    lacking = report.temporal[report.temporal[["relie", "reldec"]].isna().any(axis=1)]
    n = len(lacking[["task", "feature"]].drop_duplicates())
    left_out: Markup | None = None
    if n and "temporal" in pictures:
        pairs = "One pair of feature and task has" if n == 1 else f"{n} pairs of feature and task have"
        left_out = _nothing(f"{pairs} an undefined value at some checkpoint, and no point there.")
    tasks = in_order(report.classes["task"])
    crossed = [
        agreement(report.classes[report.classes["task"] == task], report.compared, f"Classes on {task}")
        for task in tasks
    ]
    return [
        _text(
            "RelIE is a checkpoint's share of a feature's |IE|: ",
            element("code", "|IE_c| / Σ |IE|"),
            ". RelDec is the same share of its decoder norms. Where the two disagree, the dictionary's geometry does "
            "not tell when the feature is used. A share of nothing (0/0) is ",
            element("em", UNDEFINED),
            ".",
        ),
        _figure("shares", pictures, _SHARES, "No feature has a RelIE."),
        _figure("ternary", pictures, _TERNARY, "") if "ternary" in pictures else None,
        _figure("temporal", pictures, caption, "No feature has both a RelIE and a RelDec."),
        left_out,
        element("h3", "Classes"),
        element("div", crossed, class_="beside") if crossed else _nothing("No feature was classed."),
        _text("Each cell counts features; outlined cells are those where RelIE and RelDec agree.") if crossed else None,
    ]


def _life_cycles(report: ReportInput) -> Markup | None:
    """Life cycles down, what they were told by across; a life cycle that no feature has is left out."""
    found = report.life_cycles[report.life_cycles["count"] > 0]
    if found.empty:
        return None
    sources = in_order(found["source"])
    shares = {
        (cycle, source): Cell(f"{n:,.0f}: {with_interval(share, low, high, 2)}", share)
        for source, cycle, n, share, low, high in found.itertuples(index=False, name=None)
    }
    nothing = Cell("\u00b7", 0.0)
    rows = [
        [cycle, *(shares.get((cycle, source), nothing) for source in sources)]
        for cycle in in_order(found["life_cycle"])
    ]
    return table(["life cycle", *sources], rows, caption="Features of each life cycle: how many, and their share")


def _decoders(report: ReportInput, pictures: Mapping[str, str]) -> list[Child]:
    norms = (
        "Decoder norm of each feature at each compared checkpoint, on the scale of training. Coloured as among the "
        "indirect effects; grey: the others."
    )
    rotation = "Mean cosine of the features' decoder directions at two checkpoints: 1 where none has turned."
    steps = (
        "How far the features that are present at both turn from one checkpoint to the next, on average, and how many "
        "dimensions of the space the features of a checkpoint fill."
    )
    lives = "Share of features with each life: by decoder norm of all features, by effect of those selected on a task."
    return [
        _text(
            "A decoder that grows is a feature that the model comes to write; one that turns comes to mean "
            "something else."
        ),
        _figure("norms", pictures, norms, "No decoder norms were kept."),
        _figure("rotation", pictures, rotation, "") if "rotation" in pictures else None,
        _figure("decoder-steps", pictures, steps, "") if "decoder-steps" in pictures else None,
        _figure("lives", pictures, lives, "") if "lives" in pictures else None,
        _life_cycles(report),
    ]


def _ablation(report: ReportInput, pictures: Mapping[str, str]) -> list[Child]:
    caption = (
        "Change in accuracy when features are ablated: sets and random sets of the same size first, then single "
        "features by the size of the change."
    )
    frame = report.ablation
    logit = decimals_for(frame["logit_difference_change"])
    rows = [
        [
            Cell(_ablated(row.features, row.kind)),
            row.kind,
            row.task,
            row.revision,
            numeric(row.accuracy, 3),
            numeric(row.accuracy_change, 3, sign=True),
            numeric(row.logit_difference, logit),
            numeric(row.logit_difference_change, logit, sign=True),
        ]
        for row in _sets_first(frame).itertuples()
    ]
    columns = ["ablated", "kind", "task", "checkpoint", "accuracy", "change"]
    columns += ["logit difference", "change in logit difference"]
    listed = table(columns, rows, caption="Ablations", id_="ablation-table", sortable=True)
    kept = (
        "Left: share of the task's metric that is kept when only the top n features and the error term stay; "
        "right: share that is left when these n are taken away. Bands are intervals over prompts; where "
        f"one is wider than {UNTOLD:g}, as at a checkpoint that does not do the task, nothing is drawn."
    )
    return [
        _figure("ablation", pictures, caption, "Nothing was ablated."),
        _figure("faithfulness", pictures, kept, "") if "faithfulness" in pictures else None,
        element("details", element("summary", f"All {len(rows)} ablations as a table"), listed)
        if len(rows) > 12
        else listed
        if rows
        else None,
    ]


def _lives(report: ReportInput) -> list[Child]:
    return [
        _text(
            "By its effect on a task a feature is present where it reaches 3/7 of its maximum. Support is the share of "
            "resamples of the prompts in which it has the same life."
        ),
        lives_table(report.lives),
    ]


def _dips(report: ReportInput) -> list[Child]:
    tables: list[Child] = []
    for (task, at, other), rows in report.dips.groupby(["dip", "at", "other"], sort=False):
        accuracy = decimals_for(rows["accuracy"])
        logit = decimals_for(rows["logit_difference_change"])
        listed = [
            [
                row.group,
                numeric(row.n, 0),
                row.task,
                row.revision,
                numeric(row.accuracy, accuracy),
                numeric(row.accuracy_change, accuracy, sign=True),
                Cell(with_interval(row.logit_difference_change, row.low, row.high, logit), row.logit_difference_change),
                numeric(row.p, 3),
            ]
            for row in rows.itertuples()
        ]
        columns = ["without", "features", "task", "checkpoint", "accuracy", "change", "change in logit difference", "p"]
        tables.append(table(columns, listed, caption=f"The dip on {task} at {at}, beside {other}"))
    return [
        _text(
            "Where a task does worse at one checkpoint than at others, features that matter there and hardly elsewhere "
            "may be what it suffers from: those that do harm are taken away together, on prompts that were not used to "
            "choose them. Controls are sets of as many other features: matched ones add as much to the activation, "
            "random ones are any that fire. Their intervals are over draws; p is the share of matched draws that do as "
            "much or more."
        ),
        *tables,
    ]


def _ablated(features: str, kind: str) -> Markup | str:
    if kind == "single" and features.isdecimal():
        return feature_link(int(features))
    return ablated_name(features, kind)


def _sets_first(ablation: pd.DataFrame) -> pd.DataFrame:
    order = {"set": 0, "random": 1}
    return ablation.assign(place=[order.get(kind, 2) for kind in ablation["kind"]]).sort_values("place", kind="stable")
