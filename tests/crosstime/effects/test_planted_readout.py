"""A suite of models whose readout is planted: the whole path from checkpoints to RelIE gives the known numbers."""

from __future__ import annotations

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import crosstime as ct
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.suites.train_tokenizer import train_tokenizer
from crosstime.training.plant import PlantedProblem, planted_effects
from interventions import Bootstrap, Site
from tasks import TokenizedTask
from tasks.agreement import sentences

WIDTH, REVISIONS, LARGE = 16, ("step0", "step64", "main"), 300.0
STRENGTH = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 1.0, 0.5], [0.0, 0.0, 2.0]])
WEIGHT = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0])
RIGHT, WRONG = 5, 6
TOKENS = list(range(20, 28))


def axes() -> torch.Tensor:
    """Orthonormal directions without a mean, which a layer norm leaves as they are."""
    centred = torch.eye(WIDTH) - 1 / WIDTH
    _, _, rows = torch.linalg.svd(centred)
    return rows[: WIDTH - 1]


def planted() -> PlantedProblem:
    directions = axes()[1 : 1 + len(STRENGTH)].unsqueeze(1) * STRENGTH.unsqueeze(-1)
    return PlantedProblem(directions, density=2.0, noise=0.0)


def codes() -> torch.Tensor:
    """Activation of each feature on the token of each prompt."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(len(TOKENS), len(STRENGTH), generator=generator) + 0.1


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> ct.Suite:
    """Blocks that add nothing, a large constant that fixes the norm, and answers that read the planted directions."""
    folder = tmp_path_factory.mktemp("planted") / "planted"
    tokenizer = train_tokenizer(list(sentences(200, seed=0)), 300)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        layer_norm_eps=1e-12,
        bos_token_id=0,
        eos_token_id=0,
    )
    readout = WEIGHT @ axes()[1 : 1 + len(WEIGHT)]
    x = planted().activations(codes(), torch.Generator())

    # One model for each checkpoint
    for c, revision in enumerate(REVISIONS):
        torch.manual_seed(0)
        model = GPTNeoXForCausalLM(config)
        with torch.no_grad():
            for layer in model.gpt_neox.layers:
                for part in (layer.attention.dense, layer.mlp.dense_4h_to_h):
                    part.weight.zero_()
                    part.bias.zero_()
            model.gpt_neox.embed_in.weight[:] = LARGE * axes()[0]
            model.gpt_neox.embed_in.weight[TOKENS] += x[:, c]
            unembedding = model.get_output_embeddings().weight
            unembedding[RIGHT], unembedding[WRONG] = 0, readout
        model.save_pretrained(folder / revision)
        tokenizer.save_pretrained(folder / revision)
    return ct.Suite.open(folder, REVISIONS)


@pytest.fixture(scope="module")
def crosscoder(suite) -> CrossCoder:
    """The planted directions as decoder, and an encoder that reads the amount of each feature."""
    crosscoder = CrossCoder(Origin(suite.name, REVISIONS, Site(0), WIDTH), len(STRENGTH))
    directions = planted().directions
    with torch.no_grad():
        crosscoder.W_dec.copy_(directions)
        crosscoder.W_enc.copy_((directions / STRENGTH.square().sum(1).reshape(-1, 1, 1)).permute(1, 2, 0))
        crosscoder.b_dec.copy_(LARGE * axes()[0].expand(3, -1))
    return crosscoder


@pytest.fixture(scope="module")
def attribution(suite, crosscoder) -> ct.Attribution:
    n = len(TOKENS)
    task = TokenizedTask("planted", tuple((token,) for token in TOKENS), (RIGHT,) * n, (WRONG,) * n, None, ())
    return ct.attribute(suite, crosscoder, task)


def test_codes_are_the_planted_ones(attribution):
    torch.testing.assert_close(attribution.decomposed.clean[0].codes.dense(), codes(), atol=1e-4, rtol=1e-4)


def test_indirect_effects_are_those_of_the_planted_readout(attribution):
    readouts = (WEIGHT @ axes()[1 : 1 + len(WEIGHT)]).expand(3, -1)
    expected = planted_effects(planted(), readouts, codes()).mean(0) * WIDTH**0.5 / LARGE
    torch.testing.assert_close(attribution.ie().T.float(), expected, rtol=2e-3, atol=1e-5)


def test_relie_is_the_known_one(attribution):
    torch.testing.assert_close(attribution.relie().float(), STRENGTH / STRENGTH.sum(1, keepdim=True), atol=2e-3, rtol=0)


def test_life_cycles_and_tests_say_what_was_planted(crosscoder, attribution):
    tables = ct.evolve(None, crosscoder, [attribution], features=range(5), bootstrap=Bootstrap(500))
    lives = tables["life_cycles"]
    assert lives.label.tolist() == [
        "always",
        "discontinued after step0",
        "transient at step64",
        "always",
        "emerges at main",
    ]
    assert lives.support.tolist() == [1.0] * 5
    p = tables["specificity"].set_index(["feature", "revision"]).p
    assert p[1, "step0"] < 0.01
    assert p[4, "main"] < 0.01
    assert p[1, "main"] > 0.9
    assert (tables["facts"].life_cycle_dec == lives.life_cycle).all()
