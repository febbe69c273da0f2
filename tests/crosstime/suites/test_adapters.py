"""Adapters of peft as models of a suite: on their base model, merged or not, and refused where they do not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_folders import write_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import crosstime as ct
from crosstime.errors import SuiteError
from crosstime.suites.named_models import named_models
from interventions import CheckpointLoadError, Model, Sequences, Site, fetch

SEQUENCES = Sequences(((5, 9, 31, 7), (12, 3, 8)))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bases") / "base", 0)


def write_adapter(folder: Path, base: Path, *, seed: int = 0, **settings: object) -> Path:
    """An adapter with random weights, as peft saves it."""
    peft = pytest.importorskip("peft")
    settings = {"r": 4, "target_modules": ["query_key_value", "dense_4h_to_h"], **settings}
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    return folder


def read(suite: ct.Suite, name: str) -> torch.Tensor:
    with ct.Compute().open(suite, name) as model:
        return fetch(model, SEQUENCES, [Site(0)])[Site(0)]


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True, "bias": "lora_only"}])
def test_an_adapter_gives_the_activations_of_peft_merged_or_not(settings: dict, base: Path, tmp_path: Path):
    peft = pytest.importorskip("peft")
    folder = write_adapter(tmp_path / "lora", base, **settings)
    unmerged = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    merged = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "merged" / name).write_bytes((base / name).read_bytes())

    suite = ct.Suite.of({"base": base, "lora": folder, "merged": tmp_path / "merged", "unmerged": unmerged})
    suite.verify(distinct=True)
    by_name = {name: read(suite, name) for name in suite.revisions}
    assert not torch.allclose(by_name["lora"], by_name["base"], rtol=1e-2)
    assert torch.equal(by_name["lora"], by_name["merged"])
    torch.testing.assert_close(by_name["lora"], by_name["unmerged"], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        states = merged.gpt_neox(input_ids=torch.tensor([[5, 9, 31, 7]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(by_name["lora"][:4], states[1][0], rtol=1e-4, atol=1e-5)


def test_an_adapter_is_told_apart_by_its_weights_its_settings_and_its_base(base: Path, tmp_path: Path):
    folder = write_adapter(tmp_path / "lora", base)
    suite = ct.Suite.of({"base": base, "lora": folder})
    suite.verify(distinct=True)
    before = suite.fingerprint
    assert not suite.equal_weights()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 64}))
    assert ct.Suite.of({"base": base, "lora": folder}).fingerprint != before
    with pytest.raises(SuiteError, match="'one' and 'two' have the same weights"):
        ct.Suite.of({"one": folder, "two": folder}).verify()


def test_an_adapter_with_added_tokens_brings_its_embeddings(base: Path, tmp_path: Path):
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(base)
    size = len(model.get_input_embeddings().weight) + 3
    model.resize_token_embeddings(size, mean_resizing=False)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query_key_value"]))
    wrapped.save_pretrained(tmp_path / "lora", save_embedding_layers=True)
    with Model.open(tmp_path / "lora") as opened:
        assert opened.n_embeddings == size


def test_an_adapter_that_does_not_fit_is_refused_before_a_model_runs(base: Path, tmp_path: Path):
    folder = write_adapter(tmp_path / "lora", base)
    tensors = load_file(folder / "adapter_model.safetensors")

    def refusal(problem: str, changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(SuiteError, match=problem):
            ct.Suite.of({"base": base, "lora": folder}).verify()

    first = next(iter(tensors))
    refusal("has no weights .*lora_", {name: value for name, value in tensors.items() if name != first})
    refusal("has no place for .*strange", tensors | {"base_model.model.strange.lora_A.weight": torch.ones(2, 2)})
    refusal("Cannot open adapter .* size mismatch", tensors | {first: torch.ones(3, 3)})

    wider = write_checkpoint(tmp_path / "wider", 1, hidden_size=32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    for place, problem in [
        (str(wider), "size mismatch"),
        ("/home/somebody/model", "is not a folder of this machine: write the path of its base model"),
        (None, "names no base model"),
        (str(folder), "is an adapter itself"),
    ]:
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": place}))
        with pytest.raises((SuiteError, CheckpointLoadError), match=problem):
            ct.Suite.of({"lora": folder}).verify()
        with pytest.raises(CheckpointLoadError):
            Model.open(folder)


def test_adapters_that_are_no_change_of_weights_are_refused(base: Path, tmp_path: Path):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(tmp_path / "prompt")
    with pytest.raises(SuiteError, match="PROMPT_TUNING adapter acts outside the weights"):
        ct.Suite.of({"prompt": tmp_path / "prompt"}).verify()
    with pytest.raises(ValueError, match="only adapters that change weights"):
        named_models({"prompt": model})


def test_without_peft_one_sentence_says_what_to_install(base: Path, tmp_path: Path, monkeypatch):
    folder = tmp_path / "lora"
    folder.mkdir()
    config = {"base_model_name_or_path": str(base), "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("interventions.adapter.find_spec", lambda name: None)
    for refused in (lambda: ct.Suite.of({"base": base, "lora": folder}).verify(), lambda: Model.open(folder)):
        with pytest.raises(
            ValueError, match=r"needs the package peft: install it with pip install 'crosstime\[peft\]'"
        ):
            refused()
