"""A model around the weights of another one, which stays as it is.

Effects need a model without dropout whose parameters have no gradients, and nnsight takes the `forward` of every
module. A model that somebody else holds, and may be training, must not change for that: its modules are copied, its
weights are not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from interventions.errors import InterventionError
from user_input.reason import reason

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_HOOKS = frozenset(name for name in vars(nn.Module()) if "hooks" in name)
"""Attributes of a module that hold the hooks that somebody registered on it."""


def with_shared_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model's modules around the same weights, in evaluation mode and without gradients.

    The copy takes no memory for weights, and follows every change in place of them, as an optimizer makes. The model
    itself keeps its training mode, its `forward` and the `requires_grad` of its parameters. Hooks that are registered
    on its modules act in the copy too, as do those of accelerate, which move the weights of a ``device_map``.

    Raises:
        InterventionError: a module has an attribute that cannot be copied.

    Examples:
        >>> frozen = with_shared_weights(model)  # doctest: +SKIP
        >>> frozen.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()  # doctest: +SKIP
        True
    """
    # deepcopy takes what it finds in the memo for the copy of an object
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor
    twins = {parameter: _twin(parameter) for parameter in model.parameters()}
    for parameter, twin in twins.items():
        memo[id(parameter)] = twin
        if parameter.grad is not None:
            memo[id(parameter.grad)] = parameter.grad
        memo |= {id(value): value for value in vars(parameter).values() if isinstance(value, Tensor)}

    # Layers of quantised weights keep tensors in objects of their own
    for holder in (*twins, *model.modules()):
        for value in vars(holder).values():
            memo |= {id(tensor): tensor for tensor in _tensors_in(value)}

    # Hooks are those of the model, and hooks of accelerate hold the weights that are moved when they are needed
    for module in model.modules():
        memo |= {id(hooks): hooks for name, hooks in vars(module).items() if name in _HOOKS}
        hook = getattr(module, "_hf_hook", None)
        for part in getattr(hook, "hooks", (hook,)):
            for name in ("weights_map", "tied_params_map"):
                if (weights := getattr(part, name, None)) is not None:
                    memo[id(weights)] = weights

    try:
        copied = copy.deepcopy(model, memo).eval()
        for parameter, twin in twins.items():
            if twin is not parameter:
                twin.__dict__.update(copy.deepcopy(parameter.__dict__, memo))
    except Exception as error:  # whatever an attribute of somebody's module raises when it is copied
        raise InterventionError(
            f"The modules of this {type(model).__name__} cannot be copied around its weights: {reason(error)}."
        ) from error
    return copied


def _twin(parameter: nn.Parameter) -> nn.Parameter:
    """A parameter with the same numbers and no gradient, which gets attributes of its own.

    The classes of quantised weights keep their scales in attributes, and change them when a layer first runs.
    """
    if type(parameter) is nn.Parameter:
        return nn.Parameter(parameter.detach(), requires_grad=False)
    if is_traceable_wrapper_subclass(parameter):
        return parameter
    return torch.Tensor._make_subclass(type(parameter), parameter.data, False)


def _tensors_in(value: object, depth: int = 3) -> Iterator[Tensor]:
    """The tensors that an object holds, and the objects in it; modules are copied by themselves."""
    for part in getattr(value, "__dict__", {}).values() if depth and not isinstance(value, nn.Module | Tensor) else ():
        if isinstance(part, Tensor):
            yield part
        else:
            yield from _tensors_in(part, depth - 1)
