"""Digests of models in memory, which have no files: what tells their weights from any others."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def digest_of(model: PreTrainedModel) -> str:
    """SHA-256 over name, dtype, shape and bytes of every weight and buffer of a model, in hexadecimal.

    Weights that accelerate keeps on a disk or in main memory, to be moved when they are needed, are read there.
    """
    import torch

    from interventions.shared_weights import with_shared_weights

    tensors: dict[str, Tensor] = dict(model.state_dict())
    if any(tensor.device.type == "meta" for tensor in tensors.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        # Reading replaces the parameters, so that it is done with a copy of the modules
        tensors = get_state_dict_offloaded_model(with_shared_weights(model))
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def state_of(model: PreTrainedModel) -> tuple[tuple[str | int, ...], ...]:
    """What changes when a weight of a model is written in place or replaced."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return tuple((name, tensor.data_ptr(), tensor._version) for name, tensor in tensors)
