"""Descriptions of features by people: sheets to fill in, read back strictly, and joined to any table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from crosstime.errors import AnnotationError
from crosstime.features.annotation_page import annotation_page
from crosstime.features.kappa import cohens_kappa
from crosstime.machine.storage import atomic_path, read_table, write_table
from crosstime.report.page.context import Context
from interventions import Bootstrap
from user_input.nearest import nearest

COLUMNS = ("feature", "description", "complexity", "interpretable", "note")
INTERPRETABLE = ("yes", "partly", "no")
LEAST_COMPLEX, MOST_COMPLEX = 1, 5

_REPORT_COLUMNS = {"label": "description", "rating": "interpretable"}
"""Columns of the report's own export, and their names here."""
_REPORT_RATINGS = {"clear": "yes", "mixed": "partly", "unclear": "no"}
"""Ratings of the report's own export, and their names here."""


def export_annotation_sheet(
    folder: str | Path,
    contexts: Mapping[int, Sequence[Context]],
    facts: pd.DataFrame | None = None,
    *,
    title: str = "Features to annotate",
) -> tuple[Path, Path]:
    """Write ``annotations.csv``, a sheet to fill in, and ``annotations.html``, a page with the features' contexts.

    The sheet has a row for each feature and the columns of `COLUMNS`: a description in a few words, complexity from 1
    (a token) to 5 (a thought), interpretable (yes, partly, no), and a note. All but the feature's number are empty.

    Args:
        folder: of the two files; it is created if it does not exist. An existing sheet is not overwritten.
        contexts: for each feature the prompts and texts on which it fires most, see `crosstime.features.contexts`.
        facts: a table with a column feature, whose other columns are shown on the page, such as
            ``evolve(...)["facts"]``.
        title: of the page.

    Returns:
        The paths of the sheet and of the page.

    Raises:
        AnnotationError: there is no feature, or the sheet exists already.

    Examples:
        >>> export_annotation_sheet("annotations", contexts, tables["facts"])  # doctest: +SKIP
    """
    if not contexts:
        raise AnnotationError("There are no features to annotate.")
    sheet, page = Path(folder) / "annotations.csv", Path(folder) / "annotations.html"
    if sheet.exists():
        raise AnnotationError(f"{sheet} is there already and may have been filled in: move it away first.")

    text = annotation_page(contexts, facts, title=title)
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    empty = dict.fromkeys(COLUMNS[1:], "")
    write_table(sheet, pd.DataFrame([{"feature": feature} | empty for feature in contexts], columns=list(COLUMNS)))
    return sheet, page


def read_annotations(path: str | Path, features: Sequence[int]) -> pd.DataFrame:
    """Read a sheet that was filled in. Rows without any entry are left out, and rows that fit no feature are rejected.

    The report's own export, with the columns feature, label, note and rating (clear, mixed, unclear), is read too.

    Args:
        path: of the CSV file.
        features: the features that may be annotated.

    Returns:
        One row for each annotated feature: feature, description, complexity (NaN where empty), interpretable (yes,
        partly, no, or empty) and note, in the order of the sheet.

    Raises:
        AnnotationError: a column is missing or unknown, a feature is unknown or occurs twice, a complexity is not a
            number from 1 to 5, or interpretable is another word; the message names the row.
        RunError: the file is missing or not a table.

    Examples:
        >>> notes = read_annotations("annotations/annotations.csv", tables["facts"].feature)  # doctest: +SKIP
    """
    # Read every cell as text, since a description may look like a number, or like "NA"
    dtypes = dict.fromkeys((*COLUMNS, *_REPORT_COLUMNS), str)
    raw = read_table(path, dtypes=dtypes).rename(columns=_REPORT_COLUMNS)
    for column in raw:
        if column not in COLUMNS:
            known_columns = (*COLUMNS, *_REPORT_COLUMNS)
            raise AnnotationError(f"{path} has a column {column!r}: {nearest(str(column), known_columns)}")
    if "feature" not in raw or raw.columns.duplicated().any():
        raise AnnotationError(f"{path} needs one column feature, and every column once.")

    # Check row by row
    allowed = {int(feature) for feature in features}
    records = raw.reindex(columns=list(COLUMNS)).astype(object).fillna("").to_dict("records")
    rows: dict[int, dict[str, object]] = {}
    for line, record in enumerate(records, start=2):
        cells = {str(column): plain_cell(str(cell)).strip() for column, cell in record.items()}
        location = f"{path}, line {line}"
        feature = _parse_feature(cells.pop("feature"), allowed, location)
        if feature in rows:
            raise AnnotationError(f"{location}: feature {feature} is there twice.")
        rows[feature] = {"feature": feature} | _parse_row(cells, location)

    # Leave out the features that nobody annotated
    annotated = [row for row in rows.values() if any(row[column] not in ("", None) for column in COLUMNS[1:])]
    table = pd.DataFrame(annotated, columns=list(COLUMNS))
    return table.astype({"feature": "int64", "complexity": "float64"})


def annotate(table: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Join annotations to any table with a column feature; features without annotation get empty cells.

    Args:
        table: such as those of `evolve` or `Attribution.table`.
        annotations: as `read_annotations` returns them.

    Raises:
        AnnotationError: the table has no column feature, has other columns of the annotations' names, or lacks an
            annotated feature.

    Examples:
        >>> table = pd.DataFrame({"feature": [3, 5], "ie": [0.1, 0.2]})
        >>> notes = pd.DataFrame({"feature": [5], "description": ["plural"]})
        >>> annotate(table, notes).description.tolist()
        [nan, 'plural']
    """
    for name, frame in (("table", table), ("annotations", annotations)):
        if "feature" not in frame:
            raise AnnotationError(f"The {name} to be joined has no column feature.")
    if shared := sorted({str(name) for name in table} & {str(name) for name in annotations} - {"feature"}):
        raise AnnotationError(f"The table has a column {shared[0]!r} already.")
    if missing := sorted(set(annotations.feature) - set(table.feature)):
        raise AnnotationError(f"Feature {missing[0]} is annotated, but the table does not have it.")
    return table.merge(annotations, on="feature", how="left", validate="many_to_one")


def annotator_agreement(
    first: pd.DataFrame, second: pd.DataFrame, *, bootstrap: Bootstrap = Bootstrap(resamples=2_000)
) -> pd.DataFrame:
    """Agreement of two annotators on the features that both annotated: Cohen's kappa, with intervals over features.

    Args:
        first, second: as `read_annotations` returns them.
        bootstrap: of the intervals.

    Returns:
        One row for interpretable and one for complexity: column, n (features), agreement, kappa, low, high; NaN where n
        is 0.

    Raises:
        AnnotationError: the annotators have no feature in common.

    Examples:
        >>> first, second = (read_annotations(path, features) for path in ("a.csv", "b.csv"))  # doctest: +SKIP
        >>> annotator_agreement(first, second)  # doctest: +SKIP
    """
    common = first.merge(second, on="feature", suffixes=("_first", "_second"))
    if common.empty:
        raise AnnotationError("The two annotators have no feature in common.")

    rows = []
    for column in ("interpretable", "complexity"):
        labels = common[[f"{column}_first", f"{column}_second"]]
        labels = labels[(labels.notna() & (labels != "")).all(axis=1)]
        row = {"column": column, "n": len(labels)} | dict.fromkeys(("agreement", "kappa", "low", "high"), float("nan"))
        if len(labels):
            kappa = cohens_kappa(*(labels[name].tolist() for name in labels), bootstrap=bootstrap)
            row |= {"agreement": kappa.agreement, "kappa": kappa.kappa, "low": kappa.low, "high": kappa.high}
        rows.append(row)
    return pd.DataFrame(rows)


def plain_cell(text: str) -> str:
    """A cell without the apostrophe by which the report's export keeps a spreadsheet from computing it.

    Examples:
        >>> plain_cell("'=SUM(A1)"), plain_cell("'s"), plain_cell("x")
        ('=SUM(A1)', "'s", 'x')
    """
    return text[1:] if re.match(r"'+[=+\-@\t\r]", text) else text


def _parse_feature(text: str, allowed: set[int], location: str) -> int:
    """The number of a feature, or an error that names the row."""
    # Spreadsheets like to write whole numbers as 12.0, and the report names feature 12 as f12.
    digits = text.removeprefix("f").removesuffix(".0")
    if not digits.isdecimal() or len(digits) > 18 or int(digits) not in allowed:
        raise AnnotationError(
            f"{location}: there is no feature {text[:60]!r} among the {len(allowed)} that can be annotated."
        )
    return int(digits)


def _parse_row(cells: dict[str, str], location: str) -> dict[str, object]:
    """The annotation of a row, or an error that names the row."""
    rating = _REPORT_RATINGS.get(cells["interpretable"].lower(), cells["interpretable"].lower())
    if rating not in ("", *INTERPRETABLE):
        raise AnnotationError(
            f"{location}: interpretable is {', '.join(INTERPRETABLE)} or empty, not {cells['interpretable']!r}."
        )
    complexity = None
    if cells["complexity"]:
        try:
            complexity = float(cells["complexity"])
        except ValueError:
            complexity = float("nan")
        if not LEAST_COMPLEX <= complexity <= MOST_COMPLEX:
            raise AnnotationError(
                f"{location}: complexity is a number from {LEAST_COMPLEX} to {MOST_COMPLEX}, not "
                f"{cells['complexity']!r}."
            )
    return cells | {"interpretable": rating, "complexity": complexity}
