"""Half precision: overflow has its own sentence, and caps and scales of logits are recognized in every dtype."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig

from interventions import Model, Prompts, score
from interventions.errors import CheckpointLoadError

WIDE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
IDS = tuple((5, 6, 7, 8, last) for last in range(9, 40))


def gemma(cap, size):
    """A model with a soft cap whose largest uncapped logit on the prompts is about `size`."""
    config = Gemma2Config(
        **WIDE, head_dim=8, query_pre_attn_scalar=8, final_logit_softcapping=None, tie_word_embeddings=False
    )
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        module.lm_head.weight.normal_()
        module.lm_head.weight.mul_(size / module(torch.tensor(IDS)).logits[:, -1].abs().max())
    module.config.final_logit_softcapping = cap
    return module


def extremes(module):
    """The prompts with the tokens of the largest and smallest logit as answers, and the model's own differences."""
    with torch.no_grad():
        logits = module(torch.tensor(IDS)).logits[:, -1].float()
    high, low = logits.max(1), logits.min(1)
    prompts = Prompts(IDS, tuple(high.indices.tolist()), tuple(low.indices.tolist()))
    return prompts, low.values - high.values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [3.0, 8.0, 12.0])
def test_logit_differences_under_a_soft_cap_are_the_models_own(tokenizer, dtype, size):
    module = gemma(30.0, size).to(dtype)
    prompts, expected = extremes(module)
    model = Model.wrap(module, tokenizer)
    assert not model.head_is_linear
    torch.testing.assert_close(score(model, prompts), expected, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_capped_logits_are_those_of_float32_up_to_rounding(tokenizer):
    module = gemma(30.0, 12.0)
    half = copy.deepcopy(module).to(torch.bfloat16)
    prompts, exact = extremes(half.float())
    in_bfloat16 = score(Model.wrap(half.to(torch.bfloat16), tokenizer), prompts)
    assert ((in_bfloat16 - exact) / exact).abs().max() < 0.02


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cap_that_no_configuration_names_is_found_where_it_cuts_off(tokenizer, dtype):
    module = gemma(None, 0.5).to(dtype)
    plain = type(module)

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, use_cache=None):
        output = plain.forward(self, input_ids, attention_mask, position_ids, use_cache=use_cache)
        output.logits = 30 * torch.tanh(output.logits / 30)
        return output

    module.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    assert not Model.wrap(module, tokenizer).head_is_linear


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_cap_the_head_is_linear_and_differences_have_the_digits_of_float32(tokenizer, dtype):
    module = gemma(None, 12.0).to(dtype)
    model = Model.wrap(module, tokenizer)
    prompts, expected = extremes(module)
    assert model.head_is_linear
    torch.testing.assert_close(score(model, prompts), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "config", [CohereConfig(**WIDE, logit_scale=1.002), GraniteConfig(**WIDE, logits_scaling=0.998)], ids=["*", "/"]
)
def test_a_scale_of_logits_is_no_linear_head_in_any_dtype(tokenizer, dtype, config):
    module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().to(dtype)
    assert not Model.wrap(module, tokenizer).head_is_linear


def test_an_overflow_of_float16_is_called_one_and_names_bfloat16(tokenizer, tmp_path):
    module = gemma(None, 12.0)
    with torch.no_grad():
        module.model.embed_tokens.weight.mul_(3e6)
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        assert Model.open(tmp_path, dtype=dtype).dtype == dtype
    with pytest.raises(CheckpointLoadError, match=r"beyond 65,504, the largest of float16.*bfloat16") as caught:
        Model.open(tmp_path, dtype=torch.float16)
    assert "damaged" not in str(caught.value)


def test_weights_that_are_nan_are_damaged_in_every_dtype(tokenizer):
    for dtype in DTYPES:
        module = gemma(None, 12.0).to(dtype)
        with torch.no_grad():
            module.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
        with pytest.raises(CheckpointLoadError, match="its weights are damaged"):
            Model.wrap(module, tokenizer)
