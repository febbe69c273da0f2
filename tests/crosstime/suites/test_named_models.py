"""Suites of models side by side: folders, adapters, models in memory, and vocabularies with added tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_folders import TEXT, tokenizer, write_checkpoint
from nnsight import LanguageModel, TransformersModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GPTNeoXForCausalLM

import crosstime as ct
from crosstime.errors import SuiteError
from interventions import InterventionError, Model, Sequences, Site, fetch

CHAT_TOKENS = ["<|im_start|>", "<|im_end|>"]
SEQUENCES = Sequences(((5, 9, 31, 7), (12, 3, 8)))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "here" / "base", 0)


def with_added_tokens(folder: Path, base: Path, tokens: list[str], *, seed: int = 1, eos: str | None = None) -> Path:
    """A model that was trained further, with tokens at the end of its vocabulary."""
    model = AutoModelForCausalLM.from_pretrained(base)
    words = AutoTokenizer.from_pretrained(base)
    words.add_tokens(tokens, special_tokens=True)
    if eos is not None:
        words.eos_token = eos
    model.resize_token_embeddings(len(words), mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.02)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chat(base: Path, tmp_path_factory) -> Path:
    return with_added_tokens(tmp_path_factory.mktemp("elsewhere") / "chat", base, CHAT_TOKENS, eos="<|im_end|>")


def activations(suite: ct.Suite, name: str) -> torch.Tensor:
    """The residual stream after the first block."""
    with ct.Compute().open(suite, name) as model:
        return fetch(model, SEQUENCES, [Site(0)])[Site(0)]


def reference(model: torch.nn.Module) -> torch.Tensor:
    """The residual stream after the first block, one sequence at a time, in transformers alone."""
    model.eval()
    with torch.no_grad():
        rows = [
            model.gpt_neox(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
            for ids in ((5, 9, 31, 7), (12, 3, 8))
        ]
    return torch.cat([states[1][0] for states in rows])


def test_folders_in_different_places_are_one_suite_without_an_order(base: Path, chat: Path):
    suite = ct.Suite.of({"base": base, "chat": str(chat)})
    suite.verify(distinct=True)
    assert suite.revisions == ("base", "chat")
    assert not suite.ordered
    assert [checkpoint.step for checkpoint in suite] == [None, None]
    assert "2 models: base, chat" in str(suite)
    own = AutoModelForCausalLM.from_pretrained(chat)
    torch.testing.assert_close(activations(suite, "chat"), reference(own), rtol=1e-5, atol=1e-6)


def test_repositories_have_a_revision_behind_the_name():
    suite = ct.Suite.of({"base": "ORG/base", "chat": "ORG/chat@step1000"})
    assert [(point.source, point.hub_revision) for point in suite] == [("ORG/base", "main"), ("ORG/chat", "step1000")]


def test_what_is_added_to_one_vocabulary_is_text_for_all(base: Path, chat: Path):
    suite = ct.Suite.of({"base": base, "chat": chat})
    text = f"{TEXT[0]}{CHAT_TOKENS[0]} the author"
    assert suite.tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(base)(text)["input_ids"]
    assert suite.tokenizer.eos_token == "<|endoftext|>"
    assert suite.tokenizer.padding_side == "left"
    reversed_suite = ct.Suite.of({"chat": chat, "base": base})
    assert reversed_suite.tokenizer(text)["input_ids"] == suite.tokenizer(text)["input_ids"]
    assert reversed_suite.tokenizer.eos_token == "<|endoftext|>"


def test_two_chat_models_share_what_neither_added(base: Path, chat: Path, tmp_path: Path):
    other = with_added_tokens(tmp_path / "other", base, ["<|user|>"], seed=2)
    suite = ct.Suite.of({"chat": chat, "other": other})
    suite.verify()
    text = f"<|user|> {TEXT[0]}{CHAT_TOKENS[1]}"
    assert suite.tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(base)(text)["input_ids"]


def test_a_bpe_vocabulary_with_entries_at_its_end_is_shared_without_them(base: Path, tmp_path: Path):
    other = with_added_tokens(tmp_path / "longer", base, ["<|turn|>"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).write_bytes((base / name).read_bytes())
    path = other / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["<|turn|>"] = len(tokenizer())
    path.write_text(json.dumps(content))
    suite = ct.Suite.of({"longer": other, "base": base})
    suite.verify()
    assert len(suite.tokenizer) == len(tokenizer())


def test_tokenizers_with_other_rules_are_refused_in_one_sentence(base: Path, tmp_path: Path):
    other = write_checkpoint(tmp_path / "other", 1)
    content = json.loads((other / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(SuiteError, match=r"tokenizers of revisions 'base' and 'other' .* differ"):
        ct.Suite.of({"base": base, "other": other}).verify()


def test_a_given_tokenizer_must_fit_every_vocabulary(base: Path, chat: Path):
    chat_tokenizer = AutoTokenizer.from_pretrained(chat)
    with pytest.raises(SuiteError, match="model 'base' has only"):
        ct.Suite.of({"base": base, "chat": chat}, tokenizer=chat_tokenizer).verify()
    assert chat_tokenizer.padding_side == "right"


def test_a_model_twice_is_refused_and_a_kept_shard_is_not(base: Path, tmp_path: Path):
    with pytest.raises(SuiteError, match="'a' and 'b' have the same weights"):
        ct.Suite.of({"a": base, "b": base}).verify()
    ct.Suite.of({"a": base, "b": base}, allow_equal_weights=True).verify()
    first = write_checkpoint(tmp_path / "first", 5, shard_size="8KB")
    second = write_checkpoint(tmp_path / "second", 6, shard_size="8KB")
    shard = sorted(first.glob("*.safetensors"))[0].name
    (second / shard).write_bytes((first / shard).read_bytes())
    ct.Suite.of({"first": first, "second": second}).verify()


def test_sources_that_are_no_models_are_refused_by_name(base: Path, tmp_path: Path):
    for source, sentence in [
        (tmp_path, "model 'x': .* has neither a config.json nor an adapter_config.json"),
        (base.parent, "its folder base is one"),
        ("./nothing", "model 'x': there is no folder ./nothing"),
        ("ORG/NAME@", "ORG/NAME@REVISION"),
        (tmp_path / "nothing", "there is no folder"),
        (3, "model 'x' must be a folder, a repository, or a transformers"),
    ]:
        with pytest.raises(SuiteError, match=sentence):
            ct.Suite.of({"x": source})
    with pytest.raises(SuiteError, match="without commas"):
        ct.Suite.of({"a,b": base})
    with pytest.raises(SuiteError, match="name at least one"):
        ct.Suite.of({})
    with pytest.raises(InterventionError, match="Linear cannot be used"):
        ct.Suite.of({"x": torch.nn.Linear(2, 2)})


# Models in memory


def state_of(model: torch.nn.Module) -> list[object]:
    """Everything about somebody's model that must stay as it is."""
    modules = [(type(module), module.training, "forward" in vars(module)) for module in model.modules()]
    return [modules, [(id(weight), weight.requires_grad, weight.grad) for weight in model.parameters()]]


def test_a_model_in_memory_is_used_and_not_changed(base: Path, chat: Path):
    model = AutoModelForCausalLM.from_pretrained(chat).train()
    model.gpt_neox.embed_in.weight.requires_grad_(False)
    own = AutoTokenizer.from_pretrained(chat)
    before = state_of(model)
    suite = ct.Suite.of({"base": base, "chat": model}, tokenizer=AutoTokenizer.from_pretrained(base))
    suite.verify(distinct=True)
    with ct.Compute().open(suite, "chat") as opened:
        assert (
            opened.module.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()
            if hasattr(model, "lm_head")
            else opened.unembedding.weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
        )
        read = fetch(opened, SEQUENCES, [Site(0)])[Site(0)]
    assert state_of(model) == before
    assert own.padding_side == "right"
    torch.testing.assert_close(read, reference(model), rtol=1e-5, atol=1e-6)
    model.train()


def test_a_model_in_memory_and_its_folder_have_different_identities_that_follow_its_weights(base: Path):
    model = AutoModelForCausalLM.from_pretrained(base)
    suite = ct.Suite.of({"a": model})
    before = suite.fingerprint
    assert before == ct.Suite.of({"a": AutoModelForCausalLM.from_pretrained(base)}).fingerprint
    with torch.no_grad():
        model.gpt_neox.embed_in.weight[0, 0] += 1
    assert suite.fingerprint != before


def test_models_in_memory_need_a_tokenizer_from_somewhere(base: Path):
    model = AutoModelForCausalLM.from_pretrained(base)
    assert ct.Suite.of({"a": model}).tokenizer.get_vocab() == tokenizer().get_vocab()
    assert ct.Suite.of({"a": GPTNeoXForCausalLM(model.config), "b": base}).tokenizer is not None
    model.config._name_or_path = model.name_or_path = ""
    with pytest.raises(SuiteError, match=r"model 'a' is in memory, and its tokenizer is unknown: give tokenizer="):
        _ = ct.Suite.of({"a": model}).tokenizer


@pytest.mark.parametrize("kind", [LanguageModel, TransformersModel])
def test_an_nnsight_model_goes_in_as_it_is(kind: type, base: Path):
    theirs = kind(str(base), task="text-generation", tokenizer=AutoTokenizer.from_pretrained(base))
    suite = ct.Suite.of({"base": theirs})
    read = activations(suite, "base")
    torch.testing.assert_close(read, reference(AutoModelForCausalLM.from_pretrained(base)), rtol=1e-5, atol=1e-6)
    with theirs.trace(torch.tensor([[5, 9, 31, 7]])):
        hidden = theirs.gpt_neox.layers[0].output.save()
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    torch.testing.assert_close(hidden.reshape(-1, 16)[:4], read[:4], rtol=1e-5, atol=1e-6)


def test_wrapping_takes_the_nnsight_model_alone_and_names_what_it_takes(base: Path):
    theirs = TransformersModel(str(base), task="text-generation", tokenizer=AutoTokenizer.from_pretrained(base))
    assert Model.wrap(theirs).n_layers == 2
    with pytest.raises(InterventionError, match="A model in memory is a transformers PreTrainedModel"):
        Model.wrap("ORG/NAME")
    config = AutoConfig.from_pretrained(base)
    with torch.device("meta"):
        model = GPTNeoXForCausalLM(config)
    with pytest.raises(InterventionError, match="meta device"):
        Model.wrap(model)


class ScaledWeight(torch.nn.Parameter):
    """A weight as bitsandbytes keeps it: its scale is an attribute, which its layer takes when it first runs."""


class ScaledLinear(torch.nn.Module):
    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax() / 127
        self.weight = torch.Tensor._make_subclass(
            ScaledWeight, (linear.weight.detach() / scale).round().to(torch.int8), False
        )
        self.weight.scale, self.scale, self.bias = scale, None, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            self.scale, self.weight.scale = self.weight.scale, None
        return torch.nn.functional.linear(x, self.weight.data.float() * self.scale, self.bias)


def test_quantised_weights_keep_their_state_and_give_the_same_activations(base: Path):
    models = [AutoModelForCausalLM.from_pretrained(base) for _ in range(2)]
    for model in models:
        for block in model.gpt_neox.layers:
            block.mlp.dense_h_to_4h = ScaledLinear(block.mlp.dense_h_to_4h)
    theirs, same = models
    weights = [block.mlp.dense_h_to_4h.weight for block in theirs.gpt_neox.layers]
    suite = ct.Suite.of({"base": base, "quantised": theirs})
    suite.verify(distinct=True)
    read = activations(suite, "quantised")
    assert all(isinstance(weight, ScaledWeight) and weight.scale is not None for weight in weights)
    torch.testing.assert_close(read, reference(same), rtol=1e-5, atol=1e-6)
    assert not torch.equal(read, activations(suite, "base"))
    torch.testing.assert_close(reference(theirs), read, rtol=1e-5, atol=1e-6)


def test_a_model_of_bitsandbytes_goes_in_and_stays_as_it_was(tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    wide = write_checkpoint(tmp_path / "wide", 0, hidden_size=64, intermediate_size=128)
    for bits in ({"load_in_8bit": True}, {"load_in_4bit": True}):
        config = BitsAndBytesConfig(**bits)
        theirs, same = (
            AutoModelForCausalLM.from_pretrained(wide, quantization_config=config, device_map="cpu") for _ in range(2)
        )
        read = activations(ct.Suite.of({"quantised": theirs}), "quantised")
        torch.testing.assert_close(read, reference(same))
        torch.testing.assert_close(reference(theirs), read)


def test_a_model_whose_weights_are_offloaded_goes_in(base: Path, tmp_path: Path):
    places = {"gpt_neox.embed_in": "cpu", "gpt_neox.layers.0": "cpu", "gpt_neox.layers.1": "disk", "lm_head": "cpu",
              "gpt_neox.final_layer_norm": "cpu", "gpt_neox.rotary_emb": "cpu", "embed_out": "cpu"}  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base, device_map=places, offload_folder=str(tmp_path))
    before = state_of(model)
    suite = ct.Suite.of({"a": model})
    assert suite.fingerprint
    read = activations(suite, "a")
    assert state_of(model) == before
    torch.testing.assert_close(read, reference(AutoModelForCausalLM.from_pretrained(base)), rtol=1e-5, atol=1e-6)
