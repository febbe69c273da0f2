"""The page: one file that loads nothing, escapes everything, and says what is missing in words."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_sample as sample

from crosstime.errors import ReportError
from crosstime.report.columns import COLUMNS
from crosstime.report.numbers import count, decimals_for, interval, number, with_interval
from crosstime.report.page.browser_data import browser_data
from crosstime.report.page.context import Context
from crosstime.report.page.markup import element, inline
from crosstime.report.page.render import render
from crosstime.report.page.report_input import ReportInput
from crosstime.report.page.tables import agreement
from crosstime.report.page.visible_parts import visible_parts
from crosstime.report.page.write_report import write_report


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and the text of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def json(self, id_: str) -> Any:
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == id_)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br", "wbr", "hr"):
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, code = self.scripts[-1]
            self.scripts[-1] = (attributes, code + data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert write_report(sample.sample(), folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_element_is_closed_and_ids_are_unique(page: Page) -> None:
    assert page.open == []
    ids = Counter(attributes["id"] for _, attributes in page.tags if attributes.get("id"))
    assert [name for name, times in ids.items() if times > 1] == []


def test_every_link_leads_to_an_anchor_of_the_page_and_every_feature_has_one(page: Page) -> None:
    anchors = {attributes.get("id") for _, attributes in page.tags}
    cards = {f"f{feature['id']}" for feature in page.json("feature-data")["features"]}
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert links
    assert all(link.startswith("#") and link[1:] in anchors | cards for link in links)
    assert cards == {f"f{feature}" for feature in sample.FEATURES}


def test_the_page_loads_nothing(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "srcset", "data", "action", "poster", "background"):
            value = attributes.get(name)
            assert value is None or re.match(r"data:image/(svg\+xml|png);base64,", value), (tag, name)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)


def test_the_policy_allows_exactly_the_scripts_that_are_there(page: Page) -> None:
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    code = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    hashes = {f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}" for text in code}
    assert set(re.findall(r"sha256-[\w+/=]+", policy)) == hashes
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_vega_is_embedded_once_and_the_file_is_small(page: Page, source: str) -> None:
    assert sum("window.vegaEmbed" in text for _, text in page.scripts) == 1
    assert sum(len(text) > 500_000 for _, text in page.scripts) == 1
    assert len(source.encode()) < 5_000_000


def test_no_text_of_the_data_becomes_markup(page: Page, source: str) -> None:
    assert sample.NASTY not in source
    assert len(page.scripts) == 4  # vega, the page's own, and the JSON of charts and features
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert sample.NASTY in "".join(page.text)
    tokens = {"".join(parts) for parts in page.json("feature-data")["strings"]}
    # Exactly as the tokens have it: the browser's script puts them in as text.
    assert {sample.NASTY, " &amp; <b>bold</b>", '"onmouseover="alert(1)'} <= tokens


def test_right_to_left_text_and_emoji_are_kept_whole_and_what_reorders_text_is_not(page: Page) -> None:
    tokens = {"".join(parts) for parts in page.json("feature-data")["strings"]}
    assert {*sample.PROMPTS[2], "\U0001f469\u200d\U0001f52c", " U+202Egnp.exe"} <= tokens
    assert "\u202e" not in "".join(tokens)


@pytest.mark.long
def test_the_features_of_a_large_report_are_packed_and_are_the_same(tmp_path: Path) -> None:
    report = sample.large(400)
    page = Page(write_report(report, tmp_path).read_text(encoding="utf-8"))
    (packed,) = [text for attributes, text in page.scripts if attributes.get("id") == "feature-data"]
    unpacked = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert unpacked == json.loads(json.dumps(browser_data(report)))
    assert len(unpacked["features"]) == 400
    assert len(packed) < len(json.dumps(unpacked)) / 2


def test_findings_stand_below_the_summary_and_dips_have_a_section(page: Page) -> None:
    page_text = "".join(page.text)
    assert sample.FINDING in page_text
    assert page_text.index("emerge by step 256") < page_text.index(sample.FINDING) < page_text.index("Overview")
    anchors = [attributes.get("id") for tag, attributes in page.tags if tag == "section"]
    assert anchors[-7:] == ["lives", "dips", "baselines", "stability", "nulls", "descriptions", "features"]
    assert f"The dip on {sample.TASKS[0]} at step256, beside main" in page_text
    assert "1.83 [1.51, 2.15]" in page_text
    assert f"emerges at main{len(sample.FEATURES[::3])} (0.35)" in page_text
    without = Page(render(sample.sample(dips=sample.dips().iloc[:0], lives=sample.lives().iloc[:0]), {}, {}))
    assert not {"dips", "lives"} & {attributes.get("id") for tag, attributes in without.tags if tag == "section"}


def test_missing_values_are_words_or_dashes_and_never_nan_or_a_half(page: Page) -> None:
    cells = [text.strip().lower() for text in page.text]
    assert "nan" not in cells
    assert not re.search(r"\bnan\b", " ".join(cells))
    assert "undefined" in cells
    assert "–" in cells


def test_every_chart_is_a_file_a_picture_and_a_specification(folder: Path, page: Page) -> None:
    names = {
        *("accuracy", "training", "effects", "shares", "ternary", "temporal", "norms", "rotation", "ablation"),
        *("faithfulness", "similarity", "decoder-steps", "lives", "onsets", "ngrams", "baselines", "complexity"),
    }
    files = {path.name: path.read_bytes() for path in (folder / "charts").iterdir()}
    assert set(files) == {f"{name}.{kind}" for name in names for kind in ("svg", "png", "pdf")}
    starts = {"svg": b"<svg", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF"}
    assert all(content.startswith(starts[name[-3:]]) for name, content in files.items())
    assert {attributes["data-chart"] for _, attributes in page.tags if "data-chart" in attributes} == names
    assert set(page.json("charts")) == names
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_scrolling_tables_are_reached_by_keyboard_and_named(page: Page) -> None:
    regions = [attributes for _, attributes in page.tags if "wide" in (attributes.get("class") or "").split()]
    assert regions
    assert all(a.get("tabindex") == "0" and a.get("role") == "region" and a.get("aria-label") for a in regions)


def test_a_report_is_the_same_twice(folder: Path, tmp_path: Path) -> None:
    again = write_report(sample.sample(), tmp_path)
    assert again.read_bytes() == (folder / "report.html").read_bytes()


def test_an_older_report_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    charts = tmp_path / "charts"
    charts.mkdir()
    (charts / "stale.svg").write_text("old")
    write_report(sample.sample(**{name: getattr(sample, name)().iloc[:0] for name in COLUMNS}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["charts", "report.html", "tables"]
    assert not (charts / "stale.svg").exists()


def test_empty_tables_give_sentences_instead_of_charts(tmp_path: Path) -> None:
    names = [*COLUMNS, "facts"]
    nothing = {name: getattr(sample, name)().iloc[:0] for name in names}
    path = write_report(sample.sample(**nothing, contexts={}), tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert not [attributes for _, attributes in page.tags if "data-chart" in attributes]
    assert list((tmp_path / "charts").iterdir()) == list((tmp_path / "tables").iterdir()) == []
    page_text = "".join(page.text)
    for sentence in (
        "No accuracy was measured.",
        "The crosscoder was not evaluated.",
        "No training curves were kept.",
        "No indirect effects were measured.",
        "No feature has a RelIE.",
        "No decoder norms were kept.",
        "No feature has both a RelIE and a RelDec.",
        "No feature was classed.",
        "Nothing was ablated.",
        "No feature was selected.",
    ):
        assert sentence in page_text
    assert len(page.scripts) == 3  # no vega for a page without charts


def test_tables_of_undefined_values_alone_make_a_page(tmp_path: Path) -> None:
    temporal, effects = sample.temporal(), sample.effects()
    for column in ("relie", "relie_low", "relie_high", "reldec"):
        temporal[column] = float("nan")
    effects[["ie", "low", "high"]] = float("nan")
    path = write_report(sample.sample(temporal=temporal, effects=effects), tmp_path)
    assert "No feature has both a RelIE and a RelDec." in path.read_text(encoding="utf-8")


def test_two_checkpoints_and_tables_read_back_from_csv_make_a_page(tmp_path: Path) -> None:
    compared = ("step64", "main")
    names = ("accuracy", "effects", "temporal", "classes", "ablation", "training", "evaluation")
    tables = {}
    for name in names:
        made = getattr(sample, name)
        frame = made() if name in ("accuracy", "training") else made(compared)
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        tables[name] = pd.read_csv(tmp_path / f"{name}.csv")
    report = sample.sample(compared, **tables)
    page_text = "".join(Page(write_report(report, tmp_path / "out").read_text(encoding="utf-8")).text)
    assert "RelIE against RelDec of main" in page_text


def test_a_report_without_a_column_or_without_checkpoints_is_refused_at_once() -> None:
    with pytest.raises(ReportError, match="temporal table of a report lacks the column 'reldec'"):
        sample.sample(temporal=sample.temporal().drop(columns="reldec"))
    with pytest.raises(ReportError, match="at least one"):
        sample.sample(())


def test_the_callers_tables_are_left_as_they_are() -> None:
    effects = sample.effects()
    effects["extra"] = 1
    report = sample.sample(effects=effects)
    assert isinstance(report, ReportInput)
    assert "extra" in effects
    assert "extra" not in report.effects


def test_whitespace_and_invisible_characters_can_be_seen() -> None:
    def shown(token: str) -> str:
        return "".join(visible_parts(token))

    assert [shown(token) for token in ("\n", "\t", " ", "  ", "", "\u00a0")] == ["↵", "⇥", "␣", "␣␣", "∅", "⍽"]
    assert shown(" is") == " is"
    assert shown("is ") == "is␣"
    assert shown("\u202ea\x00") == "U+202EaU+0000"
    assert visible_parts("a\nb\n\nc") == ["a", "↵", "b", "↵↵", "c"]


def test_a_context_needs_one_activation_and_one_effect_per_token() -> None:
    with pytest.raises(ReportError, match="2 tokens but 1 activations"):
        Context("agreement", ("a", "b"), (1.0,), " is", " are")
    with pytest.raises(ReportError, match="2 tokens but 3 effects at main"):
        Context("agreement", ("a", "b"), (1.0, 2.0), effects={"main": (0.0, 0.0, 0.0)})


def test_a_contexts_peak_ignores_what_is_not_a_number() -> None:
    context = Context("agreement", ("a", "b"), (float("nan"), 2.0), " is", " are")
    assert context.peak == 2.0
    report = sample.sample(contexts={7: [context]})
    (entry,) = (feature for feature in browser_data(report)["features"] if feature["id"] == 7)
    assert entry["contexts"][0]["activations"] == [None, 2]


def test_the_agreement_table_counts_like_a_loop_and_lists_classes_in_the_checkpoints_order() -> None:
    classes = sample.classes()
    classes = classes[classes["task"] == sample.TASKS[0]]
    rows = re.findall(r"<tr>(.*?)</tr>", agreement(classes, sample.COMPARED, "c"))
    names = re.findall(r">([^<>]+)</th>", rows[0])[1:-1]
    assert names[:3] == [f"{revision} only" for revision in sample.COMPARED]
    assert names[-1] == "undefined"
    for name, row in zip(names, rows[1:], strict=False):
        cells = re.findall(r">([^<>]+)</td>", row)
        for other, cell in zip(names, cells, strict=False):
            expected = sum((pair.class_ie, pair.class_dec) == (name, other) for pair in classes.itertuples(index=False))
            assert cell == (str(expected) if expected else "·")


def test_text_is_escaped_in_content_and_in_attributes() -> None:
    html = element("p", "<&>\"'", title='"><script>')
    assert html == '<p title="&quot;&gt;&lt;script&gt;">&lt;&amp;&gt;&quot;&#x27;</p>'


def test_code_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ValueError, match="'</script'"):
        inline("script", "x = '</SCRIPT>'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(-0.00004), "0.000"),
        (number(float("inf")), "–"),
        (number(-1234.5, 1), "−1,234.5"),
        (number(0.0, 2, sign=True), "0.00"),
        (interval(0.1, float("nan")), "–"),
        (with_interval(float("nan"), 0.1, 0.2, missing="undefined"), "undefined"),
        (with_interval(0.5, float("nan"), 0.2, 1), "0.5"),
        (count(999_700), "1M"),
        (count(300e9), "300B"),
        (count(float("nan")), "–"),
        (decimals_for([0.0004, -0.00123]), 5),
        (decimals_for([]), 3),
    ],
)
def test_numbers_are_written_for_readers(text: object, expected: object) -> None:
    assert text == expected


def test_shaded_tokens_keep_enough_contrast_with_their_text() -> None:
    css = (resources.files("crosstime.report.page") / "style.css").read_text(encoding="utf-8")

    def linear(rgb: list[float]) -> float:
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    shades = re.findall(r"\.([apn])\d \{\s*background: rgba\((\d+), (\d+), (\d+), ([.\d]+)\)", css)
    assert Counter(kind for kind, *_ in shades) == {"a": 8, "p": 8, "n": 8}
    ink = linear([0x1B / 255, 0x1F / 255, 0x24 / 255])
    for _, red, green, blue, alpha in shades:
        ground = [1 - float(alpha) * (1 - int(value) / 255) for value in (red, green, blue)]
        assert (linear(ground) + 0.05) / (ink + 0.05) >= 4.5
