"""Adapters of peft: folders and repositories that hold the change of a base model and name that model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interventions.errors import CheckpointLoadError
from user_input.first_names import first_names
from user_input.home import expanded
from user_input.hub_reach import hub_or_cache
from user_input.parse_json import parse_json
from user_input.reason import reason

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files by which a folder is a whole model, whatever adapter is beside it."""
_NAMED = 3


@dataclass(frozen=True)
class Adapter:
    """Where an adapter is, and the model that it changes.

    Attributes:
        source: folder or Hub repository of the adapter.
        revision: branch, tag or commit of the repository; None for a folder.
        base: folder or Hub repository of the model that it was trained on.
        base_revision: branch, tag or commit of that repository, if the adapter names one.
        config: its ``adapter_config.json`` on this machine.
    """

    source: str
    revision: str | None
    base: str
    base_revision: str | None
    config: Path

    @property
    def name(self) -> str:
        """The source and its revision, for messages."""
        return f"{self.source}@{self.revision}" if self.revision else self.source


def find_adapter(source: str, revision: str | None = None) -> Adapter | None:
    """The adapter in a folder or Hub repository; None where there is a whole model, or nothing.

    A repository is asked for ``adapter_config.json`` only if it has no ``config.json``.

    Raises:
        CheckpointLoadError: ``adapter_config.json`` cannot be read, or names no base model that can be opened.

    Examples:
        >>> find_adapter("adapters/lora").base  # doctest: +SKIP
        'EleutherAI/pythia-160m'
    """
    # Find its configuration
    folder = expanded(source)
    if folder.is_dir():
        path: Path | None = folder / CONFIG
        if not _is_adapter(folder):
            return None
    else:
        path = None if _hub_file(source, "config.json", revision) else _hub_file(source, CONFIG, revision)
    if path is None:
        return None

    # Read the name of its base model
    name = f"{source}@{revision}" if revision else source
    try:
        config = parse_json(path.read_text(encoding="utf-8"), is_file=True)
    except (OSError, ValueError) as error:
        raise CheckpointLoadError(f"Cannot read {CONFIG} of adapter {name}: {reason(error)}") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    base_revision = config.get("revision") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise CheckpointLoadError(f"{CONFIG} of adapter {name} names no base model (base_model_name_or_path)")
    if not isinstance(base_revision, str | None):
        raise CheckpointLoadError(f"{CONFIG} of adapter {name}: revision must be a text, not {base_revision!r}")
    at_hub = not expanded(base).is_dir()
    if not at_hub and _is_adapter(expanded(base)):
        raise CheckpointLoadError(
            f"the base model of adapter {name}, {base}, is an adapter itself: merge that one into its base model first"
        )
    if at_hub and (base.startswith((".", "/", "~")) or base.count("/") > 1):
        raise CheckpointLoadError(
            f"adapter {name} was trained on {base}, which is not a folder of this machine: write the path of its base "
            f"model into {CONFIG} (base_model_name_or_path)"
        )
    return Adapter(source, revision, base, base_revision if at_hub else None, path)


def add_adapter(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """Make an adapter part of the weights of its base model, so that the modules stay those of the base.

    ``w' = w + scaling B A`` for LoRA; other kinds of adapters are merged by peft in the same way. The product is
    computed in float32, and the sum in the dtype of the model.

    Args:
        model: the base model, which is changed. On the meta device, names and shapes are compared only.
        adapter: its adapter.

    Raises:
        CheckpointLoadError: peft is not installed, the adapter is of a kind that is not part of the weights, or its
            weights do not fit the model; the message names some of them.
    """
    require_peft(adapter)
    import peft

    # Read the configuration
    place: dict[str, Any] = {} if adapter.revision is None else {"revision": adapter.revision}
    try:
        config = peft.PeftConfig.from_pretrained(str(_place(adapter.source)), **place)
    except Exception as error:  # peft raises many kinds of errors for damaged files
        raise CheckpointLoadError(f"Cannot read {CONFIG} of adapter {adapter.name}: {reason(error)}") from error
    if config.is_prompt_learning or getattr(config, "is_adaption_prompt", False):
        raise CheckpointLoadError(
            f"Cannot open adapter {adapter.name}: a {config.peft_type.value} adapter acts outside the weights of its "
            "model; only adapters that change weights, such as LoRA, can be opened"
        )
    config.inference_mode = True

    # Load its weights
    meta = next(model.parameters()).device.type == "meta"
    try:
        weights = peft.utils.load_peft_weights(str(_place(adapter.source)), device="cpu", **place)
        _fit_embeddings(model, weights)
        with warnings.catch_warnings():
            # What peft warns about is compared below
            warnings.simplefilter("ignore")
            wrapped = peft.PeftModel(model, config, low_cpu_mem_usage=meta)
            names = set(peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False))
            # What it returns is typed by a named tuple that type checkers do not understand
            loaded: Any = peft.set_peft_model_state_dict(wrapped, weights, low_cpu_mem_usage=meta)
        merged = model if meta else wrapped.merge_and_unload()
    except Exception as error:  # peft raises many kinds of errors for an adapter of another model
        message = f"Cannot open adapter {adapter.name} on its base model {adapter.base}: {reason(error)}"
        raise CheckpointLoadError(message) from error

    # Compare names
    if missing := sorted(names - set(weights)):
        raise CheckpointLoadError(
            f"Cannot open adapter {adapter.name}: it has no weights {first_names(missing, _NAMED)}"
        )
    if loaded.unexpected_keys:
        raise CheckpointLoadError(
            f"Cannot open adapter {adapter.name}: its base model {adapter.base} has no place for "
            f"{first_names(sorted(loaded.unexpected_keys), _NAMED)}"
        )
    return merged


def require_peft(adapter: Adapter) -> None:
    """Refuse an adapter where peft is not installed.

    Raises:
        CheckpointLoadError: the sentence says what to install.
    """
    if find_spec("peft") is None:
        raise CheckpointLoadError(
            f"{adapter.name} is an adapter of {adapter.base}, which needs the package peft: install it with pip "
            "install 'crosstime[peft]'"
        )


def _is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and not any((folder / name).is_file() for name in _WHOLE)


def _place(source: str) -> str | Path:
    folder = expanded(source)
    return folder if folder.is_dir() else source


def _fit_embeddings(model: PreTrainedModel, weights: dict[str, Tensor]) -> None:
    """Give the base model as many embeddings as the adapter has, if tokens were added for it."""
    from interventions import architectures

    embeddings = model.get_input_embeddings()
    path = next((name for name, module in model.named_modules() if module is embeddings), None)
    for name, weight in weights.items():
        if path is not None and weight.ndim == 2 and name.endswith(f"{path}.weight"):
            if len(weight) != len(architectures.weight(embeddings)):
                model.resize_token_embeddings(len(weight), mean_resizing=False)
            return


def _hub_file(source: str, name: str, revision: str | None) -> Path | None:
    """A small file of a repository; None if it has none, or cannot be asked."""
    from transformers.utils.hub import cached_file

    try:
        with hub_or_cache():
            path = cached_file(
                source,
                name,
                revision=revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
    except OSError:
        return None
    return None if path is None else Path(path)
