"""Steps of the crosscoder trainer of llamascopium; runs in the environment of the other tools.

``python llamascopium_steps.py '{"width": 512, "checkpoints": 3, "features": 8192, "batch": 1024, "lr": 1e-4, "l1": 0.5,
"precision": "float32"}'``; with ``k`` instead of ``l1``, its BatchTopK.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from typing import Any

import torch
from llamascopium import Crosscoder, CrosscoderConfig, Initializer, InitializerConfig, Trainer, TrainerConfig
from turns import Turns, activations, products

ENDLESS = 10**12


def main(sizes: dict[str, Any], folder: str) -> None:
    """Create the crosscoder, and run its trainer on batches that are provided on request."""
    # Create the crosscoder
    torch.manual_seed(0)
    width, features, batch, heads = sizes["width"], sizes["features"], sizes["batch"], sizes["checkpoints"]
    names = [f"checkpoint{number}" for number in range(heads)]
    sparse = "k" in sizes
    crosscoder = Crosscoder(
        CrosscoderConfig(
            hook_points=names,
            d_model=width,
            expansion_factor=features / width,
            act_fn="batchtopk" if sparse else "relu",
            top_k=sizes.get("k", 1),
        )
    )

    # Initialise it like ours
    Initializer(InitializerConfig()).initialize_parameters(crosscoder)
    crosscoder.set_decoder_to_fixed_norm(0.08, force_exact=True)
    crosscoder.init_encoder_with_decoder_transpose()
    crosscoder.set_dataset_average_activation_norm(dict.fromkeys(names, width**0.5))

    # Configure the trainer without logging and checkpoints
    settings = TrainerConfig(
        l1_coefficient=sizes.get("l1"),
        l1_coefficient_warmup_steps=1,
        sparsity_loss_type=None if sparse else "power",
        amp_dtype=getattr(torch, sizes["precision"]),
        initial_k=sizes.get("k"),
        k_warmup_steps=0,
        skip_metrics_calculation=True,
        lr=sizes["lr"],
        lr_warm_up_steps=1,
        clip_grad_norm=1.0,
        total_training_tokens=ENDLESS,
        n_checkpoints=0,
        exp_result_path=folder,
    )

    # Run it on one batch, again and again
    x = activations(batch, heads, width)
    data = {name: x[:, number].contiguous() for number, name in enumerate(names)}
    data["tokens"] = torch.zeros(batch, dtype=torch.long)
    # The trainer requires a mask in the first batch, but the crosscoder rejects one in a step
    first = data | {"mask": torch.ones(batch, dtype=torch.bool)}
    bare = products(batch, heads * width, features, getattr(torch, sizes["precision"]))
    Trainer(settings).fit(crosscoder, Turns(data, bare, "llamascopium", first))


if __name__ == "__main__":
    # Without mixed precision, autocast warns that it has no effect
    warnings.filterwarnings("ignore", message="In CPU autocast")
    with tempfile.TemporaryDirectory() as folder:
        main(json.loads(sys.argv[1]), folder)
