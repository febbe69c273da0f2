"""EoC's objective: an independent calculation in float64, llamascopium itself, and what makes it a kind of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.peers.compare_objective import largest_differences, ours, random_case, theirs  # noqa: E402
from benchmarks.peers.peer import MISSING, environment  # noqa: E402
from crosstime.crosscoders.crosscoder import CrossCoder  # noqa: E402
from crosstime.crosscoders.crosscoder_file import CrosscoderFile  # noqa: E402
from crosstime.crosscoders.origin import Origin  # noqa: E402
from crosstime.errors import CrosscoderError, RecipeError  # noqa: E402
from crosstime.machine.processes import Processes  # noqa: E402
from crosstime.runs.recipe.build import crosscoder_table  # noqa: E402
from crosstime.training.jumprelu_per_checkpoint_config import PENALTIES, PerCheckpointJumpReLUConfig  # noqa: E402
from crosstime.training.search_decoder_norm import search_decoder_norm  # noqa: E402
from crosstime.training.trainer_of import trainer_of  # noqa: E402
from interventions import Site  # noqa: E402

SIZES = [1, 2, 5]
needs_tools = pytest.mark.skipif(environment() is None, reason=MISSING)


def by_hand(config: PerCheckpointJumpReLUConfig, crosscoder: CrossCoder, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Loss and gradients from the formulas alone: loops over tokens, checkpoints and features, the gate a constant."""
    n_tokens, n_checkpoints, _ = x.shape
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    leaves = {name: getattr(crosscoder, name).detach().clone().requires_grad_() for name in names}
    encoder, decoder = leaves["W_enc"], leaves["W_dec"]
    theta = crosscoder.activation.log_threshold.detach().exp()
    n_features = len(theta)
    error = torch.zeros((), dtype=torch.float64)
    scores = [[] for _ in range(n_features)]
    gates = []
    codes = torch.zeros(n_tokens, n_checkpoints, n_features, dtype=torch.float64)

    for t in range(n_tokens):
        scaled = [x[t, c] * crosscoder.scales[c] for c in range(n_checkpoints)]
        pre = leaves["b_enc"] + sum(scaled[c] @ encoder[c] for c in range(n_checkpoints))
        for c in range(n_checkpoints):
            reconstruction = leaves["b_dec"][c]
            for i in range(n_features):
                norm = decoder[i, c].square().sum().sqrt()
                z = pre[i].clamp(min=0).item() * norm.item()
                code = pre[i] * float(z > theta[i])
                if pre[i] > 0 and abs(z - theta[i]) < config.bandwidth / 2:
                    probe = torch.zeros((), dtype=torch.float64, requires_grad=True)
                    code = code + probe
                    gates.append((i, norm.item(), probe))
                codes[t, c, i] = code.item()
                reconstruction = reconstruction + code * decoder[i, c]
                scores[i].append(torch.tanh(config.steepness * code * norm))
            error = error + (scaled[c] - reconstruction).square().sum()

    frequency = [sum(score) / (n_tokens * n_checkpoints) for score in scores]
    square = 0.0 if config.penalty == "tanh" else 1 / config.frequency_scale
    penalty = sum(q + square * q * q for q in frequency)
    error = error / (n_tokens * n_checkpoints)
    loss = error + config.sparsity * penalty
    loss.backward()

    # df_ic/dt_i = -(theta_i / norm_ic) / bandwidth * theta_i within the window
    log_threshold = torch.zeros(n_features, dtype=torch.float64)
    for i, norm, probe in gates:
        log_threshold[i] -= probe.grad * theta[i] ** 2 / norm / config.bandwidth
    values = {"codes": codes, "loss": loss.detach(), "l2": error.detach()}
    values |= {f"gradient.{name}": leaf.grad for name, leaf in leaves.items()}
    return values | {"gradient.log_threshold": log_threshold}


@pytest.mark.parametrize("n_checkpoints", SIZES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_codes_loss_and_gradients_are_those_of_the_formulas(penalty: str, n_checkpoints: int):
    config, crosscoder, x = random_case(penalty, n_checkpoints)
    expected = by_hand(config, crosscoder, x[0, :7])
    actual = ours(config, crosscoder, x[:, :7])
    active = expected["codes"] > 0
    assert 0.05 < active.double().mean() < 0.6
    if n_checkpoints > 1:
        assert (active.any(1) & ~active.all(1)).any()
    for name, difference in largest_differences(actual, expected).items():
        assert difference < 1e-12, name


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("n_checkpoints", SIZES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_llamascopium_computes_and_trains_the_same(penalty: str, n_checkpoints: int):
    """Codes, loss, gradients, twelve steps of its trainer with all schedules, and the search for the norm."""
    case = random_case(penalty, n_checkpoints)
    for name, difference in largest_differences(ours(*case), theirs(*case, environment())).items():
        assert difference < 1e-12, name


def test_a_feature_of_decoder_norm_zero_is_silent_there_and_has_finite_gradients():
    config, crosscoder, x = random_case("tanh-quad", 2)
    with torch.no_grad():
        crosscoder.W_dec[:, 1] = 0
    codes = crosscoder.encode(x[0])
    assert (codes[:, 0] > 0).any()
    assert not codes[:, 1].any()
    trainer_of(config, crosscoder).losses(x[0], 9).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in crosscoder.parameters())


def test_the_penalty_presses_the_norm_of_each_checkpoint_on_its_own():
    """A feature that is active at both checkpoints costs twice what it costs at one of them."""
    config = PerCheckpointJumpReLUConfig(n_features=1, penalty="tanh", steepness=50.0, norm_search=False)
    crosscoder = config.crosscoder(Origin("mine", ("a", "b"), Site(0), 4))
    trainer, x = trainer_of(config, crosscoder), torch.ones(3, 2, 4)
    with torch.no_grad():
        crosscoder.W_enc.fill_(1)
        crosscoder.W_dec.fill_(1)
    both = trainer.losses(x, 0).sparsity.item()
    with torch.no_grad():
        crosscoder.W_dec[:, 1] = 0
    single = trainer.losses(x, 0).sparsity.item()
    assert (both, single) == pytest.approx((1.0, 0.5))


def test_the_learning_rate_rises_stays_and_ends_at_a_thirty_second():
    config = PerCheckpointJumpReLUConfig(steps=100, lr_warmup=5.0, lr_decay=0.2)
    factors = [config.lr_factor(step) for step in range(100)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factors[80] == 1.0
    assert factors[90] == pytest.approx(1 / 32 + 31 / 32 * 10 / 20)
    assert factors[99] == pytest.approx(1 / 32 + 31 / 32 * 1 / 20)
    paper = PerCheckpointJumpReLUConfig()
    assert paper.lr_warmup_steps == pytest.approx(5_000)
    assert replace(paper, lr_warmup=5_000.0).lr_factor(2_499) == pytest.approx(0.5)


def test_thresholds_and_biases_have_learning_rates_of_their_own():
    config, crosscoder, x = random_case("tanh", 5)
    trainer = trainer_of(config, crosscoder)
    rates = {}
    for group in trainer.optimizer.param_groups:
        rates |= {id(parameter): group["lr"] / config.lr for parameter in group["params"]}
    first = config.lr_factor(0)
    assert rates[id(crosscoder.activation.log_threshold)] == pytest.approx(0.1 * first)
    assert rates[id(crosscoder.b_enc)] == pytest.approx(5 * first)
    assert {rates[id(weight)] for weight in (crosscoder.W_enc, crosscoder.W_dec, crosscoder.b_dec)} == {first}
    assert len(rates) == len(list(crosscoder.parameters()))
    trainer.update(0, x[0])
    second = config.lr_factor(1)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx(
        [config.lr * second, 5 * config.lr * second, 0.1 * config.lr * second]
    )


def test_a_feature_begins_with_one_direction_and_the_norm_that_reconstructs_best():
    config = PerCheckpointJumpReLUConfig(n_features=32, steps=10, threshold=0.3)
    crosscoder = config.crosscoder(Origin("mine", ("a", "b", "c"), Site(0), 8), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.equal(crosscoder.W_dec, crosscoder.W_dec[:, :1].expand(-1, 3, -1))
    x = torch.randn(64, 3, 8, generator=torch.Generator().manual_seed(1))
    trainer = trainer_of(config, crosscoder)
    norm = search_decoder_norm(trainer, x)
    torch.testing.assert_close(crosscoder.decoder_norms(), torch.full((3, 32), norm))
    assert torch.equal(crosscoder.W_enc, crosscoder.W_dec.permute(1, 2, 0))

    def error(value: float) -> float:
        copy = replace(config, decoder_norm=value).crosscoder(crosscoder.origin, crosscoder.scales)
        return trainer_of(replace(config, decoder_norm=value), copy).losses(x, 0).l2.item()

    # Lowest on the coarse grid, and around its best on the fine one
    coarse = min((0.1 * number for number in range(1, 51)), key=error)
    fine = min((coarse - 0.09 + 0.01 * number for number in range(20)), key=error)
    assert norm == pytest.approx(fine, abs=1e-4)


def test_the_first_step_searches_and_the_second_does_not():
    config = PerCheckpointJumpReLUConfig(n_features=32, steps=10, lr=1e-12, penalty="tanh")
    crosscoder = config.crosscoder(Origin("mine", ("a", "b"), Site(0), 8))
    trainer, x = trainer_of(config, crosscoder), torch.randn(64, 2, 8, generator=torch.Generator().manual_seed(1))
    trainer.update(0, x)
    searched = crosscoder.decoder_norms().clone()
    assert searched.min() > 0.09
    trainer.update(1, 100 * x)
    torch.testing.assert_close(crosscoder.decoder_norms(), searched)
    fixed = replace(config, norm_search=False)
    other = fixed.crosscoder(crosscoder.origin)
    trainer_of(fixed, other).update(0, x)
    torch.testing.assert_close(other.decoder_norms(), torch.full((2, 32), 0.08))


def test_the_frequency_is_that_of_the_batch_of_all_processes(monkeypatch):
    """Two processes with half of the batch each: their mean loss and gradients are those of one with the whole."""
    config, crosscoder, x = random_case("tanh-quad", 2)
    trainer_of(config, crosscoder).losses(x[0], 99).loss.backward()
    whole = {name: parameter.grad.clone() for name, parameter in crosscoder.named_parameters()}
    expected = trainer_of(config, crosscoder).losses(x[0], 99).loss.item()

    # What the first process would receive: the mean of both processes' frequencies
    frequencies: list[torch.Tensor] = []
    halves = [Processes(rank, 2).rows(x[0]) for rank in range(2)]
    monkeypatch.setattr(Processes, "mean_", lambda self, *tensors: frequencies.append(tensors[0].clone()))
    for rank, half in enumerate(halves):
        trainer_of(config, crosscoder, processes=Processes(rank, 2)).losses(half, 99)
    mean = sum(frequencies) / 2
    monkeypatch.setattr(Processes, "mean_", lambda self, *tensors: tensors[0].copy_(mean))
    crosscoder.zero_grad()
    losses = []
    for rank, half in enumerate(halves):
        loss = trainer_of(config, crosscoder, processes=Processes(rank, 2)).losses(half, 99).loss
        (loss / 2).backward()
        losses.append(loss.item())
    assert sum(losses) / 2 == pytest.approx(expected, rel=1e-12)
    for name, parameter in crosscoder.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-10, atol=1e-12)


def test_shared_features_are_refused_under_a_gate_per_checkpoint(tmp_path):
    message = r"n_shared must be 0, not 3"
    with pytest.raises(CrosscoderError, match=message):
        PerCheckpointJumpReLUConfig(n_features=8, n_shared=3)
    origin = Origin("mine", ("a", "b"), Site(0), 4)
    activation = PerCheckpointJumpReLUConfig(n_features=8).activation()
    with pytest.raises(CrosscoderError, match=message):
        CrossCoder(origin, 8, activation=activation, n_shared=3)
    crosscoder = CrossCoder(origin, 8, activation=activation)
    tensors = {name: tensor.detach().contiguous() for name, tensor in crosscoder.state_dict().items()}
    CrosscoderFile(origin, activation, 3, tensors).write(tmp_path / "mine.safetensors")
    with pytest.raises(CrosscoderError, match=message):
        CrossCoder.load(tmp_path / "mine.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": "l1"}, r"Kind jumprelu_per_checkpoint has no penalty 'l1': .*tanh"),
        ({"penalty": "tanh_quad"}, r"has no penalty 'tanh_quad': did you mean 'tanh-quad'"),
        ({"frequency_scale": 0.0}, r"frequency_scale must be positive, not 0"),
        ({"threshold_lr_factor": -1.0}, r"threshold_lr_factor must not be negative; got -1"),
        ({"lr_end": 2.0}, r"lr_end is a fraction of lr between 0 and 1, not 2"),
        ({"lr_warmup": 1.5}, r"lr_warmup is a fraction of the steps from 0 to 1, or a whole number of them, not 1\.5"),
        ({"clip": -1.0}, r"clip must be a norm, or 0 .*, not -1"),
    ],
)
def test_values_out_of_range_are_refused(change: dict, message: str):
    with pytest.raises(CrosscoderError, match=message):
        PerCheckpointJumpReLUConfig(**change)


def test_a_penalty_for_another_kind_is_refused_by_its_name():
    with pytest.raises(RecipeError, match=r"penalty is a key of kind jumprelu_per_checkpoint, and kind jumprelu has n"):
        crosscoder_table({"kind": "jumprelu", "penalty": "tanh-quad"})
    with pytest.raises(RecipeError, match=r"k is a key of kinds topk and batchtopk, and kind jumprelu_per_checkpoint"):
        crosscoder_table({"kind": "jumprelu_per_checkpoint"}, ["k=3"])
    with pytest.raises(RecipeError, match=r"has no key 'penalti': did you mean 'penalty'"):
        crosscoder_table({"kind": "jumprelu_per_checkpoint", "penalti": "tanh"})


def test_a_recipe_has_the_defaults_of_the_kind():
    table = crosscoder_table({"kind": "jumprelu_per_checkpoint"}, ["lr_warmup=5_000"])
    assert table.config() == PerCheckpointJumpReLUConfig(lr_warmup=5_000.0)
    assert table.save_every == crosscoder_table({"kind": "l1"}).save_every
