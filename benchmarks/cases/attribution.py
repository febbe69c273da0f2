"""Integrated gradients of all features at C checkpoints: `interventions` against autograd through the dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks import naive
from benchmarks.limit import limit
from benchmarks.memory import MEASUREMENT, Footprint, footprint
from benchmarks.result import Result, Row
from benchmarks.setting import Setting, Sizes, build, sizes_for
from benchmarks.timing import medians
from interventions import Decomposition, Effects, Estimator, indirect_effects

STEPS = 10
"""Nodes of the left Riemann sum, as in CTT."""
FEW = 4
"""Nodes of the Gauss-Legendre rule with which completeness is still no worse than that of the naive implementation."""
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
        "few": lambda: ours(setting, steps=FEW),
        "naive": naively,
    }
    times = medians(calls, sizes.runs, warm=False)

    # In half precision, rounding alone makes two orders of summation differ
    exact = sizes.dtype == "float32"
    name, metric = f"effects, same 10 alphas, {sizes.dtype}", "largest difference / largest effect"
    rows = [Row.within(name, metric, difference, 1e-4) if exact else Row.alone(name, metric, difference)]
    rows.append(Row.less(name, "seconds", times["same"], times["naive"], "naive", target=3))

    # Compare speed and completeness of fewer nodes
    naive_error = max(_completeness(*pair) for pair in zip(same, naive_effects, strict=True))
    for call, case, effects, target in (
        ("default", f"effects, default, {sizes.dtype}", default, 6),
        ("few", f"effects, {FEW} nodes, {sizes.dtype}", ours(setting, steps=FEW), 8),
    ):
        error = max(result.completeness_error() for result in effects)
        rows.append(Row.less(case, "seconds", times[call], times["naive"], "naive", target=target))
        rows.append(Row.less(case, "completeness error", error, naive_error, "naive", target=1))

    # Show how much faster the same products could be
    machine = (setting.models[0].device, setting.models[0].dtype)
    for call, case in (("same", name), ("default", f"effects, default, {sizes.dtype}")):
        rows += limit(case, calls[call], times[call], (times["naive"], "naive"), machine)
    return rows


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


def _completeness(ours: Effects, other: naive.Effects) -> float:
    change = (ours.baseline - ours.clean).double()
    return float((other.total - change).abs().sum() / change.abs().sum())


def _drop(_: object) -> None:
    """Discard a result, so that it is not sent between processes."""
