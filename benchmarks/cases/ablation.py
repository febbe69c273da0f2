"""Ablation of the top features, one at a time, at C checkpoints: `interventions` against complete passes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import naive
from benchmarks.cases.attribution import ours as attribute
from benchmarks.limit import limit
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from benchmarks.timing import medians
from interventions import ablate


def benchmark(quick: bool, device: torch.device) -> Result:
    """Compare results and speed; the naive implementation is timed on some of the features and extrapolated."""
    count, timed = (20, 4) if quick else (100, 5)
    settings = sizes_for(device, quick=quick)
    rows = [row for sizes in settings for row in measure(sizes, device, count, timed)]
    sizes = settings[0].as_dict() | {
        "dtypes": [sizes.dtype for sizes in settings],
        "ablated": count,
        "ablated by the naive way": f"{timed}, its seconds times {count / timed:g}",
    }
    return Result("ablation", device.type, sizes, tuple(rows))


def measure(sizes: Sizes, device: torch.device, count: int, timed: int) -> list[Row]:
    """Measure one setting, on the `count` features with the largest effects; the naive implementation on `timed`."""
    setting = build(sizes, device)
    modules = [model.module for model in setting.models]
    dictionary = naive.Dictionary.of(setting.crosscoder, next(modules[0].parameters()))
    effects = torch.stack([result.per_feature() for result in attribute(setting)])
    top = effects.abs().sum(0).topk(count).indices.tolist()
    # Evenly spaced, to include features that fire often and features that fire rarely
    sample = top[:: max(1, count // timed)][:timed]

    def naively() -> Tensor:
        layer, budget = setting.site.layer, sizes.max_tokens
        return naive.ablate(modules, dictionary, setting.prompts, layer, sample, max_tokens=budget)

    difference = float((ours(setting, sample) - naively()).abs().max())
    times = medians({"ours": lambda: ours(setting, top), "naive": naively}, sizes.runs)
    name, metric = f"{len(sample)} of these features", "largest difference of a prompt's metric"
    case = f"top {count} features, one at a time, {sizes.dtype}"
    machine = (setting.models[0].device, setting.models[0].dtype)
    extrapolated = times["naive"] * count / len(sample)
    return [
        Row.within(name, metric, difference, 1e-5) if sizes.dtype == "float32" else Row.alone(name, metric, difference),
        Row.less(case, "seconds", times["ours"], extrapolated, f"naive, from {len(sample)}", target=30),
        *limit(case, lambda: ours(setting, top), times["ours"], (extrapolated, "naive"), machine),
    ]


def ours(setting: Setting, features: list[int]) -> Float[Tensor, "C K P"]:
    """Read the activations of all checkpoints, encode once, and ablate at each checkpoint."""
    decompositions = setting.crosscoder.decompose(setting.activations())
    return torch.stack(
        [
            ablate(model, setting.prompts, setting.site, decomposition, features).change
            for model, decomposition in zip(setting.models, decompositions, strict=True)
        ]
    )
