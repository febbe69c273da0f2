"""Loading a checkpoint's weights, and refusing one whose weights are not those of the model that its config describes.

transformers fills weights that a file does not have with random numbers, and passes over weights that the model has no
place for. Both would be measured as if they were the checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from interventions.adapter import add_adapter, find_adapter, require_peft
from interventions.errors import CheckpointLoadError
from interventions.own_code import own_code_refusal, warn_of_unused_code
from interventions.weight_names import WeightNames
from user_input.home import expanded
from user_input.hub_reach import hub_or_cache
from user_input.reason import reason

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_BUFFERS = re.compile(
    r"(^|\.)(attn|attention|self_attn|self_attention)\.(bias|masked_bias)$"  # causal masks of old transformers
    r"|rotary(_pos)?_emb\.|(^|\.)(position_ids|causal_mask|_extra_state)$"
)
"""Names of buffers that files of older releases hold and that are computed today; they are no weights."""


def load_model(
    source: str,
    revision: str | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a causal language model of which every weight comes from the checkpoint, and every weight of it is used.

    Args:
        source: a folder, or a repository of the Hub; that of an adapter of peft is opened on the base model that its
            ``adapter_config.json`` names, and merged into its weights.
        revision: branch, tag or commit of the repository.
        device: where the weights go. ``meta`` compares names and shapes only, see `check_weights`.
        dtype: of the weights.
        trust_remote_code: run the repository's own Python code.

    Raises:
        CheckpointLoadError: the checkpoint cannot be read, needs code of its own, or its weights do not match its
            configuration; the message names some of them.

    Examples:
        >>> load_model("suites/tiny-pythia/main", device=torch.device("cpu"))  # doctest: +SKIP
    """
    name = f"{source}@{revision}" if revision else source
    if (adapter := find_adapter(source, revision)) is not None:
        require_peft(adapter)
        base = load_model(
            adapter.base, adapter.base_revision, device=device, dtype=dtype, trust_remote_code=trust_remote_code
        )
        return add_adapter(base, adapter)
    place: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    if (folder := expanded(source)).is_dir():
        source, place["local_files_only"] = str(folder), True

    # Load
    try:
        from_hub = "local_files_only" not in place
        with no_progress_bars(), _no_load_report(), hub_or_cache() if from_hub else contextlib.nullcontext():
            config = read_config(source, place)
            model, info = _model_class(config, trust_remote_code=trust_remote_code).from_pretrained(
                source,
                config=config,
                dtype=dtype,
                device_map=str(device) if device.type != "cpu" else None,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **place,
            )
    except Exception as error:  # loaders raise many kinds of errors for a damaged checkpoint
        message = own_code_refusal(name, error) or f"Cannot open checkpoint {name}: {reason(error)}"
        raise CheckpointLoadError(message) from error

    # Compare names and shapes
    if problem := _names(model, info).problem():
        raise CheckpointLoadError(f"Cannot open checkpoint {name}: {problem}")
    if not trust_remote_code:
        warn_of_unused_code(name, config)
    return model


def check_weights(source: str, revision: str | None = None, *, trust_remote_code: bool = False) -> None:
    """Compare names and shapes of a checkpoint's weights with its configuration, without memory for the weights.

    Raises:
        CheckpointLoadError: as `load_model` does.

    Examples:
        >>> check_weights("suites/tiny-pythia/main")  # doctest: +SKIP
    """
    load_model(source, revision, device=torch.device("meta"), trust_remote_code=trust_remote_code)


def read_config(source: str, place: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration of a checkpoint, read by transformers."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(source, **place)


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Suppress the progress bar that transformers shows for each checkpoint that it loads or saves."""
    from transformers.utils import logging as transformers_logging

    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _no_load_report() -> Iterator[None]:
    """Suppress the table of keys that transformers logs: what is wrong in it becomes a `CheckpointLoadError`."""

    def is_other(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "LOAD REPORT" not in message and "checkpoint seem corrupted" not in message

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _model_class(config: PretrainedConfig, *, trust_remote_code: bool) -> Any:
    """The class that opens a configuration's model: transformers' for causal language models, or else the one named."""
    import transformers

    auto = transformers.AutoModelForCausalLM
    own = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not own and type(config) not in auto._model_mapping:
        for architecture in getattr(config, "architectures", None) or ():
            if hasattr(transformers, architecture):
                return getattr(transformers, architecture)
    return auto


def _names(model: PreTrainedModel, info: Mapping[str, Any]) -> WeightNames:
    """The names that do not match, as transformers lists them."""
    head = model.get_output_embeddings()
    return WeightNames(
        missing=frozenset(info["missing_keys"]),
        unexpected=frozenset(key for key in info["unexpected_keys"] if not _BUFFERS.search(key)),
        reshaped={key: (tuple(file), tuple(own)) for key, file, own in info["mismatched_keys"]},
        expected=frozenset(model.state_dict()),
        tied=dict(getattr(model, "all_tied_weights_keys", None) or {}),
        head=next((f"{path}.weight" for path, module in model.named_modules() if module is head), None),
        n_layers=getattr(model.config.get_text_config(), "num_hidden_layers", None),
    )
