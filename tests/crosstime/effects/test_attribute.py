from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task
from crosstime.crosscoders.origin import Origin
from crosstime.crosscoders.training_setting import trained_checkpoints
from crosstime.effects.attribute import attribute
from crosstime.effects.attribution import ERROR_TERM, Attribution
from crosstime.effects.relie import classify
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Baseline, Bootstrap, Estimator, InterventionError, Model, Prompts, Site, indirect_effects
from tasks import MinimalPair, Task, TokenizedTask, load

PAIRS = 14


@pytest.fixture(scope="module")
def suite(learning_suite: Suite) -> Suite:
    return learning_suite


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder: CrossCoder) -> CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def task(suite: Suite) -> TokenizedTask:
    return load("agreement/attractor").tokenize(suite.tokenizer, limit=PAIRS)


@pytest.fixture(scope="module")
def decomposed(suite: Suite, crosscoder: CrossCoder, task: TokenizedTask) -> DecomposedTask:
    return decompose_task(suite, crosscoder, task)


@pytest.fixture(scope="module")
def attribution(suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask) -> Attribution:
    return attribute(suite, crosscoder, decomposed)


def bare(suite: Suite, revision: str) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()


def hidden(suite: Suite, prompts) -> torch.Tensor:
    """Activations after block 0 of every token at every checkpoint, each prompt run alone: ``C T D``."""
    activations = []
    for revision in suite.revisions:
        model = bare(suite, revision)
        with torch.no_grad():
            alone = [model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0] for ids in prompts]
        activations.append(torch.cat(alone))
    return torch.stack(activations)


def wrong_minus_right(suite: Suite, revision: str, task: TokenizedTask, prompts) -> torch.Tensor:
    model, differences = bare(suite, revision), []
    for ids, right, wrong in zip(prompts, task.right, task.wrong, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        differences.append(logits[wrong] - logits[right])
    return torch.stack(differences)


def test_decomposed_activations_are_those_of_the_bare_models(
    suite: Suite, task: TokenizedTask, decomposed: DecomposedTask
):
    for states, prompts in ((decomposed.clean, task.prompts), (decomposed.patched, task.patch)):
        for decomposition, expected in zip(states, hidden(suite, prompts), strict=True):
            torch.testing.assert_close(decomposition.x, expected, rtol=1e-4, atol=1e-4)


def test_all_checkpoints_share_their_codes(crosscoder: CrossCoder, suite: Suite, decomposed: DecomposedTask):
    assert all(state.codes is decomposed.clean[0].codes for state in decomposed.clean)
    x = hidden(suite, decomposed.task.prompts).transpose(0, 1)
    torch.testing.assert_close(decomposed.clean[0].codes.dense(), crosscoder.encode(x).detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("method", "baseline"), [("ig", "zero"), ("ig", "patch"), ("atp", "zero"), ("exact", "patch")])
def test_effects_are_those_of_each_checkpoint_by_itself(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask, method: str, baseline: str
):
    attribution = attribute(suite, crosscoder, decomposed, Estimator(method, baseline))
    assert attribution.revisions == suite.revisions
    clean = crosscoder.decompose(hidden(suite, task.prompts))
    patched = crosscoder.decompose(hidden(suite, task.patch))
    for c, revision in enumerate(suite.revisions):
        state = Baseline.patch(patched[c]) if baseline == "patch" else Baseline.zero(clean[c])
        with Model.open(suite[revision].source) as model:
            expected = indirect_effects(model, Prompts.of(task), Site(0), clean[c], Estimator(method, state))
        assert expected.per_feature().abs().max() > 1e-4
        torch.testing.assert_close(attribution.ie()[c], expected.per_feature(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(attribution.effects[c].error, expected.error, rtol=1e-3, atol=1e-4)


def test_effects_and_error_term_add_up_to_what_the_zero_baseline_changes(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, attribution: Attribution
):
    for c, revision in enumerate(suite.revisions):
        result = attribution.effects[c]
        clean = wrong_minus_right(suite, revision, task, task.prompts)
        torch.testing.assert_close(result.clean, clean, rtol=1e-4, atol=1e-4)
        total = result.per_prompt(range(24)).sum(1) + result.error
        change = (result.baseline - clean).double()
        missed = ((total - change).abs().sum() / change.abs().sum()).item()
        assert missed < 0.02
        assert attribution.completeness()[revision] == pytest.approx(missed, abs=1e-4)


def test_the_patch_baseline_ends_at_the_patch_prompts(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask
):
    attribution = attribute(suite, crosscoder, decomposed, Estimator(baseline="patch"))
    for c, revision in enumerate(suite.revisions):
        end = wrong_minus_right(suite, revision, task, task.patch)
        torch.testing.assert_close(attribution.effects[c].baseline, end, rtol=1e-4, atol=1e-4)
        clean = wrong_minus_right(suite, revision, task, task.prompts)
        total = attribution.ie()[c].sum() + attribution.effects[c].error.double().mean()
        assert total.item() == pytest.approx(
            (end - clean).double().mean().item(), abs=0.02 * (end - clean).abs().mean().item()
        )


def test_a_task_and_its_decomposition_give_the_same_effects(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, attribution: Attribution
):
    direct = attribute(suite, crosscoder, task, compute=Compute(max_tokens=60))
    torch.testing.assert_close(direct.ie(), attribution.ie(), rtol=1e-3, atol=1e-4)


def test_a_table_has_a_row_for_each_feature_and_checkpoint(attribution: Attribution):
    table = attribution.table([3, 0], bootstrap=Bootstrap(20))
    columns = "task feature revision ie low high relie relie_low relie_high reldec decoder_norm class_ie class_dec"
    assert list(table.columns) == columns.split()
    assert table.feature.tolist() == [3, 3, 3, 0, 0, 0]
    assert table.revision.tolist() == ["step0", "step10", "step40"] * 2
    assert set(table.task) == {"agreement/attractor"}


def test_a_tables_numbers_are_those_of_effects_and_norms(attribution: Attribution, crosscoder: CrossCoder):
    table = attribution.table(bootstrap=Bootstrap(20))
    assert list(dict.fromkeys(table.feature)) == attribution.top(10)
    for row in table.itertuples():
        c = attribution.revisions.index(row.revision)
        effects = [result.per_feature()[row.feature].item() for result in attribution.effects]
        norms = [crosscoder.W_dec[row.feature, index].norm().item() for index in range(3)]
        assert row.ie == pytest.approx(effects[c])
        assert row.relie == pytest.approx(abs(effects[c]) / sum(map(abs, effects)), nan_ok=True)
        assert row.decoder_norm == pytest.approx(norms[c])
        assert row.reldec == pytest.approx(norms[c] / sum(norms))
        shares = torch.tensor([[abs(effect) / sum(map(abs, effects)) for effect in effects]])
        assert row.class_ie == classify(shares, attribution.revisions)[0]


def test_bounds_of_the_classes_can_be_given(attribution: Attribution):
    table = attribution.table(bootstrap=Bootstrap(20), absent=0.01, specific=0.99).drop_duplicates("feature")
    shares = attribution.relie()
    for row in table.itertuples():
        assert [row.class_ie] == classify(shares[[row.feature]], attribution.revisions, absent=0.01, specific=0.99)
    assert (
        table.class_ie.tolist()
        != attribution.table(bootstrap=Bootstrap(20)).drop_duplicates("feature").class_ie.tolist()
    )


def prompts_by_hand(attribution: Attribution, feature: int) -> np.ndarray:
    """Effect of one feature on each prompt at each checkpoint, from the entries: ``P C``."""
    effects = np.zeros((PAIRS, 3))
    for c, result in enumerate(attribution.effects):
        for prompt, entry_feature, value in zip(result.prompt, result.feature, result.value, strict=True):
            if entry_feature == feature:
                effects[prompt, c] += value.item()
    return effects


def test_intervals_are_those_of_a_loop_that_draws_prompts(attribution: Attribution):
    feature = attribution.top(1)[0]
    table = attribution.table([feature], bootstrap=Bootstrap(400, 3, 0.9))
    values = prompts_by_hand(attribution, feature)
    generator = np.random.default_rng(3)
    means = []
    for _ in range(400):
        counts = generator.multinomial(PAIRS, [1 / PAIRS] * PAIRS)
        resample = [values[prompt] for prompt in range(PAIRS) for _ in range(counts[prompt])]
        means.append(np.mean(resample, axis=0))
    means = np.array(means)
    shares = np.abs(means) / np.abs(means).sum(axis=1, keepdims=True)
    for c, row in enumerate(table.itertuples()):
        assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means[:, c], [0.05, 0.95])), rel=1e-5)
        expected = tuple(np.quantile(shares[:, c], [0.05, 0.95]))
        assert (row.relie_low, row.relie_high) == pytest.approx(expected, rel=1e-5)
        assert row.low <= row.ie <= row.high
        assert 0 <= row.relie_low <= row.relie <= row.relie_high <= 1
    assert (table.high > table.low).all()


def test_the_same_seed_gives_the_same_intervals(attribution: Attribution):
    first, second, another_seed = (attribution.table(bootstrap=Bootstrap(50, seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first.low.equals(another_seed.low)


def test_the_error_table_is_the_mean_error_effect_with_its_interval(attribution: Attribution):
    table = attribution.error_table(bootstrap=Bootstrap(300, 2))
    assert (table.feature == ERROR_TERM).all()
    assert table.revision.tolist() == list(attribution.revisions)
    for row, result in zip(table.itertuples(), attribution.effects, strict=True):
        values = result.error.double().numpy()
        generator = np.random.default_rng(2)
        means = [generator.multinomial(PAIRS, [1 / PAIRS] * PAIRS) @ values / PAIRS for _ in range(300)]
        assert row.ie == pytest.approx(values.mean())
        assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_relie_and_reldec_of_all_features_are_shares(attribution: Attribution):
    relie, reldec = attribution.relie(), attribution.reldec()
    assert relie.shape == reldec.shape == (24, 3)
    effects = attribution.ie().abs()
    silent = effects.sum(0) == 0
    assert relie[silent].isnan().all()
    torch.testing.assert_close(relie[~silent], (effects / effects.sum(0)).T[~silent])
    assert (attribution.relie(undefined=0.5)[silent] == 0.5).all()
    torch.testing.assert_close(reldec.sum(1), torch.ones(24))


def test_ctt_aggregation_drops_small_effects_and_averages_over_tokens(attribution: Attribution):
    result = attribution.effects[2]
    merged: dict[tuple[int, int, int], float] = {}
    entries = (result.prompt.tolist(), result.position.tolist(), result.feature.tolist(), result.value.tolist())
    for *key, value in zip(*entries, strict=True):
        merged[tuple(key)] = merged.get(tuple(key), 0.0) + value
    expected = [0.0] * 24
    for (_, _, feature), value in merged.items():
        expected[feature] += value if abs(value) > 0.1 else 0.0
    n_tokens = sum(len(ids) for ids in attribution.decomposed.task.prompts)
    assert attribution.ie("ctt")[2].tolist() == pytest.approx([value / n_tokens for value in expected], abs=1e-6)
    assert any(expected)


def test_a_feature_named_twice_has_its_rows_once(attribution: Attribution):
    once, twice = (attribution.table(features, bootstrap=Bootstrap(10)) for features in ([5], [5, 5]))
    pd.testing.assert_frame_equal(once, twice)


@pytest.mark.parametrize("feature", [24, -1])
def test_a_feature_that_does_not_exist_is_named(attribution: Attribution, feature: int):
    with pytest.raises(CrosscoderError, match=f"There is no feature {feature}: the crosscoder has 0 to 23"):
        attribution.table([feature])


def test_a_table_of_nothing_is_refused(attribution: Attribution):
    with pytest.raises(CrosscoderError, match="No feature has an effect on agreement/attractor"):
        attribution.table([])


def test_an_attribution_shows_as_a_table(attribution: Attribution):
    assert "class_ie" in attribution._repr_html_()


def test_a_crosscoder_of_other_revisions_is_refused(suite: Suite, crosscoder: CrossCoder, task: TokenizedTask):
    smaller = suite.select(["step10", "step40"])
    with pytest.raises(CrosscoderError, match=r"trained on step0, step10, step40 of suite 'mine', but.*has no step0"):
        attribute(smaller, crosscoder, task)


def test_a_crosscoder_of_another_width_is_refused(suite: Suite, task: TokenizedTask):
    wide = CrossCoder(Origin("mine", suite.revisions, Site(0), 32), 8)
    with pytest.raises(CrosscoderError, match="activations of width 32, but those of suite 'mine' have 16"):
        attribute(suite, wide, task)


def test_a_task_decomposed_with_another_crosscoder_is_refused(suite: Suite, decomposed: DecomposedTask):
    smaller = CrossCoder(Origin("mine", suite.revisions[:2], Site(0), 16), 24)
    with pytest.raises(CrosscoderError, match=r"decomposed with a crosscoder of 3 checkpoints and 24 features.*has 2"):
        attribute(suite, smaller, decomposed)


def test_a_suite_is_brought_into_the_crosscoders_order(suite: Suite):
    crosscoder = CrossCoder(Origin("mine", ("step40", "step0"), Site(0), 16), 8)
    assert trained_checkpoints(suite, crosscoder).revisions == ("step40", "step0")


def test_an_unknown_baseline_or_method_is_refused(suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask):
    with pytest.raises(InterventionError, match=r"no baseline 'pach'.*did you mean 'patch'"):
        attribute(suite, crosscoder, decomposed, Estimator(baseline="pach"))
    with pytest.raises(InterventionError, match=r"no method 'igg'.*did you mean 'ig'"):
        attribute(suite, crosscoder, decomposed, Estimator(method="igg"))


def test_the_patch_baseline_needs_patch_prompts(suite: Suite, crosscoder: CrossCoder):
    without_patch = Task("mine", "en", "by hand", (MinimalPair("the author laughs .", "the author smiles ."),))
    with pytest.raises(CrosscoderError, match="Task mine has no patch prompts; use baseline='zero'"):
        attribute(suite, crosscoder, without_patch, Estimator(baseline="patch"))


def test_a_baseline_of_one_checkpoint_is_refused(suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask):
    state = Baseline.zero(decomposed.clean[0])
    with pytest.raises(CrosscoderError, match="given by name, because every checkpoint has its own"):
        attribute(suite, crosscoder, decomposed, Estimator(baseline=state))
