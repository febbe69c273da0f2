"""Writing activations to disk: `crosstime.harvest` against forward passes that stop at the layer and store nothing.

Both start with the models in memory, so that loading is not part of the comparison: ours tokenizes the text, runs every
checkpoint, rounds, validates, writes and hashes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks import naive
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from benchmarks.timing import medians, seconds
from crosstime.activations.data_config import DataConfig
from crosstime.activations.harvest import harvest
from crosstime.activations.store import ActivationStore
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import MAX_TOKENS, Model, Prompts

LENGTH = 64
"""Tokens of a sequence."""


@dataclass(frozen=True)
class InMemory(Compute):
    """Provides models that are in memory instead of loading them."""

    models: dict[str, Model] = field(default_factory=dict)

    def verify(self, suite: Suite, *, distinct: bool = False) -> None:
        """Accept checkpoints without weight files."""

    def open(self, suite: Suite, revision: str) -> AbstractContextManager[Model]:
        """Return the model of a revision."""
        return nullcontext(self.models[revision])


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure tokens per second, where a token counts once for all checkpoints."""
    budget = MAX_TOKENS if device.type == "cpu" else 16_384
    sequences = 32 if quick else 256 if device.type == "cpu" else 2_048
    workload: dict[str, Any] = {
        **{"checkpoints": 2, "features": 256, "active": 8, "prompts": sequences},
        **{"shortest": LENGTH, "longest": LENGTH, "max_tokens": budget},
    }
    settings = [replace(sizes, **workload, runs=max(3, sizes.runs)) for sizes in sizes_for(device, quick=quick)]
    rows = [row for sizes in settings for row in measure(sizes, device)]
    sizes = settings[0].as_dict() | {"dtypes": [sizes.dtype for sizes in settings], "stored": "bfloat16"}
    for unused in ("features", "active"):
        del sizes[unused]
    return Result("harvest", device.type, sizes, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """Measure one setting."""
    setting = build(sizes, device)
    with tempfile.TemporaryDirectory() as folder:
        suite = suite_of(setting, Path(folder) / "suite")
        # Write the store once to learn its tokens, and give them to both implementations
        stores = (Path(folder) / f"store{number}" for number in count())
        store = write(setting, suite, next(stores))
        ids = torch.cat([store.tokens(shard) for shard in range(len(store.manifest["shards"]))])
        prompts = Prompts(tuple(map(tuple, ids.tolist())), (0,) * len(ids), (1,) * len(ids))

        # Time both
        times = medians(
            {
                "ours": lambda: write(setting, suite, next(stores)),
                "bare": lambda: list(bare(setting, prompts)),
            },
            sizes.runs,
        )

        # Compare the stored activations with those of the forward passes
        expected = torch.stack([x.reshape(*ids.shape, -1)[:, 1:].flatten(0, 1) for x in bare(setting, prompts)], 1)
        stored = torch.cat([store.rows(n, 0, store.shard_tokens(n)) for n in range(len(store.manifest["shards"]))])
        difference = ((stored.float() - expected.float()).abs() / expected.float().abs().clamp_min(1e-3)).max()

        # Time reading the store
        data = DataConfig(batch_size=256, buffer_tokens=4096, buffer_dtype="bfloat16")
        reading = seconds(lambda: list(store.batches(data)))
    ours, plain = (ids.numel() / times[name] for name in ("ours", "bare"))
    case = f"{setting.site}, {sizes.dtype}"
    return [
        # Half a step of bfloat16, plus rounding that depends on the batch size
        Row.within(case, "largest relative difference", float(difference), 2**-7),
        Row.more(case, "tokens/s", ours, plain, "bare forward", target=0.85),
        Row.alone(case, "tokens/s read back, shuffled", store.n_tokens / reading),
    ]


def suite_of(setting: Setting, folder: Path) -> Suite:
    """Return a suite of the models, with configurations and tokenizer on disk and the weights in memory."""
    checkpoints = []
    for c, model in enumerate(setting.models):
        model.config.save_pretrained(folder / f"step{c}")
        model.tokenizer.save_pretrained(folder / f"step{c}")
        checkpoints.append(Checkpoint(f"step{c}", c, None, str(folder / f"step{c}"), None))
    return Suite("random", tuple(checkpoints))


def write(setting: Setting, suite: Suite, folder: Path) -> ActivationStore:
    """Harvest a text with as many sequences as there are prompts to a new folder."""
    models = dict(zip(suite.revisions, setting.models, strict=True))
    compute = InMemory(dtype=setting.sizes.dtype, max_tokens=setting.sizes.max_tokens, models=models)
    # Each document is a word and the end token
    text = ["word"] * (setting.sizes.prompts * LENGTH // 2)
    return harvest(suite, setting.site, text, folder, sequence_length=LENGTH, compute=compute)


def bare(setting: Setting, prompts: Prompts) -> Iterator[torch.Tensor]:
    """Iterate over the activations of each checkpoint from passes that a hook stops."""
    for model in setting.models:
        yield naive.fetch(model.module, prompts, setting.site.layer, max_tokens=setting.sizes.max_tokens)
