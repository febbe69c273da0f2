from __future__ import annotations

import plain_torch
import pytest
import torch
from transformers import AutoModelForCausalLM

from interventions import InterventionError, Model, Sequences, Site, SiteError, fetch

RAGGED = Sequences(((5, 6, 7, 8, 9), (10,), (11, 12, 13), (14, 15), (16, 17, 18, 19, 20, 21, 22)))
EVERY_SITE = [Site(layer, component) for layer in range(3) for component in ("resid", "mlp", "attn")]


def hooked(plain, sequences: Sequences) -> dict[Site, torch.Tensor]:
    """Read the activations of one prompt after another with forward hooks."""
    parts = [plain_torch.residual_parts(plain, ids) for ids in sequences.ids]
    return {site: torch.cat([part[site] for part in parts]) for site in parts[0]}


def assert_same(actual: dict, expected: dict, sites=EVERY_SITE):
    for site in sites:
        scale = expected[site].abs().max().item()
        torch.testing.assert_close(actual[site].double(), expected[site].double(), rtol=0, atol=2e-5 * max(scale, 1.0))


def test_activations_of_every_site_are_those_of_forward_hooks(tiny, architecture):
    model, plain = tiny(architecture)
    actual = fetch(model, RAGGED, EVERY_SITE)
    assert set(actual) == set(EVERY_SITE)
    assert all(x.shape == (18, 16) for x in actual.values())
    assert_same(actual, hooked(plain, RAGGED))


@pytest.mark.parametrize("max_tokens", [1, 6, 14, 4096])
@pytest.mark.parametrize("name", ["gpt_neox", "bloom"])
def test_any_budget_gives_the_same_activations(tiny, monkeypatch, name, max_tokens):
    model, plain = tiny(name)
    monkeypatch.setattr(model, "max_tokens", max_tokens)
    assert_same(fetch(model, RAGGED, EVERY_SITE), hooked(plain, RAGGED))


def test_an_activation_does_not_depend_on_the_other_sequences_of_its_batch(tiny, architecture):
    model, _ = tiny(architecture)
    sites = [Site(2), Site(2, "attn")]
    together = fetch(model, RAGGED, sites)
    for row, ids in enumerate(RAGGED.ids):
        alone = fetch(model, Sequences((ids,)), sites)
        start = int(RAGGED.starts[row])
        for site in sites:
            torch.testing.assert_close(together[site][start : start + len(ids)], alone[site], rtol=1e-4, atol=2e-5)


def test_the_model_stops_at_the_last_requested_site(tiny):
    model, _ = tiny("llama")
    ran = []
    layers = plain_torch.blocks(model.module)
    handles = [layers[layer].mlp.register_forward_hook(lambda *_, layer=layer: ran.append(layer)) for layer in range(3)]
    fetch(model, RAGGED, [Site(0), Site(1)])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_negative_layers_count_from_the_last_and_keep_their_name(tiny):
    model, _ = tiny("olmo")
    actual = fetch(model, RAGGED, [Site(-1), Site(2), Site(-3, "mlp")])
    assert torch.equal(actual[Site(-1)], actual[Site(2)])
    assert_same({Site(0, "mlp"): actual[Site(-3, "mlp")]}, fetch(model, RAGGED, [Site(0, "mlp")]), [Site(0, "mlp")])


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_does_not_exist_is_rejected(tiny, layer):
    with pytest.raises(SiteError, match=f"Layer {layer} does not exist: the model has layers 0 to 2"):
        fetch(tiny("llama").model, RAGGED, [Site(layer)])


def test_a_nan_activation_is_named_by_model_site_sequence_and_position(module_of, tokenizer):
    module = module_of("gpt_neox")
    model = Model.wrap(module, tokenizer, "half-broken")
    at_token_20 = []

    def break_one(_module, _args, output):
        return torch.where(at_token_20[-1].unsqueeze(-1), torch.nan, output)

    # Attention would spread a NaN over the whole sequence, so the last module of block 1 computes it
    module.gpt_neox.embed_in.register_forward_hook(lambda _m, args, _o: at_token_20.append(args[0] == 20))
    module.gpt_neox.layers[1].mlp.dense_4h_to_h.register_forward_hook(break_one)
    with pytest.raises(InterventionError, match=r"half-broken has NaN .* resid\.1, first in sequence 4 at position 4"):
        fetch(model, RAGGED, [Site(0), Site(1)])
    assert bool(fetch(model, RAGGED, [Site(0)])[Site(0)].isfinite().all())


def test_a_nan_at_the_padding_token_does_not_reach_any_activation(module_of, tokenizer, tiny):
    module = module_of("gpt_neox")
    model = Model.wrap(module, tokenizer)
    expected = hooked(tiny("gpt_neox").plain, RAGGED)
    with torch.no_grad():
        module.gpt_neox.embed_in.weight[0] = 1e4
    assert_same(fetch(model, RAGGED, EVERY_SITE), expected)


def test_activations_of_trained_suites_are_those_of_forward_hooks(trained, suite_folder):
    plain = AutoModelForCausalLM.from_pretrained(suite_folder).double().eval()
    sequences = Sequences(((40, 50, 60), (70, 80, 90, 100, 110, 120, 130), (5,)))
    sites = [Site(layer, component) for layer in range(trained.n_layers) for component in ("resid", "mlp", "attn")]
    assert_same(fetch(trained, sequences, sites), hooked(plain, sequences), sites)


def test_a_token_outside_the_vocabulary_is_named(tiny):
    sequences = Sequences(((1, 2), (3, 10_000)))
    with pytest.raises(InterventionError, match=r"Sequence 1 has token 10000"):
        fetch(tiny("gpt_neox").model, sequences, [Site(0)])
