"""Weights that a checkpoint does not have, or that its model has no place for, are refused."""

import json
import logging
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from interventions import Model
from interventions.errors import CheckpointLoadError
from interventions.load_model import check_weights, load_model

SUITES = Path(__file__).resolve().parents[3] / "shared" / "suites"
CPU = torch.device("cpu")
FILE = "model.safetensors"


@pytest.fixture
def saved(tmp_path, module_of):
    """Saves a model of an architecture, with names or tensors of its weights changed."""

    def save(architecture, change=None, *, rename=None, binary=False, config=None):
        folder = tmp_path / architecture
        module_of(architecture).save_pretrained(folder)
        tensors = load_file(folder / FILE)
        if change is not None:
            change(tensors)
        if rename is not None:
            tensors = {rename(name): tensor.clone() for name, tensor in tensors.items()}
        (folder / FILE).unlink()
        if binary:
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / FILE, metadata={"format": "pt"})
        if config:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return folder

    return save


def refusal(folder):
    """The message with which a folder is refused, whether its weights are loaded or only compared."""
    with pytest.raises(CheckpointLoadError) as of_check:
        check_weights(str(folder))
    with pytest.raises(CheckpointLoadError) as of_load:
        load_model(str(folder), device=CPU)
    assert str(of_check.value) == str(of_load.value)
    assert "\n" not in str(of_load.value)
    return str(of_load.value)


def test_every_weight_of_every_architecture_is_that_of_the_file(saved, architecture):
    folder = saved(architecture)
    check_weights(str(folder))
    state, random_state = load_model(str(folder), device=CPU).state_dict(), torch.get_rng_state()
    model = load_model(str(folder), device=CPU)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "wrapped.", "_orig_mod.module."])
@pytest.mark.parametrize("binary", [False, True])
def test_a_foreign_prefix_is_named_with_the_way_to_rename(saved, prefix, binary):
    message = refusal(saved("llama", rename=lambda name: prefix + name, binary=binary))
    assert f"begin with {prefix!r}, as in" in message
    assert message.endswith("rename them without it")


def test_a_foreign_prefix_is_named_where_transformers_renames_the_head(saved):
    assert "begin with 'module.'" in refusal(saved("gpt_neox", rename=lambda name: f"module.{name}"))


def test_a_prefix_in_place_of_the_models_own_is_named_with_both(saved):
    message = refusal(saved("gpt2", rename=lambda name: name.replace("transformer.", "backbone.")))
    assert "begin with 'backbone.'" in message
    assert "rename them to begin with 'transformer.'" in message


def test_a_base_model_without_its_head_is_refused_and_one_with_a_tied_head_is_not(tmp_path, module_of):
    module_of("gpt_neox").gpt_neox.save_pretrained(tmp_path / "untied")
    assert "no lm_head.weight: it is a base model without its language-model head" in refusal(tmp_path / "untied")
    module_of("gpt2").transformer.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / FILE)
    model = load_model(str(tmp_path / "tied"), device=CPU)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_an_embedding_that_the_tied_head_needs_too_is_named_when_it_is_missing(saved):
    message = refusal(saved("bloom", lambda tensors: tensors.pop("transformer.word_embeddings.weight")))
    assert "1 weight of the model is missing in its files (transformer.word_embeddings.weight)" in message


@pytest.mark.parametrize(
    ("layers", "example"), [(2, "layers.2."), (1, "layers.1."), (4, "layers.3."), (5, "layers.3.")]
)
def test_a_configuration_with_more_or_fewer_layers_than_the_files_is_refused(saved, layers, example):
    message = refusal(saved("olmo", config={"num_hidden_layers": layers}))
    assert f"its configuration has {layers} layers, but its files have weights for 3 (model.{example}" in message


def test_one_missing_matrix_and_one_that_is_too_many_are_named(saved):
    def change(tensors):
        tensors["gpt_neox.layers.1.extra.weight"] = tensors.pop("gpt_neox.layers.1.mlp.dense_h_to_4h.weight").clone()

    message = refusal(saved("gpt_neox", change))
    assert "1 weight of the model is missing in its files (gpt_neox.layers.1.mlp.dense_h_to_4h.weight)" in message
    assert "1 weight of its files has no place in the model (gpt_neox.layers.1.extra.weight)" in message


def test_weights_of_another_shape_are_named_with_both_shapes(saved):
    message = refusal(saved("llama", config={"vocab_size": 61}))
    assert "2 weights are of another shape (lm_head.weight: (60, 16) instead of (61, 16), model.embed" in message
    message = refusal(saved("qwen2", config={"intermediate_size": 48}))
    assert "9 weights are of another shape" in message
    assert "and 6 more" in message


def test_buffers_of_old_files_are_no_weights(saved):
    def change(tensors):
        for layer in range(3):
            for name in ("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"):
                tensors[f"gpt_neox.layers.{layer}.{name}"] = torch.zeros(2)

    folder = saved("gpt_neox", change, binary=True)
    check_weights(str(folder))
    assert torch.isfinite(load_model(str(folder), device=CPU).lm_head.weight).all()


def test_a_model_that_is_opened_is_refused_too_and_nothing_else_is_printed(saved, tokenizer, caplog):
    folder = saved("llama", lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight"))
    tokenizer.save_pretrained(folder)
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointLoadError, match=r"layers\.0\.mlp\.up_proj\.weight"):
        Model.open(folder)
    assert "REPORT" not in caplog.text


def test_the_order_of_names_in_a_message_does_not_change(saved):
    messages = {refusal(saved("llama", config={"intermediate_size": random.choice([48])})) for _ in range(2)}
    assert len(messages) == 1


@pytest.mark.skipif(not SUITES.is_dir(), reason="needs the shared suites")
def test_the_trained_suites_match_their_configurations():
    for folder in sorted(SUITES.glob("*/*")):
        if folder.is_dir():
            check_weights(str(folder))
