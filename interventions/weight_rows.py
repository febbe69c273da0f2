"""Rows of a model's weight matrices that are vectors of the width of its residual stream."""

from __future__ import annotations

import re

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interventions import architectures
from interventions.errors import ArchitectureError, InterventionError
from interventions.matrix_names import parse_matrix
from interventions.model import Model

_ATTENTION = re.compile(r"att(n|ention)")


def weight_rows(model: Model, name: str) -> Float[Tensor, "T D"]:
    """Read the vectors of width D of which a weight matrix consists, as a copy in float32 on the CPU.

    ::

        W_E         one row for each token id: what the embedding writes
        W_U         one row for each token id: what the unembedding reads
        mlp_in.L    one row for each neuron of block L: what it reads (of a gated MLP, the up projection)
        mlp_gate.L  one row for each neuron of a gated MLP: what its gate reads
        mlp_out.L   one row for each neuron: what it writes

    They are the weights as they are: no norm is folded in. The model is not run.

    Args:
        model: a model on this machine.
        name: name of the matrix; negative layers count from the last block.

    Returns:
        One row for each token or neuron.

    Raises:
        InterventionError: there is no such matrix or layer, or the model runs on a server.
        ArchitectureError: the MLP does not have exactly one such matrix (a mixture of experts, a fused gate), the
            matrix has another width, or it is quantised or not in memory.

    Examples:
        >>> weight_rows(model, "W_U").shape  # doctest: +SKIP
        torch.Size([50304, 768])
    """
    # Find the matrix
    matrix, layer = parse_matrix(name)
    if getattr(model, "remote", None) is not None:
        raise InterventionError(f"{model.name} runs on a server, so its weights cannot be read here.")
    if layer is None:
        module = model.unembedding if matrix == "W_U" else model.module.get_input_embeddings()
    else:
        if not -model.n_layers <= layer < model.n_layers:
            raise InterventionError(
                f"Layer {layer} does not exist: {model.name} has layers 0 to {model.n_layers - 1}; got {name!r}."
            )
        blocks = architectures.decoder_blocks(model.module, model.architecture)
        module = _mlp_matrices(blocks[layer], model.d_model, f"block {layer} of {model.name}")[matrix]

    # Copy its vectors
    weight = architectures.weight(module).detach()
    if weight.is_meta or not weight.is_floating_point():
        raise ArchitectureError(f"{name} of {model.name} is quantised or not in memory, so its rows cannot be read.")
    if layer is not None:
        # A linear layer keeps (outputs, inputs), and GPT-2's Conv1D (inputs, outputs)
        by_outputs = isinstance(module, nn.Linear)
        weight = weight if by_outputs == (matrix != "mlp_out") else weight.T
    if weight.shape[1] != model.d_model:
        raise ArchitectureError(
            f"{name} of {model.name} has rows of width {weight.shape[1]}, but its residual stream has {model.d_model}."
        )
    return weight.to("cpu", torch.float32, copy=True).contiguous()


def _mlp_matrices(block: nn.Module, d_model: int, where: str) -> _Matrices:
    """The matrices of the MLP of a block, found by their shapes."""
    # Those that read or write the stream, outside of attention
    inputs: dict[str, nn.Module] = {}
    outputs: dict[str, nn.Module] = {}
    sizes: dict[str, int] = {}
    for path, module in block.named_modules():
        shape = _inputs_outputs(module)
        if shape is None or _ATTENTION.search(path):
            continue
        if shape[0] == d_model != shape[1]:
            inputs[path], sizes[path] = module, shape[1]
        elif shape[1] == d_model != shape[0]:
            outputs[path], sizes[path] = module, shape[0]

    # One writes, and one reads beside a gate
    gates = [path for path in inputs if "gate" in path.rpartition(".")[2]]
    plain = [path for path in inputs if path not in gates]
    if len(outputs) != 1 or len(plain) != 1 or len(gates) > 1 or len(set(sizes.values())) != 1:
        names = ", ".join([*inputs, *outputs][:4]) or "no linear layer"
        raise ArchitectureError(f"The MLP of {where} has not one matrix that reads and one that writes, but {names}.")
    matrices = _Matrices(where, mlp_in=inputs[plain[0]], mlp_out=next(iter(outputs.values())))
    if gates:
        matrices["mlp_gate"] = inputs[gates[0]]
    return matrices


class _Matrices(dict[str, nn.Module]):
    """Modules by name of matrix; asking for a gate where there is none is an error with a sentence."""

    def __init__(self, where: str, **modules: nn.Module) -> None:
        super().__init__(modules)
        self.where = where

    def __missing__(self, matrix: str) -> nn.Module:
        raise ArchitectureError(f"The MLP of {self.where} has no {matrix}; it has {', '.join(self)}.")


def _inputs_outputs(module: nn.Module) -> tuple[int, int] | None:
    """Numbers of inputs and outputs of a linear layer; None for another module."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return None
    if isinstance(module, nn.Linear):
        return weight.shape[1], weight.shape[0]
    return (weight.shape[0], weight.shape[1]) if type(module).__name__ == "Conv1D" else None
