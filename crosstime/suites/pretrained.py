"""Configurations and tokenizers of checkpoints, read by transformers, with errors that name the checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError

from crosstime.errors import SuiteError
from crosstime.suites.checkpoints import Checkpoint
from user_input.home import expanded
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


def read_config(checkpoint: Checkpoint) -> PretrainedConfig:
    """The model configuration of a checkpoint.

    Raises:
        SuiteError: it cannot be read.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(checkpoint.source, **checkpoint.load_arguments)
    except _UNREADABLE as error:
        raise SuiteError(_message("configuration", checkpoint, error)) from error


def read_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint.

    Raises:
        SuiteError: it cannot be read, or is empty.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.source, **checkpoint.load_arguments)
        # If the files are missing, transformers silently makes an empty tokenizer of the model's class.
        if set(tokenizer.get_vocab()) <= set(tokenizer.get_added_vocab()):
            raise ValueError("its vocabulary is empty")
        return tokenizer
    except Exception as error:  # for a damaged file, tokenizers raises the base class itself
        message = _message("tokenizer", checkpoint, error, "; name one with tokenizer=...")
        raise SuiteError(message) from error


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
    return f"cannot read the {part} of revision {checkpoint.revision!r} from {where}: {reason(error)}{hint}"
