"""Tiny random models of nine architectures, a dictionary for them, and the shared suites if they are present."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from plain_torch import Dictionary
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Olmo2Config,
    OlmoConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from interventions import Codes, Decomposition, Model, Prompts, Sequences, Site, fetch

SUITES = Path(__file__).resolve().parents[3] / "shared" / "suites"
VOCABULARY, WIDTH, LAYERS = 60, 16, 3
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    **SPECIAL,
}
_SHORT = {"vocab_size": VOCABULARY, "n_layer": LAYERS, "n_head": 2, **SPECIAL}
CONFIGURATIONS = {
    "gpt_neox": lambda: GPTNeoXConfig(**_WIDE),
    "olmo": lambda: OlmoConfig(**_WIDE),
    "olmo2": lambda: Olmo2Config(**_WIDE),
    "bloom": lambda: BloomConfig(hidden_size=WIDTH, **_SHORT),
    "llama": lambda: LlamaConfig(**_WIDE),
    "gpt2": lambda: GPT2Config(n_embd=WIDTH, n_positions=64, **_SHORT),
    "qwen2": lambda: Qwen2Config(**_WIDE, num_key_value_heads=2),
    "qwen3": lambda: Qwen3Config(**_WIDE, num_key_value_heads=2, head_dim=8),
    "gemma2": lambda: Gemma2Config(
        **_WIDE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=4.0, query_pre_attn_scalar=8
    ),
}


class Tiny(NamedTuple):
    """A wrapped model, and a copy of its module in double precision to compare with."""

    model: Model
    plain: nn.Module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "architecture" in metafunc.fixturenames:
        metafunc.parametrize("architecture", [name for name in CONFIGURATIONS if name != "gemma2"])


def build(architecture: str, seed: int = 0) -> nn.Module:
    """Build a model with random weights that are larger than by default, so that tokens and blocks matter."""
    module = AutoModelForCausalLM.from_config(CONFIGURATIONS[architecture](), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "embed" in name or "wte" in name or "wpe" in name:
                weight.copy_(noise)
            elif weight.dim() > 1:
                weight.copy_(1.5 * noise / weight.shape[1] ** 0.5)
            else:
                weight.add_(0.2 * noise)
    return module


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<unk>"])}
    vocabulary |= {f"w{index}": index for index in range(4, VOCABULARY)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def module_of() -> Callable[[str], nn.Module]:
    """Builds a new module of an architecture, for tests that change or save it."""
    return build


@pytest.fixture(scope="session")
def tiny(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Tiny]:
    """Returns the tiny model of an architecture, which is opened once."""

    @functools.cache
    def open_one(architecture: str) -> Tiny:
        module = build(architecture)
        plain = copy.deepcopy(module).double().requires_grad_(False)
        return Tiny(Model.wrap(module, tokenizer, architecture), plain)

    return open_one


@pytest.fixture(scope="session")
def dictionary() -> Dictionary:
    return Dictionary(WIDTH, 40)


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """Five prompts of four lengths, with patch prompts that differ from them at two positions."""
    generator = torch.Generator().manual_seed(5)
    ids, patch = [], []
    for length in (4, 7, 2, 7, 5):
        row = torch.randint(4, VOCABULARY, (length,), generator=generator).tolist()
        patch_row = list(row)
        patch_row[length // 2] = (row[length // 2] - 4 + 17) % (VOCABULARY - 4) + 4
        patch_row[0] = (row[0] - 4 + 5) % (VOCABULARY - 4) + 4
        ids.append(tuple(row))
        patch.append(tuple(patch_row))
    return Prompts(tuple(ids), right=(4, 9, 14, 19, 24), wrong=(30, 35, 40, 45, 50), patch=tuple(patch))


@pytest.fixture(scope="session")
def decompose(dictionary: Dictionary) -> Callable[..., Decomposition]:
    """Decomposes the activations of sequences at a layer with the random dictionary."""

    def decomposition(model: Model, sequences: Sequences, layer: int = 1) -> Decomposition:
        x = fetch(model, sequences, [Site(layer)])[Site(layer)]
        codes = Codes.from_dense(dictionary.encode(x))
        return Decomposition(x, codes, dictionary.directions.float(), dictionary.bias.float())

    return decomposition


@pytest.fixture(scope="session", params=["tiny-pythia", "tiny-olmo", "tiny-bloom"])
def suite_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the last checkpoint of each shared suite."""
    folder = SUITES / request.param / "main"
    if not folder.is_dir():
        pytest.skip(f"the shared suite {request.param} is not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def trained(suite_folder: Path) -> Model:
    return Model.open(suite_folder, device="cpu")
