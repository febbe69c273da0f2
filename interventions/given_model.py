"""Models in memory, as people have them: of transformers, peft, nnsight, or compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from interventions.bare_model import BareModel
from interventions.errors import InterventionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KINDS = "a transformers PreTrainedModel, a peft PeftModel, or an nnsight LanguageModel or TransformersModel"
"""What counts as a model in memory, for messages."""


class GivenModel(NamedTuple):
    """A model in memory: the model of transformers in it, and its tokenizer if it brings one."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None


def given_model(model: object) -> GivenModel | None:
    """The model of transformers in what somebody has, and the tokenizer that comes with it; None if it is no model.

    An nnsight model whose weights have not been loaded loads them, as its first trace would. A `PeftModel` gives the
    model that its adapters are part of. Nothing is changed otherwise.

    Raises:
        InterventionError: it is a model, but not one of transformers, or its adapters do not act through its modules.

    Examples:
        >>> given_model("EleutherAI/pythia-1b") is None
        True
    """
    from nnsight import Envoy
    from transformers import PreTrainedModel

    # Unwrap what holds a module
    tokenizer: PreTrainedTokenizerBase | None = None
    module: Any = model
    if isinstance(model, BareModel):
        module, tokenizer = model.module, model.tokenizer
    elif isinstance(model, Envoy):
        if getattr(module, "dispatched", True) is False:
            module.dispatch()
        module, tokenizer = module._module, getattr(module, "tokenizer", None)
    if not isinstance(module, nn.Module):
        return None
    module = getattr(module, "_orig_mod", module)

    # Take the model out of its adapter's wrapper
    if hasattr(module, "get_base_model") and hasattr(module, "peft_config"):
        config, kind = module.active_peft_config, type(module).__name__
        if config.is_prompt_learning or getattr(config, "is_adaption_prompt", False):
            raise InterventionError(
                f"The {kind} has a {config.peft_type.value} adapter, which acts outside the modules of "
                "its model; only adapters that change weights, such as LoRA, can be used."
            )
        module = module.get_base_model()

    if not isinstance(module, PreTrainedModel):
        raise InterventionError(f"A {type(module).__name__} cannot be used as a model: give {KINDS}.")
    if any(parameter.device == torch.device("meta") for parameter in module.parameters()) and not hasattr(
        module, "hf_device_map"
    ):
        raise InterventionError(f"The {type(module).__name__} has no weights: it is on the meta device.")
    return GivenModel(module, tokenizer)
