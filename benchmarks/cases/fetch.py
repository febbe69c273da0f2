"""Reading activations: `interventions.fetch` against a forward hook that stops the pass with an exception."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from benchmarks import naive
from benchmarks.result import Result, Row
from benchmarks.setting import Sizes, build, sizes_for
from benchmarks.timing import medians
from interventions import MAX_TOKENS, fetch


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure tokens per second on prompts of the length of a sentence."""
    workload: dict[str, Any] = {
        **{"checkpoints": 1, "features": 256, "active": 8, "prompts": 64 if quick else 512},
        **{"shortest": 16, "longest": 64, "max_tokens": MAX_TOKENS},
    }
    settings = [replace(sizes, **workload, runs=max(5, sizes.runs)) for sizes in sizes_for(device, quick=quick)]
    rows = [row for sizes in settings for row in measure(sizes, device)]
    sizes = settings[0].as_dict() | {"dtypes": [sizes.dtype for sizes in settings]}
    for unused in ("features", "active"):
        del sizes[unused]
    return Result("fetch", device.type, sizes, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """Measure one setting."""
    setting = build(sizes, device)
    (model,), site, prompts = setting.models, setting.site, setting.prompts
    calls = {
        "ours": lambda: fetch(model, prompts, [site])[site],
        "bare": lambda: naive.fetch(model.module, prompts, site.layer, max_tokens=sizes.max_tokens),
    }
    difference = float((calls["ours"]() - calls["bare"]()).abs().max())
    times = medians(calls, sizes.runs)
    ours, bare = (prompts.n_tokens / times[name] for name in ("ours", "bare"))
    case = f"{site}, {sizes.dtype}"
    return [
        Row.alone(case, "largest difference", difference),
        Row.more(case, "tokens/s", ours, bare, "bare hook", target=0.9),
    ]
