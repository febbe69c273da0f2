"""Passes that start at the first changed token give the results of whole passes with less work."""

from __future__ import annotations

import itertools

import plain_torch
import pytest
import torch
from transformers.cache_utils import DynamicLayer

from interventions import Codes, Decomposition, Model, Prompts, Site, ablate, fetch, forward, kv_cache
from interventions.codes import entries_of
from interventions.replacement import replace
from interventions.upward import Upward

GROUPS = [[0], [7], [21], [39], [7, 21], list(range(40))]


@pytest.fixture(scope="module")
def longer() -> Prompts:
    """Seven prompts of 5 to 14 tokens."""
    generator = torch.Generator().manual_seed(6)
    ids = [tuple(torch.randint(4, 60, (length,), generator=generator).tolist()) for length in (5, 14, 9, 14, 7, 12, 6)]
    return Prompts(tuple(ids), right=tuple(range(4, 11)), wrong=tuple(range(20, 27)))


@pytest.fixture(scope="module")
def change(longer: Prompts) -> Codes:
    """Changes of a few features at a few of the last four tokens of each prompt."""
    dense = torch.zeros(longer.n_tokens, 40)
    generator = torch.Generator().manual_seed(7)
    late = longer.position_of_token >= longer.lengths[longer.sequence_of_token] - 4
    dense[late] = torch.randn(int(late.sum()), 40, generator=generator) * (
        torch.rand(int(late.sum()), 40, generator=generator) < 0.2
    )
    return Codes.from_dense(dense)


@pytest.fixture
def slots(monkeypatch) -> list[int]:
    """The number of slots of every pass upward from a site."""
    counts: list[int] = []

    def count(batch, n_slots=None):
        arguments = inputs(batch, n_slots)
        counts.append(arguments["input_ids"].numel())
        return arguments

    inputs = forward.inputs
    monkeypatch.setattr(forward, "inputs", count)
    return counts


def replaced(
    model: Model, prompts: Prompts, change: Codes, directions, site: Site | None = None, max_tokens=64, **options
) -> torch.Tensor:
    site = site or Site(1)
    x = fetch(model, prompts, [site])[site]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "max_tokens", max_tokens)
        pairs = replace(Upward(model, prompts, site, "logit_difference"), x, change, directions, GROUPS, **options)
    table = torch.full((len(prompts), len(GROUPS)), torch.nan)
    table[pairs.prompt, pairs.group] = pairs.metric
    return table


def test_every_architecture_continues_from_a_kv_cache(tiny, architecture):
    assert tiny(architecture).model.continues_from_cache(Site(1))


def test_a_model_that_ignores_its_kv_cache_is_recognized(module_of, tokenizer, monkeypatch):
    def forget(self, keys, values, *arguments, **options):
        return keys, values

    monkeypatch.setattr(DynamicLayer, "update", forget)
    model = Model.wrap(module_of("llama"), tokenizer)
    assert not model.continues_from_cache(Site(1))


def test_a_site_in_the_last_block_needs_no_kv_cache(tiny, longer, change, dictionary):
    model, plain = tiny("gpt_neox")
    actual = replaced(model, longer, change, dictionary.directions.float(), site=Site(2))
    x = plain_torch.residual(plain, longer.ids[1], 2)
    moved = change.dense().double()[longer.sequence_of_token == 1] @ dictionary.directions
    expected = plain_torch.logits(plain, longer.ids[1], {Site(2): lambda _: (x + moved)[None]})[-1]
    difference = plain_torch.difference(expected, longer.right[1], longer.wrong[1]).item()
    assert actual[1, 5].item() == pytest.approx(difference, abs=3e-5)


@pytest.mark.parametrize("site", [Site(0), Site(1), Site(1, "attn"), Site(1, "mlp")], ids=str)
def test_replacing_with_and_without_a_kv_cache_is_the_same(tiny, longer, change, dictionary, architecture, site, slots):
    model, _ = tiny(architecture)
    directions = dictionary.directions.float()
    if site.component not in model.components:
        pytest.skip(f"{architecture} has no such site")
    assert model.continues_from_cache(site)
    slots.clear()
    cached = replaced(model, longer, change, directions, site)
    with_cache = sum(slots)
    slots.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "continues_from_cache", lambda self, site: False)
        without_cache = replaced(model, longer, change, directions, site)
    torch.testing.assert_close(cached, without_cache, atol=2e-5, rtol=1e-5, equal_nan=True)
    assert without_cache.isnan().any()
    assert without_cache.std(1).nanmean() > 1e-2
    assert with_cache < 0.8 * sum(slots)


def test_a_kv_cache_holds_only_the_prompts_that_fit_into_its_limit(tiny, longer, change, dictionary, monkeypatch):
    model, _ = tiny("bloom")
    directions = dictionary.directions.float()
    together = replaced(model, longer, change, directions)
    cached_prompts: list[int] = []
    fill_cache = Upward.kv_cache

    def count(self, x, rows):
        cached_prompts.append(len(rows))
        return fill_cache(self, x, rows)

    monkeypatch.setattr(Upward, "kv_cache", count)
    # Keys and values of fourteen tokens, in three blocks
    monkeypatch.setattr(kv_cache, "MAX_BYTES", 14 * 2 * 3 * 16 * 4)
    progress: list[tuple[int, int]] = []
    apart = replaced(model, longer, change, directions, max_tokens=20, progress=lambda *at: progress.append(at))
    torch.testing.assert_close(apart, together, atol=2e-5, rtol=1e-5, equal_nan=True)
    assert len(cached_prompts) > 3
    assert max(cached_prompts) < len(longer)
    assert progress[-1] == (int((~together.isnan()).sum()),) * 2
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(progress))


def test_one_group_that_changes_every_token_needs_no_kv_cache(tiny, longer, dictionary, slots, monkeypatch):
    model, _ = tiny("gpt_neox")
    x = fetch(model, longer, [Site(1)])[Site(1)]
    clean = Decomposition(
        x, Codes.from_dense(dictionary.encode(x)), dictionary.directions.float(), dictionary.bias.float()
    )
    slots.clear()
    monkeypatch.setattr(model, "max_tokens", 1024)
    ablate(model, longer, Site(1), clean, [list(range(40))])
    assert slots.count(7 * 14) == len(slots)


def test_entries_of_rows_in_an_example_worked_by_hand():
    entry, owner = entries_of(torch.tensor([1, 3, 0, 2]), torch.tensor([3, 2, 1, 1]))
    assert entry.tolist() == [4, 5, 1, 2, 3, 1, 2, 3]
    assert owner.tolist() == [0, 0, 2, 2, 2, 3, 3, 3]
