"""How near a calculation is to the rate of this machine's matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.result import Row
from benchmarks.timing import gemm_rate

GEMM = "GEMM of 2,048"


def limit(
    case: str,
    call: Callable[[], object],
    seconds: float,
    other: tuple[float, str],
    machine: tuple[torch.device, torch.dtype],
) -> list[Row]:
    """Return the rate of a call, and the time that its products would take at the rate of large square ones.

    The ratio of the second row is an upper bound for any implementation that computes the same products.

    Args:
        case: name of the rows.
        call: the calculation, whose matrix products are counted.
        seconds: its time.
        other: the time that it is compared with, and whose it is.
        machine: device and dtype of the products.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    flops, best = counter.get_total_flops(), gemm_rate(*machine)
    return [
        Row.more(case, "GFLOP/s", flops / seconds / 1e9, best / 1e9, GEMM),
        Row.less(case, f"seconds at the rate of a {GEMM}", flops / best, *other),
    ]
