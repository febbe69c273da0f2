"""Transplants, against bare models with forward hooks."""

from __future__ import annotations

import pytest
from bare_models import scores_with

import crosstime as ct
from crosstime.errors import CrosscoderError
from interventions import Bootstrap, Estimator, FeatureError


@pytest.fixture(scope="module")
def suite(learning_suite) -> ct.Suite:
    return learning_suite


@pytest.fixture(scope="module")
def crosscoder(learning_crosscoder) -> ct.CrossCoder:
    return learning_crosscoder


@pytest.fixture(scope="module")
def attribution(suite, crosscoder) -> ct.Attribution:
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=10)
    return ct.attribute(suite, crosscoder, task, Estimator(steps=2))


def test_the_targets_directions_are_replaced_by_the_sources(suite, crosscoder, attribution):
    decomposed, features = attribution.decomposed, attribution.top(2)
    groups = {"top": features}
    table = ct.transplant(
        suite, crosscoder, decomposed, groups, source="step40", target="step0", bootstrap=Bootstrap(50)
    )
    codes = decomposed.clean[0].codes.dense()[:, features]
    late, early = (crosscoder.W_dec.detach()[features, c] / crosscoder.scales[0] for c in (2, 0))
    x = decomposed.clean[0].x
    clean = scores_with(suite, decomposed, "step0", x)
    transplanted = scores_with(suite, decomposed, "step0", x + codes @ (late - early))
    row = table.iloc[0]
    assert row.logit_difference == pytest.approx(-transplanted.mean(), abs=1e-4)
    assert row.logit_difference_change == pytest.approx(-(transplanted - clean).mean(), abs=1e-4)
    assert row.accuracy == pytest.approx((transplanted < 0).mean())
    assert row.low <= row.logit_difference_change <= row.high


def test_a_checkpoint_transplanted_into_itself_changes_nothing(suite, crosscoder, attribution):
    table = ct.transplant(
        suite, crosscoder, attribution.decomposed, attribution.top(2), source="step40", target="step40"
    )
    assert table.logit_difference_change.abs().max() < 1e-5
    assert (table.accuracy_change == 0).all()


def test_bad_input_is_refused(suite, crosscoder, attribution):
    decomposed = attribution.decomposed
    with pytest.raises(CrosscoderError, match="no checkpoint 'step4': did you mean 'step40'"):
        ct.transplant(suite, crosscoder, decomposed, [1], source="step4", target="step0")
    with pytest.raises(CrosscoderError, match="no features to transplant"):
        ct.transplant(suite, crosscoder, decomposed, [], source="step40", target="step0")
    with pytest.raises(FeatureError, match="Feature 24 does not exist"):
        ct.transplant(suite, crosscoder, decomposed, [24], source="step40", target="step0")
