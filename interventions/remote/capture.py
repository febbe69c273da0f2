"""What a traced block captures: used to recognize equal requests, and to reject blocks that reach another model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType

import torch
from nnsight import Envoy
from nnsight.intervention.serialization import reduce_block
from nnsight.tracing.tracer import Tracer
from torch import Tensor

from interventions.errors import MixedModelsError


def capture(tracer: Tracer) -> tuple[str, dict[str, object]]:
    """Return the block's source, and every value that the block or the model's inputs name."""
    frame = tracer.info.frame
    source, from_globals, from_locals = reduce_block(tracer.node, frame.f_globals, dict(frame.f_locals))
    return source.strip(), {**from_globals, **from_locals, "model inputs": [tracer.args, tracer.kwargs]}


def leaves(value: object, name: str = "", visited: dict[int, object] | None = None) -> Iterator[tuple[str, object]]:
    """Walk through containers, objects and functions (their closures, and the globals that they name) to the leaves.

    Returns:
        Pairs of the path to a leaf and its value, or a description of values that have no content to compare.

    Examples:
        >>> k = 3
        >>> [leaf for _, leaf in leaves({"a": [1, 2], "f": lambda x: x + k}) if isinstance(leaf, int)]
        [1, 2, 3]
    """
    # Yield values that have no parts
    visited = {} if visited is None else visited
    if isinstance(value, str | bytes | int | float | bool | type(None) | Tensor | Envoy | torch.dtype | torch.device):
        yield name, value
        return

    # Visit every object once; the reference keeps another object from getting the same id
    if id(value) in visited:
        return
    visited[id(value)] = value

    # Describe objects that a server has itself, and walk through the parts of the others
    if isinstance(value, ModuleType | type | torch.nn.Module):
        yield name, f"{type(value).__name__} {getattr(value, '__name__', '')}"
    elif isinstance(value, Tracer):
        yield name, "the trace itself"
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{name}.{key}", visited)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from leaves(item, f"{name}.{index}", visited)
    elif isinstance(value, FunctionType):
        yield from _leaves_of_function(value, name, visited)
    elif hasattr(value, "__dict__"):
        yield from leaves(vars(value), f"{name}:{type(value).__name__}", visited)
    else:
        yield name, type(value).__name__


def reject_other_models(values: Mapping[str, object], interleaver: object, name: str) -> None:
    """Check that every module that a request names belongs to the model that the request is sent to.

    A server finds modules by their path only, so that it would silently take modules of a second model for those of the
    first.

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


def digest(key: str, source: str, values: Mapping[str, object]) -> str:
    """Return 32 hex digits that are the same for the same request to the same model, in any process.

    Args:
        key: identifies the model and its server.
        source: the block's source.
        values: what the block captures.

    Examples:
        >>> digest("a", "x", {"n": 1}) == digest("a", "x", {"n": 1}) != digest("b", "x", {"n": 1})
        True
    """
    sha = hashlib.sha256(f"{key}\n{source}".encode())
    for name, leaf in leaves(values):
        sha.update(name.encode())
        if isinstance(leaf, Tensor):
            sha.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            sha.update(leaf.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(leaf, Envoy):
            sha.update(leaf.path.encode())
        else:
            sha.update(leaf if isinstance(leaf, bytes) else repr(leaf).encode())
    return sha.hexdigest()[:32]


def _leaves_of_function(function: FunctionType, name: str, visited: dict[int, object]) -> Iterator[tuple[str, object]]:
    """Yield a function's code and the leaves of what it closes over."""
    plain = inspect.unwrap(function)
    yield name, plain.__code__.co_code
    yield name, str([constant for constant in plain.__code__.co_consts if not hasattr(constant, "co_code")])
    closure = inspect.getclosurevars(plain)
    for captured in (closure.nonlocals, closure.globals, plain.__defaults__, plain.__kwdefaults__):
        yield from leaves(captured, f"{name}.{plain.__name__}", visited)
