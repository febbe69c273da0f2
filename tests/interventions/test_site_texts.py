"""Every function that takes a site takes its text."""

from __future__ import annotations

import pytest
import torch

from interventions import (
    Codes,
    Decomposition,
    Site,
    SiteError,
    ablate,
    clamp,
    cross_entropy,
    fetch,
    indirect_effects,
    patch,
    score,
    steer,
)


@pytest.mark.parametrize(
    ("text", "site"), [("resid.1", Site(1)), ("mlp.-1", Site(-1, "mlp")), ("attn.0", Site(0, "attn"))]
)
def test_the_text_of_a_site_gives_what_the_site_gives(tiny, prompts, dictionary, text, site):
    model = tiny("gpt_neox").model
    x = fetch(model, prompts, [text])[text]
    assert torch.equal(x, fetch(model, prompts, [site])[site])
    codes = Codes.from_dense(dictionary.encode(x))
    decomposition = Decomposition(x, codes, dictionary.directions.float(), dictionary.bias.float())
    for function in (
        lambda place: indirect_effects(model, prompts, place, decomposition).per_feature(),
        lambda place: ablate(model, prompts, place, decomposition, [0, [1, 2]]).metric,
        lambda place: clamp(model, prompts, place, decomposition, {0: 2.0}).metric,
        lambda place: steer(model, prompts, place, decomposition, {1: 2.0}).metric,
        lambda place: patch(model, prompts, {place: x * 0}),
        lambda place: patch(model, prompts, {place: x * 0}, positions="last"),
        lambda place: score(model, prompts, edits={place: torch.zeros_like}),
        lambda place: torch.tensor(cross_entropy(model, prompts, {place: torch.zeros_like})),
        lambda place: torch.tensor(cross_entropy(model, prompts, replacement=(place, x * 0))),
    ):
        assert torch.equal(function(text), function(site))


def test_a_text_that_names_no_site_is_refused_before_a_forward_pass(tiny, prompts):
    with pytest.raises(SiteError, match=r"resid\.2; got 'block 1'"):
        fetch(tiny("gpt_neox").model, prompts, ["block 1"])
    with pytest.raises(SiteError, match="no component 'residual'"):
        score(tiny("gpt_neox").model, prompts, edits={"residual.1": torch.zeros_like})
