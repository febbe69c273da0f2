from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from crosstime.errors import SuiteError
from crosstime.suites.compute import Compute
from crosstime.suites.null_suites import randomised_suite, same_checkpoint
from interventions import Sequences, Site, fetch


def activations(suite) -> torch.Tensor:
    text = Sequences([(1, 2, 3, 4)])
    return torch.stack(Compute().each(suite, lambda index, model: fetch(model, text, [Site(1)])[Site(1)]))


def test_every_name_of_the_same_checkpoint_has_its_activations(brief_suite):
    last = brief_suite.revisions[-1]
    same = same_checkpoint(brief_suite, last)
    assert same.revisions == brief_suite.revisions
    assert [checkpoint.step for checkpoint in same] == [checkpoint.step for checkpoint in brief_suite]
    x = activations(same)
    assert torch.equal(x[0], x[1])
    assert torch.equal(x[0], activations(brief_suite)[-1])
    assert not torch.equal(*activations(brief_suite))


def test_a_checkpoint_that_the_suite_does_not_have_is_refused(brief_suite):
    with pytest.raises(SuiteError, match="no revision 'step7'"):
        same_checkpoint(brief_suite, "step7")


def test_randomised_weights_have_mean_and_norm_of_the_trained_ones(brief_suite, tmp_path):
    random = randomised_suite(brief_suite, tmp_path / "random", seed=4)
    assert random.revisions == brief_suite.revisions
    drawn = []
    for original, checkpoint in zip(brief_suite, random, strict=True):
        trained = load_file(f"{original.source}/model.safetensors")
        values = load_file(f"{checkpoint.source}/model.safetensors")
        assert values.keys() == trained.keys()
        for name, weight in trained.items():
            new, old = values[name].double(), weight.double()
            assert new.shape == old.shape
            assert new.norm().item() == pytest.approx(old.norm().item(), rel=1e-4, abs=1e-6)
            assert new.mean().item() == pytest.approx(old.mean().item(), rel=1e-3, abs=1e-6)
            if old.std() > 0:
                centred = torch.stack([new.flatten() - new.mean(), old.flatten() - old.mean()])
                assert abs(torch.corrcoef(centred)[0, 1].item()) < max(0.2, 5 / len(old.flatten()) ** 0.5)
        drawn.append(values)

    # One draw for all checkpoints: only means and norms differ
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    first, last = (values[name].double() for values in drawn)
    torch.testing.assert_close(
        (first - first.mean()) / first.std(), (last - last.mean()) / last.std(), rtol=1e-4, atol=1e-5
    )
    assert activations(random).isfinite().all()


def test_an_existing_randomised_suite_is_opened_as_it_is(brief_suite, tmp_path):
    first = randomised_suite(brief_suite, tmp_path / "random")
    before = first.fingerprint
    assert randomised_suite(brief_suite, tmp_path / "random", seed=9).fingerprint == before
    assert randomised_suite(brief_suite, tmp_path / "other", seed=9).fingerprint != before
