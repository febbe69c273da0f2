"""All temporal tables of a small trained suite, against loops over its effects and norms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import crosstime as ct
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.evolution.evolve import TextEvidence
from crosstime.suites.text_sample import TextSample
from interventions import Bootstrap, Estimator
from tasks.agreement import sentences

REVISIONS = ("step0", "step10", "step40")
TEXT = list(sentences(300, seed=1))


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder) -> ct.CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def attribution(learning_suite, crosscoder) -> ct.Attribution:
    task = ct.tasks.load("agreement/attractor").tokenize(learning_suite.tokenizer, limit=16)
    return ct.attribute(learning_suite, crosscoder, task, Estimator(steps=4))


@pytest.fixture(scope="module")
def tables(learning_suite, crosscoder, attribution) -> dict[str, pd.DataFrame]:
    text = TextEvidence(iter(TEXT), {"en": TEXT[:100], "xx": TEXT[100:200]}, TextSample(12, 12))
    return ct.evolve(learning_suite, crosscoder, [attribution], text=text, bootstrap=Bootstrap(60))


def test_every_table_exists_and_lists_the_right_features(tables, crosscoder, attribution):
    assert list(tables) == [
        "evolution",
        "rotation",
        "rotation_steps",
        "dimensionality",
        "life_cycle_shares",
        "life_cycles",
        "pairs",
        "specificity",
        "scaling",
        "presence",
        "absorption",
        "kinds",
        "onsets",
        "languages",
        "facts",
    ]
    selected = attribution.top(10)
    for name in ("life_cycles", "pairs", "specificity", "scaling", "presence", "facts"):
        assert list(dict.fromkeys(tables[name].feature)) == selected, name
    for name in ("evolution", "kinds", "languages"):
        assert tables[name].feature.nunique() == crosscoder.n_features, name


def test_facts_have_a_row_for_each_feature_and_its_language(tables):
    facts = tables["facts"]
    assert facts.feature.is_unique
    assert {"life_cycle[agreement/attractor]", "kind", "spurious", "life_cycle_presence", "onset", "language"} <= set(
        facts
    )
    shares = tables["languages"].pivot(index="feature", columns="language", values="share")
    for row in facts.itertuples():
        best = shares.loc[row.feature].idxmax() if shares.loc[row.feature].notna().any() else ""
        assert row.language == (best if best and shares.loc[row.feature, best] > 0.7 else "")


def test_onsets_by_kind_are_means_over_the_features_of_a_kind(tables):
    merged = tables["evolution"].merge(tables["kinds"], on="feature").dropna(subset="onset")
    for row in tables["onsets"].itertuples():
        onsets = merged[merged.kind == row.kind].onset
        assert row.n == len(onsets)
        assert row.onset == pytest.approx(np.mean([REVISIONS.index(name) for name in onsets]))
        assert row.low <= row.onset <= row.high
    assert tables["onsets"].n.sum() == len(merged)


def test_pairs_are_the_share_of_the_later_checkpoint(tables, attribution, crosscoder):
    ie, norms = attribution.ie().abs(), crosscoder.decoder_norms()
    for row in tables["pairs"].itertuples():
        a, b = REVISIONS.index(row.revision), REVISIONS.index(row.other)
        assert a < b
        for share, values in ((row.relie, ie[:, row.feature]), (row.reldec, norms[:, row.feature])):
            assert share == pytest.approx((values[b] / (values[a] + values[b])).item(), nan_ok=True)


def test_support_and_shares_are_between_zero_and_one(tables):
    assert tables["life_cycles"].support.between(0, 1).all()
    shares = tables["life_cycle_shares"]
    assert shares.source.drop_duplicates().tolist() == ["decoder norm", "test of presence", "IE: agreement/attractor"]
    assert shares.groupby("source").share.sum().to_numpy() == pytest.approx([1, 1, 1])
    assert shares[shares.source == "IE: agreement/attractor"].low.notna().all()


def test_life_cycles_by_the_test_of_presence_are_those_of_its_answers(tables, attribution):
    answers = tables["presence"].groupby("feature", sort=False).presence.agg(list)
    expected = {}
    for feature, pattern in answers.items():
        there = [answer == "present" for answer in pattern]
        places = [c for c, answer in enumerate(there) if answer]
        first, last = (places[0], places[-1]) if places else (-1, -1)
        if "undecided" in pattern:
            expected[feature] = "undecided"
        elif all(there) or not any(there):
            expected[feature] = "always" if all(there) else "never"
        elif not all(there[first : last + 1]):
            expected[feature] = "intermittent"
        elif last == len(there) - 1:
            expected[feature] = "emerging"
        elif first == 0:
            expected[feature] = "discontinued"
        else:
            expected[feature] = "transient" if first == last else "maintained"
    lives = tables["presence"].drop_duplicates("feature").set_index("feature").life_cycle
    assert lives.to_dict() == expected
    facts = tables["facts"].set_index("feature")
    assert facts.life_cycle_presence.to_dict() == expected
    shares = tables["life_cycle_shares"]
    counted = shares[shares.source == "test of presence"].set_index("life_cycle")["count"]
    assert counted[counted > 0].to_dict() == pd.Series(expected).value_counts().to_dict()
    assert counted.sum() == len(attribution.top(10))


def test_absorption_is_asked_of_the_selected_features_that_end_by_the_test(tables):
    table = tables["presence"]
    answers = table.groupby("feature").presence.agg(list)
    ending = {
        feature
        for feature, pattern in answers.items()
        if "undecided" not in pattern and "present" in pattern and pattern[-1] == "absent"
    }
    assert set(tables["absorption"].parent) <= ending
    last = table[table.presence == "present"].groupby("feature").revision.last()
    for row in tables["absorption"].itertuples():
        assert row.last_present == last[row.parent]


def test_only_life_cycles_of_features_that_matter_on_a_task_are_counted(crosscoder, attribution):
    ie = attribution.ie()
    further = torch.zeros_like(ie)
    further[1, 3] = 1.0
    tables = ct.evolve(None, crosscoder, {"mine": ie, "further": further}, top=2)
    lives = tables["life_cycles"].set_index(["task", "feature"])
    assert set(lives.loc["mine"].index) == set(lives.loc["further"].index) == {*attribution.top(2), 3}
    assert set(lives.loc["mine"].index[lives.loc["mine"].strongest]) == set(attribution.top(2))
    assert set(lives.loc["further"].index[lives.loc["further"].strongest]) == {3}
    shares = tables["life_cycle_shares"].set_index(["source", "life_cycle"])
    assert shares["count"]["IE: further"].to_dict()["transient"] == shares.loc["IE: further", "count"].sum() == 1
    assert shares.loc["IE: mine", "count"].sum() == len(attribution.top(2))


def test_effects_without_prompts_give_the_same_life_cycles_without_intervals(crosscoder, attribution, tables):
    plain = ct.evolve(None, crosscoder, {attribution.task: attribution.ie()}, features=attribution.top(10))
    assert plain["life_cycles"].label.tolist() == tables["life_cycles"].label.tolist()
    assert plain["life_cycles"].support.isna().all()
    assert plain["specificity"].empty
    assert "kinds" not in plain
    assert ct.evolve(None, crosscoder)["facts"].empty


def test_effects_and_text_that_do_not_fit_are_refused(crosscoder, attribution):
    with pytest.raises(CrosscoderError, match=r"are of \(2, 24\) checkpoints and features"):
        ct.evolve(None, crosscoder, {"mine": attribution.ie()[:2]})
    with pytest.raises(CrosscoderError, match="no feature 24"):
        ct.evolve(None, crosscoder, {}, features=[24])
    with pytest.raises(CrosscoderError, match="only with the suite"):
        ct.evolve(None, crosscoder, {}, text=TextEvidence(TEXT))


def test_two_checkpoints_make_one_pair():
    origin = Origin("mine", ("early", "late"), ct.Site(0), 16, {})
    crosscoder = ct.CrossCoder(origin, 6, torch.ones(2), seed=3)
    effects = torch.tensor([[1.0, 0.0, -3.0, 0.0, 2.0, 0.0], [1.0, 4.0, 1.0, 0.0, 0.0, 0.0]])
    pairs = ct.evolve(None, crosscoder, {"mine": effects}, top=3)["pairs"].set_index("feature")
    assert set(pairs.revision) == {"early"}
    assert set(pairs.other) == {"late"}
    for feature in pairs.index:
        first, second = effects[:, feature].abs().tolist()
        assert pairs.relie[feature] == pytest.approx(second / (first + second))
