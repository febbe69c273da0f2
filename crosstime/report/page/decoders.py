"""The section about decoders: their norms, how they turn, when features emerge, and what lives they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosstime.report.columns import PRESENCE_TEST, distinct
from crosstime.report.expected_under_null import expected_words
from crosstime.report.numbers import with_interval
from crosstime.report.page.figures import Pictures, figure, optional_figure
from crosstime.report.page.markup import Child, Markup, element
from crosstime.report.page.tables import Cell, table
from crosstime.report.rows import rows

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput


NO_NORMS = "No decoder norms were kept."


def decoders_section(report: ReportInput, pictures: Pictures) -> list[Child]:
    """Return the charts of decoders and the table of life cycles.

    Args:
        report: the checked tables.
        pictures: picture of each chart, by name.
    """
    captions = decoder_captions(report)
    introduction = (
        "Where a feature's decoder norm grows from one checkpoint to the next, the model begins to write the feature; "
        "where its decoder direction turns, the model writes something else for it."
    )
    if not report.ordered:
        introduction = "A decoder norm that is larger in one model is a feature that this model writes more strongly; "
        introduction += "where the directions differ, the models write different things for it."
    return [
        element("p", introduction),
        # The norms may be at the head of the page
        None if report.begins_with_norms else figure("norms", pictures, captions["norms"], NO_NORMS),
        *(optional_figure(name, pictures, captions[name]) for name in ("rotation", "decoder-steps", "onsets", "lives")),
        _life_cycles(report),
    ]


def decoder_captions(report: ReportInput) -> dict[str, str]:
    """Return the caption of each chart of the section."""
    coloured = "Coloured: the largest" if report.rows else "Coloured as among the indirect effects"
    norms = report.words(
        f"Decoder norm of each feature at each compared checkpoint, on the scale of training. {coloured}; grey: the "
        "others."
    )
    rotation = report.words(
        "Mean cosine of the features' decoder directions at two checkpoints: 1 where none has turned."
    )
    steps = report.words(
        "How far the features that are present at both turn from one checkpoint to the next, on average, and how many "
        "dimensions of the space the features of a checkpoint fill."
    )
    onsets = "Number of features that are first present at each checkpoint, their onset, by what they respond to."
    lives = "Share of features with each life: by decoder norm of all features, by effect of those selected on a task."
    if report.rows:
        onsets = "Number of features that are first present at each checkpoint, their onset."
        lives = "Share of features with each life, by decoder norm."
    if not report.ordered:
        lives = "Share of features that are specific to a model, or shared: by decoder norm of all features, by effect "
        lives += "of those selected on a task."
        steps = "How many dimensions of the space the features of each model fill."
        if report.rows:
            lives = "Share of features that are specific to a model, or shared, by decoder norm."
    if PRESENCE_TEST in set(report.life_cycles["source"]):
        lives += " The test of presence on held-out text asks whether a selected feature is there, however weak."
    return {"norms": norms, "rotation": rotation, "decoder-steps": steps, "onsets": onsets, "lives": lives}


def _life_cycles(report: ReportInput) -> Markup | None:
    """Return a table with a row per life cycle that occurs and a column per source; None if no feature has one."""
    occurring = report.life_cycles[report.life_cycles["count"] > 0]
    if occurring.empty:
        return None
    shares: dict[tuple[str, str], Cell] = {}
    for row in rows(occurring):
        share = with_interval(row.number("share"), row.number("low"), row.number("high"), 2)
        words = expected_words(report.nulls, row.text("source"), row.text("life_cycle"))
        cell = Cell("; ".join(filter(None, [f"{row.number('count'):,.0f}: {share}", words])), row.number("share"))
        shares[row.text("life_cycle"), row.text("source")] = cell

    sources = distinct(occurring["source"])
    none = Cell("\u00b7", 0.0)
    cells: list[list[Cell | str]] = [
        [life_cycle, *(shares.get((life_cycle, source), none) for source in sources)]
        for life_cycle in distinct(occurring["life_cycle"])
    ]
    caption = report.words("Features of each life cycle: how many, and their share")
    return table([report.words("life cycle"), *sources], cells, caption=caption)
