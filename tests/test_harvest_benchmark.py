"""The harvest benchmark compares two ways to the same numbers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import harvest  # noqa: E402
from benchmarks.setting import TINY, build  # noqa: E402
from interventions import Prompts  # noqa: E402

CPU = torch.device("cpu")


def test_the_harvest_benchmark_stores_what_bare_passes_give(tmp_path):
    setting = build(replace(TINY, prompts=8, shortest=harvest.LENGTH, longest=harvest.LENGTH), CPU)
    suite = harvest.suite_of(setting, tmp_path / "suite")
    store = harvest.write(setting, suite, tmp_path / "store")
    ids = store.tokens(0)
    assert ids.shape == (8, harvest.LENGTH)
    prompts = Prompts(tuple(map(tuple, ids.tolist())), (0,) * 8, (1,) * 8)
    for c, x in enumerate(harvest.bare(setting, prompts)):
        rows = x.reshape(8, harvest.LENGTH, -1)[:, 1:].flatten(0, 1)
        torch.testing.assert_close(store.rows(0, 0, store.n_tokens)[:, c].float(), rows, rtol=2**-7, atol=1e-4)
