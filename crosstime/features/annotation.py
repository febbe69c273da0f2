"""What people say of features: sheets to fill in, read back strictly, joined to every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from crosstime.errors import AnnotationError
from crosstime.features.annotation_page import annotation_page
from crosstime.features.kappa import cohens_kappa
from crosstime.machine.storage import atomic_path, read_table, write_table
from crosstime.report.page.context import Context
from user_input.nearest import nearest

COLUMNS = ("feature", "description", "complexity", "interpretable", "note")
INTERPRETABLE = ("yes", "partly", "no")
LEAST_COMPLEX, MOST_COMPLEX = 1, 5

_REPORT = {"label": "description", "rating": "interpretable"}
_RATINGS = {"clear": "yes", "mixed": "partly", "unclear": "no"}
"""What the report's own export calls things."""


def export_annotation_sheet(
    folder: str | Path,
    contexts: Mapping[int, Sequence[Context]],
    facts: pd.DataFrame | None = None,
    *,
    title: str = "Features to annotate",
) -> tuple[Path, Path]:
    """Write ``annotations.csv``, to be filled in, and ``annotations.html``, where the features' contexts are shown.

    The sheet has a row for each feature with the columns of `COLUMNS`, empty but for the number: a description in a
    few words, complexity from 1 (a token) to 5 (a thought), interpretable (yes, partly, no), and a note.

    Args:
        folder: where both go; made if missing. A sheet that is there already is not overwritten.
        contexts: for each feature the prompts and texts on which it fires most, see `crosstime.features.contexts`.
        facts: a table with a column feature, shown beside each, such as ``evolve(...)["facts"]``.
        title: of the page.

    Returns:
        The two paths.

    Raises:
        AnnotationError: there is no feature, or a sheet is there already.

    Examples:
        >>> export_annotation_sheet("annotations", contexts, tables["facts"])  # doctest: +SKIP
    """
    if not contexts:
        raise AnnotationError("There are no features to annotate.")
    sheet, page = Path(folder) / "annotations.csv", Path(folder) / "annotations.html"
    if sheet.exists():
        raise AnnotationError(f"{sheet} is there already and may have been filled in: move it away first.")
    text = annotation_page(contexts, facts, title=title)
    empty = dict.fromkeys(COLUMNS[1:], "")
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_table(sheet, pd.DataFrame([{"feature": feature} | empty for feature in contexts], columns=list(COLUMNS)))
    return sheet, page


def read_annotations(path: str | Path, features: Sequence[int]) -> pd.DataFrame:
    """Read a sheet back. Rows in which nothing was filled in are left out; rows that fit no feature are refused.

    The report's own export, with the columns feature, label, note and rating (clear, mixed, unclear), is read too.

    Args:
        path: the CSV file.
        features: those that may be in it.

    Returns:
        One row an annotated feature: feature, description, complexity (NaN where empty), interpretable (yes, partly,
        no, or empty) and note, in the order of the sheet.

    Raises:
        AnnotationError: a column that is missing or unknown, a feature that is unknown or there twice, a complexity
            that is no number from 1 to 5, another word for interpretable; the sentence names the row.
        RunError: the file is missing or no table.

    Examples:
        >>> notes = read_annotations("annotations/annotations.csv", tables["facts"].feature)  # doctest: +SKIP
    """
    # Text that looks like a number, or like "NA", is text all the same.
    raw = read_table(path, dtypes=dict.fromkeys((*COLUMNS, *_REPORT), str)).rename(columns=_REPORT)
    for column in raw:
        if column not in COLUMNS:
            raise AnnotationError(f"{path} has a column {column!r}: {nearest(str(column), (*COLUMNS, *_REPORT))}")
    if "feature" not in raw or raw.columns.duplicated().any():
        raise AnnotationError(f"{path} needs one column feature, and every column once.")
    known = {int(feature) for feature in features}
    rows: dict[int, dict[str, object]] = {}
    written = raw.reindex(columns=list(COLUMNS)).astype(object).fillna("").to_dict("records")
    for number, cells in enumerate(written, start=2):
        cells = {column: str(cell).strip() for column, cell in cells.items()}
        where = f"{path}, line {number}"
        feature = _feature(cells.pop("feature"), known, where)
        if feature in rows:
            raise AnnotationError(f"{where}: feature {feature} is there twice.")
        rows[feature] = {"feature": feature} | _row(cells, where)
    filled = [row for row in rows.values() if any(row[column] not in ("", None) for column in COLUMNS[1:])]
    table = pd.DataFrame(filled, columns=list(COLUMNS))
    return table.astype({"feature": "int64", "complexity": "float64"})


def annotate(table: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Join annotations to any table with a column feature; features without one get empty cells.

    Args:
        table: such as those of `evolve` or `Attribution.table`.
        annotations: as `read_annotations` gives them.

    Raises:
        AnnotationError: the table has no features, has columns of the same names, or annotations of features that are
            not in it.

    Examples:
        >>> table = pd.DataFrame({"feature": [3, 5], "ie": [0.1, 0.2]})
        >>> notes = pd.DataFrame({"feature": [5], "description": ["plural"]})
        >>> annotate(table, notes).description.tolist()
        [nan, 'plural']
    """
    for name, one in (("table", table), ("annotations", annotations)):
        if "feature" not in one:
            raise AnnotationError(f"The {name} to be joined has no column feature.")
    if twice := sorted(set(table) & set(annotations) - {"feature"}):
        raise AnnotationError(f"The table has a column {twice[0]!r} already.")
    if strangers := sorted(set(annotations.feature) - set(table.feature)):
        raise AnnotationError(f"Feature {strangers[0]} is annotated, but the table does not have it.")
    return table.merge(annotations, on="feature", how="left", validate="many_to_one")


def annotator_agreement(first: pd.DataFrame, second: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """How far two annotators agree on the features that both filled in: Cohen's kappa, with intervals over features.

    Args:
        first, second: as `read_annotations` gives them.
        seed: of the bootstrap.

    Returns:
        One row each for interpretable and complexity: column, n, agreement, kappa, low, high; NaN where n is 0.

    Raises:
        AnnotationError: they have no feature in common.

    Examples:
        >>> first, second = (read_annotations(path, features) for path in ("a.csv", "b.csv"))  # doctest: +SKIP
        >>> annotator_agreement(first, second)  # doctest: +SKIP
    """
    both = first.merge(second, on="feature", suffixes=("_first", "_second"))
    if both.empty:
        raise AnnotationError("The two annotators have no feature in common.")
    rows = []
    for column in ("interpretable", "complexity"):
        labels = both[[f"{column}_first", f"{column}_second"]]
        labels = labels[(labels.notna() & (labels != "")).all(axis=1)]
        row = {"column": column, "n": len(labels)} | dict.fromkeys(("agreement", "kappa", "low", "high"), float("nan"))
        if len(labels):
            found = cohens_kappa(*(labels[name].tolist() for name in labels), seed=seed)
            row |= {"agreement": found.agreement, "kappa": found.kappa, "low": found.low, "high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _feature(text: str, known: set[int], where: str) -> int:
    # Spreadsheets like to write whole numbers as 12.0, and the report names feature 12 as f12.
    digits = text.removeprefix("f").removesuffix(".0")
    if not digits.isdecimal() or len(digits) > 18 or int(digits) not in known:
        raise AnnotationError(
            f"{where}: there is no feature {text[:60]!r} among the {len(known)} that can be annotated."
        )
    return int(digits)


def _row(cells: dict[str, str], where: str) -> dict[str, object]:
    rating = _RATINGS.get(cells["interpretable"].lower(), cells["interpretable"].lower())
    if rating not in ("", *INTERPRETABLE):
        raise AnnotationError(
            f"{where}: interpretable is {', '.join(INTERPRETABLE)} or empty, not {cells['interpretable']!r}."
        )
    complexity = None
    if cells["complexity"]:
        try:
            complexity = float(cells["complexity"])
        except ValueError:
            complexity = float("nan")
        if not LEAST_COMPLEX <= complexity <= MOST_COMPLEX:
            raise AnnotationError(
                f"{where}: complexity is a number from {LEAST_COMPLEX} to {MOST_COMPLEX}, not {cells['complexity']!r}."
            )
    return cells | {"interpretable": rating, "complexity": complexity}
