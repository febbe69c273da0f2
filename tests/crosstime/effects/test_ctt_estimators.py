"""The two estimators of Crosscoding Through Time against loops over padded batches, with autograd on bare models."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.effects.attribute import attribute
from crosstime.effects.effects_file import read_effects, write_effects
from crosstime.effects.relie import relative
from crosstime.suites.suite import Suite
from interventions import Bootstrap, Estimator
from tasks import MinimalPair, Task, TokenizedTask, load

PAIRS, BATCH, COLUMNS = 10, 4, 13


@pytest.fixture(scope="module")
def task(learning_suite: Suite) -> TokenizedTask:
    """Prompts of several lengths, so that padding counts."""
    pairs = zip(*(load(f"agreement/{name}", limit=PAIRS // 2).pairs for name in ("simple", "attractor")), strict=True)
    mixed = tuple(MinimalPair(pair.right, pair.wrong) for both in pairs for pair in both)
    task = Task("mixed", "en", "here", mixed).tokenize(learning_suite.tokenizer)
    assert len(task) == PAIRS
    assert len({len(prompt) for prompt in task.prompts[:BATCH]}) > 1
    return task


def padded(task: TokenizedTask, rows: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of a batch, padded on the left."""
    longest = max(len(task.prompts[row]) for row in rows)
    ids, mask = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(task.prompts[row]) :] = torch.tensor(task.prompts[row])
        mask[i, longest - len(task.prompts[row]) :] = 1
    return ids, mask


def run(model, ids, mask, x=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Activation after block 0, and the logits at the last token with this activation replaced by x."""
    calls = []

    def hook(_module, _args, output):
        state = output[0] if isinstance(output, tuple) else output
        calls.append(state)
        if x is None:
            return None
        return (x, *output[1:]) if isinstance(output, tuple) else x

    handle = model.gpt_neox.layers[0].register_forward_hook(hook)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=mask, position_ids=positions).logits[:, -1]
    handle.remove()
    return calls[0], logits


def effects_of_batch(models, crosscoder: CrossCoder, task: TokenizedTask, rows: range, alphas: list[float]):
    """Effects ``C B S F`` on a path to zero features and zero error: gradient of the metric, mean over `alphas`."""
    ids, mask = padded(task, rows)
    with torch.no_grad():
        x = torch.stack([run(model, ids, mask)[0] for model in models], 2)
        codes = crosscoder.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        reconstruction = crosscoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    right, wrong = (torch.tensor([answers[row] for row in rows]) for answers in (task.right, task.wrong))
    all_effects = []
    for c, model in enumerate(models):
        # The decoder of one checkpoint, in the model's own scale
        decoder = (crosscoder.W_dec[:, c] / crosscoder.scales[c]).detach()
        offset = (crosscoder.b_dec[c] / crosscoder.scales[c]).detach()
        torch.testing.assert_close(codes @ decoder + offset, reconstruction[:, :, c], rtol=1e-4, atol=1e-4)
        error = x[:, :, c] - reconstruction[:, :, c]
        gradient = torch.zeros_like(codes)
        for alpha in alphas:
            f = ((1 - alpha) * codes).detach().requires_grad_()
            state = f @ decoder + offset + (1 - alpha) * error
            _, logits = run(model, ids, mask, state)
            metric = logits.gather(1, wrong[:, None]) - logits.gather(1, right[:, None])
            gradient += torch.autograd.grad(metric.sum(), f)[0] / len(alphas)
        all_effects.append((-codes * gradient).detach())
    return torch.stack(all_effects).double(), mask


@pytest.fixture(scope="module")
def batches(learning_suite: Suite, learning_crosscoder: CrossCoder, task: TokenizedTask):
    """Effects of each batch on the left Riemann sum of 10 steps, and at the clean state."""
    models = [AutoModelForCausalLM.from_pretrained(checkpoint.source).eval() for checkpoint in learning_suite]
    starts = range(0, PAIRS, BATCH)
    rows = [range(start, min(start + BATCH, PAIRS)) for start in starts]
    as_written = [
        effects_of_batch(models, learning_crosscoder, task, batch, [k / 10 for k in range(10)]) for batch in rows
    ]
    released = [effects_of_batch(models, learning_crosscoder, task, batch, [0.0]) for batch in rows]
    return {"ctt-as-written": as_written, "ctt-as-released": released}


def away_from(values: torch.Tensor, threshold: float) -> float:
    """A threshold near the given one that no effect is close to, so that rounding decides nothing."""
    sizes = values.abs().flatten().sort().values
    gaps = sizes[1:] - sizes[:-1]
    middles = (sizes[1:] + sizes[:-1]) / 2
    wide = middles[gaps > 1e-5]
    return float(wide[(wide - threshold).abs().argmin()])


@pytest.mark.parametrize("name", ["ctt-as-written", "ctt-as-released"])
def test_a_named_estimator_is_the_loop_over_padded_batches(
    learning_suite: Suite, learning_crosscoder: CrossCoder, task: TokenizedTask, batches, name: str
):
    values = torch.cat([effects.flatten() for effects, _ in batches[name]])
    threshold = away_from(values, float(values.abs().quantile(0.9)))
    expected = torch.zeros(len(learning_suite), learning_crosscoder.n_features, dtype=torch.float64)
    n_tokens = sum(len(prompt) for prompt in task.prompts)
    for effects, mask in batches[name]:
        large = effects * (effects.abs() > threshold)
        # No effect comes from padding, since nothing attends to it.
        assert large[:, mask == 0].abs().max() == 0 if (mask == 0).any() else True
        if name == "ctt-as-written":
            expected += large.sum((1, 2)) / n_tokens
        else:
            expected += large.flatten(1, 2).mean(1) * COLUMNS / PAIRS
    estimator = Estimator.named(name, threshold=threshold, batch_size=BATCH, columns=COLUMNS)
    attribution = attribute(learning_suite, learning_crosscoder, task, estimator)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(attribution.ie(), expected, rtol=1e-5, atol=1e-6)

    # Tables, RelIE and the selection follow.
    top = attribution.top(3)
    table = attribution.table(top, bootstrap=Bootstrap(20), undefined=0.5)
    ie = table.pivot(index="feature", columns="revision", values="ie").loc[top, list(learning_suite.revisions)]
    torch.testing.assert_close(torch.tensor(ie.to_numpy()), expected.T[top], rtol=1e-5, atol=1e-6)
    shares = relative(expected.T, undefined=0.5)
    torch.testing.assert_close(attribution.relie(undefined=0.5), shares, rtol=1e-4, atol=1e-5)
    absent = next(i for i in range(learning_crosscoder.n_features) if expected[:, i].abs().sum() == 0)
    filled = attribution.table([absent], bootstrap=Bootstrap(5), undefined=0.5)
    assert filled.relie.tolist() == [0.5] * len(learning_suite)
    assert attribution.table([absent], bootstrap=Bootstrap(5)).relie.isna().all()


def test_the_released_gradient_is_that_at_the_clean_state_and_not_the_integral(batches):
    as_written, released = (torch.cat([e.flatten(0, 2) for e, _ in batches[name]]) for name in batches)
    assert (as_written - released).abs().max() > 1e-2


def test_a_file_of_effects_keeps_how_they_are_aggregated(
    learning_suite: Suite, learning_crosscoder: CrossCoder, task: TokenizedTask, tmp_path
):
    estimator = Estimator.named("ctt-as-released", batch_size=3, columns=6)
    effects = attribute(learning_suite, learning_crosscoder, task, estimator).effects
    write_effects(tmp_path / "effects.safetensors", effects)
    for as_written, read in zip(effects, read_effects(tmp_path / "effects.safetensors"), strict=True):
        assert read.aggregation == estimator.aggregation
        assert torch.equal(as_written.per_feature(), read.per_feature())
