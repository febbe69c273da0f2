"""Results at a prompt and in a notebook: short, whole, and never markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest

import crosstime as ct
from crosstime.crosscoders.decompose import decompose_text
from crosstime.display import MAX_ROWS, Display, html_table
from crosstime.suites.text_sample import TextSample
from interventions import Estimator
from tasks.agreement import sentences

NASTY = "<script>alert(1)</script>"


class Parsed(HTMLParser):
    """The elements and texts of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Comparison(Display):
    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def headline(self) -> str:
        return f"found {NASTY} & more"

    def tables(self) -> dict[str, pd.DataFrame]:
        return {f"of {NASTY}": self.table}


def test_text_of_any_kind_is_text():
    result = Comparison(pd.DataFrame({f"name {NASTY}": [NASTY, "b"]}))
    page = Parsed(result._repr_html_())
    assert page.open == []
    assert "script" not in page.tags
    assert "".join(page.texts).count(NASTY) == 4
    assert repr(result) == f"Comparison: found {NASTY} & more"


def test_a_long_table_is_cut_and_says_how_long_it_is():
    page = Parsed(html_table(pd.DataFrame({"n": range(40)}), "numbers"))
    assert page.texts[0] == f"numbers (the first {MAX_ROWS} of 40 rows)"
    assert page.tags.count("tr") == MAX_ROWS + 1
    assert Parsed(html_table(pd.DataFrame({"n": range(MAX_ROWS)}), "numbers")).texts[0] == "numbers"


def test_numbers_of_a_column_line_up_and_missing_ones_are_dashes():
    table = pd.DataFrame(
        {
            "share": [0.5, float("nan"), 0.123456],
            "count": [1000, 2, 3],
            "seen": pd.array([5, None, 7], dtype="Int64"),
            "right": [True, False, True],
            "name": ["a", None, "c"],
        }
    )
    cells = Parsed(html_table(table, "c")).texts[1 + len(table.columns) :]
    assert cells == [
        *("0.500", "1,000", "5", "True", "a"),
        *("–", "2", "–", "False", "–"),
        *("0.123", "3", "7", "True", "c"),
    ]


def test_an_empty_table_has_its_head():
    page = Parsed(html_table(pd.DataFrame(columns=["a", "b"]), "nothing"))
    assert page.texts == ["nothing", "a", "b"]


@pytest.fixture(scope="module")
def results(learning_suite, learning_crosscoder, tmp_path_factory) -> dict[str, Display]:
    suite, crosscoder = learning_suite, learning_crosscoder
    text = list(sentences(300, seed=2))
    task = ct.tasks.load("agreement/simple", limit=10)
    decomposed = ct.decompose_task(suite, crosscoder, task)
    alike = ct.similarity(suite, ct.Site(0), text, TextSample(4, 8))
    config = ct.L1Config(n_features=8, steps=4)
    data = ct.DataConfig(batch_size=32, sequence_length=8)
    folder = tmp_path_factory.mktemp("store") / "store"
    return {
        "suite": suite,
        "crosscoder": crosscoder,
        "decomposed": decomposed,
        "attribution": ct.attribute(suite, crosscoder, decomposed, Estimator(steps=2)),
        "choice": ct.select(2, similarity=alike),
        "trained": ct.train(suite, ct.Site(0), text, config, data=data),
        "text": decompose_text(suite, crosscoder, text, sample=TextSample(4, 8)),
        "store": ct.harvest(suite, ct.Site(0), text, folder, tokens=64, sequence_length=8),
    }


def test_every_result_says_in_a_line_what_it_is(results: dict[str, Display]):
    for name, result in results.items():
        assert isinstance(result, Display), name
        line = repr(result)
        assert line.startswith(f"{type(result).__name__}: ")
        assert "\n" not in line
        assert len(line) < 400
        assert "tensor(" not in line


def test_every_result_has_its_line_and_its_tables_in_a_notebook(results: dict[str, Display]):
    for name, result in results.items():
        page = Parsed(result._repr_html_())
        assert page.open == [], name
        assert result.headline() in "".join(page.texts)
        assert page.tags.count("table") == len(result.tables()), name
    assert "step10" in repr(results["suite"])
    assert "24 features, relu, of mine at resid.0" in repr(results["crosscoder"])
    assert "class_ie" in results["attribution"]._repr_html_()
    assert "10 prompts of agreement/simple" in repr(results["decomposed"])
