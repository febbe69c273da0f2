"""Temporal tables, dips and sufficiency on a small trained suite, against bare ablations and loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import crosstime as ct
from crosstime.cli.main import app
from crosstime.effects.dip import BOTH, HARMFUL, HELPFUL, MATCHED, RANDOM, Dip
from crosstime.effects.explain_dip import DipTest, draw_controls, mean_contribution
from crosstime.effects.faithfulness import Restoration, ranking, sufficiency_curves
from crosstime.errors import CorpusError, CrosscoderError, RunError
from crosstime.evolution.evolve import TextEvidence
from crosstime.machine.storage import read_json, write_json
from crosstime.suites.corpus import TextSample
from interventions import Bootstrap, Estimator, Site, ablate
from interventions.metrics import answered_right
from tasks.agreement import sentences

REVISIONS = ("step0", "step20", "step40")
SMALL = ct.TinyConfig(
    d_model=16, n_layers=2, n_heads=2, sequence_length=16, batch_tokens=256, steps=40, checkpoints=(0, 20, 40), lr=1e-2,
    warmup=4,
)  # fmt: skip
TEXT = list(sentences(300, seed=1))


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> ct.Suite:
    folder = tmp_path_factory.mktemp("through_time") / "mine"
    return ct.train_tiny_suite(folder, sentences(1500, seed=0), SMALL)


@pytest.fixture(scope="module")
def crosscoder(suite) -> ct.CrossCoder:
    config = ct.L1Config(n_features=24, steps=60, lr=1e-2, l1=0.2)
    return ct.train(suite, Site(0), TEXT, config, data=ct.DataConfig(batch_size=64, sequence_length=12)).crosscoder


@pytest.fixture(scope="module")
def attribution(suite, crosscoder) -> ct.Attribution:
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=16)
    return ct.attribute(suite, crosscoder, task, Estimator(steps=4))


@pytest.fixture(scope="module")
def tables(suite, crosscoder, attribution) -> dict[str, pd.DataFrame]:
    text = TextEvidence(iter(TEXT), {"en": TEXT[:100], "xx": TEXT[100:200]}, TextSample(12, 12))
    return ct.evolve(suite, crosscoder, [attribution], text=text, bootstrap=Bootstrap(60))


def test_text_is_read_without_first_tokens_at_every_checkpoint(suite, crosscoder):
    found = ct.decompose_text(suite, crosscoder, TEXT, sample=TextSample(3, 8))
    assert found.codes.n_tokens == 3 * 7
    assert len(found.decompositions) == 3
    ids = np.array(found.text.ids)
    assert found.tokens.tolist() == ids[:, 1:].flatten().tolist()
    assert found.previous.tolist() == ids[:, :-1].flatten().tolist()
    with pytest.raises(CorpusError, match="at least one sequence of two tokens, not 0 of 8"):
        ct.decompose_text(suite, crosscoder, TEXT, sample=TextSample(0, 8))


def test_every_table_is_there_and_speaks_of_the_right_features(tables, crosscoder, attribution):
    assert set(tables) == {
        "evolution", "rotation", "rotation_steps", "dimensionality", "life_cycle_shares", "life_cycles", "pairs",
        "specificity", "scaling", "kinds", "onsets", "languages", "facts",
    }  # fmt: skip
    selected = attribution.top(10)
    for name in ("life_cycles", "pairs", "specificity", "scaling", "facts"):
        assert list(dict.fromkeys(tables[name].feature)) == selected, name
    for name in ("evolution", "kinds", "languages"):
        assert tables[name].feature.nunique() == crosscoder.n_features, name
    assert tables["facts"].feature.is_unique
    assert {"life_cycle[agreement/attractor]", "kind", "spurious", "onset", "language"} <= set(tables["facts"])
    shares = tables["languages"].pivot(index="feature", columns="language", values="share")
    for row in tables["facts"].itertuples():
        best = shares.loc[row.feature].idxmax() if shares.loc[row.feature].notna().any() else ""
        assert row.language == (best if best and shares.loc[row.feature, best] > 0.7 else "")


def test_onsets_by_kind_are_means_over_the_features_of_a_kind(tables):
    both = tables["evolution"].merge(tables["kinds"], on="feature").dropna(subset="onset")
    for row in tables["onsets"].itertuples():
        own = both[both.kind == row.kind]
        assert row.n == len(own)
        assert row.onset == pytest.approx(np.mean([REVISIONS.index(name) for name in own.onset]))
        assert row.low <= row.onset <= row.high
    assert tables["onsets"].n.sum() == len(both)


def test_pairs_are_the_later_ones_share(tables, attribution, crosscoder):
    ie, norms = attribution.ie().abs(), crosscoder.decoder_norms()
    for row in tables["pairs"].itertuples():
        a, b = REVISIONS.index(row.revision), REVISIONS.index(row.other)
        assert a < b
        early, late = ie[a, row.feature].item(), ie[b, row.feature].item()
        assert row.relie == pytest.approx(late / (early + late))
        assert row.reldec == pytest.approx(
            (norms[b, row.feature] / (norms[a, row.feature] + norms[b, row.feature])).item()
        )


def test_support_and_shares_are_between_zero_and_one(tables):
    assert tables["life_cycles"].support.between(0, 1).all()
    shares = tables["life_cycle_shares"]
    assert shares.groupby("source").share.sum().to_numpy() == pytest.approx([1, 1])
    own = shares[shares.source == "IE: agreement/attractor"]
    assert own.low.notna().all()


def test_only_lives_of_features_that_matter_on_a_task_are_counted(crosscoder, attribution):
    ie = attribution.ie()
    other = torch.zeros_like(ie)
    other[1, 3] = 1.0
    found = ct.evolve(None, crosscoder, {"mine": ie, "other": other}, top=2)
    lives = found["life_cycles"].set_index(["task", "feature"])
    assert set(lives.loc["mine"].index) == set(lives.loc["other"].index) == {*attribution.top(2), 3}
    assert set(lives.loc["mine"].index[lives.loc["mine"].strongest]) == set(attribution.top(2))
    assert set(lives.loc["other"].index[lives.loc["other"].strongest]) == {3}
    shares = found["life_cycle_shares"].set_index(["source", "life_cycle"])
    assert shares["count"]["IE: other"].to_dict()["transient"] == shares.loc["IE: other", "count"].sum() == 1
    assert shares.loc["IE: mine", "count"].sum() == len(attribution.top(2))


def test_plain_effects_give_the_same_tables_without_intervals(crosscoder, attribution, tables):
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


@pytest.fixture(scope="module")
def dip(suite, crosscoder, attribution) -> Dip:
    return ct.explain_dip(
        suite,
        crosscoder,
        attribution,
        "step20",
        "step40",
        others=[ct.tasks.load("agreement/simple").tokenize(suite.tokenizer, limit=6)],
        test=DipTest(absent=0.5, draws=20),
        bootstrap=Bootstrap(50),
    )


@pytest.fixture(scope="module")
def fall(suite, crosscoder, attribution) -> Dip:
    """The same pair of checkpoints the other way round, on three of the prompts kept aside."""
    test = DipTest(absent=0.5, prompts=3, draws=20)
    return ct.explain_dip(suite, crosscoder, attribution, "step40", "step20", test=test, bootstrap=Bootstrap(50))


def test_features_given_up_are_those_of_the_first_half_of_the_prompts(attribution, dip):
    generator = torch.Generator().manual_seed(0)
    first = torch.randperm(16, generator=generator)[:8]
    every = list(range(24))
    early, late = (attribution.effects[c].per_prompt(every)[first].mean(0) for c in (1, 2))
    given_up = [i for i in every if early[i] and late[i].abs() / (late[i].abs() + early[i].abs()) < 0.5]
    assert set(dip.harmful) == {i for i in given_up if early[i] < 0}
    assert set(dip.helpful) == {i for i in given_up if early[i] > 0}
    assert dip.harmful
    assert dip.helpful


def test_changes_are_those_of_the_second_half_towards_the_right_answer(suite, crosscoder, attribution, dip):
    generator = torch.Generator().manual_seed(0)
    second = torch.randperm(16, generator=generator)[8:]
    for group, features in ((HARMFUL, dip.harmful), (HELPFUL, dip.helpful), (BOTH, (*dip.harmful, *dip.helpful))):
        for c, revision in ((1, "step20"), (2, "step40")):
            with ct.Compute().open(suite, revision) as model:
                found = ablate(
                    model, attribution.decomposed.prompts, Site(0), attribution.decomposed.clean[c], [list(features)]
                )
            row = dip.row(group, revision)
            assert row.logit_difference_change == pytest.approx(-found.change[0, second].mean().item(), abs=1e-5)
            assert row.accuracy == pytest.approx(answered_right(found.metric[0, second]).mean().item())
            assert row.n == len(features)
            assert row.prompts == 8
            assert row.low <= row.logit_difference_change <= row.high


def test_controls_are_as_many_and_other_tasks_are_measured_in_full(dip):
    for group in (MATCHED, RANDOM):
        row = dip.row(group)
        assert row.n == len(dip.harmful)
        assert row.low <= row.logit_difference_change <= row.high
    assert dip.row(HARMFUL, task="agreement/simple").prompts == 6
    assert 1 / 21 <= dip.row(HARMFUL).p <= 1
    assert dip.explained == (dip.row(HARMFUL).low > 0 and dip.row(HARMFUL).p <= 0.05)
    verdict = "explained" if dip.explained else "not explained"
    assert dip.sentence().startswith(
        f"The dip on agreement/attractor at step20 is {verdict} by discontinued features: without the "
    )
    assert f"{dip.row(HARMFUL).logit_difference_change:+.2f}" in dip.sentence()
    assert f"{dip.row(MATCHED).logit_difference_change:+.2f}" in dip.sentence()


def test_p_is_the_share_of_matched_draws_that_do_as_much(suite, crosscoder, attribution, dip):
    features, change = set(), dip.row(HARMFUL).logit_difference_change
    for c, revision in ((1, "step20"),):
        generator = torch.Generator().manual_seed(0)
        second = torch.randperm(16, generator=generator)[8:]
        contribution = mean_contribution(attribution.decomposed, crosscoder, c)
        drawn = draw_controls(contribution, dip.harmful, (*dip.harmful, *dip.helpful), 20, generator)[MATCHED]
        with ct.Compute().open(suite, revision) as model:
            found = ablate(model, attribution.decomposed.prompts, Site(0), attribution.decomposed.clean[c], drawn)
        means = -found.change[:, second].double().mean(1)
        features.update(feature for listed in drawn for feature in listed)
    assert not features & {*dip.harmful, *dip.helpful}
    assert all(len(set(listed)) == len(dip.harmful) for listed in drawn)
    assert dip.row(HARMFUL).p == pytest.approx((1 + int((means >= change).sum())) / 21)
    assert dip.row(MATCHED).logit_difference_change == pytest.approx(means.mean().item(), abs=1e-5)


def test_matched_controls_are_as_active_as_what_they_stand_for(crosscoder, attribution):
    codes, norms = attribution.decomposed.clean[1].codes, crosscoder.decoder_norms()[1]
    part = codes.dense().mean(0) * norms
    firing = part.nonzero().squeeze(1)
    feature = int(firing[part[firing].argsort()[len(firing) // 2]])
    contribution = mean_contribution(attribution.decomposed, crosscoder, 1)
    drawn = draw_controls(contribution, [feature], [feature], 50, torch.Generator().manual_seed(1))[MATCHED]
    others = [int(other) for other in firing if other != feature]
    nearest = sorted(others, key=lambda other: abs((part[other] / part[feature]).log().item()))[:10]
    assert {one for (one,) in drawn} <= set(nearest)
    assert len({one for (one,) in drawn}) > 1


def test_against_an_earlier_checkpoint_the_features_have_emerged(attribution, fall, dip):
    assert dip.given_up
    assert not fall.given_up
    generator = torch.Generator().manual_seed(0)
    first = torch.randperm(16, generator=generator)[:8]
    every = list(range(24))
    before, now = (attribution.effects[c].per_prompt(every)[first].mean(0) for c in (1, 2))
    emerged = {i for i in every if now[i] and before[i].abs() / (before[i].abs() + now[i].abs()) < 0.5}
    assert {*fall.harmful, *fall.helpful} == emerged
    assert set(fall.table.prompts) == {3}
    assert "fall" in fall.sentence()
    assert "emerging features" in fall.sentence()
    assert "between step20 and step40" in fall.sentence() or not fall.harmful


def test_a_dip_without_harmful_features_says_so(suite, crosscoder, attribution):
    found = ct.explain_dip(suite, crosscoder, attribution, "step20", "step40", test=DipTest(absent=0.0))
    assert not found.explained
    assert found.table.empty
    assert found.sentence().startswith("No feature that does harm on agreement/attractor at step20 is given up by")
    with pytest.raises(CrosscoderError, match="no row for"):
        found.row(HARMFUL)


def test_a_dip_is_the_same_after_it_was_written(dip, tmp_path):
    write_json(tmp_path / "dip.json", dip.to_dict())
    again = Dip.of(read_json(tmp_path / "dip.json"))
    pd.testing.assert_frame_equal(again.table, dip.table)
    assert (again.sentence(), again.harmful, again.helpful) == (dip.sentence(), dip.harmful, dip.helpful)
    with pytest.raises(RunError, match="record of a dip is damaged: KeyError"):
        Dip.of({"table": []})


def test_a_dip_that_cannot_be_is_refused(suite, crosscoder, attribution):
    for pair, sentence in (
        (("step4", "step40"), "no checkpoint 'step4': did you mean"),
        (("step20", "step20"), "between two checkpoints, not step20 and itself"),
    ):
        with pytest.raises(CrosscoderError, match=sentence):
            ct.explain_dip(suite, crosscoder, attribution, *pair)
    for name in ("top", "draws", "prompts"):
        with pytest.raises(CrosscoderError, match=f"needs {name} of at least 1, not 0"):
            DipTest(**{name: 0})


def test_sufficiency_is_faithfulness_with_accuracy_and_a_random_control(suite, crosscoder, attribution):
    ranked = ranking(attribution, 3)
    options = {"restoration": Restoration(sizes=[1, 3]), "bootstrap": Bootstrap(20)}
    plain = ct.faithfulness(suite, crosscoder, attribution.decomposed, ranked, **options)
    curves = sufficiency_curves(suite, crosscoder, attribution.decomposed, ranked, draws=3, **options)
    top = curves[curves.features == "top"]
    pd.testing.assert_frame_equal(
        top[list(plain)].reset_index(drop=True), plain.reset_index(drop=True), check_exact=False
    )
    random = curves[curves.features == "random"]
    assert random.groupby("revision").n.apply(list).tolist() == [[1, 3]] * 3
    assert (random.faithfulness_low <= random.faithfulness).all()
    assert (random.faithfulness <= random.faithfulness_high).all()
    assert curves[["accuracy_kept", "accuracy_ablated"]].apply(lambda column: column.between(0, 1).all()).all()
    with ct.Compute().open(suite, "step40") as model:
        found = ablate(
            model, attribution.decomposed.prompts, Site(0), attribution.decomposed.clean[2], [ranked["step40"]],
            baseline=attribution.decomposed.baseline("mean", 2),
        )  # fmt: skip
    row = top[(top.revision == "step40") & (top.n == 3)].iloc[0]
    assert row.accuracy_ablated == pytest.approx(answered_right(found.metric[0]).mean().item())
    with pytest.raises(CrosscoderError, match="not negative, not -1"):
        sufficiency_curves(suite, crosscoder, attribution.decomposed, ranked, draws=-1)


def test_the_command_line_writes_every_table(suite, crosscoder, tmp_path):
    crosscoder.save(tmp_path / "mine.safetensors")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT))
    folder = str(next(iter(suite)).source).rpartition("/")[0]
    done = CliRunner().invoke(
        app,
        ["evolve", folder, str(tmp_path / "mine.safetensors"), "agreement/attractor", "-n", "6", "--text", str(text),
         "--sequences", "6", "--length", "12", "--dip", "step20,step40", "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"evolution.csv", "life_cycles.csv", "scaling.csv", "dip_agreement_attractor.csv", "facts.csv"} <= written
    assert "life cycle" in done.output
    assert "Decoder directions" in done.output


def test_the_command_line_refuses_what_it_cannot_read(suite, crosscoder, tmp_path):
    crosscoder.save(tmp_path / "mine.safetensors")
    arguments = ["evolve", "nowhere", str(tmp_path / "mine.safetensors"), "agreement/attractor"]
    for extra, sentence in (
        (["--dip", "step20"], "two checkpoints with a comma between"),
        (["--language", "en"], "NAME=FILE"),
    ):
        result = CliRunner().invoke(app, arguments + extra)
        assert sentence in str(result.exception)
