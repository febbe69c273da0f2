"""Writing activations to disk: `crosstime.harvest` against bare forward passes that stop at the layer and keep nothing.

Both ways find the models in memory, so that what is compared is harvesting and not loading: ours cuts the text into
tokens, runs it through every checkpoint, rounds, checks, writes and hashes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

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
    """Hands out models that are in memory instead of loading them."""

    models: dict[str, Model] = field(default_factory=dict)

    def open(self, suite: Suite, revision: str) -> AbstractContextManager[Model]:
        """The model of that revision."""
        return nullcontext(self.models[revision])


def benchmark(quick: bool, device: torch.device) -> Result:
    """Tokens a second, counted once for all checkpoints."""
    budget = MAX_TOKENS if device.type == "cpu" else 16_384
    sequences = 32 if quick else 256 if device.type == "cpu" else 2_048
    listed = [
        replace(sizes, checkpoints=2, features=256, active=8, prompts=sequences, shortest=LENGTH, longest=LENGTH,
                max_tokens=budget, runs=max(3, sizes.runs))
        for sizes in sizes_for(device, quick=quick)
    ]  # fmt: skip
    rows = [row for sizes in listed for row in measure(sizes, device)]
    sizes = listed[0].as_dict() | {"dtypes": [each.dtype for each in listed], "stored": "bfloat16"}
    for unused in ("features", "active"):
        del sizes[unused]
    return Result("harvest", device.type, sizes, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """The rows of one setting."""
    setting = build(sizes, device)
    with tempfile.TemporaryDirectory() as folder:
        suite = suite_of(setting, Path(folder) / "suite")
        stores = (Path(folder) / f"store{number}" for number in count())
        store = write(setting, suite, next(stores))
        ids = torch.cat([store.tokens(shard) for shard in range(len(store.manifest["shards"]))])
        prompts = Prompts(tuple(map(tuple, ids.tolist())), (0,) * len(ids), (1,) * len(ids))
        times = medians(
            {
                "ours": lambda: write(setting, suite, next(stores)),
                "bare": lambda: list(bare(setting, prompts)),
            },
            sizes.runs,
        )
        expected = torch.stack([x.reshape(*ids.shape, -1)[:, 1:].flatten(0, 1) for x in bare(setting, prompts)], 1)
        found = torch.cat([store.rows(n, 0, store.shard_tokens(n)) for n in range(len(store.manifest["shards"]))])
        difference = ((found.float() - expected.float()).abs() / expected.float().abs().clamp_min(1e-3)).max()
        data = DataConfig(batch_size=256, buffer_tokens=4096, buffer_dtype="bfloat16")
        read = seconds(lambda: list(store.batches(data)))
    ours, plain = (ids.numel() / times[name] for name in ("ours", "bare"))
    case = f"{setting.site}, {sizes.dtype}"
    return [
        # Half a step of bfloat16, and what batches of other sizes round differently.
        Row.within(case, "largest relative difference", float(difference), 2**-7),
        Row.more(case, "tokens/s", ours, plain, "bare forward", target=0.85),
        Row.alone(case, "tokens/s read back, shuffled", store.n_tokens / read),
    ]


def suite_of(setting: Setting, folder: Path) -> Suite:
    """A suite of the setting's models: configurations and tokenizer on disk, weights in memory."""
    checkpoints = []
    for c, model in enumerate(setting.models):
        model.config.save_pretrained(folder / f"step{c}")
        model.tokenizer.save_pretrained(folder / f"step{c}")
        checkpoints.append(Checkpoint(f"step{c}", c, None, str(folder / f"step{c}"), None))
    return Suite("random", tuple(checkpoints))


def write(setting: Setting, suite: Suite, folder: Path) -> ActivationStore:
    """Our way: a text of as many sequences as there are prompts, to a new folder."""
    models = dict(zip(suite.revisions, setting.models, strict=True))
    compute = InMemory(dtype=setting.sizes.dtype, max_tokens=setting.sizes.max_tokens, models=models)
    # A word and the end token: two tokens a document.
    text = ["word"] * (setting.sizes.prompts * LENGTH // 2)
    return harvest(suite, setting.site, text, folder, sequence_length=LENGTH, compute=compute)


def bare(setting: Setting, prompts: Prompts) -> Iterator[torch.Tensor]:
    """The plain way: a hook that raises to stop the pass."""
    for model in setting.models:
        yield naive.fetch(model.module, prompts, setting.site.layer, max_tokens=setting.sizes.max_tokens)
