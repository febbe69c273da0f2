"""The top features ablated one at a time at C checkpoints: `interventions` against whole passes for every feature."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import naive
from benchmarks.cases.attribution import ours as attribute
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from benchmarks.timing import medians
from interventions import ablate


def benchmark(quick: bool, device: torch.device) -> Result:
    """Equality and speed; the naive way is timed on some of the features and scaled to all."""
    count, timed = (20, 4) if quick else (100, 5)
    listed = sizes_for(device, quick=quick)
    rows = [row for sizes in listed for row in measure(sizes, device, count, timed)]
    sizes = listed[0].as_dict() | {
        "dtypes": [each.dtype for each in listed],
        "ablated": count,
        "ablated by the naive way": f"{timed}, its seconds times {count / timed:g}",
    }
    return Result("ablation", device.type, sizes, tuple(rows))


def measure(sizes: Sizes, device: torch.device, count: int, timed: int) -> list[Row]:
    """The rows of one setting, for the `count` features of largest effect, of which the naive way does `timed`."""
    setting = build(sizes, device)
    modules = [model.module for model in setting.models]
    dictionary = naive.Dictionary.of(setting.crosscoder, next(modules[0].parameters()))
    effects = torch.stack([result.per_feature() for result in attribute(setting)])
    top = effects.abs().sum(0).topk(count).indices.tolist()
    # Evenly spaced, so that those which fire often and those which fire rarely are both there.
    some = top[:: max(1, count // timed)][:timed]

    def plainly() -> Tensor:
        return naive.ablate(modules, dictionary, setting.prompts, setting.site.layer, some, max_tokens=sizes.max_tokens)

    difference = float((ours(setting, some) - plainly()).abs().max())
    times = medians({"ours": lambda: ours(setting, top), "naive": plainly}, sizes.runs)
    name, metric = f"{len(some)} of these features", "largest difference of a prompt's metric"
    case = f"top {count} features, one at a time, {sizes.dtype}"
    return [
        Row.within(name, metric, difference, 1e-5) if sizes.dtype == "float32" else Row.alone(name, metric, difference),
        Row.less(
            case, "seconds", times["ours"], times["naive"] * count / len(some), f"naive, from {len(some)}", target=30
        ),
    ]


def ours(setting: Setting, features: list[int]) -> Float[Tensor, "C K P"]:
    """Read all checkpoints, encode once, and ablate at each."""
    decompositions = setting.crosscoder.decompose(setting.activations())
    return torch.stack(
        [
            ablate(model, setting.prompts, setting.site, decomposition, features).change
            for model, decomposition in zip(setting.models, decompositions, strict=True)
        ]
    )
