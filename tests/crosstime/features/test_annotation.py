from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from crosstime.errors import AnnotationError, RunError
from crosstime.features.annotation import (
    COLUMNS,
    annotate,
    annotator_agreement,
    export_annotation_sheet,
    read_annotations,
)
from crosstime.features.annotation_page import annotation_page
from crosstime.report.page.context import Context

CONTEXTS = {
    3: [Context("agreement", ("the", " authors"), (0.0, 2.5), " are", " is", "plural")],
    17: [Context("corpus.txt", ("<b>", "\n", " x"), (1.0, 0.5, 0.25))],
}
FACTS = pd.DataFrame({"feature": [17, 3], "onset": ["step64", "main"], "rotation": [12.3456, float("nan")]})


def sheet(folder: Path, text: str) -> Path:
    path = folder / "filled.csv"
    path.write_text(text, encoding="utf-8")
    return path


class Texts(HTMLParser):
    """All text of a page, and the tags in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_sheet_has_a_row_for_each_feature_and_the_page_its_contexts(tmp_path):
    path, page = export_annotation_sheet(tmp_path / "new", CONTEXTS, FACTS)
    table = pd.read_csv(path)
    assert tuple(table.columns) == COLUMNS
    assert table.feature.tolist() == [3, 17]
    assert table.drop(columns="feature").isna().all().all()
    texts = Texts()
    texts.feed(page.read_text(encoding="utf-8"))
    assert texts.tags.count("h2") == 2
    assert "the authors are / is" in texts.text
    assert "step64" in texts.text
    assert "12.3" in texts.text
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["annotations.csv", "annotations.html"]


def test_text_of_tokens_is_never_markup():
    page = annotation_page(CONTEXTS, title="a <i> & b")
    assert "&lt;b&gt;" in page
    assert "a &lt;i&gt; &amp; b" in page
    assert "<b>" not in page


def test_a_sheet_that_is_there_is_not_overwritten(tmp_path):
    path, _ = export_annotation_sheet(tmp_path, CONTEXTS)
    before = path.read_bytes()
    with pytest.raises(AnnotationError, match="is there already"):
        export_annotation_sheet(tmp_path, {5: []})
    assert path.read_bytes() == before
    with pytest.raises(AnnotationError, match="no features to annotate"):
        export_annotation_sheet(tmp_path / "other", {})
    assert not (tmp_path / "other").exists()


def test_a_filled_sheet_is_read_back_and_empty_rows_are_left_out(tmp_path):
    text = 'feature,description,complexity,interpretable,note\n3,"plural, nouns",2,Yes,\n17,,,,\n4.0,NA,,no,"a\nb"\n'
    annotations = read_annotations(sheet(tmp_path, text), [3, 4, 17])
    assert annotations.feature.tolist() == [3, 4]
    assert annotations.description.tolist() == ["plural, nouns", "NA"]
    assert annotations.complexity[0] == 2
    assert math.isnan(annotations.complexity[1])
    assert annotations.interpretable.tolist() == ["yes", "no"]
    assert annotations.note.tolist() == ["", "a\nb"]


def test_the_reports_export_is_read_too(tmp_path):
    annotations = read_annotations(
        sheet(tmp_path, "feature,label,note,rating\r\nf3,plural,see,clear\r\n17,odd,,mixed\r\n"), [3, 17]
    )
    assert annotations.description.tolist() == ["plural", "odd"]
    assert annotations.interpretable.tolist() == ["yes", "partly"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("feature,description\n5,x\n", "line 2: there is no feature '5' among the 2"),
        ("feature,description\n3,x\n3,y\n", "line 3: feature 3 is there twice"),
        ("feature,complexity\n3,9\n", "complexity is a number from 1 to 5, not '9'"),
        ("feature,complexity\n3,high\n", "not 'high'"),
        ("feature,interpretable\n3,perhaps\n", "interpretable is yes, partly, no or empty, not 'perhaps'"),
        ("feature,descripton\n3,x\n", "column 'descripton': did you mean 'description'"),
        ("description\nx\n", "needs one column feature"),
        ("feature,label,description\n3,x,y\n", "every column once"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, text: str, sentence: str):
    with pytest.raises(AnnotationError, match=sentence):
        read_annotations(sheet(tmp_path, text), [3, 17])


def test_a_missing_sheet_is_said(tmp_path):
    with pytest.raises(RunError, match="there is no CSV table"):
        read_annotations(tmp_path / "none.csv", [3])


def test_annotations_join_every_row_of_a_feature_and_strangers_are_refused():
    table = pd.DataFrame({"feature": [3, 3, 17], "ie": [0.1, 0.2, 0.3]})
    notes = pd.DataFrame({"feature": [3], "description": ["plural"], "complexity": [2.0]})
    joined = annotate(table, notes)
    assert joined.description.tolist()[:2] == ["plural", "plural"]
    assert joined.complexity.isna().tolist() == [False, False, True]
    assert joined.ie.tolist() == table.ie.tolist()
    with pytest.raises(AnnotationError, match="Feature 9 is annotated, but the table does not have it"):
        annotate(table, notes.assign(feature=9))
    with pytest.raises(AnnotationError, match="a column 'ie' already"):
        annotate(table, notes.assign(ie=1.0))
    with pytest.raises(AnnotationError, match="The table to be joined has no column feature"):
        annotate(table[["ie"]], notes)


def test_two_annotators_are_compared_on_what_both_filled_in():
    first = pd.DataFrame(
        {"feature": [1, 2, 3, 4], "interpretable": ["yes", "yes", "no", ""], "complexity": [1.0, 2.0, math.nan, 3.0]}
    )
    second = pd.DataFrame(
        {"feature": [4, 3, 2, 1], "interpretable": ["no", "no", "no", "yes"], "complexity": [math.nan, 1.0, 2.0, 2.0]}
    )
    table = annotator_agreement(first, second).set_index("column")
    assert table.n.to_dict() == {"interpretable": 3, "complexity": 2}
    assert table.agreement["interpretable"] == pytest.approx(2 / 3)
    assert table.kappa["interpretable"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert table.agreement["complexity"] == pytest.approx(0.5)
    with pytest.raises(AnnotationError, match="no feature in common"):
        annotator_agreement(first, second.assign(feature=[7, 8, 9, 10]))
