"""Models of a tiny suite: randomly initialized transformers of the supported architectures."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from crosstime.suites.tiny_config import TinyConfig


def tiny_model(config: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A float32 model with initial weights drawn from the seed of `config`; the global random state is left unchanged.

    Args:
        config: architecture, size and seed.
        tokenizer: decides the size of the vocabulary and the special tokens.
    """
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return AutoModelForCausalLM.from_config(tiny_model_config(config, tokenizer), dtype=torch.float32)


def tiny_model_config(config: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The configuration of transformers for a tiny model."""
    from transformers import BloomConfig, GPTNeoXConfig, Olmo2Config, OlmoConfig

    end = tokenizer.eos_token_id
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if config.architecture == "bloom":
        return BloomConfig(hidden_size=config.d_model, n_layer=config.n_layers, n_head=config.n_heads, **tokens)
    shape = {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": 4 * config.d_model,
        "max_position_embeddings": max(256, config.sequence_length),
    }
    family = {"gpt_neox": GPTNeoXConfig, "olmo": OlmoConfig, "olmo2": Olmo2Config}[config.architecture]
    return family(**shape, **tokens)
