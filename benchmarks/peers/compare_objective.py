"""Compare EoC's objective as crosstime computes it with llamascopium's own, on the same weights and activations.

``python -m benchmarks.peers.compare_objective``, after ``make bench-peers``, prints the table of docs/guides/eoc.md.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers.peer import HERE, MISSING, environment
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.training.jumprelu_per_checkpoint_config import PENALTIES, PerCheckpointJumpReLUConfig
from crosstime.training.search_decoder_norm import search_decoder_norm
from crosstime.training.trainer_of import trainer_of
from interventions import Site

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


def random_case(
    penalty: str, n_checkpoints: int, *, dtype: torch.dtype = torch.float64
) -> tuple[PerCheckpointJumpReLUConfig, CrossCoder, Tensor]:
    """A configuration, a crosscoder with random weights, and batches ``N B C D`` in the models' own scale.

    Thresholds, norms and biases are such that gates differ between checkpoints.
    """
    config = PerCheckpointJumpReLUConfig(
        n_features=48, steps=12, lr=3e-3, lr_warmup=3.0, lr_decay=0.25, sparsity=0.3, sparsity_warmup=0.5,
        penalty=penalty, bandwidth=0.7, threshold=0.6, norm_search=False,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(n_checkpoints)
    names = tuple(f"step{number}" for number in range(n_checkpoints))
    scales = torch.linspace(0.4, 2.3, n_checkpoints)
    crosscoder = config.crosscoder(Origin("mine", names, Site(0), 10), scales).to(dtype)
    with torch.no_grad():
        for parameter in crosscoder.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise.to(dtype)
    x = torch.randn(config.steps, 32, n_checkpoints, 10, generator=generator, dtype=torch.float64)
    return config, crosscoder, x.to(dtype)


def ours(config: PerCheckpointJumpReLUConfig, crosscoder: CrossCoder, x: Tensor) -> dict[str, Tensor]:
    """Codes, reconstruction, loss and gradients on the first batch, trained weights, and the searched norm."""
    # Forward and backward pass, at a step whose penalty has its full weight
    start = crosscoder
    crosscoder = copy.deepcopy(start)
    trainer = trainer_of(config, crosscoder)
    losses = trainer.losses(x[0], config.steps)
    losses.loss.backward()
    scaled = x[0] * crosscoder.scales.unsqueeze(-1)
    values = {"codes": crosscoder.encode_scaled(scaled), "loss": losses.loss, "l2": losses.l2}
    values["reconstruction"] = crosscoder.decode_scaled(values["codes"])
    values |= {f"gradient.{name}": weight.grad for name, weight in _weights(crosscoder).items()}
    values = {name: tensor.detach().clone() for name, tensor in values.items()}

    # The search for the decoder norm
    search_decoder_norm(trainer, x[0])
    values["searched.W_dec"] = crosscoder.W_dec.detach().clone()

    # Training steps from the same weights
    crosscoder = copy.deepcopy(start)
    trainer = trainer_of(config, crosscoder)
    for step, batch in enumerate(x):
        trainer.update(step, batch)
    return values | {f"trained.{name}": weight.detach() for name, weight in _weights(crosscoder).items()}


def theirs(config: PerCheckpointJumpReLUConfig, crosscoder: CrossCoder, x: Tensor, python: Path) -> dict[str, Tensor]:
    """The same, computed by llamascopium in its environment."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.safetensors", Path(name) / "out.safetensors"
        tensors = {name: weight.detach().contiguous() for name, weight in _weights(crosscoder).items()}
        tensors |= {"scales": crosscoder.scales, "x": x}
        write_tensors(source, tensors, {"settings": json.dumps(asdict(config))})
        script = subprocess.run(
            [python, HERE / "llamascopium_objective.py", source, target], capture_output=True, text=True, check=False
        )
        if script.returncode:
            raise RuntimeError(f"llamascopium stopped: {script.stderr.strip().splitlines()[-1]}")
        return read_tensors(target)[0]


def largest_differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, float]:
    """The largest absolute difference of each tensor, relative to its largest absolute value."""
    return {
        name: ((first[name] - second[name]).abs().max() / second[name].abs().max().clamp(min=1e-30)).item()
        for name in second
    }


def _weights(crosscoder: CrossCoder) -> dict[str, Tensor]:
    weights = {name: getattr(crosscoder, name) for name in WEIGHTS}
    return weights | {"log_threshold": dict(crosscoder.activation.named_parameters())["log_threshold"]}


def main() -> None:
    """Print the table in Markdown."""
    python = environment()
    if python is None:
        sys.exit(MISSING)
    groups = {
        "codes": ("codes",),
        "reconstruction": ("reconstruction",),
        "loss": ("loss", "l2"),
        "gradients": tuple(f"gradient.{name}" for name in (*WEIGHTS, "log_threshold")),
        "weights after 12 training steps": tuple(f"trained.{name}" for name in (*WEIGHTS, "log_threshold")),
        "decoder after the search": ("searched.W_dec",),
    }
    print("| penalty | checkpoints | dtype |", " | ".join(groups), "|")
    print("|---|---|---|" + "---|" * len(groups))
    for penalty in PENALTIES:
        for n_checkpoints in (1, 2, 5):
            for dtype in (torch.float64, torch.float32):
                case = random_case(penalty, n_checkpoints, dtype=dtype)
                expected = theirs(*case, python)
                differences = largest_differences(ours(*case), expected)
                cells = [f"{max(differences[name] for name in names):.1e}" for names in groups.values()]
                print(f"| `{penalty}` | {n_checkpoints} | {str(dtype)[6:]} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
