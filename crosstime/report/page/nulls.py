"""The section about null models: what the same pipeline claims where there is nothing to find."""

from __future__ import annotations

import pandas as pd

from crosstime.report.about_models import about_models
from crosstime.report.expected_under_null import expected_number
from crosstime.report.numbers import with_interval
from crosstime.report.page.markup import Child, element
from crosstime.report.page.tables import Cell, table
from crosstime.report.rows import rows

_WORDS = {
    "same-checkpoint": "every compared checkpoint is one and the same checkpoint: no feature can come, go, or belong "
    "to some of them",
    "same-checkpoint-noise": "every compared checkpoint is one and the same checkpoint, whose activations on "
    "text get noise of the size of the error term, drawn independently under each name",
    "permuted-tokens": "the tokens of training batches and of held-out text are permuted independently at each "
    "checkpoint: no feature can belong to several of them",
    "random-weights": "the weights of each checkpoint are random numbers of the same mean and norm: nothing "
    "was learned",
    "frozen-encoder": "the encoder of the crosscoder stays as it was initialised",
    "frozen-decoder": "the decoder of the crosscoder stays as it was initialised",
}
"""What each null model changes."""


def nulls_section(nulls: pd.DataFrame, *, ordered: bool = True) -> list[Child]:
    """Return the section: what each null model is, and for each claim the expected number beside that of the run.

    Args:
        nulls: the table of null models, see `crosstime.report.columns`.
        ordered: whether the checkpoints are points of one training, rather than models side by side.
    """
    introduction = (
        "The stages of this run were repeated under null models, with the same sizes and seeds. Expected is the "
        "number of features that would have a class or a life cycle at the rate of the null model, with the interval "
        "of that rate, which is wider where trainings differ; from one training it leaves out how much they do. Where "
        "the claim is false by construction under the null model, expected / observed is its false-discovery rate "
        "(FDR). It supposes that none of the run's claims is true, and that a dictionary errs as often on checkpoints "
        "that differ. The other null models say how much is claimed where nothing was learned. Decoder norms and "
        "RelDec count the features that fire on held-out text, the test of presence and effects those that were chosen "
        "by their effects."
    )
    kinds = [
        element("li", element("em", kind), _words(f": {_WORDS.get(kind, '')}.", ordered=ordered))
        for kind in dict.fromkeys(nulls["null"].tolist())
    ]

    # One row for each claim that the run or the null model makes
    cells: list[list[Cell | str]] = []
    for row in rows(nulls[(nulls["count"] > 0) | (nulls["null_count"] > 0)]):
        observed, n = row.number("count"), row.number("n")
        is_false = row.text("false").lower() == "true"
        expected = expected_number(row.number("expected"), row.number("low"), row.number("high"))
        ratio = with_interval(row.number("fdr"), row.number("fdr_low"), row.number("fdr_high"), 2)
        cells.append(
            [
                row.text("null"),
                row.text("source"),
                row.text("claim"),
                Cell(f"{observed:,.0f} of {n:,.0f}", observed),
                Cell(expected, row.number("expected")),
                Cell(ratio if is_false else "–", row.number("fdr") if is_false else float("nan")),
            ]
        )
    columns = ["null model", "by", "claim", "observed", "expected", "FDR"]
    caption = _words("Classes, life cycles and explained dips under null models", ordered=ordered)
    return [
        element("p", _words(introduction, ordered=ordered)),
        element("ul", kinds),
        table(columns, cells, caption=caption, id_="null-table", sortable=True),
    ]


def _words(text: str, *, ordered: bool) -> str:
    return text if ordered else about_models(text)
