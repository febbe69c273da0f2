"""`score`, `patch` and `cross_entropy` against transformers' own logits."""

from __future__ import annotations

import plain_torch
import pytest
import torch
from torch.nn import functional

from interventions import (
    METRICS,
    InterventionError,
    Prompts,
    Sequences,
    ShapeError,
    Site,
    cross_entropy,
    fetch,
    patch,
    score,
)


def expected_scores(plain, prompts: Prompts, metric: str, edits_of_row=lambda row: None) -> torch.Tensor:
    """Score one prompt after another, without padding."""
    return torch.stack(
        [
            plain_torch.METRICS[metric](plain_torch.logits(plain, ids, edits_of_row(row))[-1], right, wrong).detach()
            for row, (ids, right, wrong) in enumerate(zip(prompts.ids, prompts.right, prompts.wrong, strict=True))
        ]
    ).float()


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_of_prompts_of_different_lengths_is_that_of_transformers(tiny, architecture, prompts, metric):
    model, plain = tiny(architecture)
    close(score(model, prompts, metric), expected_scores(plain, prompts, metric))


@pytest.mark.parametrize("max_tokens", [1, 10, 4096])
def test_any_budget_gives_the_same_scores(tiny, monkeypatch, prompts, max_tokens):
    model, plain = tiny("bloom")
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    close(score(model, prompts), expected_scores(plain, prompts, "logit_difference"))


def test_the_metric_may_be_a_function_of_all_logits(tiny, prompts):
    model, plain = tiny("gpt2")

    def margin(logits, right, wrong):
        return logits.max(1).values - logits.gather(1, right.unsqueeze(1)).squeeze(1)

    last_logits = [plain_torch.logits(plain, ids)[-1] for ids in prompts.ids]
    expected = torch.stack([last.max() - last[right] for last, right in zip(last_logits, prompts.right, strict=True)])
    close(score(model, prompts, margin), expected.float().detach())


def test_a_metric_function_that_returns_another_shape_is_rejected(tiny, prompts):
    with pytest.raises(ShapeError, match="must give one number for each of"):
        score(tiny("gpt2").model, prompts, lambda logits, right, wrong: logits.mean())


@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "olmo2"])
def test_edits_at_several_sites_equal_forward_hooks(tiny, prompts, name):
    model, plain = tiny(name)
    edits = {Site(2, "mlp"): lambda x: x * 0.5, Site(0): lambda x: x + 0.3, Site(1, "attn"): torch.zeros_like}
    actual = score(model, prompts, edits=edits)
    close(actual, expected_scores(plain, prompts, "logit_difference", lambda row: edits))
    assert (actual - score(model, prompts)).abs().max() > 0.1


@pytest.mark.parametrize("site", [Site(0), Site(1), Site(2), Site(-1), Site(1, "attn"), Site(2, "mlp"), Site(0, "mlp")])
@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "olmo2", "llama"])
def test_patching_equals_a_forward_hook_that_replaces_the_activation(tiny, prompts, monkeypatch, name, site):
    model, plain = tiny(name)
    x = torch.randn(prompts.n_tokens, 16, generator=torch.Generator().manual_seed(3))
    rows = x.double().split(prompts.lengths.tolist())
    resolved = site.resolve(3)
    expected = expected_scores(plain, prompts, "logit_difference", lambda row: {resolved: lambda _: rows[row][None]})
    close(patch(model, prompts, {site: x}), expected)
    monkeypatch.setattr(model, "max_tokens", 9)
    close(patch(model, prompts, {site: x}), expected)


def test_patching_reconstruction_plus_error_changes_nothing(tiny, architecture, prompts, decompose):
    model, _ = tiny(architecture)
    decomposition = decompose(model, prompts)
    x = decomposition.reconstruction + decomposition.error
    clean = score(model, prompts)
    close(patch(model, prompts, {Site(1): x}), clean, atol=1e-5 * max(1.0, clean.abs().max().item()))
    assert (patch(model, prompts, {Site(1): decomposition.reconstruction}) - clean).abs().max() > 1e-2


def test_patching_with_the_patch_prompts_activations_at_the_last_layer_gives_their_score(tiny, prompts):
    model, plain = tiny("olmo2")
    x = fetch(model, prompts.patched, [Site(2)])[Site(2)]
    swapped = Prompts(prompts.patch, prompts.right, prompts.wrong)
    close(patch(model, prompts, {Site(2): x}), expected_scores(plain, swapped, "logit_difference"))


@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "olmo2"])
@pytest.mark.parametrize("positions", ["all", "last", "span"])
def test_patching_several_sites_at_positions_equals_forward_hooks(tiny, prompts, monkeypatch, name, positions):
    model, plain = tiny(name)
    generator = torch.Generator().manual_seed(3)
    new = {
        site: torch.randn(prompts.n_tokens, 16, generator=generator)
        for site in (Site(0, "mlp"), Site(1), Site(2, "attn"))
    }
    spans = [(length // 2, min(length // 2 + 2, length)) for length in prompts.lengths.tolist()]
    cut = {"all": [(0, length) for length in prompts.lengths.tolist()], "span": spans}
    cut["last"] = [(length - 1, length) for length in prompts.lengths.tolist()]

    def hooks(row: int) -> dict:
        start, end = cut[positions][row]

        def edit_of(rows: torch.Tensor):
            return lambda x: torch.cat([x[:, :start], rows[None, start:end].to(x), x[:, end:]], 1)

        return {site: edit_of(x.split(prompts.lengths.tolist())[row]) for site, x in new.items()}

    monkeypatch.setattr(model, "max_tokens", 15)
    actual = patch(model, prompts, new, positions=spans if positions == "span" else positions)
    close(actual, expected_scores(plain, prompts, "logit_difference", hooks))


def test_activations_of_another_number_of_tokens_are_rejected(tiny, prompts):
    with pytest.raises(ShapeError, match=r"5 prompts at resid\.1 .*shape \(25, 16\), one row a token; got \(24, 16\)"):
        patch(tiny("llama").model, prompts, {Site(1): torch.zeros(24, 16)})


def expected_loss(plain, sequences: Sequences, edits_of_row=lambda row: None) -> float:
    total, count = 0.0, 0
    for row, ids in enumerate(sequences.ids):
        if len(ids) > 1:
            logits = plain_torch.logits(plain, ids, edits_of_row(row))
            total += functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum").item()
            count += len(ids) - 1
    return total / count


TEXT = Sequences(((5, 6, 7, 8, 9), (10,), (11, 12, 13), (14, 15), (16, 17, 18, 19, 20, 21, 22)))


@pytest.mark.parametrize("max_tokens", [1, 9, 4096])
def test_cross_entropy_is_that_of_transformers_over_all_tokens_but_the_first(
    tiny, monkeypatch, architecture, max_tokens
):
    model, plain = tiny(architecture)
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    assert cross_entropy(model, TEXT) == pytest.approx(expected_loss(plain, TEXT), abs=2e-4)


@pytest.mark.parametrize("name", ["gpt_neox", "bloom"])
def test_cross_entropy_with_edits_or_a_replacement_equals_forward_hooks(tiny, name):
    model, plain = tiny(name)
    edits = {Site(1): lambda x: x * 0.5}
    assert cross_entropy(model, TEXT, edits) == pytest.approx(expected_loss(plain, TEXT, lambda row: edits), abs=2e-4)
    x = torch.randn(TEXT.n_tokens, 16, generator=torch.Generator().manual_seed(3))
    rows = x.double().split(TEXT.lengths.tolist())
    expected = expected_loss(plain, TEXT, lambda row: {Site(1): lambda _: rows[row][None]})
    assert cross_entropy(model, TEXT, replacement=(Site(1), x)) == pytest.approx(expected, abs=2e-4)


def test_cross_entropy_rejects_edits_together_with_a_replacement(tiny):
    model, _ = tiny("llama")
    with pytest.raises(InterventionError, match="edits or a replacement, not both"):
        cross_entropy(model, TEXT, {Site(1): torch.zeros_like}, replacement=(Site(1), torch.zeros(18, 16)))


def test_cross_entropy_of_single_tokens_is_rejected(tiny):
    with pytest.raises(InterventionError, match="at least two tokens"):
        cross_entropy(tiny("llama").model, Sequences(((5,), (6,))))
