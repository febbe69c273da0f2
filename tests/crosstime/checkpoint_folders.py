"""Small checkpoints of random weights in folders, in every format that transformers loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerBase

from crosstime.suites.train_tokenizer import train_tokenizer
from tasks.agreement import sentences

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = list(sentences(200, seed=0))


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer that knows the words of the agreement grammar."""
    return train_tokenizer(TEXT, 400)


def write_checkpoint(folder: Path, seed: int = 0, *, shard_size: str | None = None, **sizes: int) -> Path:
    """A checkpoint whose weights are all random, norms and biases included; with `shard_size` in several files."""
    config = GPTNeoXConfig(vocab_size=len(tokenizer()), max_position_embeddings=64, **SIZES | sizes)
    generator = torch.Generator().manual_seed(seed)
    model = GPTNeoXForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    model.save_pretrained(folder, **({} if shard_size is None else {"max_shard_size": shard_size}))
    tokenizer().save_pretrained(folder)
    return folder


def write_suite(folder: Path, revisions: Sequence[str], *, shard_size: str | None = None, first_seed: int = 0) -> Path:
    """A folder of checkpoints, each with weights of its own."""
    for seed, revision in enumerate(revisions, first_seed):
        write_checkpoint(folder / revision, seed, shard_size=shard_size)
    return folder


def to_bin(folder: Path, *, sharded: bool = False) -> None:
    """Replace the weights of a checkpoint by those that torch.save writes, in one file or two."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if not sharded:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    names = sorted(tensors)
    shards = {f"pytorch_model-0000{n}-of-00002.bin": names[n - 1 :: 2] for n in (1, 2)}
    for file, inside in shards.items():
        torch.save({name: tensors[name] for name in inside}, folder / file)
    index = {"metadata": {"total_size": size_of(tensors)}, "weight_map": {n: f for f, ns in shards.items() for n in ns}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def size_of(tensors: dict[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
