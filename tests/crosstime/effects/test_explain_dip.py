"""Dips on a small trained suite, against ablations of the same features on all prompts."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import crosstime as ct
from crosstime.effects.dip import BOTH, HARMFUL, HELPFUL, MATCHED, RANDOM, Dip
from crosstime.effects.explain_dip import DipTest, draw_controls, mean_contribution
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.storage import read_json, write_json
from interventions import Bootstrap, Estimator, Site, ablate
from interventions.metrics import answered_right

N_PROMPTS, N_FEATURES = 16, 24
EARLY, LATE = 1, 2
"""Indices of step10 and step40."""


@pytest.fixture(scope="module")
def suite(learning_suite) -> ct.Suite:
    return learning_suite


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder) -> ct.CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def attribution(suite, crosscoder) -> ct.Attribution:
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=N_PROMPTS)
    return ct.attribute(suite, crosscoder, task, Estimator(steps=4))


@pytest.fixture(scope="module")
def dip(suite, crosscoder, attribution) -> Dip:
    return ct.explain_dip(
        suite,
        crosscoder,
        attribution,
        "step10",
        "step40",
        others=[ct.tasks.load("agreement/simple").tokenize(suite.tokenizer, limit=6)],
        test=DipTest(absent=0.5, draws=20),
        bootstrap=Bootstrap(50),
    )


@pytest.fixture(scope="module")
def fall(suite, crosscoder, attribution) -> Dip:
    """The same two checkpoints the other way round, on three of the held-out prompts."""
    test = DipTest(absent=0.5, prompts=3, draws=20)
    return ct.explain_dip(suite, crosscoder, attribution, "step40", "step10", test=test, bootstrap=Bootstrap(50))


def halves(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    """The two halves of the prompts, and the generator that drew them."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(N_PROMPTS, generator=generator)
    return order[: N_PROMPTS // 2], order[N_PROMPTS // 2 :], generator


def candidates(attribution: ct.Attribution, at: int, compared_with: int) -> dict[int, float]:
    """Effect of each feature that matters at one checkpoint and hardly at another, on the first half."""
    first_half, _, _ = halves()
    effects = attribution.per_prompt(range(N_FEATURES))[first_half].mean(0)
    ie, other_ie = effects[:, at].tolist(), effects[:, compared_with].tolist()
    shares = {i: abs(other_ie[i]) / (abs(other_ie[i]) + abs(ie[i])) for i in range(N_FEATURES) if ie[i]}
    return {i: ie[i] for i, share in shares.items() if share < 0.5}


def test_discontinued_features_are_those_of_the_first_half_of_the_prompts(attribution, dip):
    effects = candidates(attribution, EARLY, LATE)
    assert set(dip.harmful) == {i for i, ie in effects.items() if ie < 0}
    assert set(dip.helpful) == {i for i, ie in effects.items() if ie > 0}
    assert dip.harmful
    assert dip.helpful
    assert dip.given_up


def test_changes_are_those_of_the_second_half_towards_the_right_answer(suite, crosscoder, attribution, dip):
    _, second_half, _ = halves()
    prompts, clean = attribution.decomposed.prompts, attribution.decomposed.clean
    groups = {HARMFUL: dip.harmful, HELPFUL: dip.helpful, BOTH: (*dip.harmful, *dip.helpful)}
    for c, revision in ((EARLY, "step10"), (LATE, "step40")):
        with ct.Compute().open(suite, revision) as model:
            ablation = ablate(model, prompts, Site(0), clean[c], [list(features) for features in groups.values()])
        for index, (group, features) in enumerate(groups.items()):
            row = dip.row(group, revision)
            change = -ablation.change[index, second_half].mean().item()
            accuracy = answered_right(ablation.metric[index, second_half]).mean().item()
            assert row.logit_difference_change == pytest.approx(change, abs=1e-5)
            assert row.accuracy == pytest.approx(accuracy)
            assert (row.n, row.prompts) == (len(features), 8)
            assert row.low <= row.logit_difference_change <= row.high


def test_controls_have_the_size_of_the_harmful_set_and_other_tasks_are_measured_in_full(dip):
    for group in (MATCHED, RANDOM):
        row = dip.row(group)
        assert row.n == len(dip.harmful)
        assert row.low <= row.logit_difference_change <= row.high
    assert dip.row(HARMFUL, task="agreement/simple").prompts == 6


def test_the_sentence_has_verdict_and_numbers(dip):
    harmful, matched = dip.row(HARMFUL), dip.row(MATCHED)
    assert dip.explained == (harmful.low > 0 and harmful.p <= 0.05)
    verdict = "explained" if dip.explained else "not explained"
    assert dip.sentence().startswith(
        f"The dip on agreement/attractor at step10 is {verdict} by discontinued features: without the "
    )
    assert f"{harmful.logit_difference_change:+.2f}" in dip.sentence()
    assert f"{matched.logit_difference_change:+.2f}" in dip.sentence()


def test_p_is_the_share_of_matched_draws_that_change_as_much(suite, crosscoder, attribution, dip):
    _, second_half, generator = halves()
    prompts, clean = attribution.decomposed.prompts, attribution.decomposed.clean[EARLY]
    excluded = {*dip.harmful, *dip.helpful}
    contribution = mean_contribution(attribution.decomposed, crosscoder, EARLY)
    matched = draw_controls(contribution, dip.harmful, list(excluded), 20, generator)[MATCHED]
    assert all(len(set(features)) == len(dip.harmful) and not excluded & set(features) for features in matched)

    with ct.Compute().open(suite, "step10") as model:
        ablation = ablate(model, prompts, Site(0), clean, matched)
    means = -ablation.change[:, second_half].double().mean(1)
    row = dip.row(HARMFUL)
    assert row.p == pytest.approx((1 + int((means >= row.logit_difference_change).sum())) / 21)
    assert 1 / 21 <= row.p <= 1
    assert dip.row(MATCHED).logit_difference_change == pytest.approx(means.mean().item(), abs=1e-5)


def test_matched_controls_contribute_as_much_as_the_feature_that_they_stand_for(crosscoder, attribution):
    contribution = mean_contribution(attribution.decomposed, crosscoder, EARLY)
    codes = attribution.decomposed.clean[EARLY].codes.dense()
    expected = codes.mean(0) * crosscoder.decoder_norms()[EARLY]
    torch.testing.assert_close(contribution.float(), expected)

    firing = contribution.nonzero().squeeze(1)
    feature = int(firing[contribution[firing].argsort()[len(firing) // 2]])
    matched = draw_controls(contribution, [feature], [feature], 50, torch.Generator().manual_seed(1))[MATCHED]
    distance = (contribution.log() - contribution[feature].log()).abs()
    nearest = sorted((i for i in firing.tolist() if i != feature), key=lambda i: distance[i].item())[:10]
    assert {control for (control,) in matched} <= set(nearest)
    assert len({control for (control,) in matched}) > 1


def test_no_controls_are_drawn_if_too_few_features_fire():
    contribution = torch.tensor([1.0, 2.0, 0.0, 3.0])
    assert draw_controls(contribution, [0, 1], [0, 1], 5, torch.Generator()) == {}


def test_compared_with_an_earlier_checkpoint_the_features_have_emerged(attribution, fall):
    assert not fall.given_up
    assert {*fall.harmful, *fall.helpful} == set(candidates(attribution, LATE, EARLY))
    assert set(fall.table.prompts) == {3}
    assert "fall" in fall.sentence()
    assert "emerging features" in fall.sentence()
    assert "between step10 and step40" in fall.sentence() or not fall.harmful


def test_a_dip_without_harmful_features_is_not_explained(suite, crosscoder, attribution):
    dip = ct.explain_dip(suite, crosscoder, attribution, "step10", "step40", test=DipTest(absent=0.0))
    assert not dip.explained
    assert dip.table.empty
    assert dip.sentence().startswith("No feature that does harm on agreement/attractor at step10 is given up by")
    with pytest.raises(CrosscoderError, match="no row for"):
        dip.row(HARMFUL)


def test_a_task_and_its_attribution_give_the_same_dip(suite, crosscoder, attribution):
    computed = ct.attribute(suite, crosscoder, attribution.decomposed)
    test, bootstrap = DipTest(absent=0.5, draws=2), Bootstrap(20)
    first, second = (
        ct.explain_dip(suite, crosscoder, task, "step10", "step40", test=test, bootstrap=bootstrap)
        for task in (attribution.decomposed, computed)
    )
    pd.testing.assert_frame_equal(first.table, second.table)


def test_a_dip_is_read_back_as_it_was_written(dip, tmp_path):
    write_json(tmp_path / "dip.json", dip.to_dict())
    copy = Dip.of(read_json(tmp_path / "dip.json"))
    pd.testing.assert_frame_equal(copy.table, dip.table)
    assert (copy.sentence(), copy.harmful, copy.helpful) == (dip.sentence(), dip.harmful, dip.helpful)
    with pytest.raises(RunError, match="record of a dip is damaged: KeyError"):
        Dip.of({"table": []})


def test_a_dip_that_cannot_exist_is_refused(suite, crosscoder, attribution):
    for pair, message in (
        (("step4", "step40"), "no checkpoint 'step4': did you mean"),
        (("step10", "step10"), "between two checkpoints, not step10 and itself"),
    ):
        with pytest.raises(CrosscoderError, match=message):
            ct.explain_dip(suite, crosscoder, attribution, *pair)
    for name in ("top", "draws", "prompts"):
        with pytest.raises(CrosscoderError, match=f"needs {name} of at least 1, not 0"):
            DipTest(**{name: 0})
