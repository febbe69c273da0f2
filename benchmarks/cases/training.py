"""One optimiser step of a crosscoder, compared with a naive trainer, bare matrix products, and other tools' trainers.

dictionary_learning runs in our process. SAELens and llamascopium run in a process of their own, where an iteration of
their training loop is timed, interleaved with our step; bare products run in both processes. The tools differ from ours
in some respects. SAELens (one checkpoint; L1, or BatchTopK weighted by decoder norms, with AuxK but no dead features)
counts in every step how often features fire. llamascopium has separate codes per checkpoint, ``B C F`` instead of
``B F``, with an encoder bias for each; its L1 penalty is a mean over checkpoints, and its logging of every step is off.
All use Adam (ours is fused) and clip the gradient. The default of llamascopium is mixed precision, so it is compared in
both precisions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.naive_training import DenseTrainer
from benchmarks.peers.peer import MISSING, Peer, compare, environment
from benchmarks.result import Result, Row
from benchmarks.timing import medians
from crosstime import BatchTopKConfig, CrossCoder, L1Config
from crosstime.crosscoders.origin import Origin
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig
from crosstime.training.trainer_of import trainer_of
from interventions import Site

LR, L1 = 1e-4, 0.5
CTT_TOKENS = 9_300
"""Tokens per second of CTT's training on an A100: 400M in 12 hours."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a training step.

    Attributes:
        width, checkpoints, features, batch: D, C, F and B.
        k: active features per token of BatchTopK, each of which is measured.
        runs: number of timed steps, of which the median is reported.
    """

    width: int = 512
    checkpoints: int = 3
    features: int = 8_192
    batch: int = 1_024
    k: tuple[int, ...] = (32, 64)
    runs: int = 7

    @property
    def flops(self) -> int:
        """FLOPs of the five products of a dense step: encode, decode, and three gradients."""
        return 5 * 2 * self.batch * self.checkpoints * self.width * self.features


FULL = Sizes()
QUICK = Sizes(width=128, checkpoints=2, features=1_024, batch=256, k=(16,), runs=3)
TINY = Sizes(width=8, checkpoints=2, features=32, batch=16, k=(4,), runs=1)
PYTHIA_1B = Sizes(width=2_048, features=16_384, batch=4_096, k=(64, 200))


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure the time of a step; on a GPU also tokens per second at the sizes of Pythia-1B, next to CTT's."""
    sizes = QUICK if quick else FULL if device.type == "cpu" else PYTHIA_1B
    peer = dictionary_learning()
    precisions = ("float32", "bfloat16") if device.type == "cuda" else ("float32",)
    rows = [row for precision in precisions for row in compare_with_naive(sizes, device, precision)]
    note: dict[str, Any] = {}
    if peer is None:
        note["dictionary_learning"] = "not installed, so its rows are left out"
    else:
        rows += compare_with_dictionary_learning(sizes, device, peer)
    python = environment()
    if quick or device.type != "cpu":
        note["peers"] = "on a CPU at full size only"
    elif python is None:
        note["peers"] = MISSING
    else:
        rows += compare_with_tools(sizes, python)
    return Result("training", device.type, asdict(sizes) | note, tuple(rows))


def compare_with_naive(sizes: Sizes, device: torch.device, precision: str) -> list[Row]:
    """Compare results and speed at all C checkpoints with the naive trainer, and speed with bare products."""
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    x = activations(sizes, device)
    rows = []
    for config in configs(sizes):
        sparse = isinstance(config, BatchTopKConfig)
        ours = trainer(config, sizes, device, precision)
        naive = DenseTrainer(ours.crosscoder, lr=LR, **({"k": config.k} if sparse else {"l1": L1}))
        case = f"{config.summary()}, {precision}"

        # Compare the losses of the first steps
        if precision == "float32" and device.type == "cpu":
            losses = [abs(float(ours.update(step, x) / naive.update(step, x)) - 1) for step in range(3)]
            rows.append(Row.within(case, "largest relative difference of the loss in 3 steps", max(losses), 1e-4))

        # Time a step of both trainers, and bare products for dense steps
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours: ours.update(1, x),
            "plain": lambda naive=naive: naive.update(1, x),
        }
        if not sparse:
            calls["bare"] = products(sizes, x, precision)
        times = medians(calls, sizes.runs)

        # Compare the speed
        target = 2.5 if sparse and config.k <= 64 else 1.0
        rows.append(Row.less(case, "seconds a step", times["ours"], times["plain"], "plain way", target=target))
        if not sparse:
            rate, bare = (sizes.flops / times[name] / 1e9 for name in ("ours", "bare"))
            rows.append(Row.more(case, "GFLOP/s", rate, bare, "bare products", target=0.75))
        if device.type == "cuda":
            rows.append(Row.more(case, "tokens/s", sizes.batch / times["ours"], CTT_TOKENS, "CTT, A100", target=10))
    return rows


def compare_with_dictionary_learning(sizes: Sizes, device: torch.device, peer: ModuleType) -> list[Row]:
    """Compare with the trainers of dictionary_learning at one checkpoint, where a crosscoder is an autoencoder."""
    single = Sizes(**asdict(sizes) | {"checkpoints": 1})
    x = activations(single, device)
    flat = x[:, 0].contiguous()
    rows = []
    for config in configs(single):
        shared: dict[str, Any] = {
            **{"activation_dim": sizes.width, "dict_size": sizes.features, "steps": config.steps, "lr": LR},
            **{"warmup_steps": 0, "seed": 0, "device": str(device), "layer": 0, "lm_name": "random"},
        }
        if isinstance(config, BatchTopKConfig):
            theirs = peer.batch_top_k.BatchTopKTrainer(k=config.k, **shared)
        else:
            theirs = peer.standard.StandardTrainerAprilUpdate(l1_penalty=L1, sparsity_warmup_steps=None, **shared)
        ours = trainer(config, single, device, "float32")
        calls = {"ours": lambda ours=ours: ours.update(1, x), "theirs": lambda theirs=theirs: theirs.update(1, flat)}
        times = medians(calls, sizes.runs)
        name = f"{config.summary()}, one checkpoint"
        rows.append(Row.less(name, "seconds a step", times["ours"], times["theirs"], "dictionary_learning", target=1.0))
    return rows


def compare_with_tools(sizes: Sizes, python: Path) -> list[Row]:
    """Compare with SAELens (one checkpoint) and llamascopium (all checkpoints), run by the `python` that has them."""
    tools = [
        ("SAELens", "saelens_steps.py", replace(sizes, checkpoints=1), "float32"),
        ("llamascopium", "llamascopium_steps.py", sizes, "float32"),
        ("llamascopium", "llamascopium_steps.py", sizes, "bfloat16"),
    ]
    cpu = torch.device("cpu")
    rows: list[Row] = []

    for tool, script, shape, precision in tools:
        x = activations(shape, cpu)
        bare = products(shape, x, precision)

        # Interleave our steps with those of the tool, for every configuration
        for config in configs(shape):
            sparsity = {"k": config.k} if isinstance(config, BatchTopKConfig) else {"l1": L1}
            options = {name: getattr(shape, name) for name in ("width", "checkpoints", "features", "batch")}
            options |= sparsity | {"lr": LR, "precision": precision}
            ours = trainer(config, shape, cpu, precision)
            with Peer(python, script, options) as peer:
                case = f"{config.summary()}, {shape.checkpoints} checkpoint{'s'[: shape.checkpoints > 1]}, {precision}"
                name = f"{tool} {peer.versions['version']}"
                rows += compare(peer, case, name, partial(ours.update, 1, x), bare, sizes.runs)
    return rows


def dictionary_learning() -> ModuleType | None:
    """Return the trainers of dictionary_learning; None if it is not installed.

    To install it: ``pip install --no-deps dictionary-learning==0.1.0``.
    """
    try:
        package = importlib.import_module("dictionary_learning.trainers")
        for name in ("batch_top_k", "standard"):
            importlib.import_module(f"dictionary_learning.trainers.{name}")
    except ImportError:
        return None
    return package


def configs(sizes: Sizes) -> list[TrainerConfig]:
    """Return the configurations to measure."""
    shared: dict[str, Any] = {"n_features": sizes.features, "steps": 10**6, "lr": LR}
    topk = [BatchTopKConfig(k=k, k_start=None, **shared) for k in sizes.k]
    return [L1Config(l1=L1, l1_warmup=0.0, **shared), *topk]


def trainer(config: TrainerConfig, sizes: Sizes, device: torch.device, precision: str) -> Trainer:
    """Return our trainer of a new crosscoder."""
    origin = Origin("random", tuple(f"step{c}" for c in range(sizes.checkpoints)), Site(0), sizes.width)
    crosscoder = CrossCoder(origin, sizes.features, activation=config.activation()).to(device)
    return trainer_of(config, crosscoder, precision=precision)


def activations(sizes: Sizes, device: torch.device) -> Tensor:
    """Return a random batch ``B C D`` with the variance of scaled activations."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sizes.batch, sizes.checkpoints, sizes.width, generator=generator).to(device)


def products(sizes: Sizes, x: Tensor, precision: str) -> Callable[[], object]:
    """Return a call with the FLOPs of the five products of a step: one product, five times, into the same memory."""
    flat = x.flatten(1).to(getattr(torch, precision))
    weights = torch.ones(flat.shape[1], sizes.features, device=x.device, dtype=flat.dtype)
    out = flat.new_empty(len(flat), sizes.features)

    def call() -> None:
        for _ in range(5):
            torch.mm(flat, weights, out=out)

    return call
