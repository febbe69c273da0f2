"""One optimiser step of a crosscoder: against the plain way, bare products, and other tools' trainers.

dictionary_learning runs in our process; SAELens and llamascopium run in their own, where one turn of their own training
loop is timed, in turn with our step, and bare products run on both sides. What they do otherwise than we: SAELens (one
checkpoint; L1 or BatchTopK weighted by decoder norms, AuxK without dead features to work on) counts in every step how
often features fire. llamascopium keeps codes for every checkpoint by itself, ``B C F`` where we have ``B F``, with an
encoder bias for each; its L1 is a mean over checkpoints, and its logging of every step is off. All use Adam (ours is
fused) and clip the gradient. llamascopium's default is mixed precision, so it is compared in both.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.naive_training import DenseTrainer
from benchmarks.peers.running import MISSING, Peer, against, environment
from benchmarks.result import Result, Row
from benchmarks.timing import medians
from crosstime import BatchTopKConfig, CrossCoder, L1Config
from crosstime.crosscoders.origin import Origin
from crosstime.training.trainer import Trainer, TrainerConfig
from interventions import Site

LR, L1 = 1e-4, 0.5
CTT_TOKENS = 9_300
"""Tokens a second of CTT's training on an A100: 400M in 12 hours."""


@dataclass(frozen=True)
class Sizes:
    """What is run.

    Attributes:
        width, checkpoints, features, batch: D, C, F, B.
        k: active features of a token, of BatchTopK.
        runs: timed steps of each way, of which the median is taken.
    """

    width: int = 512
    checkpoints: int = 3
    features: int = 8_192
    batch: int = 1_024
    k: tuple[int, ...] = (32, 64)
    runs: int = 7

    @property
    def flops(self) -> int:
        """Of the five products of a dense step: encode, decode, and three gradients."""
        return 5 * 2 * self.batch * self.checkpoints * self.width * self.features


FULL = Sizes()
QUICK = Sizes(width=128, checkpoints=2, features=1_024, batch=256, k=(16,), runs=3)
TINY = Sizes(width=8, checkpoints=2, features=32, batch=16, k=(4,), runs=1)
PYTHIA_1B = Sizes(width=2_048, features=16_384, batch=4_096, k=(64, 200))


def benchmark(quick: bool, device: torch.device) -> Result:
    """Seconds of a step; on a GPU also tokens a second at the sizes of Pythia-1B, beside CTT's."""
    sizes = QUICK if quick else FULL if device.type == "cpu" else PYTHIA_1B
    peer = dictionary_learning()
    precisions = ("float32", "bfloat16") if device.type == "cuda" else ("float32",)
    rows = [row for precision in precisions for row in against_plain(sizes, device, precision)]
    if peer is not None:
        rows += against_peer(sizes, device, peer)
    note = {} if peer is not None else {"dictionary_learning": "not installed, so its rows are left out"}
    python = environment()
    if quick or device.type != "cpu":
        note["peers"] = "on a CPU at full size only"
    elif python is None:
        note["peers"] = MISSING
    else:
        rows += against_tools(sizes, python)
    return Result("training", device.type, asdict(sizes) | note, tuple(rows))


def against_plain(sizes: Sizes, device: torch.device, precision: str) -> list[Row]:
    """Rows of all C checkpoints: equality with the plain way, and speed against it and against bare products."""
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    x = activations(sizes, device)
    rows = []
    for config in configs(sizes):
        sparse = isinstance(config, BatchTopKConfig)
        ours = trainer(config, sizes, device, precision)
        plain = DenseTrainer(ours.crosscoder, lr=LR, **({"k": config.k} if sparse else {"l1": L1}))
        name = f"{config.summary()}, {precision}"
        if precision == "float32" and device.type == "cpu":
            losses = [abs(float(ours.update(step, x) / plain.update(step, x)) - 1) for step in range(3)]
            rows.append(Row.within(name, "largest relative difference of the loss in 3 steps", max(losses), 1e-4))
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours: ours.update(1, x),
            "plain": lambda plain=plain: plain.update(1, x),
        }
        if not sparse:
            ways["bare"] = products(sizes, x, precision)
        times = medians(ways, sizes.runs)
        target = 2.5 if sparse and config.k <= 64 else 1.0
        rows.append(Row.less(name, "seconds a step", times["ours"], times["plain"], "plain way", target=target))
        if not sparse:
            rate, bare = (sizes.flops / times[way] / 1e9 for way in ("ours", "bare"))
            rows.append(Row.more(name, "GFLOP/s", rate, bare, "bare products", target=0.75))
        if device.type == "cuda":
            rows.append(Row.more(name, "tokens/s", sizes.batch / times["ours"], CTT_TOKENS, "CTT, A100", target=10))
    return rows


def against_peer(sizes: Sizes, device: torch.device, peer: ModuleType) -> list[Row]:
    """Rows of one checkpoint, where a crosscoder is an autoencoder, against dictionary_learning's trainers."""
    alone = Sizes(**asdict(sizes) | {"checkpoints": 1})
    x = activations(alone, device)
    flat = x[:, 0].contiguous()
    rows = []
    for config in configs(alone):
        shared: dict[str, Any] = {
            "steps": config.steps, "activation_dim": sizes.width, "dict_size": sizes.features, "layer": 0,
            "lm_name": "random", "lr": LR, "warmup_steps": 0, "device": str(device), "seed": 0,
        }  # fmt: skip
        if isinstance(config, BatchTopKConfig):
            theirs = peer.batch_top_k.BatchTopKTrainer(k=config.k, **shared)
        else:
            theirs = peer.standard.StandardTrainerAprilUpdate(l1_penalty=L1, sparsity_warmup_steps=None, **shared)
        ours = trainer(config, alone, device, "float32")
        ways = {"ours": lambda ours=ours: ours.update(1, x), "theirs": lambda theirs=theirs: theirs.update(1, flat)}
        times = medians(ways, sizes.runs)
        name = f"{config.summary()}, one checkpoint"
        rows.append(Row.less(name, "seconds a step", times["ours"], times["theirs"], "dictionary_learning", target=1.0))
    return rows


def against_tools(sizes: Sizes, python: Path) -> list[Row]:
    """Rows against SAELens (one checkpoint) and llamascopium (all), in the environment that has them."""
    tools = [
        ("SAELens", "saelens_steps.py", replace(sizes, checkpoints=1), "float32"),
        ("llamascopium", "llamascopium_steps.py", sizes, "float32"),
        ("llamascopium", "llamascopium_steps.py", sizes, "bfloat16"),
    ]
    cpu, rows = torch.device("cpu"), []
    for name, script, each, precision in tools:
        x = activations(each, cpu)
        for config in configs(each):
            knob = {"k": config.k} if isinstance(config, BatchTopKConfig) else {"l1": L1}
            shape = {name: getattr(each, name) for name in ("width", "checkpoints", "features", "batch")}
            ours = trainer(config, each, cpu, precision)
            with Peer(python, script, shape | knob | {"lr": LR, "precision": precision}) as peer:
                case = f"{config.summary()}, {each.checkpoints} checkpoint{'s'[: each.checkpoints > 1]}, {precision}"
                rows += against(
                    peer, case, f"{name} {peer.told['version']}", lambda ours=ours, x=x: ours.update(1, x),
                    products(each, x, precision), sizes.runs,
                )  # fmt: skip
    return rows


def dictionary_learning() -> ModuleType | None:
    """Its trainers, if it is installed (``pip install --no-deps dictionary-learning==0.1.0``)."""
    try:
        package = importlib.import_module("dictionary_learning.trainers")
        for name in ("batch_top_k", "standard"):
            importlib.import_module(f"dictionary_learning.trainers.{name}")
    except ImportError:
        return None
    return package


def configs(sizes: Sizes) -> list[TrainerConfig]:
    """What is trained."""
    shared: dict[str, Any] = {"n_features": sizes.features, "steps": 10**6, "lr": LR}
    topk = [BatchTopKConfig(k=k, k_start=None, **shared) for k in sizes.k]
    return [L1Config(l1=L1, l1_warmup=0.0, **shared), *topk]


def trainer(config: TrainerConfig, sizes: Sizes, device: torch.device, precision: str) -> Trainer:
    """Our trainer of a new crosscoder."""
    origin = Origin("random", tuple(f"step{c}" for c in range(sizes.checkpoints)), Site(0), sizes.width)
    crosscoder = CrossCoder(origin, sizes.features, activation=config.activation()).to(device)
    return config.trainer(crosscoder, precision=precision)


def activations(sizes: Sizes, device: torch.device) -> Tensor:
    """A batch ``B C D`` of numbers, in the same order of size as scaled activations."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sizes.batch, sizes.checkpoints, sizes.width, generator=generator).to(device)


def products(sizes: Sizes, x: Tensor, precision: str) -> Callable[[], object]:
    """As many operations as the five products of a step, in one product done five times into one place."""
    flat = x.flatten(1).to(getattr(torch, precision))
    weights = torch.ones(flat.shape[1], sizes.features, device=x.device, dtype=flat.dtype)
    out = flat.new_empty(len(flat), sizes.features)

    def call() -> None:
        for _ in range(5):
            torch.mm(flat, weights, out=out)

    return call
