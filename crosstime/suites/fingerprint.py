"""Hashes by which suites and tokenizers are recognized in caches and records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstime.suites.checkpoints import Checkpoint

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that decides the token ids of a text, and of the BOS and EOS tokens.

    For a fast tokenizer this is its serialized backend without padding and truncation, for a slow one its vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules: dict[str, Any] = {"vocabulary": tokenizer.get_vocab()}
    else:
        rules = json.loads(backend.to_str())
        rules.update(padding=None, truncation=None)
    content = json.dumps([rules, tokenizer.bos_token, tokenizer.eos_token], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def checkpoint_content(checkpoint: Checkpoint, config: PretrainedConfig) -> bytes:
    """What identifies a checkpoint: its name, configuration and weights.

    The weights of a folder are represented by the sizes of its weight files and evenly spaced samples of their bytes,
    those of a Hub repository by its commit.
    """
    # Leave out what differs between two copies of the same checkpoint
    configuration = config.to_diff_dict()
    for volatile in ("transformers_version", "_name_or_path"):
        configuration.pop(volatile, None)
    content = json.dumps([checkpoint.revision, configuration], sort_keys=True, default=str).encode()

    # Represent the weights
    if checkpoint.hub_revision is None:
        files = sorted(Path(checkpoint.source).glob("*.safetensors"))
        return content + b"".join(_sampled_hash(file) for file in files)
    commit = getattr(config, "_commit_hash", None) or checkpoint.hub_revision
    return content + f"{checkpoint.source}@{commit}".encode()


def _sampled_hash(path: Path) -> bytes:
    """Hash of a file's name, size and evenly spaced samples, which tell training runs apart without reading it all."""
    size = path.stat().st_size
    digest = hashlib.sha256(f"{path.name} {size}".encode())
    with path.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()
