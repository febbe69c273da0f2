"""What a traced block takes with it: told apart from other requests, and refused if it reaches another model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import torch
from nnsight import Envoy
from nnsight.intervention.serialization import reduce_block
from nnsight.tracing.tracer import Tracer
from torch import Tensor

from interventions.errors import MixedModelsError


def taken(tracer: Tracer) -> tuple[str, dict[str, Any]]:
    """The block's source, and every value that it or the model's inputs name."""
    frame = tracer.info.frame
    source, from_globals, from_locals = reduce_block(tracer.node, frame.f_globals, dict(frame.f_locals))
    return source.strip(), {**from_globals, **from_locals, "model inputs": [tracer.args, tracer.kwargs]}


def leaves(value: Any, name: str = "", seen: dict[int, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Walk containers, functions (closures and the globals they name) and objects down to what is inside.

    Examples:
        >>> k = 3
        >>> [leaf for _, leaf in leaves({"a": [1, 2], "f": lambda x: x + k}) if isinstance(leaf, int)]
        [1, 2]
    """
    seen = {} if seen is None else seen
    if isinstance(value, str | bytes | int | float | bool | type(None) | Tensor | Envoy | torch.dtype | torch.device):
        yield name, value
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept alive, so that its id stays its own
    if isinstance(value, ModuleType | type | torch.nn.Module):
        yield name, f"{type(value).__name__} {getattr(value, '__name__', '')}"
    elif isinstance(value, Tracer):
        yield name, "the trace itself"
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{name}.{key}", seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from leaves(item, f"{name}.{index}", seen)
    elif isinstance(value, FunctionType):
        plain = inspect.unwrap(value)
        yield name, plain.__code__.co_code
        yield name, str([constant for constant in plain.__code__.co_consts if not hasattr(constant, "co_code")])
        closed = inspect.getclosurevars(plain)
        for part in (closed.nonlocals, closed.globals, plain.__defaults__, plain.__kwdefaults__):
            yield from leaves(part, f"{name}.{plain.__name__}", seen)
    elif hasattr(value, "__dict__"):
        yield from leaves(vars(value), f"{name}:{type(value).__name__}", seen)
    else:
        yield name, type(value).__name__


def refuse_another_model(values: Mapping[str, Any], interleaver: Any, name: str) -> None:
    """Make sure that every module a request names belongs to the model that it is sent to.

    A server finds modules by their path only: those of a second model would silently be taken for the first one's.

    Raises:
        MixedModelsError: names where the other model is reached.
    """
    for path, leaf in leaves(values):
        if isinstance(leaf, Envoy) and leaf.interleaver is not interleaver:
            raise MixedModelsError(
                f"A request to {name} reaches into another model ({leaf.path or 'its root'}, through "
                f"{path.split(':')[0].strip('.') or 'the block'}); on a server both would be one model. Read what is "
                "needed of the other model first, and close over the tensors."
            )


def digest(key: str, source: str, values: Mapping[str, Any]) -> str:
    """Thirty-two hex digits that are the same for the same request to the same model, in any process.

    Examples:
        >>> digest("a", "x", {"n": 1}) == digest("a", "x", {"n": 1}) != digest("b", "x", {"n": 1})
        True
    """
    found = hashlib.sha256(f"{key}\n{source}".encode())
    for name, leaf in leaves(values):
        found.update(name.encode())
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            found.update(leaf.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(leaf, Envoy):
            found.update(leaf.path.encode())
        else:
            found.update(leaf if isinstance(leaf, bytes) else repr(leaf).encode())
    return found.hexdigest()[:32]
