"""Configurations and tokenizers of checkpoints, read by transformers, with errors that name the checkpoint."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError

from crosstime.errors import SuiteError
from crosstime.suites.checkpoints import Checkpoint
from interventions.adapter import Adapter, find_adapter, require_peft
from interventions.errors import CheckpointLoadError
from interventions.own_code import own_code_refusal
from interventions.read_tokenizer import read_tokenizer as open_tokenizer
from interventions.read_tokenizer import tokenizer_file
from user_input.home import expanded
from user_input.hub_reach import hub_or_cache, why_unreachable
from user_input.reason import reason

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ImportError,
    StrictDataclassError,
)
"""What transformers raises for a file that is missing or damaged; RuntimeError includes infinite recursion."""


def read_config(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """The model configuration of a checkpoint; that of its base model for an adapter.

    Raises:
        SuiteError: it cannot be read, or needs Python code of its own that is not allowed.
    """
    from transformers import AutoConfig

    if checkpoint.model is not None:
        return checkpoint.model.config
    if (adapter := adapter_of(checkpoint)) is not None:
        return read_config(base_of(checkpoint, adapter), trust_remote_code=trust_remote_code)
    arguments = checkpoint.load_arguments | {"trust_remote_code": trust_remote_code}
    try:
        with nullcontext() if checkpoint.hub_revision is None else hub_or_cache():
            return AutoConfig.from_pretrained(checkpoint.source, **arguments)
    except _UNREADABLE as error:
        refusal = own_code_refusal(f"revision {checkpoint.revision!r} of {checkpoint.source}", error)
        raise SuiteError(refusal or _message("configuration", checkpoint, error)) from error


def adapter_of(checkpoint: Checkpoint) -> Adapter | None:
    """The adapter that a checkpoint is; None for a whole model.

    Raises:
        SuiteError: the configuration of the adapter cannot be used, or peft is not installed.
    """
    if checkpoint.model is not None:
        return None
    try:
        adapter = find_adapter(checkpoint.source, checkpoint.hub_revision)
        if adapter is not None:
            require_peft(adapter)
    except CheckpointLoadError as error:
        raise SuiteError(f"cannot use revision {checkpoint.revision!r}: {reason(error)}") from error
    return adapter


def base_of(checkpoint: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The base model of the adapter that a checkpoint is, in the form of a checkpoint of the same name."""
    folder = expanded(adapter.base)
    if folder.is_dir():
        return Checkpoint(checkpoint.revision, None, None, str(folder), None)
    return Checkpoint(checkpoint.revision, None, None, adapter.base, adapter.base_revision or "main")


def read_tokenizer(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, see `interventions.read_tokenizer`.

    Raises:
        SuiteError: it cannot be read, is empty, does not have the ids of its tokenizer.json, or needs Python code of
            its own that is not allowed.
    """
    try:
        return open_tokenizer(checkpoint.source, checkpoint.hub_revision, trust_remote_code=trust_remote_code)
    except CheckpointLoadError as error:
        message = _message("tokenizer", checkpoint, error, "; name one with tokenizer=...")
        raise SuiteError(message) from error


def tokenizer_digest(checkpoint: Checkpoint) -> str | None:
    """SHA-256 of a checkpoint's ``tokenizer.json``; None if it has none."""
    path = tokenizer_file(checkpoint.source, checkpoint.hub_revision)
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def check_weight_names(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> None:
    """Compare names and shapes of a checkpoint's weights, which are on this machine, with its configuration.

    Raises:
        SuiteError: some do not match; the message names them.
    """
    from interventions.load_model import check_weights

    try:
        check_weights(checkpoint.source, checkpoint.hub_revision, trust_remote_code=trust_remote_code)
    except CheckpointLoadError as error:
        raise SuiteError(f"cannot use revision {checkpoint.revision!r}: {reason(error)}") from error


def tokenizer_checkpoint(source: str) -> Checkpoint:
    """The folder or Hub repository of a tokenizer that does not belong to any checkpoint, in the form of one."""
    folder = expanded(source)
    if folder.is_dir():
        return Checkpoint("tokenizer", None, None, str(folder), None)
    return Checkpoint("tokenizer", None, None, source, "main")


def _message(part: str, checkpoint: Checkpoint, error: Exception, hint: str = "") -> str:
    where = checkpoint.source
    if checkpoint.hub_revision is not None:
        where, hint = f"{where}@{checkpoint.hub_revision} on the Hub", f"{hint}; check name and connection"
    because = (checkpoint.hub_revision is not None and why_unreachable()) or reason(error)
    return f"cannot read the {part} of revision {checkpoint.revision!r} from {where}: {because}{hint}"
