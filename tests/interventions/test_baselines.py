"""Baselines, and effects at sites other than the residual stream."""

from __future__ import annotations

import numpy as np
import plain_torch
import pytest
import torch

from interventions import Baseline, Codes, Decomposition, Estimator, InterventionError, Prompts, Sequences, Site, fetch
from interventions import indirect_effects as effects_of

NODES, WEIGHTS = (array / 2 for array in np.polynomial.legendre.leggauss(4))
NODES = NODES + 0.5


def decomposed(model, sequences, dictionary, site: Site) -> Decomposition:
    x = fetch(model, sequences, [site])[site]
    codes = Codes.from_dense(dictionary.encode(x))
    return Decomposition(x, codes, dictionary.directions.float(), dictionary.bias.float())


def plain_states(plain, dictionary, prompts: Prompts, site: Site) -> tuple[list, list, list]:
    """Activations, codes and error terms of every prompt, in double precision."""
    xs = [plain_torch.residual_parts(plain, ids)[site] for ids in prompts.ids]
    fs = [dictionary.encode(x) for x in xs]
    return xs, fs, [x - dictionary.decode(f) for x, f in zip(xs, fs, strict=True)]


def through_all_features(
    plain, dictionary, prompts, row, site, f, e, f_end, e_end
) -> tuple[torch.Tensor, torch.Tensor]:
    """Effects S F and the error term's of one prompt along a given path, by autograd through the whole dictionary."""
    a = torch.from_numpy(NODES).view(-1, 1, 1)
    f_a, e_a = ((1 - a) * f + a * f_end).requires_grad_(), ((1 - a) * e + a * e_end).requires_grad_()
    edits = {site: lambda _: dictionary.decode(f_a) + e_a}
    last = plain_torch.copies(plain, prompts.ids[row], len(NODES), edits)[:, -1]
    value = (torch.from_numpy(WEIGHTS) * (last[:, prompts.wrong[row]] - last[:, prompts.right[row]])).sum()
    by_f, by_e = torch.autograd.grad(value, (f_a, e_a))
    return ((f_end - f) * by_f.sum(0)).detach(), ((e_end - e) * by_e.sum(0)).sum().detach()


def assert_effects(result, prompts, expected: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    by_prompt = result.per_prompt(range(result.n_features))
    scale = max(effects.sum(0).abs().max().item() for effects, _ in expected)
    assert scale > 1e-2
    for row, (effects, error) in enumerate(expected):
        assert (by_prompt[row] - effects.sum(0)).abs().max() < 1e-4 * scale
        assert abs(result.error[row].item() - error.item()) < 1e-4 * max(scale, abs(error.item()))


@pytest.mark.parametrize("site", [Site(0, "mlp"), Site(1, "attn"), Site(2, "mlp"), Site(0), Site(2)], ids=str)
@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "olmo2", "llama"])
def test_effects_at_every_kind_of_site_are_autograd_through_the_whole_dictionary(tiny, prompts, dictionary, name, site):
    model, plain = tiny(name)
    result = effects_of(model, prompts, site, decomposed(model, prompts, dictionary, site), Estimator(steps=4))
    _, fs, es = plain_states(plain, dictionary, prompts, site)
    expected = [
        through_all_features(plain, dictionary, prompts, row, site, f, e, torch.zeros_like(f), torch.zeros_like(e))
        for row, (f, e) in enumerate(zip(fs, es, strict=True))
    ]
    assert_effects(result, prompts, expected)


def test_effects_towards_the_mean_are_autograd_towards_the_mean(tiny, prompts, dictionary):
    model, plain = tiny("gpt_neox")
    clean = decomposed(model, prompts, dictionary, Site(1))
    result = effects_of(model, prompts, Site(1), clean, Estimator(baseline="mean", steps=4))
    _, fs, es = plain_states(plain, dictionary, prompts, Site(1))
    f_end, e_end = torch.cat(fs).mean(0), torch.cat(es).mean(0)
    expected = [
        through_all_features(plain, dictionary, prompts, row, Site(1), f, e, f_end.expand_as(f), e_end.expand_as(e))
        for row, (f, e) in enumerate(zip(fs, es, strict=True))
    ]
    assert_effects(result, prompts, expected)


def test_every_baseline_decodes_to_its_activation(tiny, prompts, dictionary):
    model, _ = tiny("bloom")
    clean = decomposed(model, prompts, dictionary, Site(1))
    patched = decomposed(model, prompts.patched, dictionary, Site(1))
    baselines = [
        Baseline.zero(clean),
        Baseline.mean(clean),
        Baseline.mean(clean, patched),
        Baseline.patch(patched),
        Baseline.resample(clean, prompts, seed=3),
    ]
    for baseline in baselines:
        decoded = baseline.codes.dense() @ clean.directions + clean.bias + baseline.error
        torch.testing.assert_close(baseline.x, decoded, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(baseline.change(clean).dense(), baseline.codes.dense() - clean.codes.dense())


def test_resampling_takes_another_prompt_aligned_at_the_last_token(tiny, prompts, dictionary):
    model, _ = tiny("bloom")
    clean = decomposed(model, prompts, dictionary, Site(1))
    rows = clean.x.split(prompts.lengths.tolist())
    donors = set()
    for seed in range(6):
        resampled = Baseline.resample(clean, prompts, seed=seed)
        assert torch.equal(resampled.x, Baseline.resample(clean, prompts, seed=seed).x)
        for row, x in enumerate(resampled.x.split(prompts.lengths.tolist())):
            aligned = [
                torch.stack([donor[max(0, len(donor) - len(x) + position)] for position in range(len(x))])
                for donor in rows
            ]
            matches = [index for index, candidate in enumerate(aligned) if torch.equal(candidate, x)]
            assert len(matches) == 1
            assert matches[0] != row
            donors.add((row, matches[0]))
    assert len(donors) > 10


def test_resampling_one_prompt_is_refused(tiny, dictionary):
    model, _ = tiny("bloom")
    single = Sequences(((5, 6, 7),))
    with pytest.raises(InterventionError, match="at least two prompts"):
        Baseline.resample(decomposed(model, single, dictionary, Site(1)), single)


def test_a_named_baseline_is_the_one_of_its_constructor(tiny, prompts, dictionary):
    model, _ = tiny("bloom")
    clean = decomposed(model, prompts, dictionary, Site(1))
    patched = decomposed(model, prompts.patched, dictionary, Site(1))
    expected = {
        "zero": Baseline.zero(clean),
        "mean": Baseline.mean(clean),
        "resample": Baseline.resample(clean, prompts, seed=3),
        "patch": Baseline.patch(patched),
    }
    for name, baseline in expected.items():
        assert torch.equal(Baseline.named(name, clean, prompts, patched, seed=3).x, baseline.x)
    assert Baseline.of(expected["mean"], clean, prompts) is expected["mean"]


def test_a_patch_baseline_without_patch_prompts_and_an_unknown_name_are_refused(tiny, prompts, dictionary):
    model, _ = tiny("bloom")
    clean = decomposed(model, prompts, dictionary, Site(1))
    with pytest.raises(InterventionError, match="'patch' needs the decomposition of the patch prompts"):
        Baseline.of("patch", clean, prompts)
    with pytest.raises(InterventionError, match="no baseline 'meen': did you mean 'mean'"):
        Baseline.named("meen", clean, prompts)
