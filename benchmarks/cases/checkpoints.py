"""Memory and time for a growing number of checkpoints: decompose and attribute from C checkpoints on disk."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.memory import MEASUREMENT, Footprint, footprint
from benchmarks.result import Result, Row
from benchmarks.setting import Sizes, random_crosscoder, random_model, random_prompts, random_tokenizer
from crosstime import Compute, CrossCoder, Site, Suite, attribute, decompose_task
from interventions import Estimator, Model, fetch
from tasks import TokenizedTask

SIZES = Sizes(d_model=256, n_heads=4, vocabulary=8_192, features=1_024, active=20, prompts=64)
MEGABYTE = 1 << 20


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure memory apart from the result, and time per checkpoint, for growing C."""
    counts = [2, 4] if quick else [2, 4, 8, 16, 32]
    sizes = replace(SIZES, n_layers=4, vocabulary=4_096, prompts=32) if quick else SIZES
    sizes = replace(sizes, runs=1 if quick else 3)

    # Measure every number of checkpoints on one suite
    with tempfile.TemporaryDirectory() as folder:
        save_suite(Path(folder), sizes, counts)
        measured = {count: measure(Path(folder), sizes, count, device) for count in counts}

    # Compare with the smallest number
    first, rows = counts[0], []
    for count, (extra, per_checkpoint, held) in measured.items():
        case = f"C {count}"
        target_memory, target_time = (None, None) if count == first else (1 / 1.1, None)
        rows += [
            Row.less(case, "model-side extra MB", extra, measured[first][0], f"ours at C {first}", target_memory),
            Row.less(
                case, "seconds a checkpoint", per_checkpoint, measured[first][1], f"ours at C {first}", target_time
            ),
            Row.alone(case, "MB held by the result, taken off the peak", held),
        ]

    details = sizes.as_dict() | {
        "checkpoints": counts,
        "memory": f"{MEASUREMENT}, less what the returned result holds: activations and effects of C checkpoints",
    }
    return Result("checkpoints", device.type, details, tuple(rows))


def save_suite(folder: Path, sizes: Sizes, counts: list[int]) -> None:
    """Write random models as revisions ``step0``, ``step1``, ... of one suite, and a crosscoder for each count."""
    tokenizer, prompts, site = random_tokenizer(), random_prompts(sizes, seed=0), Site(sizes.layer)
    activations = []
    for c in range(counts[-1]):
        module = random_model(sizes, c)
        module.save_pretrained(folder / f"step{c}")
        tokenizer.save_pretrained(folder / f"step{c}")
        model = Model.wrap(module, tokenizer, max_tokens=sizes.max_tokens)
        activations.append(fetch(model, prompts, [site])[site])
    for count in counts:
        crosscoder = random_crosscoder(replace(sizes, checkpoints=count), torch.stack(activations[:count]), seed=0)
        crosscoder.save(folder / f"crosscoder-{count}.safetensors")


def measure(folder: Path, sizes: Sizes, count: int, device: torch.device) -> tuple[float, float, float]:
    """Return the median of megabytes apart from the result, seconds per checkpoint, and megabytes of the result."""
    footprints = [footprint(prepare, folder, sizes, count, device) for _ in range(sizes.runs)]
    median = sorted(footprints, key=_model_side)[len(footprints) // 2]
    duration = sorted(footprint.seconds for footprint in footprints)[len(footprints) // 2]
    return _model_side(median) / MEGABYTE, duration / count, median.value / MEGABYTE


def prepare(
    folder: Path, sizes: Sizes, count: int, device: torch.device
) -> tuple[Callable[[], int], Callable[[], int]]:
    """Prepare for `footprint`: decompose and attribute at the first `count` checkpoints, and return the bytes held."""
    return prepare_run(folder, replace(sizes, prompts=2), count, device), prepare_run(folder, sizes, count, device)


def prepare_run(folder: Path, sizes: Sizes, count: int, device: torch.device) -> Callable[[], int]:
    """Return a call that decomposes and attributes a task; everything else is prepared beforehand."""
    suite = Suite.open(folder, [f"step{c}" for c in range(count)])
    crosscoder = CrossCoder.load(folder / f"crosscoder-{count}.safetensors")
    # A loaded file is memory-mapped: touch its pages now, so that they are not read during the call
    weights = list(crosscoder.state_dict().values())
    for weight in weights:
        weight.double().sum()
    prompts = random_prompts(sizes, seed=0)
    task = TokenizedTask("random", tuple(map(tuple, prompts.ids)), prompts.right, prompts.wrong, None, ())
    compute = Compute(device=str(device), max_tokens=sizes.max_tokens)

    def call() -> int:
        decomposed = decompose_task(suite, crosscoder, task, compute=compute)
        result = attribute(suite, crosscoder, decomposed, Estimator(quadrature="left", steps=10), compute=compute)
        return held(result, but=weights)

    return call


def held(value: object, but: Sequence[Tensor] = ()) -> int:
    """Return the bytes of all tensors that a result keeps alive, counting each storage once, without those of `but`."""
    excluded = {tensor.untyped_storage().data_ptr() for tensor in but}
    storages: dict[int, int] = {}
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Tensor):
            storage = item.untyped_storage()
            if storage.data_ptr() not in excluded:
                storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, tuple | list):
            pending += item
        elif dataclasses.is_dataclass(item):
            # The instance's dictionary also holds the values of cached properties
            pending += vars(item).values()
    return sum(storages.values())


def _model_side(footprint: Footprint) -> int:
    return footprint.extra - footprint.value
