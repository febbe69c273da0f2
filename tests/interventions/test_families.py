"""Every family of transformers that the docs name is read, changed and scored as forward hooks alone do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import FAMILIES, REFUSED, VOCABULARY, Offer, build
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from interventions import Codes, InterventionError, Model, Prompts, Site, fetch
from interventions.replacement import replace
from interventions.upward import Upward

pytestmark = [
    pytest.mark.filterwarnings("ignore:Module .* has a submodule named 'output':UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]
PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
PROMPTS = Prompts(((5, 9, 11, 13, 21, 30, 44), (8, 17, 33), (40, 7, 22, 51, 12)), (4, 6, 10), (14, 16, 20))


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    """A tokenizer of 60 words."""
    vocabulary = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w3"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="w3", eos_token="w2", pad_token="w0", bos_token="w1"
    )


@pytest.fixture(scope="module")
def opened(words) -> Callable[[str], tuple[Model, nn.Module]]:
    """A function that opens a family, once for all tests."""
    models_of_families: dict[str, tuple[Model, nn.Module]] = {}

    def open_family(family: str) -> tuple[Model, nn.Module]:
        if family not in models_of_families:
            try:
                module = build(*FAMILIES[family])
            except (ValueError, KeyError) as error:
                pytest.skip(f"the installed transformers has no {family}: {error}")
            models_of_families[family] = Model.wrap(module, words, family), module
        return models_of_families[family]

    return open_family


def first(value: Tensor | tuple) -> Tensor:
    """The hidden states in what a module returns."""
    return value[0] if isinstance(value, tuple) else value


def hooked(model: Model, module: nn.Module, site: Site) -> nn.Module:
    """The module whose output is the activation at a site."""
    block = module.get_submodule(model.architecture.blocks)[site.layer]
    return block if site.component == "resid" else block.get_submodule(model.architecture.path(block, site.component))


def alone(module: nn.Module, ids: tuple[int, ...], at: nn.Module, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One prompt without padding: the activation ``S D`` at a module, and the last logits; with `x` in its place."""
    activations: list[Tensor] = []

    def hook(_module, _inputs, output):
        activations.append(first(output)[0])
        if x is None:
            return None
        return (x[None], *output[1:]) if isinstance(output, tuple) else x[None]

    handle = at.register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
    finally:
        handle.remove()
    return activations[0], logits[0, -1]


def sites_of(model: Model) -> list[Site]:
    """Every residual site, and the attention and MLP of every layer that has one."""
    return [Site(layer, name) for layer in range(model.n_layers) for name in model.components_at(layer)]


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_those_of_forward_hooks_on_one_prompt_at_a_time(opened, family: str):
    model, module = opened(family)
    sites = sites_of(model)
    assert len({site.layer for site in sites if site.component == "resid"}) == model.n_layers
    activations = fetch(model, PROMPTS, sites)
    for site in sites:
        expected = torch.cat([alone(module, ids, hooked(model, module, site))[0] for ids in PROMPTS.ids])
        assert (activations[site] - expected).abs().max() <= 1e-4 * expected.abs().max(), site


@pytest.mark.parametrize("family", FAMILIES)
def test_changed_activations_have_the_effect_that_forward_hooks_have(opened, family: str):
    model, module = opened(family)
    middle = {name: [site for site in sites_of(model) if site.component == name] for name in model.components}
    for candidates in middle.values():
        site = candidates[len(candidates) // 2 - 1]
        clean = fetch(model, PROMPTS, [site])[site]
        x = clean + clean.std() * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        actual = Upward(model, PROMPTS, site, "logit_difference").score(x)
        parts = x.split([len(ids) for ids in PROMPTS.ids])
        for index, (ids, part) in enumerate(zip(PROMPTS.ids, parts, strict=True)):
            _, logits = alone(module, ids, hooked(model, module, site), part)
            expected = logits[PROMPTS.wrong[index]] - logits[PROMPTS.right[index]]
            torch.testing.assert_close(actual[index], expected, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_passes_that_continue_from_a_kv_cache_are_whole_passes(opened, family: str, monkeypatch):
    model, _ = opened(family)
    site = Site(0)
    if not model.continues_from_cache(site):
        pytest.skip("it runs from the first token")
    x = fetch(model, PROMPTS, [site])[site]
    last = PROMPTS.lengths.cumsum(0) - 1
    change = Codes(last, torch.arange(len(last)), torch.full((len(last),), 2.0), PROMPTS.n_tokens, 3)
    directions = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(2)) * x.std()
    groups = [[0], [1], [2], [0, 1, 2]]

    def metrics() -> Tensor:
        return replace(Upward(model, PROMPTS, site, "logit_difference"), x, change, directions, groups).metric

    cached = metrics()
    monkeypatch.setattr(Model, "continues_from_cache", lambda self, site: False)
    whole = metrics()
    assert whole.std() > 0
    torch.testing.assert_close(cached, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_says_what_a_family_offers(opened, family: str):
    model, _ = opened(family)
    line = Offer.of(model).line(family)
    assert line in PAGE.read_text(encoding="utf-8").splitlines(), line


def test_the_page_names_at_least_25_families_and_no_others():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == sorted(FAMILIES)
    assert len(lines) >= 25


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_whose_parts_are_not_found_is_refused_in_one_sentence(words, family: str):
    model_type, settings, reason = REFUSED[family]
    try:
        module = build(model_type, settings)
    except (ValueError, KeyError) as error:
        pytest.skip(f"the installed transformers has no {family}: {error}")
    with pytest.raises(InterventionError, match=reason) as caught:
        Model.wrap(module, words, family)
    assert "\n" not in str(caught.value)
    assert family in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["jamba", "qwen3_next", "lfm2"])
def test_a_site_that_a_layer_does_not_have_is_refused_with_the_layers_that_have_it(opened, family: str):
    model, _ = opened(family)
    without = next(layer for layer in range(model.n_layers) if "attn" not in model.components_at(layer))
    layers = ", ".join(str(layer) for layer in range(model.n_layers) if "attn" in model.components_at(layer))
    message = rf"has no site attn.{without}: block {without} is a \w+ that has only .*; attn is at layers {layers}\."
    with pytest.raises(InterventionError, match=message):
        fetch(model, PROMPTS, [Site(without, "attn")])


@pytest.mark.parametrize("family", ["gpt2", "opt", "gptj", "mpt"])
def test_a_sequence_beyond_the_table_of_positions_is_refused_with_both_lengths(opened, family: str):
    model, _ = opened(family)
    with pytest.raises(InterventionError, match=r"a sequence has 65 tokens, but the model has positions for 64 only"):
        fetch(model, Prompts((tuple([5] * 65),), (1,), (2,)), [Site(0)])
    fetch(model, Prompts((tuple([5] * 64),), (1,), (2,)), [Site(0)])


@pytest.mark.parametrize(("family", "warns"), [("gpt_neox", True), ("llama", True), ("bloom", False), ("xglm", True)])
def test_a_sequence_beyond_the_trained_length_causes_a_warning_for_rotary_models(opened, family: str, warns: bool):
    model, _ = opened(family)
    beyond = Prompts((tuple([5] * 65),), (1,), (2,))
    if warns:
        with pytest.warns(RuntimeWarning, match="a sequence has 65 tokens, but the model was trained on 64 at most"):
            fetch(model, beyond, [Site(0)])
    else:
        fetch(model, beyond, [Site(0)])
