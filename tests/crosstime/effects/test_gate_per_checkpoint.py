"""A crosscoder with a gate per checkpoint: everything that reads codes reads those of each checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task, decompose_text
from crosstime.crosscoders.evaluate import evaluate
from crosstime.effects.ablate import ablate
from crosstime.effects.attribute import attribute
from crosstime.evolution.latent_scaling import scale_latents
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from crosstime.training.train import train
from interventions import Bootstrap, Estimator, Site
from tasks import TokenizedTask, load
from tasks.agreement import sentences

PAIRS = 6


@pytest.fixture(scope="module")
def crosscoder(learning_suite: Suite) -> CrossCoder:
    config = PerCheckpointJumpReLUConfig(
        n_features=24, steps=60, lr=1e-2, penalty="tanh", threshold=1.0, bandwidth=2.0, threshold_lr_factor=1.0
    )
    data = DataConfig(batch_size=64, sequence_length=12)
    return train(learning_suite, Site(0), list(sentences(300, seed=1)), config, data=data).crosscoder


@pytest.fixture(scope="module")
def task(learning_suite: Suite) -> TokenizedTask:
    return load("agreement/attractor").tokenize(learning_suite.tokenizer, limit=PAIRS)


@pytest.fixture(scope="module")
def decomposed(learning_suite: Suite, crosscoder: CrossCoder, task: TokenizedTask) -> DecomposedTask:
    return decompose_task(learning_suite, crosscoder, task)


def metric(suite: Suite, checkpoint: int, task: TokenizedTask, x: torch.Tensor) -> torch.Tensor:
    """Wrong minus right logit of each prompt with the activations `x` (flat) after block 0, in float64."""
    model = AutoModelForCausalLM.from_pretrained(suite[suite.revisions[checkpoint]].source).eval().double()
    metrics, start = [], 0
    for ids, right, wrong in zip(task.prompts, task.right, task.wrong, strict=True):
        own, start = x[start : start + len(ids)].double(), start + len(ids)

        def replace(module, args, output, own=own):
            return (own[None], *output[1:]) if isinstance(output, tuple) else own[None]

        handle = model.gpt_neox.layers[0].register_forward_hook(replace)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        handle.remove()
        metrics.append(logits[wrong] - logits[right])
    return torch.stack(metrics)


def part(crosscoder: CrossCoder, decomposed: DecomposedTask, checkpoint: int, features: list[int]) -> torch.Tensor:
    """What the features write into the activations of a checkpoint, from the checkpoint's own gate: ``T D``."""
    x = torch.stack([state.x for state in decomposed.clean], 1).double()
    pre = torch.einsum("tcd,cdf->tf", x * crosscoder.scales.unsqueeze(-1), crosscoder.W_enc.double()) + crosscoder.b_enc
    weighted = pre * crosscoder.W_dec[:, checkpoint].double().norm(dim=-1)
    codes = pre * (weighted > crosscoder.activation.log_threshold.double().exp())
    directions = crosscoder.W_dec[features, checkpoint].double() / crosscoder.scales[checkpoint]
    return (codes[:, features] @ directions).detach()


def test_codes_differ_between_checkpoints_and_the_joint_ones_are_those_of_the_largest_norm(
    crosscoder: CrossCoder, decomposed: DecomposedTask
):
    codes = torch.stack([state.codes.dense() for state in decomposed.clean], 1)
    active = codes > 0
    assert (active.any(1) & ~active.all(1)).any()
    peak = crosscoder.decoder_norms().argmax(0)
    expected = torch.stack([codes[:, peak[i], i] for i in range(crosscoder.n_features)], 1)
    torch.testing.assert_close(decomposed.codes.dense(), expected)
    for state in decomposed.clean:
        torch.testing.assert_close(state.reconstruction + state.error, state.x)


def test_exact_effects_are_those_of_the_checkpoints_own_codes(
    learning_suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask
):
    attribution = attribute(learning_suite, crosscoder, decomposed, Estimator("exact"))
    relie = attribution.relie()
    for feature in attribution.top(3)[:4]:
        expected = []
        for c, state in enumerate(decomposed.clean):
            without = state.x - part(crosscoder, decomposed, c, [feature])
            change = metric(learning_suite, c, task, without) - metric(learning_suite, c, task, state.x)
            expected.append(change.mean().item())
            assert attribution.ie()[c, feature].item() == pytest.approx(expected[-1], abs=2e-4)
        shares = np.abs(expected) / np.abs(expected).sum()
        np.testing.assert_allclose(relie[feature].numpy(), shares, atol=5e-3)


def test_gradients_are_finite_differences_of_the_checkpoints_own_codes(
    learning_suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask
):
    attribution = attribute(learning_suite, crosscoder, decomposed, Estimator("atp"))
    for feature in attribution.top(3)[:4]:
        for c, state in enumerate(decomposed.clean):
            step = 1e-4 * part(crosscoder, decomposed, c, [feature])
            x = state.x.double()
            ahead, behind = (metric(learning_suite, c, task, x - sign * step) for sign in (1, -1))
            derivative = ((ahead - behind) / 2e-4).mean().item()
            assert attribution.ie()[c, feature].item() == pytest.approx(derivative, abs=2e-4)


def test_integrated_effects_and_the_error_term_add_up(
    learning_suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask
):
    attribution = attribute(learning_suite, crosscoder, decomposed, Estimator("ig", "patch"))
    assert max(attribution.completeness().values()) < 0.02


def test_ablation_removes_what_the_checkpoints_own_codes_write(
    learning_suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask
):
    features = torch.unique(decomposed.codes.feature)[:3].tolist()
    table = ablate(learning_suite, crosscoder, decomposed, {"three": features}, bootstrap=Bootstrap(10))
    for c, state in enumerate(decomposed.clean):
        changed = metric(learning_suite, c, task, state.x - part(crosscoder, decomposed, c, features))
        assert table.logit_difference[c] == pytest.approx(-changed.mean().item(), abs=2e-4)


def test_evaluation_counts_the_active_features_of_each_checkpoint(learning_suite: Suite, crosscoder: CrossCoder):
    documents = list(sentences(60, seed=9))
    table = evaluate(learning_suite, crosscoder, documents, sample=TextSample(4, 12))
    text = decompose_text(learning_suite, crosscoder, documents, sample=TextSample(4, 12)).decompositions
    for c, row in enumerate(table.itertuples()):
        codes = text[c].codes.dense()
        assert row.l0 == pytest.approx((codes > 0).sum(1).double().mean().item())
        assert row.dead == int((codes.amax(0) == 0).sum())
        error = crosscoder.scales[c] * text[c].error
        assert row.error == pytest.approx(error.square().sum(1).mean().item(), rel=1e-4)
    assert table.l0.nunique() > 1


def test_latent_scaling_is_least_squares_with_the_checkpoints_own_codes(
    crosscoder: CrossCoder, decomposed: DecomposedTask
):
    scaling = scale_latents(crosscoder, decomposed.clean)
    joint = decomposed.codes.dense().double().numpy()
    weights, scales = crosscoder.W_dec.detach().double().numpy(), crosscoder.scales.double().numpy()
    bias = crosscoder.b_dec.detach().double().numpy()
    fired = np.flatnonzero(joint.sum(0))
    assert len(fired) > 3
    for i in fired:
        peak = np.linalg.norm(weights[i], axis=1).argmax()
        column = np.outer(joint[:, i], weights[i, peak]).reshape(-1, 1)
        for c, state in enumerate(decomposed.clean):
            codes = state.codes.dense().double().numpy()
            without = np.delete(codes, i, 1) @ np.delete(weights[:, c], i, 0)
            residual = state.x.double().numpy() * scales[c] - bias[c] - without
            for name, target in (("reconstruction", codes @ weights[:, c]), ("error", residual)):
                (beta,), *_ = np.linalg.lstsq(column, target.reshape(-1), rcond=None)
                assert getattr(scaling, name)[i, c].item() == pytest.approx(beta, abs=1e-4), (name, i, c)
