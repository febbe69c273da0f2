"""The charts: what they draw, where, and what they must not draw."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import report_sample as sample
from chart_rows import rows
from sample_tables import REVISIONS

from crosstime.errors import ReportError
from crosstime.report.charts import theme
from crosstime.report.charts.ablation import ablation_chart
from crosstime.report.charts.accuracy import accuracy_chart
from crosstime.report.charts.effect_lines import coloured_features
from crosstime.report.charts.effects import effects_chart
from crosstime.report.charts.faithfulness import faithfulness_chart
from crosstime.report.charts.norms import norms_chart
from crosstime.report.charts.relie import relie_chart, relie_histogram
from crosstime.report.charts.save_chart import save_chart
from crosstime.report.charts.ternary import ternary_chart
from crosstime.report.charts.token_axis import TokenAxis
from crosstime.report.charts.training_curves import training_chart
from crosstime.report.charts.vega import script_json, specification, to_svg

CHART = {
    "accuracy": accuracy_chart,
    "effects": effects_chart,
    "temporal": relie_chart,
    "ablation": ablation_chart,
    "training": training_chart,
}
CHARTS = {
    "accuracy": lambda: accuracy_chart(sample.accuracy(), sample.COMPARED),
    "effects": lambda: effects_chart(sample.effects(), sample.COMPARED),
    "temporal": lambda: relie_chart(sample.temporal(), sample.COMPARED),
    "ablation": lambda: ablation_chart(sample.ablation()),
    "training": lambda: training_chart(sample.training()),
}
MORE = {
    "shares": lambda: relie_histogram(sample.temporal(), sample.COMPARED),
    "ternary": lambda: ternary_chart(sample.temporal(), sample.COMPARED),
    "norms": lambda: norms_chart(sample.temporal(), sample.COMPARED),
    "faithfulness": lambda: faithfulness_chart(sample.faithfulness()),
}
ALL = {**CHARTS, **MORE}


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module", params=ALL)
def drawn(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], str]:
    spec = specification(ALL[request.param]())
    return request.param, spec, to_svg(spec)


def test_every_chart_draws_and_writes_no_missing_value(drawn: tuple[str, dict[str, Any], str]) -> None:
    name, _, svg = drawn
    labels = texts(svg)
    assert labels, name
    assert not {text.lower() for text in labels} & {"nan", "null", "undefined", "none"}


def test_every_chart_says_how_a_screen_may_resize_it(drawn: tuple[str, dict[str, Any], str]) -> None:
    _, spec, _ = drawn
    assert set(spec["usermeta"]) == {"panel", "margin", "fixed"}
    assert spec["config"]["legend"]["columns"] == 2
    script_json(spec)  # raises on NaN


@pytest.mark.parametrize("name", CHARTS)
def test_drawing_a_chart_leaves_the_users_theme_alone(name: str) -> None:
    import altair as alt

    before = alt.theme.active
    specification(CHARTS[name]())
    assert alt.theme.active == before


def test_a_chart_is_saved_in_each_format_and_another_is_refused(tmp_path: Path) -> None:
    paths = save_chart(CHARTS["training"](), tmp_path / "figures" / "training.curves")
    assert [path.name for path in paths] == [f"training.curves.{kind}" for kind in ("svg", "png", "pdf")]
    starts = [b"<svg", b"\x89PNG\r\n\x1a\n", b"%PDF"]
    assert all(path.read_bytes().startswith(start) for path, start in zip(paths, starts, strict=True))
    with pytest.raises(ReportError, match="svg, png, pdf, not 'jpg'"):
        save_chart(CHARTS["training"](), tmp_path / "training", ["jpg"])
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_numbers_of_a_specification_have_six_digits() -> None:
    accuracy = sample.accuracy()
    accuracy["accuracy"] = accuracy["accuracy"] + 1e-9
    drawn = rows(accuracy_chart(accuracy), "accuracy")
    assert sorted(drawn["accuracy"]) == sorted(sample.accuracy()["accuracy"].round(6))


def test_the_picked_feature_is_ringed_in_every_chart_of_features() -> None:
    for name in ("effects", "temporal", "ablation", "ternary", "norms"):
        spec = specification(ALL[name]())
        before = to_svg(spec)
        (parameter,) = spec["params"]
        parameter["value"] = sample.FEATURES[1]
        assert to_svg(spec) != before, name
        parameter["value"] = 10**9
        assert to_svg(spec) == before, name


def test_the_histogram_counts_like_a_loop_and_leaves_undefined_values_out() -> None:
    table = rows(MORE["shares"](), "features")
    truth = sample.temporal()
    for (task, revision), bins in table.groupby(["task", "revision"]):
        values = truth[(truth["task"] == task) & (truth["revision"] == revision)]["relie"].dropna().tolist()
        assert bins["features"].sum() == len(values) < len(sample.FEATURES)
        for row in bins.itertuples():
            inside = [value for value in values if row.low <= value < row.high or value == row.high == 1.0]
            assert row.features == len(inside)


def test_a_feature_in_the_triangle_lies_at_the_weighted_mean_of_the_corners() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])
    table = rows(MORE["ternary"](), "r1")
    assert len(table) == 2 * (len(sample.FEATURES) - 1)  # one feature is undefined
    expected = table[["r1", "r2", "r3"]].to_numpy() @ corners
    assert table[["x", "y"]].to_numpy() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ReportError, match="three checkpoints, not 2: step64, main"):
        ternary_chart(sample.temporal(), ("step64", "main"))


def test_norms_wear_the_colours_of_the_strongest_effects() -> None:
    chosen = coloured_features(sample.effects())
    table = rows(norms_chart(sample.temporal(), coloured=chosen), "decoder_norm")
    of_norms = {row.feature: row.colour for row in table.itertuples() if row.main}
    effects = rows(CHARTS["effects"](), "kind")
    of_effects = {row.feature: row.colour for row in effects[effects["kind"] == "main"].itertuples()}
    assert of_norms == of_effects == dict(zip(chosen, theme.PALETTE, strict=True))
    assert table.groupby("feature")["revision"].nunique().eq(3).all()


def test_a_share_of_nothing_is_not_drawn() -> None:
    table = sample.faithfulness()
    at_first = table["revision"] == sample.COMPARED[0]
    table.loc[at_first, ["faithfulness_low", "completeness_low"]] = -40.0
    drawn = rows(faithfulness_chart(table), "value")
    assert set(drawn["revision"]) == set(sample.COMPARED[1:])


def test_nothing_is_ringed_while_no_feature_is_picked() -> None:
    ablation = specification(CHARTS["ablation"]())
    svg = to_svg(ablation)
    ablation["params"][0]["value"] = -5  # no feature at all
    assert to_svg(ablation) == svg


def test_a_control_is_another_line_of_the_faithfulness_chart() -> None:
    table = sample.faithfulness()
    with_control = rows(faithfulness_chart(table), "value")
    assert set(with_control["features"]) == {"top", "random"}
    assert (with_control["n"] > 0).all()
    alone = table[table["features"] == "top"].drop(columns="features")
    assert set(rows(faithfulness_chart(alone), "value")["features"]) == {"top"}


def test_accuracy_marks_exactly_the_compared_checkpoints() -> None:
    table = rows(CHARTS["accuracy"](), "accuracy")
    assert set(table.loc[table["compared"], "revision"]) == set(sample.COMPARED)
    svg = to_svg(specification(CHARTS["accuracy"]()))
    assert [text for text in texts(svg) if text in REVISIONS] == list(sample.COMPARED)


def test_accuracy_axis_does_not_start_at_zero_when_no_model_is_that_bad() -> None:
    assert "0.1" not in texts(to_svg(specification(CHARTS["accuracy"]())))


def test_token_axis_places_zero_leftmost_and_is_logarithmic_beyond_the_first_checkpoint() -> None:
    tokens = [0.0, 2e6, 2e9, 3e11]
    axis = TokenAxis(tokens)
    assert axis.position(0) == 0
    assert axis.position(3e11) == pytest.approx(1)
    decades = np.diff([axis.position(10.0**power) for power in range(8, 12)])
    assert decades == pytest.approx(decades[0], rel=0.01)
    assert axis.position(2e6) > 0.02


def test_token_axis_ticks_are_round_inside_and_far_enough_apart_for_their_labels() -> None:
    for tokens in ([0.0, 131072.0, 6144000.0], [0.0, 2e6, 3e11], [5.0], [0.0], [1e9, 1e9]):
        axis = TokenAxis(tokens)
        ticks = axis.ticks()
        assert ticks
        assert all(axis.low <= tick <= axis.high for tick in ticks)
        assert all(f"{tick:.0e}"[0] in "0125" for tick in ticks)
        assert np.diff([axis.position(tick) for tick in ticks]).min(initial=1) * 290 >= 36


def test_tick_labels_use_the_units_of_training_tokens() -> None:
    accuracy = pd.DataFrame(
        {
            "revision": ["a", "b", "c"],
            "step": [0, 1, 2],
            "tokens": [0, 2_000_000, 300_000_000_000],
            "task": "t",
            "n": 100,
            "accuracy": [0.5, 0.6, 0.9],
            "low": [0.4, 0.5, 0.8],
            "high": [0.6, 0.7, 0.95],
            "logit_difference": math.nan,
        }
    )
    labels = texts(to_svg(specification(accuracy_chart(accuracy))))
    assert {"0", "10M", "1B", "100B"} <= set(labels)


def test_effect_labels_of_a_panel_stand_a_line_apart_and_name_the_strongest() -> None:
    table = rows(CHARTS["effects"](), "label_y")
    spec = specification(CHARTS["effects"]())
    low, high = _first_domain(spec, "ie")
    pixels = 320 / (high - low)
    for task, panel in table.groupby("task"):
        labelled = panel[panel["label"] != ""]
        assert np.diff(np.sort(labelled["label_y"])).min() * pixels >= 13 - 1e-3
        truth = sample.effects()
        truth = truth[(truth["task"] == task) & (truth["feature"] != -1)]
        strongest = truth.assign(size=truth["ie"].abs()).groupby("feature")["size"].max().nlargest(6).index
        assert {f"f{feature}" for feature in strongest} <= set(labelled["name"])


def test_every_one_of_models_side_by_side_labels_its_own_strongest_features() -> None:
    table = rows(effects_chart(sample.effects(), sample.COMPARED, ordered=False), "label_y")
    truth = sample.effects()
    truth = truth[truth["feature"] != -1].assign(size=truth["ie"].abs())
    for (task, revision), panel in table.groupby(["task", "revision"]):
        strongest = truth[(truth["task"] == task) & (truth["revision"] == revision)].nlargest(6, "size")["feature"]
        labelled = {name for name in panel["label"] if name}
        assert labelled - {"error term"} == {f"f{feature}" for feature in strongest}
    assert table.loc[table["label"] != "", "revision"].nunique() == len(sample.COMPARED) > 1


def test_a_feature_has_one_colour_in_all_panels() -> None:
    table = rows(CHARTS["effects"](), "colour")
    assert table.groupby("name")["colour"].nunique().max() == 1
    assert set(table.loc[table["kind"] == "main", "colour"]) <= set(theme.PALETTE)


def test_an_error_term_that_would_flatten_the_features_is_left_out_and_said_to_be() -> None:
    effects = sample.effects()
    effects.loc[effects["feature"] == -1, ["ie", "low", "high"]] *= 100
    chart = effects_chart(effects, sample.COMPARED)
    assert -1 not in set(rows(chart, "ie")["feature"])
    assert any("error term off the scale" in text for text in texts(to_svg(specification(chart))))
    assert -1 in set(rows(CHARTS["effects"](), "ie")["feature"])


@pytest.mark.parametrize(
    ("chart", "table", "value"), [(effects_chart, sample.effects, "ie"), (norms_chart, sample.temporal, "decoder_norm")]
)
def test_no_line_joins_models_side_by_side(chart: Any, table: Any, value: str) -> None:
    joined, apart = (chart(table(), sample.COMPARED, ordered=ordered) for ordered in (True, False))
    labels = [script_json(specification(drawn)) for drawn in (joined, apart)]
    for kind in ("line", "area"):
        assert f'"type":"{kind}"' not in labels[1].replace(" ", "")
    assert '"type":"line"' in labels[0].replace(" ", "")
    columns = ["feature", "revision", value]
    assert rows(apart, value)[columns].equals(rows(joined, value)[columns])
    assert to_svg(specification(apart)).count("mark-symbol") == to_svg(specification(joined)).count("mark-symbol")


def test_two_checkpoints_show_the_later_one_only_and_three_show_all() -> None:
    two = relie_chart(sample.temporal(("step64", "main")), ("step64", "main"))
    assert set(rows(two, "relie")["revision"]) == {"main"}
    assert set(rows(CHARTS["temporal"](), "relie")["revision"]) == set(sample.COMPARED)


def test_an_undefined_relie_is_not_drawn() -> None:
    table = rows(CHARTS["temporal"](), "relie")
    assert 16383 in set(sample.temporal()["feature"])
    assert 16383 not in set(table["feature"])
    assert table["relie"].notna().all()


def test_ablation_shows_sets_before_single_features_and_single_features_by_size() -> None:
    chart = ablation_chart(sample.ablation(), most=8)
    for _, panel in rows(chart, "rank").groupby("task"):
        ordered = panel.sort_values("rank").drop_duplicates("row")
        assert len(ordered) == 8
        assert (ordered["kind"] == "single").tolist() == [False] * 3 + [True] * 5
        sizes = panel[panel["kind"] == "single"].groupby("rank")["size"].max().sort_index()
        assert sizes.is_monotonic_decreasing
    assert "random top-10" in set(rows(chart, "rank")["row"])


def test_training_curves_are_thinned_and_keep_their_last_point() -> None:
    table = rows(CHARTS["training"](), "value")
    loss = table[table["curve"] == "loss"]
    assert len(loss) <= 300
    last = sample.training().iloc[-1]
    assert loss.iloc[-1]["step"] == last["step"]
    assert loss.iloc[-1]["value"] == pytest.approx(last["loss"], rel=1e-5)


@pytest.mark.parametrize("name", CHARTS)
def test_an_empty_table_is_a_clear_error(name: str) -> None:
    table = getattr(sample, name)().iloc[:0]
    with pytest.raises(ReportError, match=f"{name} table has no rows"):
        CHART[name](table)


def test_a_missing_column_is_named_with_its_nearest_match() -> None:
    with pytest.raises(ReportError, match=r"effects table .* lacks the column 'ie' .*'ies'"):
        effects_chart(sample.effects().rename(columns={"ie": "ies"}))


def test_text_among_numbers_is_a_clear_error() -> None:
    effects = sample.effects().astype({"ie": object})
    effects.loc[0, "ie"] = "much"
    with pytest.raises(ReportError, match=r"column 'ie' .* must hold numbers"):
        effects_chart(effects)


@pytest.mark.parametrize("colour", [*theme.PALETTE, theme.INK, theme.MUTED])
def test_every_colour_that_writes_text_reads_on_white(colour: str) -> None:
    assert 1.05 / (_luminance(colour) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5


@pytest.mark.parametrize("sight", ["full", "deuteranopia", "protanopia"])
def test_palette_colours_are_told_apart_by_colour_blind_readers(sight: str) -> None:
    # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
    matrix = {
        "full": np.eye(3),
        "deuteranopia": np.array(
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
        ),
        "protanopia": np.array(
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
        ),
    }[sight]
    colours = [_lab(matrix @ _luminance(colour)) for colour in theme.PALETTE]
    distances = [np.linalg.norm(a - b) for place, a in enumerate(colours) for b in colours[:place]]
    assert min(distances) >= 25


def _first_domain(spec: Any, field: str) -> list[float]:
    if isinstance(spec, dict):
        if spec.get("field") == field and "scale" in spec:
            return spec["scale"]["domain"]
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            if domain := _first_domain(part, field):
                return domain
    return []


def _luminance(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
