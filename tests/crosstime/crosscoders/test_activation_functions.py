from __future__ import annotations

import pytest
import torch

from crosstime.crosscoders.activation_functions import (
    ACTIVATIONS,
    BatchTopK,
    JumpReLU,
    PerCheckpointJumpReLU,
    ReLU,
    TopK,
    activation_named,
)
from crosstime.errors import CrosscoderError

T, F = 9, 7


def pre(seed: int = 0) -> torch.Tensor:
    return torch.randn(T, F, generator=torch.Generator().manual_seed(seed))


NORMS = torch.tensor([0.1, 3.0, 1.0, 0.5, 2.0, 1.5, 0.01])


def make(name: str) -> torch.nn.Module:
    activation = {
        "relu": ReLU(F),
        "topk": TopK(F, k=2),
        "batchtopk": BatchTopK(F, k=2),
        "jumprelu": JumpReLU(F),
        "jumprelu_per_checkpoint": PerCheckpointJumpReLU(F),
    }[name]
    with torch.no_grad():
        if name == "batchtopk":
            activation.threshold.fill_(0.6)
        if isinstance(activation, JumpReLU):
            activation.log_threshold.copy_(torch.linspace(-2, 0.5, F))
    return activation


def norms_of(name: str) -> torch.Tensor:
    """The norms that the kind takes: those of two checkpoints for a gate per checkpoint."""
    return torch.stack([NORMS, NORMS.flip(0)]) if ACTIVATIONS[name].gate_per_checkpoint else NORMS


def by_hand(name: str, values: list[float], norms: torch.Tensor = NORMS) -> list:
    if norms.dim() == 2:
        return [by_hand("jumprelu", values, of_checkpoint) for of_checkpoint in norms]
    codes = [max(0.0, value) for value in values]
    weighted = [code * norm for code, norm in zip(codes, norms.tolist(), strict=True)]
    if name == "topk":
        best = sorted(range(F), key=lambda i: -weighted[i])[:2]
        return [code if i in best else 0.0 for i, code in enumerate(codes)]
    if name == "batchtopk":
        return [code if weight > 0.6 else 0.0 for code, weight in zip(codes, weighted, strict=True)]
    if name == "jumprelu":
        bars = torch.linspace(-2, 0.5, F).exp().tolist()
        return [code if weight > bar else 0.0 for code, weight, bar in zip(codes, weighted, bars, strict=True)]
    return codes


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_codes_are_those_of_a_loop_over_norm_weighted_codes(name: str):
    codes = make(name)(pre(), norms_of(name))
    expected = torch.tensor([by_hand(name, row, norms_of(name)) for row in pre().tolist()])
    torch.testing.assert_close(codes.detach(), expected)
    n_gates = norms_of(name).numel() // F
    assert 0 < (codes > 0).sum() < n_gates * (pre() > 0).sum() or name == "relu"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_tokens_codes_depend_neither_on_its_neighbours_nor_on_a_training_mode(name: str):
    activation = make(name)
    together = activation.train()(pre(), norms_of(name))
    alone = torch.cat([activation.eval()(row[None], norms_of(name)) for row in pre()])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_settings_build_the_same_part_again(name: str):
    activation = make(name)
    again = activation_named(name, F, activation.settings())
    again.load_state_dict(activation.state_dict())
    assert torch.equal(again(pre(), norms_of(name)), activation(pre(), norms_of(name)))


@pytest.mark.parametrize("name", ["topk", "batchtopk", "jumprelu"])
def test_gradients_reach_only_features_that_fire(name: str):
    pre_activations = pre().requires_grad_()
    codes = make(name)(pre_activations, NORMS)
    codes.sum().backward()
    assert torch.equal(pre_activations.grad, (codes > 0).float())


def test_a_jump_thresholds_gradient_is_the_slope_of_the_ramp_within_its_window():
    activation = JumpReLU(2, threshold=1.0, bandwidth=0.5)
    pre_activations = torch.tensor([[0.3, 0.6], [0.5, 0.1], [-1.0, 0.4]])
    norms = torch.tensor([2.0, 2.0])
    upstream = torch.tensor([[3.0, 5.0], [7.0, 11.0], [13.0, 17.0]])
    (activation(pre_activations, norms) * upstream).sum().backward()
    # weighted codes: .6 and 1.2; 1. and .2; 0. and .8; the window is .75 to 1.25; theta² / n / bandwidth = 1.
    torch.testing.assert_close(activation.log_threshold.grad, torch.tensor([-7.0, -5.0 - 17.0]))


def test_a_jump_per_checkpoint_adds_up_the_gradients_of_all_gates():
    activation = PerCheckpointJumpReLU(1, threshold=1.0, bandwidth=0.5)
    pre_activations = torch.tensor([[0.6], [0.5]], requires_grad=True)
    norms = torch.tensor([[2.0], [1.8], [9.0], [0.0]])
    codes = activation(pre_activations, norms)
    torch.testing.assert_close(codes.squeeze(-1), torch.tensor([[0.6, 0.6, 0.6, 0.0], [0.0, 0.0, 0.5, 0.0]]))
    upstream = torch.tensor([[3.0, 5.0, 7.0, 0.0], [11.0, 13.0, 17.0, 0.0]]).unsqueeze(-1)
    (codes * upstream).sum().backward()
    assert pre_activations.grad.flatten().tolist() == pytest.approx([3.0 + 5.0 + 7.0, 17.0])
    # weighted codes: 1.2, 1.08, 5.4, 0; 1., .9, 4.5, 0; the window is .75 to 1.25; theta² / n / bandwidth = 2 / n.
    expected = -(3.0 + 11.0) * 2 / 2.0 - (5.0 + 13.0) * 2 / 1.8
    assert activation.log_threshold.grad.item() == pytest.approx(expected)


def test_a_gradient_step_on_the_sparsity_of_silent_windows_raises_the_threshold():
    activation = JumpReLU(1, threshold=0.5, bandwidth=0.4)
    activation(torch.tensor([[0.6]]), torch.ones(1)).sum().backward()
    assert activation.log_threshold.grad.item() < 0  # a higher threshold lowers the sum


@pytest.mark.parametrize("k", [0, F + 1])
def test_a_k_out_of_range_is_refused(k: int):
    for kind in (TopK, BatchTopK):
        with pytest.raises(CrosscoderError, match=f"k must be between 1 and the {F} features, not {k}"):
            kind(F, k=k)


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(CrosscoderError, match="no activation function 'topq': did you mean 'topk'"):
        activation_named("topq", F, {})
    with pytest.raises(CrosscoderError, match="'topk' does not take the settings"):
        activation_named("topk", F, {"bandwidth": 1.0})
    with pytest.raises(CrosscoderError, match="bandwidth must be positive"):
        JumpReLU(F, bandwidth=0.0)
