from __future__ import annotations

import math

import pytest
import torch

from interventions import METRICS, InterventionError, Metric, ShapeError, metric_named

LOGITS = torch.tensor([[1.0, 3.0, 0.5, -1.0], [0.0, -2.0, 2.5, 1.0]])
RIGHT, WRONG = torch.tensor([0, 2]), torch.tensor([1, 3])


def probability(row: int, token: int) -> float:
    total = sum(math.exp(value) for value in LOGITS[row].tolist())
    return math.exp(LOGITS[row, token].item()) / total


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logit_difference", [2.0, -1.5]),
        ("log_prob_difference", [2.0, -1.5]),
        ("probability_difference", [probability(0, 1) - probability(0, 0), probability(1, 3) - probability(1, 2)]),
        ("cross_entropy", [-math.log(probability(0, 0)), -math.log(probability(1, 2))]),
    ],
)
def test_each_metric_is_its_formula(name, expected):
    assert METRICS[name](LOGITS, RIGHT, WRONG).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_grows_as_the_right_answer_loses(name):
    worse = LOGITS.clone()
    worse[torch.arange(2), RIGHT] -= 1
    assert bool((METRICS[name](worse, RIGHT, WRONG) > METRICS[name](LOGITS, RIGHT, WRONG)).all())


def test_a_function_of_the_callers_is_a_metric_under_its_own_name():
    def entropy(logits, right, wrong):
        return torch.distributions.Categorical(logits=logits).entropy()

    metric = metric_named(entropy)
    assert metric.name == "entropy"
    torch.testing.assert_close(metric(LOGITS, RIGHT, WRONG), entropy(LOGITS, RIGHT, WRONG))
    assert metric_named(metric) is metric


@pytest.mark.parametrize(
    ("value", "got"), [(torch.tensor(1.0), r"\(\)"), (torch.zeros(2, 1), r"\(2, 1\)"), (1.0, "float")]
)
def test_a_metric_of_another_shape_is_refused(value, got):
    metric = Metric("odd", from_vocabulary=lambda logits, right, wrong: value)
    with pytest.raises(ShapeError, match=rf"Metric 'odd' must give one number for each of 2 prompts.*got {got}"):
        metric(LOGITS, RIGHT, WRONG)


def test_an_unknown_metric_gets_its_nearest_match():
    with pytest.raises(InterventionError, match=r"'logit_diference'.*did you mean 'logit_difference'\?"):
        metric_named("logit_diference")


def test_a_metric_without_a_function_is_refused():
    with pytest.raises(InterventionError, match="Metric 'empty' needs a function"):
        Metric("empty")
