"""Steering, clamping, transplanting and circuits against forward hooks on the plain model."""

from __future__ import annotations

from collections.abc import Callable

import plain_torch
import pytest
import torch

from interventions import InterventionError, Prompts, ShapeError, Site, circuit, clamp, steer, transplant

LAYER = Site(1)


def metrics(plain, prompts: Prompts, changed: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The metric of every prompt after ``x -> changed(row, x)``, x of shape S D."""
    differences = []
    for row, ids in enumerate(prompts.ids):
        last = plain_torch.logits(plain, ids, {LAYER: lambda x, row=row: changed(row, x[0])[None]})[-1]
        differences.append(plain_torch.difference(last, prompts.right[row], prompts.wrong[row]))
    return torch.stack(differences).float()


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


def masks_of(positions, prompts: Prompts) -> list[torch.Tensor]:
    masks = []
    for row, ids in enumerate(prompts.ids):
        mask = torch.zeros(len(ids), 1, dtype=torch.float64)
        start, end = {"all": (0, len(ids)), "last": (len(ids) - 1, len(ids))}.get(str(positions), (0, 0))
        if not isinstance(positions, str):
            start, end = positions[row]
        mask[start:end] = 1
        masks.append(mask)
    return masks


SPANS = [(0, 2), (2, 5), (1, 2), (0, 1), (3, 5)]


@pytest.mark.parametrize("positions", ["all", "last", SPANS], ids=["all", "last", "spans"])
@pytest.mark.parametrize("name", ["gpt_neox", "bloom"])
def test_steering_adds_directions_at_the_given_positions(tiny, prompts, dictionary, decompose, name, positions):
    model, plain = tiny(name)
    steered = steer(model, prompts, LAYER, decompose(model, prompts), {7: 5.0, 21: -3.0}, positions=positions)
    push, masks = 5.0 * dictionary.directions[7] - 3.0 * dictionary.directions[21], masks_of(positions, prompts)
    close(steered.metric, metrics(plain, prompts, lambda row, x: x + masks[row] * push))
    close(steered.clean, metrics(plain, prompts, lambda row, x: x))
    assert steered.change.abs().max() > 0.1


@pytest.mark.parametrize("positions", ["all", "last", SPANS], ids=["all", "last", "spans"])
def test_clamping_holds_features_at_their_values(tiny, prompts, dictionary, decompose, positions):
    model, plain = tiny("olmo2")
    steered = clamp(model, prompts, LAYER, decompose(model, prompts), {7: 0.0, 21: 2.5}, positions=positions)
    masks = masks_of(positions, prompts)

    def clamped(row: int, x: torch.Tensor) -> torch.Tensor:
        f = dictionary.encode(x)
        values = f.clone()
        values[:, 7], values[:, 21] = 0.0, 2.5
        return x + masks[row] * (dictionary.decode(values) - dictionary.decode(f))

    close(steered.metric, metrics(plain, prompts, clamped))


def test_transplanting_replaces_a_models_features_by_those_of_another_model(tiny, prompts, dictionary, decompose):
    (late, plain_late), (early, plain_early) = tiny("llama"), tiny("olmo")
    steered = transplant(
        early, prompts, LAYER, decompose(early, prompts), decompose(late, prompts), [3, 7, 21], scale=0.5
    )

    def moved(row: int, x: torch.Tensor) -> torch.Tensor:
        source = dictionary.encode(plain_torch.residual(plain_late, prompts.ids[row], 1))
        change = 0.5 * source - dictionary.encode(x)
        return x + change[:, [3, 7, 21]] @ dictionary.directions[[3, 7, 21]]

    close(steered.metric, metrics(plain_early, prompts, moved))


@pytest.mark.parametrize("keep_error", [True, False])
def test_circuits_keep_and_ablate_nested_sets(tiny, prompts, dictionary, decompose, keep_error):
    model, plain = tiny("bloom")
    ranked = [7, 21, 3, 39, 0]
    nested = circuit(
        model, prompts, LAYER, decompose(model, prompts), ranked, sizes=(1, 3, 5, 50), keep_error=keep_error
    )
    assert nested.sizes == (1, 3, 5)

    def only(features: list[int]):
        def changed(row: int, x: torch.Tensor) -> torch.Tensor:
            f = dictionary.encode(x)
            error = (x - dictionary.decode(f)) if keep_error else 0.0
            return f[:, features] @ dictionary.directions[features] + dictionary.bias + error

        return changed

    def all_but(features: list[int]):
        return lambda row, x: x - dictionary.encode(x)[:, features] @ dictionary.directions[features]

    full, empty = metrics(plain, prompts, lambda row, x: x), metrics(plain, prompts, only([]))
    close(nested.full, full)
    close(nested.empty, empty)
    for index, size in enumerate(nested.sizes):
        restored, ablated = (
            metrics(plain, prompts, only(ranked[:size])),
            metrics(plain, prompts, all_but(ranked[:size])),
        )
        close(nested.kept[index], restored)
        close(nested.ablated[index], ablated)
        share = float((restored.mean() - empty.mean()) / (full.mean() - empty.mean()))
        assert nested.faithfulness()[index].item() == pytest.approx(share, abs=1e-3)
        left = float((ablated.mean() - empty.mean()) / (full.mean() - empty.mean()))
        assert nested.completeness()[index].item() == pytest.approx(left, abs=1e-3)


def test_a_circuit_of_all_features_is_the_whole_model(tiny, prompts, decompose):
    model, _ = tiny("gpt_neox")
    nested = circuit(model, prompts, LAYER, decompose(model, prompts), range(40), sizes=[40])
    assert nested.faithfulness().item() == pytest.approx(1.0, abs=1e-4)
    assert nested.completeness().item() == pytest.approx(0.0, abs=1e-4)


def test_what_cannot_be_steered_is_refused(tiny, prompts, decompose):
    model, _ = tiny("gpt2")
    clean = decompose(model, prompts)
    with pytest.raises(InterventionError, match="no feature to change"):
        steer(model, prompts, LAYER, clean, {})
    with pytest.raises(InterventionError, match="Feature 40 does not exist"):
        clamp(model, prompts, LAYER, clean, {40: 1.0})
    with pytest.raises(InterventionError, match="each of them once"):
        circuit(model, prompts, LAYER, clean, [3, 3])
    with pytest.raises(ShapeError, match="cannot be carried"):
        transplant(model, prompts, LAYER, clean, decompose(model, Prompts(((5, 6),), (1,), (2,))), [3])
