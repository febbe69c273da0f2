"""Other tools take turns with our training steps: a process that answers, and the tools themselves where they are."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import crossover, training  # noqa: E402
from benchmarks.peers.peer import HERE, MISSING, Peer, compare, environment  # noqa: E402
from crosstime.crosscoders.sparse_codes import SPARSE_BELOW  # noqa: E402
from crosstime.errors import CrosstimeError  # noqa: E402
from crosstime.training.topk import TopKTrainer  # noqa: E402

CPU = torch.device("cpu")
SMALL = training.Sizes(width=8, checkpoints=2, features=32, batch=16, k=(4,), runs=1)
LOOP = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from turns import Turns
steps = []
def products():
    time.sleep(0.05)
turns = Turns("a batch", products, "torch", first="looked at in advance")
assert next(turns) == "looked at in advance"
for batch in turns:
    assert batch == "a batch"
    print("a loop that prints")
    steps.append(batch)
    time.sleep(0.2)
    if len(steps) == 3:
        raise RuntimeError("the third step is too much")
"""


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """A tool's training loop whose step takes 0.2 s and its products 0.05 s, and which breaks in its third step."""
    (tmp_path / "loop.py").write_text(LOOP)
    return tmp_path / "loop.py"


@pytest.mark.slow
def test_a_loop_takes_a_step_when_it_is_asked_to_and_tells_how_long_it_took(loop: Path):
    with Peer(Path(sys.executable), str(loop), {}) as peer:
        assert peer.versions["torch"] == torch.__version__
        assert peer.versions["threads"] == torch.get_num_threads()
        assert peer.products() >= 0.05
        rows = compare(peer, "a case", "a loop", lambda: None, lambda: time.sleep(0.01), runs=1)
        seconds, shares = rows
        assert seconds.other >= 0.2
        assert seconds.met
        assert shares.other == pytest.approx(0.25, rel=0.5)
        with pytest.raises(CrosstimeError, match=r"ended with code 1: RuntimeError: the third step is too much"):
            peer.step()


def test_where_the_tools_are_not_installed_the_result_says_so(monkeypatch):
    monkeypatch.setattr(training, "FULL", SMALL)
    monkeypatch.setattr(training, "environment", lambda: None)
    result = training.benchmark(False, CPU)
    assert result.sizes["peers"] == "not installed: make bench-peers"
    assert not {"SAELens", "llamascopium"} & {str(row.other_name).partition(" ")[0] for row in result.rows}


@pytest.mark.long
@pytest.mark.skipif(environment() is None, reason=MISSING)
def test_the_tools_take_steps_of_their_own():
    rows = training.compare_with_tools(SMALL, environment())
    assert [str(row.other_name).partition(" ")[0] for row in rows] == ["SAELens"] * 4 + ["llamascopium"] * 8
    assert all(row.ours > 0 and row.other > 0 for row in rows)
    assert [row.case for row in rows[::2]] == [
        f"{config}, {where}"
        for where in ("1 checkpoint, float32", "2 checkpoints, float32", "2 checkpoints, bfloat16")
        for config in ("L1 0.5", "BatchTopK 4")
    ]


def test_both_ways_of_a_sparse_step_are_timed_and_the_constant_is_put_back(monkeypatch):
    monkeypatch.setattr(crossover, "QUICK", crossover.Sizes(width=8, checkpoints=2, features=64, batch=16, k=(2, 8)))
    before, tried = dict(SPARSE_BELOW), []
    real = crossover.medians

    def watched(ways, runs):
        for name, call in ways.items():
            monkeypatch.setattr(TopKTrainer, "_decode", lambda self, active, name=name: spied(self, active, name))
            call()
        monkeypatch.setattr(TopKTrainer, "_decode", decode)
        return real(ways, runs)

    decode = TopKTrainer._decode

    def spied(self, active, name):
        tried.append((name, SPARSE_BELOW["cpu"]))
        return decode(self, active)

    monkeypatch.setattr(crossover, "medians", watched)
    result = crossover.benchmark(True, CPU)
    assert before == SPARSE_BELOW
    assert tried == [("sparse", crossover.SPARSE), ("dense", crossover.DENSE)] * 2
    assert [row.other_name for row in result.rows] == ["dense products", "dense products", "SPARSE_BELOW"]
    assert 2 / 64 <= result.rows[-1].ours <= 8 / 64


@pytest.mark.parametrize(
    ("ratios", "share"),
    [([4.0, 2.0, 0.5], 0.02), ([0.9, 0.8, 0.7], 0.005), ([3.0, 2.0, 1.5], 0.04), ([0.9, 2.0, 0.5], 0.02)],
)
def test_the_crossover_is_where_the_ratio_falls_to_one_for_good(ratios: list[float], share: float):
    assert crossover.crossover([0.005, 0.01, 0.04], ratios) == pytest.approx(share)
