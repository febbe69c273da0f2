from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions import InterventionError
from interventions.option_names import RULES
from interventions.quadrature import nodes_and_weights


@given(st.integers(1, 24), st.data())
def test_gauss_legendre_is_exact_for_polynomials_up_to_its_degree(steps, data):
    degree = data.draw(st.integers(0, 2 * steps - 1))
    nodes, weights = nodes_and_weights("gauss-legendre", steps)
    assert float((weights * nodes**degree).sum()) == pytest.approx(1 / (degree + 1), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_gauss_legendre_is_not_exact_beyond_its_degree(steps):
    nodes, weights = nodes_and_weights("gauss-legendre", steps)
    assert abs(float((weights * nodes ** (2 * steps)).sum()) - 1 / (2 * steps + 1)) > 1e-5


@given(st.sampled_from(RULES), st.integers(1, 40))
def test_every_rule_lies_in_the_unit_interval_and_weighs_one(rule, steps):
    nodes, weights = nodes_and_weights(rule, steps)
    assert len(nodes) == len(weights) == steps
    assert bool(((nodes >= 0) & (nodes < 1)).all())
    assert bool((nodes.diff() > 0).all())
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)


def test_left_and_midpoint_are_the_riemann_sums():
    nodes, weights = nodes_and_weights("left", 10)
    torch.testing.assert_close(nodes, torch.arange(10, dtype=torch.float64) / 10)
    torch.testing.assert_close(weights, torch.full((10,), 0.1, dtype=torch.float64))
    torch.testing.assert_close(nodes_and_weights("midpoint", 2)[0], torch.tensor([0.25, 0.75], dtype=torch.float64))


def test_the_midpoint_rule_converges_with_the_square_of_its_steps():
    def missed(steps: int) -> float:
        nodes, weights = nodes_and_weights("midpoint", steps)
        return abs(float((weights * nodes.exp()).sum()) - (torch.e - 1))

    assert missed(8) / missed(16) == pytest.approx(4.0, rel=0.01)


def test_an_unknown_rule_gets_its_nearest_match():
    with pytest.raises(InterventionError, match=r"'gauss-legender'.*did you mean 'gauss-legendre'\?"):
        nodes_and_weights("gauss-legender", 4)


def test_no_steps_are_refused():
    with pytest.raises(InterventionError, match="at least one step, not 0"):
        nodes_and_weights("left", 0)
