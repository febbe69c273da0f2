"""Integrated gradients of all features at C checkpoints: `interventions` against the whole dictionary in autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import naive
from benchmarks.memory import HOW, Footprint, footprint
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from benchmarks.timing import gemm_rate, medians
from interventions import Decomposition, Effects, Estimator, indirect_effects

STEPS = 10
"""Alphas of the left Riemann sum: CTT's."""
GROWTH = [2_048, 16_384, 65_536]
"""Dictionary sizes F that both ways are run with."""
MEGABYTE = 1 << 20


def benchmark(quick: bool, device: torch.device) -> Result:
    """Equality, speed and memory against the naive way, and how both grow with the dictionary."""
    listed = sizes_for(device, quick=quick)
    rows = []
    for each in listed:
        rows += measure(each, device)
        if not quick:
            rows.append(_less_memory(f"effects, same 10 alphas, {each.dtype}", *_footprints(each, device), target=4))
    if not quick:
        rows += growth_with_features(listed[0], device, GROWTH)
    sizes = listed[0].as_dict() | (
        {"growth and memory": "left out of a quick run"} if quick else {"growth": GROWTH, "memory": HOW}
    )
    return Result("attribution", device.type, sizes | {"dtypes": [each.dtype for each in listed]}, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """The rows of one setting, all but memory."""
    setting = build(sizes, device)
    plainly = naive_way(setting)
    same, default, other = ours(setting, "left", STEPS), ours(setting), plainly()
    difference = max(
        float((mine.per_feature() - theirs.feature).abs().max() / theirs.feature.abs().max())
        for mine, theirs in zip(same, other, strict=True)
    )
    ways = {
        "same": lambda: ours(setting, "left", STEPS),
        "default": lambda: ours(setting),
        "naive": plainly,
    }
    times = medians(ways, sizes.runs, warm=False)
    name, metric = f"effects, same 10 alphas, {sizes.dtype}", "largest difference / largest effect"
    # In half precision rounding alone sets two orders of summation apart.
    exact = sizes.dtype == "float32"
    return [
        Row.within(name, metric, difference, 1e-4) if exact else Row.alone(name, metric, difference),
        Row.less(name, "seconds", times["same"], times["naive"], "naive", target=3),
        Row.less(f"effects, default, {sizes.dtype}", "seconds", times["default"], times["naive"], "naive", target=6),
        Row.less(
            f"effects, default, {sizes.dtype}",
            "completeness error",
            max(mine.completeness_error() for mine in default),
            max(_completeness(mine, theirs) for mine, theirs in zip(same, other, strict=True)),
            "naive",
            target=1,
        ),
        _share_of_gemm(setting, times["same"]),
    ]


def ours(setting: Setting, quadrature: str = "gauss-legendre", steps: int | None = None) -> list[Effects]:
    """Read all checkpoints, encode once, and measure the effects at each."""
    return effects_of(setting, setting.crosscoder.decompose(setting.activations()), quadrature, steps)


def effects_of(
    setting: Setting, decompositions: list[Decomposition], quadrature: str = "gauss-legendre", steps: int | None = None
) -> list[Effects]:
    """The same from activations that are decomposed already."""
    estimator = Estimator(quadrature=quadrature, steps=steps)
    return [
        indirect_effects(model, setting.prompts, setting.site, decomposition, estimator)
        for model, decomposition in zip(setting.models, decompositions, strict=True)
    ]


def growth_with_features(sizes: Sizes, device: torch.device, features: list[int]) -> list[Row]:
    """Time and memory of dictionaries of several sizes, at the same number of firing features."""
    rows, alone = [], {}
    for count in features:
        resized = replace(sizes, features=count)
        whole, alone[count] = _seconds_of(resized, device)
        mine, theirs = _footprints(resized, device)
        case = f"F {count:,}, same 10 alphas, {sizes.dtype}"
        rows += [
            Row.less(case, "seconds", whole, theirs.seconds, "naive, 1 run"),
            Row.alone(case, "seconds without read and encode", alone[count]),
            _less_memory(case, mine, theirs),
        ]
    small, large = features[0], features[-1]
    rows.append(
        Row.less(
            f"F {large:,} against F {small:,}",
            "seconds without read and encode",
            alone[large],
            alone[small],
            f"ours at F {small:,}",
        )
    )
    return rows


def _seconds_of(sizes: Sizes, device: torch.device) -> tuple[float, float]:
    """Of our whole way, and of its effects alone."""
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


def _less_memory(case: str, mine: Footprint, theirs: Footprint, target: float | None = None) -> Row:
    return Row.less(case, "extra MB at the peak", mine.extra / MEGABYTE, theirs.extra / MEGABYTE, "naive", target)


def naive_way(setting: Setting) -> Callable[..., list[naive.Effects]]:
    """A call that takes the naive way at the same alphas; the dense weights that it needs are built before."""
    modules = [model.module for model in setting.models]
    dictionary = naive.Dictionary.of(setting.crosscoder, next(modules[0].parameters()))
    budget, layer = setting.sizes.max_tokens, setting.site.layer

    def call(which: Setting = setting) -> list[naive.Effects]:
        return naive.attribute(modules, dictionary, which.prompts, layer, max_tokens=budget, steps=STEPS)

    return call


def prepare_ours(sizes: Sizes, device: torch.device) -> tuple[Callable[[], None], Callable[[], None]]:
    """For `footprint`: our way at the naive way's alphas."""
    setting = build(sizes, device)
    few = setting.first(2)
    return lambda: _drop(ours(few, "left", STEPS)), lambda: _drop(ours(setting, "left", STEPS))


def prepare_naive(sizes: Sizes, device: torch.device) -> tuple[Callable[[], None], Callable[[], None]]:
    """For `footprint`: the naive way."""
    setting = build(sizes, device)
    few, plainly = setting.first(2), naive_way(setting)
    return lambda: _drop(plainly(few)), lambda: _drop(plainly())


def profile(quick: bool, device: torch.device) -> str:
    """The operators in which our way spends its time, as a table."""
    setting = build(sizes_for(device, quick=quick)[0], device)
    ours(setting, "left", STEPS)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as record:
        ours(setting, "left", STEPS)
    by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return record.key_averages().table(sort_by=by, row_limit=20, max_name_column_width=48)


def _share_of_gemm(setting: Setting, taken: float) -> Row:
    counter = FlopCounterMode(display=False)
    with counter:
        ours(setting, "left", STEPS)
    best = gemm_rate(setting.models[0].device, setting.models[0].dtype)
    rate = counter.get_total_flops() / taken
    case = f"share of this machine's GEMM rate, {setting.sizes.dtype}"
    return Row.more(case, "GFLOP/s", rate / 1e9, best / 1e9, "GEMM of 2,048")


def _completeness(mine: Effects, theirs: naive.Effects) -> float:
    change = (mine.baseline - mine.clean).double()
    return float((theirs.total - change).abs().sum() / change.abs().sum())


def _drop(_: object) -> None:
    """Keep a result from being sent between processes."""
