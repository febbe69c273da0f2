from __future__ import annotations

import copy
from pathlib import Path

import plain_torch
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from interventions import (
    Architecture,
    ArchitectureError,
    CheckpointLoadError,
    InterventionError,
    Model,
    Prompts,
    Sequences,
    Site,
    SiteError,
    architectures,
    cross_entropy,
    fetch,
    patch,
    score,
)


def test_every_architecture_opens_with_its_sizes_and_all_components(tiny, architecture):
    model, plain = tiny(architecture)
    assert (model.n_layers, model.d_model, model.vocab_size) == (3, 16, 60)
    assert model.components == ("attn", "mlp", "resid")
    assert model.head_is_linear
    assert len(model.pointwise) == 2, model.pointwise
    assert len(plain_torch.blocks(plain)) == 3


def test_the_length_of_the_tuple_that_a_block_returns_is_recognized(tiny, architecture):
    model, plain = tiny(architecture)
    outputs = []
    handle = plain_torch.blocks(plain)[0].register_forward_hook(lambda _m, _a, output: outputs.append(output))
    plain_torch.logits(plain, (5, 6))
    handle.remove()
    assert model.block_tuple == (len(outputs[0]) if isinstance(outputs[0], tuple) else 0)
    assert (model.block_tuple > 0) == (architecture == "bloom")


def test_parameters_never_require_grad_and_dropout_is_off(tokenizer, module_of):
    module = module_of("gpt2").train()
    model = Model.wrap(module, tokenizer)
    assert not any(weight.requires_grad for weight in model.module.parameters())
    assert not model.module.training
    # The caller's own model stays as it was
    assert all(weight.requires_grad for weight in module.parameters())
    assert module.training
    assert not any("forward" in vars(part) for part in module.modules())


def test_a_saved_checkpoint_opens_to_the_same_logits(tmp_path, tiny, module_of, tokenizer):
    module = module_of("gpt_neox")
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = Model.open(tmp_path, device="cpu")
    prompts = Prompts(((5, 6, 7),), right=(8,), wrong=(9,))
    last = plain_torch.logits(tiny("gpt_neox").plain, (5, 6, 7))[-1]
    assert score(model, prompts).item() == pytest.approx((last[9] - last[8]).item(), abs=1e-4)
    assert model.tokenizer is not None
    assert model.dtype == torch.float32


def test_a_trained_suite_opens_and_gives_the_logits_of_transformers(trained, suite_folder):
    plain = AutoModelForCausalLM.from_pretrained(suite_folder).double().eval()
    prompts = Prompts(((5, 60, 7), (9, 100, 8, 44, 30)), right=(8, 50), wrong=(9, 200))
    actual = score(trained, prompts)
    assert trained.components == ("attn", "mlp", "resid")
    for row, ids in enumerate(prompts.ids):
        last = plain_torch.logits(plain, ids)[-1]
        assert actual[row].item() == pytest.approx(
            (last[prompts.wrong[row]] - last[prompts.right[row]]).item(), abs=1e-4
        )


def test_a_folder_that_does_not_exist_is_rejected_with_one_line(tmp_path):
    with pytest.raises(CheckpointLoadError, match=r"Cannot open checkpoint .*nothing-here") as caught:
        Model.open(tmp_path / "nothing-here")
    assert "\n" not in str(caught.value)


def test_a_folder_with_damaged_weights_is_rejected(tmp_path, module_of, tokenizer):
    module_of("gpt_neox").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(CheckpointLoadError, match="Cannot open checkpoint") as caught:
        Model.open(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture_name", ["gpt_neox", "bloom", "olmo2"])
def test_nan_weights_are_rejected_when_the_model_is_opened(module_of, tokenizer, architecture_name):
    module = module_of(architecture_name)
    with torch.no_grad():
        next(plain_torch.blocks(module)[1].parameters()).fill_(float("nan"))
    with pytest.raises(CheckpointLoadError, match="broken-model computes NaN"):
        Model.wrap(module, tokenizer, "broken-model")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Architecture("model.nothing", "model.norm"), "has a module 'model.nothing', but this model has not"),
        (Architecture("model.layers", "model.nothing"), "has a module 'model.nothing', but this model has not"),
        (Architecture("model.layers", "model.layers.2.input_layernorm"), "do not run in the order"),
        (Architecture("model.layers", "model.layers.0.input_layernorm"), "do not run in the order"),
        (Architecture("model.layers", "lm_head"), "so it is not the final norm"),
        (Architecture("model.norm", "model.norm"), "it is a LlamaRMSNorm, not a ModuleList"),
        (Architecture("model.layers", "model.norm", "self_attn.nothing", "mlp"), "but block model.layers.0 has not"),
        (Architecture("model.layers", "model.norm", "mlp", "self_attn.o_proj"), "do not run in the order"),
    ],
)
def test_a_wrong_table_entry_fails_when_the_model_is_opened(monkeypatch, module_of, tokenizer, entry, message):
    monkeypatch.setitem(architectures.TABLE, "llama", entry)
    with pytest.raises(ArchitectureError, match=message):
        Model.wrap(module_of("llama"), tokenizer)


def test_components_that_do_not_add_up_to_the_residual_stream_are_not_offered(monkeypatch, module_of, tokenizer):
    wrong = Architecture("model.layers", "model.norm", "self_attn.o_proj", "post_attention_layernorm")
    monkeypatch.setitem(architectures.TABLE, "llama", wrong)
    model = Model.wrap(module_of("llama"), tokenizer, "odd-llama")
    assert model.components == ("resid",)
    with pytest.raises(SiteError, match=r"odd-llama has no site mlp\.1.*interventions\.register"):
        fetch(model, Sequences(((5, 6),)), [Site(1, "mlp")])


@pytest.mark.parametrize("known", ["gpt_neox", "olmo2", "bloom", "llama", "gpt2", "qwen2", "qwen3"])
def test_the_search_by_structure_finds_blocks_and_norm(module_of, monkeypatch, known):
    module = module_of(known)
    monkeypatch.delitem(architectures.TABLE, known, raising=False)
    architecture = architectures.find(module)
    assert module.get_submodule(architecture.blocks) is plain_torch.blocks(module)
    normed = []
    module.get_submodule(architecture.norm).register_forward_hook(lambda _m, _a, output: normed.append(output))
    expected = plain_torch.logits(module, (5, 6, 7))
    torch.testing.assert_close(module.get_output_embeddings()(normed[0])[0], expected)


def test_a_norm_without_weights_is_found_by_the_name_of_its_class(module_of, monkeypatch):
    monkeypatch.delitem(architectures.TABLE, "olmo")
    assert architectures.find(module_of("olmo")).norm == "model.norm"


class OddConfig(PretrainedConfig):
    model_type = "odd"

    def __init__(
        self, hidden_size: int = 8, num_hidden_layers: int = 2, vocab_size: int = 60, listed: bool = True, **kw
    ):
        super().__init__(**kw)
        self.hidden_size, self.num_hidden_layers, self.vocab_size = hidden_size, num_hidden_layers, vocab_size
        self.listed = listed


class OddBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.mix(hidden).tanh()


class OddModel(PreTrainedModel, GenerationMixin):
    """A model whose blocks are in a list or are two attributes, and whose norm is in a module before the blocks."""

    config_class = OddConfig
    main_input_name = "input_ids"

    def __init__(self, config: OddConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.end = nn.ModuleDict({"norm": nn.LayerNorm(config.hidden_size)})
        blocks = [OddBlock(config.hidden_size) for _ in range(config.num_hidden_layers)]
        if config.listed:
            self.stages = nn.ModuleList(blocks)
        else:
            self.first, self.second = blocks
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: torch.Tensor, attention_mask=None, position_ids=None, use_cache=None, **_):
        hidden = self.embed(input_ids)
        for block in self.stages if self.config.listed else (self.first, self.second):
            hidden = block(hidden)
        return CausalLMOutput(logits=self.lm_head(self.end["norm"](hidden)))


def odd(**options) -> OddModel:
    torch.manual_seed(0)
    module = OddModel(OddConfig(**options)).eval()
    with torch.no_grad():
        module.lm_head.bias.normal_()
    return module


@pytest.mark.parametrize(
    ("listed", "reason"), [(True, "no norm stands beside its blocks 'stages'"), (False, "no ModuleList")]
)
def test_an_unknown_structure_says_what_to_register(tokenizer, listed, reason):
    with pytest.raises(ArchitectureError, match=rf"'odd': .*{reason}.*register\('odd', Architecture\(blocks"):
        Model.wrap(odd(listed=listed), tokenizer)


def test_a_registered_architecture_opens_and_the_bias_of_its_head_is_used(monkeypatch, tokenizer):
    monkeypatch.setitem(architectures.TABLE, "odd", None)
    architectures.register("odd", Architecture("stages", "end.norm"))
    module = odd()
    plain = copy.deepcopy(module)
    model = Model.wrap(module, tokenizer)
    assert model.components == ("resid",)
    assert model.head_is_linear
    last = plain(torch.tensor([[5, 6]])).logits[0, -1]
    actual = score(model, Prompts(((5, 6),), right=(7,), wrong=(8,)))
    assert actual.item() == pytest.approx((last[8] - last[7]).item(), abs=1e-5)


def test_a_configuration_with_another_number_of_layers_is_rejected(monkeypatch, tokenizer):
    monkeypatch.setitem(architectures.TABLE, "odd", Architecture("stages", "end.norm"))
    module = odd()
    module.config.num_hidden_layers = 5
    with pytest.raises(ArchitectureError, match="stages has 2 blocks, but the configuration says 5"):
        Model.wrap(module, tokenizer)


def test_soft_capped_logits_are_recognized_and_correct_in_every_function(tiny, prompts):
    model, plain = tiny("gemma2")
    assert not model.head_is_linear
    x = fetch(model, prompts, [Site(1)])[Site(1)]
    for metric in ("logit_difference", "cross_entropy"):
        expected = torch.stack(
            [
                plain_torch.METRICS[metric](plain_torch.logits(plain, ids)[-1], right, wrong)
                for ids, right, wrong in zip(prompts.ids, prompts.right, prompts.wrong, strict=True)
            ]
        ).float()
        torch.testing.assert_close(score(model, prompts, metric), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(patch(model, prompts, {Site(1): x}, metric), expected, rtol=0, atol=1e-4)
    losses = [
        nn.functional.cross_entropy(plain_torch.logits(plain, ids)[:-1], torch.tensor(ids[1:]), reduction="sum")
        for ids in prompts.ids
    ]
    count = sum(len(ids) - 1 for ids in prompts.ids)
    assert cross_entropy(model, prompts) == pytest.approx(sum(losses).item() / count, abs=1e-4)
    assert max(abs(plain_torch.logits(plain, ids)).max() for ids in prompts.ids) > 2.0  # so the cap of 4 changes them


def test_a_closed_model_cannot_be_used(module_of, tokenizer):
    with Model.wrap(module_of("gpt2"), tokenizer) as model:
        assert model.n_layers == 3
    with pytest.raises(InterventionError, match="has been closed"):
        _ = model.module


def test_paths_and_strings_open_the_same_checkpoint(suite_folder: Path, trained):
    again = Model.open(str(suite_folder), device="cpu")
    assert again.name == trained.name == str(suite_folder)
