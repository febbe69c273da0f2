"""Every function in nnsight's simulation of a server, compared with a local run."""

from __future__ import annotations

import sys

import pytest
import torch

from interventions import (
    Estimator,
    InterventionError,
    MixedModelsError,
    Model,
    Remote,
    Sequences,
    Site,
    ablate,
    clamp,
    cross_entropy,
    fetch,
    indirect_effects,
    log_likelihoods,
    patch,
    score,
)

RAGGED = Sequences(((5, 6, 7, 8, 9), (10,), (11, 12, 13), (14, 15)))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module", params=["gpt_neox", "bloom"])
def here_and_away(request, tiny, module_of, tokenizer) -> tuple[Model, Model]:
    """The same model, run here and in the simulation."""
    name = request.param
    return tiny(name).model, Model.wrap(module_of(name), tokenizer, name, remote="local")


def test_validation_has_the_same_findings_in_the_simulation(here_and_away):
    here, away = here_and_away
    assert (away.remote.host, here.remote) == ("local", None)
    assert (away.components, away.block_tuple, away.dtype) == (here.components, here.block_tuple, here.dtype)
    assert away.gradients


def test_activations_are_those_of_a_local_run(here_and_away):
    here, away = here_and_away
    sites = [Site(0), Site(1, "attn"), Site(2, "mlp")]
    expected, actual = fetch(here, RAGGED, sites), fetch(away, RAGGED, sites)
    for site in sites:
        torch.testing.assert_close(actual[site], expected[site], **CLOSE)


def test_activations_at_positions_are_those_of_a_local_run(here_and_away):
    here, away = here_and_away
    for positions in ("last", [(0, 2), (0, 1), (1, 3), (1, 2)]):
        expected = fetch(here, RAGGED, [Site(1)], positions=positions)[Site(1)]
        torch.testing.assert_close(fetch(away, RAGGED, [Site(1)], positions=positions)[Site(1)], expected, **CLOSE)


@pytest.mark.parametrize("metric", ["logit_difference", "probability_difference", "cross_entropy"])
def test_scores_are_those_of_a_local_run(here_and_away, prompts, metric):
    here, away = here_and_away
    torch.testing.assert_close(score(away, prompts, metric), score(here, prompts, metric), **CLOSE)


def test_scores_by_a_custom_metric_with_edits_are_those_of_a_local_run(here_and_away, prompts):
    here, away = here_and_away

    def margin(logits, right, wrong):
        return logits.gather(1, wrong.unsqueeze(1)).squeeze(1) - logits.mean(1)

    shift = torch.linspace(-1, 1, here.d_model)
    edits = {Site(1): lambda x: x + shift, Site(2, "mlp"): torch.zeros_like}
    expected = score(here, prompts, margin, edits=edits)
    torch.testing.assert_close(score(away, prompts, margin, edits=edits), expected, **CLOSE)
    assert (expected - score(here, prompts, margin)).abs().max() > 1e-3


def test_patches_and_clamped_features_are_those_of_a_local_run(here_and_away, prompts, decompose):
    here, away = here_and_away
    clean = decompose(here, prompts)
    x = {Site(1): clean.reconstruction, Site(2, "attn"): clean.x}
    expected = patch(here, prompts, x, positions="last")
    torch.testing.assert_close(patch(away, prompts, x, positions="last"), expected, **CLOSE)
    held = clamp(here, prompts, Site(1), clean, {3: 1.5}).metric
    torch.testing.assert_close(clamp(away, prompts, Site(1), clean, {3: 1.5}).metric, held, **CLOSE)


@pytest.mark.parametrize("method", ["ig", "atp", "exact"])
@pytest.mark.parametrize("component", ["resid", "mlp"])
def test_effects_are_those_of_a_local_run(here_and_away, prompts, decompose, method, component):
    here, away = here_and_away
    clean, site = decompose(here, prompts), Site(1, component)
    expected = indirect_effects(here, prompts, site, clean, Estimator(method, steps=5))
    actual = indirect_effects(away, prompts, site, clean, Estimator(method, steps=5))
    torch.testing.assert_close(actual.per_feature(), expected.per_feature(), **CLOSE)
    torch.testing.assert_close(actual.error, expected.error, **CLOSE)
    assert expected.per_feature().abs().max() > 1e-2


def test_effects_by_a_metric_of_the_whole_vocabulary_are_those_of_a_local_run(here_and_away, prompts, decompose):
    here, away = here_and_away
    clean = decompose(here, prompts)
    estimator = Estimator(baseline="mean", metric="cross_entropy", steps=3)
    expected = indirect_effects(here, prompts, Site(1), clean, estimator).per_feature()
    torch.testing.assert_close(
        indirect_effects(away, prompts, Site(1), clean, estimator).per_feature(), expected, **CLOSE
    )


def test_ablations_are_those_of_a_local_run(here_and_away, prompts, decompose):
    here, away = here_and_away
    clean = decompose(here, prompts)
    expected = ablate(here, prompts, Site(1), clean, [3, 5, [3, 5, 8]])
    torch.testing.assert_close(
        ablate(away, prompts, Site(1), clean, [3, 5, [3, 5, 8]]).metric, expected.metric, **CLOSE
    )


def test_losses_are_those_of_a_local_run(here_and_away, decompose):
    here, away = here_and_away
    put = (Site(1), decompose(here, RAGGED).reconstruction)
    assert cross_entropy(away, RAGGED) == pytest.approx(cross_entropy(here, RAGGED), rel=1e-5)
    assert cross_entropy(away, RAGGED, replacement=put) == pytest.approx(
        cross_entropy(here, RAGGED, replacement=put), rel=1e-5
    )
    torch.testing.assert_close(log_likelihoods(away, RAGGED), log_likelihoods(here, RAGGED), **CLOSE)


def test_requests_are_counted_and_the_search_path_is_restored(here_and_away):
    _, away = here_and_away
    before, searched = away.remote.traffic.requests, list(sys.path)
    fetch(away, RAGGED, [Site(1)])
    assert away.remote.traffic.requests == before + 1
    assert sys.path == searched


def test_an_edit_that_reaches_into_another_model_is_rejected_before_it_is_sent(here_and_away, prompts):
    here, away = here_and_away
    sent = away.remote.traffic.requests
    with pytest.raises(MixedModelsError, match="reaches into another model"):
        score(away, prompts, edits={Site(1): lambda x: x + here.blocks[0].output})
    with pytest.raises(MixedModelsError, match=away.name):
        score(away, prompts, edits={Site(1): lambda x: x + here.norm.weight.sum()})
    assert away.remote.traffic.requests == sent


@pytest.mark.parametrize("host", ["nowhere", "ftp://host", ""])
def test_a_host_that_is_not_a_url_is_rejected(host):
    with pytest.raises(InterventionError, match="http:// or https://"):
        Remote(host)


def test_a_remote_is_made_of_every_form_of_the_argument(monkeypatch):
    monkeypatch.setenv("NDIF_HOST", "http://127.0.0.1:1/")
    assert Remote.of(None) is Remote.of(False) is None
    assert Remote.of(True).host == Remote("hosted").host == "http://127.0.0.1:1"
    remote = Remote("local", wire="float16")
    assert Remote.of(remote) is remote
    assert remote.wire_dtype == torch.float16
    with pytest.raises(InterventionError, match="did you mean 'bfloat16'"):
        Remote("local", wire="bfloat")
    with pytest.raises(InterventionError, match="auto"):
        Remote("local", sandboxed="maybe")
    monkeypatch.setenv("NDIF_HOST", "127.0.0.1:1")
    with pytest.raises(InterventionError, match=r"NDIF_HOST is '127\.0\.0\.1:1'"):
        Remote.of(True)
