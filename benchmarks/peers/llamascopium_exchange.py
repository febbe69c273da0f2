"""What llamascopium computes with a folder of its format, or a folder that it writes; runs in its environment.

``python llamascopium_exchange.py load FOLDER IN OUT``: IN is a safetensors file with ``x`` B C D in the models' own
scale. OUT gets ``codes`` B C F, ``reconstruction`` B C D in the models' own scale, and the parts of its loss, ``l2``
B C and ``tanh`` B C.

``python llamascopium_exchange.py save FOLDER ACT_FN NORM_ACTIVATION``: FOLDER gets a crosscoder with random weights
of three checkpoints.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

os.environ["WANDB_MODE"] = "disabled"
warnings.filterwarnings("ignore")

from llamascopium import Crosscoder, CrosscoderConfig  # noqa: E402


def load(folder: str, source: str, target: str) -> None:
    """Read FOLDER as their library does, and compute."""
    crosscoder = Crosscoder.from_pretrained(folder)
    hooks = crosscoder.cfg.hook_points
    x = load_file(source)["x"]
    batch = {hook: x[:, number].contiguous() for number, hook in enumerate(hooks)}
    scaled, factors = crosscoder.normalize_activations(batch, return_scale_factor=True)
    result = crosscoder.compute_loss(
        scaled | {"tokens": torch.zeros(len(x), dtype=torch.long)}, sparsity_loss_type="tanh", l1_coefficient=0.3
    )
    reconstruction = {hook: result["reconstructed"][:, number] for number, hook in enumerate(hooks)}
    unscaled = crosscoder.denormalize_activations(reconstruction, factors)
    values = {
        "codes": result["feature_acts"],
        "reconstruction": torch.stack([unscaled[hook] for hook in hooks], 1),
        "l2": result["l_rec"],
        "tanh": result["l_s"],
        "loss": result["loss"],
    }
    save_file({name: value.detach().contiguous() for name, value in values.items()}, target)


def save(folder: str, function: str, normalization: str) -> None:
    """Write a crosscoder with random weights as their library does."""
    torch.manual_seed(3)
    hooks = ["step0", "step512", "main"]
    config = CrosscoderConfig(
        hook_points=hooks, d_model=6, expansion_factor=2.5, act_fn=function, jumprelu_threshold_window=4.0
    )
    crosscoder = Crosscoder(config)
    with torch.no_grad():
        for parameter in crosscoder.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.7)
    crosscoder.set_dataset_average_activation_norm({"step0": 0.8, "step512": 3.0, "main": 7.5})
    Path(folder).mkdir()
    crosscoder.save_pretrained(folder, fold_activation_scale=normalization == "inference")
    crosscoder.cfg.save_hyperparameters(folder)


if __name__ == "__main__":
    {"load": load, "save": save}[sys.argv[1]](*sys.argv[2:])
