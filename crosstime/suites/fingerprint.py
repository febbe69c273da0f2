"""Hashes by which suites and tokenizers are recognized in caches and records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.weights import WeightFile

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


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


def checkpoint_content(checkpoint: Checkpoint, config: PretrainedConfig, files: Sequence[WeightFile]) -> bytes:
    """What identifies a checkpoint: its name, its configuration, and name and digest of each of its weight files."""
    # Leave out what differs between two copies of the same checkpoint
    configuration = config.to_diff_dict()
    for volatile in ("transformers_version", "_name_or_path"):
        configuration.pop(volatile, None)
    content = [checkpoint.revision, configuration, [[file.name, file.digest] for file in files]]
    return json.dumps(content, sort_keys=True, default=str).encode()
