"""Steps of the autoencoder trainer of SAELens, for one checkpoint; runs in the environment of the other tools.

``python saelens_steps.py '{"width": 512, "features": 8192, "batch": 1024, "lr": 1e-4, "l1": 0.5}'``; with ``k`` instead
of ``l1``, its BatchTopK.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from turns import Turns, activations, products

ENDLESS = 10**12


def main(sizes: dict[str, Any]) -> None:
    """Create the autoencoder, and run its trainer on batches that are provided on request."""
    # Create the autoencoder
    torch.manual_seed(0)
    width, features, batch = sizes["width"], sizes["features"], sizes["batch"]
    if "k" in sizes:
        settings = BatchTopKTrainingSAEConfig(d_in=width, d_sae=features, k=sizes["k"])
        sae: Any = BatchTopKTrainingSAE(settings)
    else:
        sae = StandardTrainingSAE(StandardTrainingSAEConfig(d_in=width, d_sae=features, l1_coefficient=sizes["l1"]))

    # Run its trainer on one batch, again and again
    x = activations(batch, 1, width)[:, 0].contiguous()
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=ENDLESS,
            train_batch_size_samples=batch,
            lr=sizes["lr"],
            lr_end=sizes["lr"],
            device="cpu",
            autocast=sizes.get("precision") == "bfloat16",
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=Turns(x, products(batch, width, features, torch.float32), "sae-lens"),
    )
    trainer.fit()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
