"""Integrated gradients of all features at C checkpoints: `interventions` against autograd through the dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import naive
from benchmarks.memory import MEASUREMENT, Footprint, footprint
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from benchmarks.timing import gemm_rate, medians
from interventions import Decomposition, Effects, Estimator, indirect_effects

STEPS = 10
"""Nodes of the left Riemann sum, as in CTT."""
GROWTH = [2_048, 16_384, 65_536]
"""Dictionary sizes F with which both implementations are run."""
MEGABYTE = 1 << 20


def benchmark(quick: bool, device: torch.device) -> Result:
    """Compare results, speed and memory with the naive implementation, also for growing dictionaries."""
    settings = sizes_for(device, quick=quick)
    rows = []
    for sizes in settings:
        rows += measure(sizes, device)
        if not quick:
            rows.append(_less_memory(f"effects, same 10 alphas, {sizes.dtype}", *_footprints(sizes, device), target=4))
    if not quick:
        rows += growth_with_features(settings[0], device, GROWTH)
    details = settings[0].as_dict() | (
        {"growth and memory": "left out of a quick run"} if quick else {"growth": GROWTH, "memory": MEASUREMENT}
    )
    return Result("attribution", device.type, details | {"dtypes": [sizes.dtype for sizes in settings]}, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """Measure one setting, except for memory."""
    setting = build(sizes, device)
    naively = naive_call(setting)

    # Compare the effects at the same nodes
    same, default, naive_effects = ours(setting, "left", STEPS), ours(setting), naively()
    difference = max(
        float((effects.per_feature() - reference.feature).abs().max() / reference.feature.abs().max())
        for effects, reference in zip(same, naive_effects, strict=True)
    )

    # Time both implementations at the same nodes, and ours by default
    calls = {
        "same": lambda: ours(setting, "left", STEPS),
        "default": lambda: ours(setting),
        "naive": naively,
    }
    times = medians(calls, sizes.runs, warm=False)

    name, metric = f"effects, same 10 alphas, {sizes.dtype}", "largest difference / largest effect"
    # In half precision, rounding alone makes two orders of summation differ
    exact = sizes.dtype == "float32"
    return [
        Row.within(name, metric, difference, 1e-4) if exact else Row.alone(name, metric, difference),
        Row.less(name, "seconds", times["same"], times["naive"], "naive", target=3),
        Row.less(f"effects, default, {sizes.dtype}", "seconds", times["default"], times["naive"], "naive", target=6),
        Row.less(
            f"effects, default, {sizes.dtype}",
            "completeness error",
            max(effects.completeness_error() for effects in default),
            max(_completeness(effects, reference) for effects, reference in zip(same, naive_effects, strict=True)),
            "naive",
            target=1,
        ),
        _share_of_gemm(setting, times["same"]),
    ]


def ours(setting: Setting, quadrature: str = "gauss-legendre", steps: int | None = None) -> list[Effects]:
    """Read the activations of all checkpoints, encode once, and compute the effects at each checkpoint."""
    return effects_of(setting, setting.crosscoder.decompose(setting.activations()), quadrature, steps)


def effects_of(
    setting: Setting, decompositions: list[Decomposition], quadrature: str = "gauss-legendre", steps: int | None = None
) -> list[Effects]:
    """Compute the effects from decomposed activations."""
    estimator = Estimator(quadrature=quadrature, steps=steps)
    return [
        indirect_effects(model, setting.prompts, setting.site, decomposition, estimator)
        for model, decomposition in zip(setting.models, decompositions, strict=True)
    ]


def growth_with_features(sizes: Sizes, device: torch.device, features: list[int]) -> list[Row]:
    """Measure time and memory for several dictionary sizes, at the same number of active features."""
    # Run every size
    rows, effects_only = [], {}
    for count in features:
        resized = replace(sizes, features=count)
        total, effects_only[count] = _seconds_of(resized, device)
        our_memory, naive_memory = _footprints(resized, device)
        case = f"F {count:,}, same 10 alphas, {sizes.dtype}"
        rows += [
            Row.less(case, "seconds", total, naive_memory.seconds, "naive, 1 run"),
            Row.alone(case, "seconds without read and encode", effects_only[count]),
            _less_memory(case, our_memory, naive_memory),
        ]

    # Compare the largest with the smallest
    small, large = features[0], features[-1]
    rows.append(
        Row.less(
            f"F {large:,} against F {small:,}",
            "seconds without read and encode",
            effects_only[large],
            effects_only[small],
            f"ours at F {small:,}",
        )
    )
    return rows


def _seconds_of(sizes: Sizes, device: torch.device) -> tuple[float, float]:
    """Return the time of our whole calculation, and of the effects without reading and encoding."""
    setting = build(sizes, device)
    decompositions = setting.crosscoder.decompose(setting.activations())
    times = medians(
        {
            "encode": lambda: setting.crosscoder.decompose(setting.activations()),
            "effects": lambda: effects_of(setting, decompositions, "left", STEPS),
        },
        min(3, sizes.runs),
    )
    return times["encode"] + times["effects"], times["effects"]


def _footprints(sizes: Sizes, device: torch.device) -> tuple[Footprint, Footprint]:
    return footprint(prepare_ours, sizes, device), footprint(prepare_naive, sizes, device)


def _less_memory(case: str, ours: Footprint, other: Footprint, target: float | None = None) -> Row:
    return Row.less(case, "extra MB at the peak", ours.extra / MEGABYTE, other.extra / MEGABYTE, "naive", target)


def naive_call(setting: Setting) -> Callable[..., list[naive.Effects]]:
    """Return a call of the naive implementation at the same nodes; its dense weights are prepared beforehand."""
    modules = [model.module for model in setting.models]
    dictionary = naive.Dictionary.of(setting.crosscoder, next(modules[0].parameters()))
    budget, layer = setting.sizes.max_tokens, setting.site.layer

    def call(setting: Setting = setting) -> list[naive.Effects]:
        return naive.attribute(modules, dictionary, setting.prompts, layer, max_tokens=budget, steps=STEPS)

    return call


def prepare_ours(sizes: Sizes, device: torch.device) -> tuple[Callable[[], None], Callable[[], None]]:
    """Prepare our implementation for `footprint`, at the nodes of the naive one."""
    setting = build(sizes, device)
    few = setting.first(2)
    return lambda: _drop(ours(few, "left", STEPS)), lambda: _drop(ours(setting, "left", STEPS))


def prepare_naive(sizes: Sizes, device: torch.device) -> tuple[Callable[[], None], Callable[[], None]]:
    """Prepare the naive implementation for `footprint`."""
    setting = build(sizes, device)
    few, naively = setting.first(2), naive_call(setting)
    return lambda: _drop(naively(few)), lambda: _drop(naively())


def profile(quick: bool, device: torch.device) -> str:
    """Return a table of the operators in which our implementation spends its time."""
    setting = build(sizes_for(device, quick=quick)[0], device)
    ours(setting, "left", STEPS)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as record:
        ours(setting, "left", STEPS)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return record.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=48)


def _share_of_gemm(setting: Setting, duration: float) -> Row:
    counter = FlopCounterMode(display=False)
    with counter:
        ours(setting, "left", STEPS)
    best = gemm_rate(setting.models[0].device, setting.models[0].dtype)
    rate = counter.get_total_flops() / duration
    case = f"share of this machine's GEMM rate, {setting.sizes.dtype}"
    return Row.more(case, "GFLOP/s", rate / 1e9, best / 1e9, "GEMM of 2,048")


def _completeness(ours: Effects, other: naive.Effects) -> float:
    change = (ours.baseline - ours.clean).double()
    return float((other.total - change).abs().sum() / change.abs().sum())


def _drop(_: object) -> None:
    """Discard a result, so that it is not sent between processes."""
