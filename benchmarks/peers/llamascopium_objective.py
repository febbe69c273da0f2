"""What llamascopium computes from given weights and activations; runs in the environment of the other tools.

``python llamascopium_objective.py IN OUT``: IN is a safetensors file with ``W_enc`` C D F, ``b_enc`` F, ``W_dec``
F C D, ``b_dec`` C D, ``log_threshold`` F, ``scales`` C and ``x`` N B C D (N batches in the models' own scale), and
settings as JSON in its metadata under ``settings``. OUT gets codes, reconstruction, loss and gradients on the first
batch, the weights after one training step on each batch, and the decoder that the initialisation search finds.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

os.environ["WANDB_MODE"] = "disabled"
warnings.filterwarnings("ignore")

from llamascopium import (  # noqa: E402
    Crosscoder,
    CrosscoderConfig,
    Initializer,
    InitializerConfig,
    Trainer,
    TrainerConfig,
)
from llamascopium.models.crosscoder import CrosscoderSpecs  # noqa: E402

THRESHOLD = "activation_function.log_jumprelu_threshold"


class NumberSpecs(CrosscoderSpecs):
    """Specs that also take the loss that is a number: without it, 2.0.0b34 stops with an error for ``tanh-quad``."""

    @staticmethod
    def loss(tensor: torch.Tensor) -> tuple[str, ...]:
        """The axes of a loss."""
        return () if tensor.ndim == 0 else CrosscoderSpecs.loss(tensor)


def crosscoder_of(tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> Crosscoder:
    """Their crosscoder with the given weights; its biases of the checkpoints add up to ours."""
    n_checkpoints, width, n_features = tensors["W_enc"].shape
    names = [f"checkpoint{number}" for number in range(n_checkpoints)]
    crosscoder = Crosscoder(
        CrosscoderConfig(
            hook_points=names,
            d_model=width,
            expansion_factor=n_features / width,
            act_fn="jumprelu",
            jumprelu_threshold_window=settings["bandwidth"],
            dtype=tensors["W_enc"].dtype,
        )
    )
    crosscoder.specs = NumberSpecs
    weights = {
        "W_E": tensors["W_enc"],
        "b_E": (tensors["b_enc"] / n_checkpoints).expand(n_checkpoints, -1),
        "W_D": tensors["W_dec"].transpose(0, 1),
        "b_D": tensors["b_dec"],
        THRESHOLD: tensors["log_threshold"],
    }
    crosscoder.load_state_dict({name: tensor.clone().contiguous() for name, tensor in weights.items()})
    norms = width**0.5 / tensors["scales"]
    crosscoder.set_dataset_average_activation_norm(dict(zip(names, norms.tolist(), strict=True)))
    return crosscoder


def batch_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """A batch ``B C D`` as their trainer takes it."""
    data = {f"checkpoint{number}": x[:, number].contiguous() for number in range(x.shape[1])}
    return data | {"tokens": torch.zeros(len(x), dtype=torch.long)}


def ours(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Their tensors under our names and in our axes."""
    return {
        "W_enc": named["W_E"],
        "b_enc": named["b_E"],
        "W_dec": named["W_D"].transpose(0, 1).contiguous(),
        "b_dec": named["b_D"],
        "log_threshold": named[THRESHOLD],
    }


def loss_and_gradients(crosscoder: Crosscoder, x: torch.Tensor, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Codes, reconstruction, loss and gradients on a batch."""
    result = crosscoder.compute_loss(
        crosscoder.normalize_activations(batch_of(x)),
        sparsity_loss_type=settings["penalty"],
        tanh_stretch_coefficient=settings["steepness"],
        frequency_scale=settings["frequency_scale"],
        l1_coefficient=settings["sparsity"],
    )
    result["loss"].backward()
    gradients = ours({name: parameter.grad for name, parameter in crosscoder.named_parameters()})
    # Each of their biases gets the gradient of the sum
    gradients["b_enc"] = gradients["b_enc"][0]
    named = {"codes": "feature_acts", "reconstruction": "reconstructed", "loss": "loss", "l2": "l_rec"}
    values = {name: result[theirs].detach().clone() for name, theirs in named.items()}
    return values | {f"gradient.{name}": gradient for name, gradient in gradients.items()}


def trained(crosscoder: Crosscoder, x: torch.Tensor, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights after one step of their trainer on each batch."""
    n_steps, n_tokens = x.shape[:2]

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        # The trainer requires a mask in the first batch, at which it only looks; a crosscoder rejects one in a step
        yield batch_of(x[0]) | {"mask": torch.ones(n_tokens, dtype=torch.bool)}
        yield from map(batch_of, x)

    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig(
            l1_coefficient=settings["sparsity"],
            l1_coefficient_warmup_steps=float(settings["sparsity_warmup"]),
            sparsity_loss_type=settings["penalty"],
            tanh_stretch_coefficient=settings["steepness"],
            frequency_scale=settings["frequency_scale"],
            amp_dtype=torch.float32,
            skip_metrics_calculation=True,
            lr=settings["lr"],
            lr_warm_up_steps=int(settings["lr_warmup"]),
            lr_cool_down_steps=float(settings["lr_decay"]),
            jumprelu_lr_factor=settings["threshold_lr_factor"],
            total_training_tokens=n_steps * n_tokens,
            n_checkpoints=0,
            exp_result_path=folder,
        )
        Trainer(config).fit(crosscoder, batches())
    weights = ours(crosscoder.state_dict())
    weights["b_enc"] = weights["b_enc"].sum(0)
    return {f"trained.{name}": tensor for name, tensor in weights.items()}


def main(source: str, target: str) -> None:
    """Read IN, compute, and write OUT."""
    with safe_open(source, "pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
    crosscoder = crosscoder_of(tensors, settings)
    first = batch_of(tensors["x"][0])

    results = loss_and_gradients(copy.deepcopy(crosscoder), tensors["x"][0], settings)
    results |= trained(copy.deepcopy(crosscoder), tensors["x"], settings)
    searched = Initializer(InitializerConfig(grid_search_init_norm=True)).initialization_search(
        copy.deepcopy(crosscoder), first
    )
    results["searched.W_dec"] = searched.W_D.transpose(0, 1)
    save_file({name: tensor.detach().contiguous() for name, tensor in results.items()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
