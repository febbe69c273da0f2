"""The benchmark's plain way takes the steps of our trainers, and its rows are as promised."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.cases import training  # noqa: E402
from benchmarks.naive_training import DenseTrainer  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize("number", [0, 1])
def test_the_plain_way_takes_our_steps(number: int):
    config = replace(training.configs(training.TINY)[number], lr=1e-2, decoder_norm=1.0)
    our_trainer = training.trainer(config, training.TINY, CPU, "float32")
    with torch.no_grad():
        our_trainer.crosscoder.scales.copy_(torch.tensor([0.5, 2.0]))
    sparsity = {"l1": training.L1} if number == 0 else {"k": config.k}
    plain = DenseTrainer(our_trainer.crosscoder, lr=config.lr, **sparsity)
    for step in range(5):
        x = torch.randn(16, 2, 8, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(our_trainer.update(step, x), plain.update(step, x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(our_trainer.crosscoder.W_dec, plain.weights["W_dec"], rtol=1e-3, atol=1e-4)


def test_rows_compare_with_the_plain_way_bare_products_and_the_peer_if_there_is_one(monkeypatch):
    monkeypatch.setattr(training, "QUICK", training.TINY)
    rows = training.benchmark(True, CPU).rows
    assert [row.other_name for row in rows[:5]] == ["limit", "plain way", "bare products", "limit", "plain way"]
    assert all(row.met for row in rows if row.other_name == "limit")
    monkeypatch.setattr(training, "dictionary_learning", lambda: None)
    result = training.benchmark(True, CPU)
    assert {row.other_name for row in result.rows} == {"limit", "plain way", "bare products"}
    assert "not installed" in result.sizes["dictionary_learning"]


def test_the_operations_of_a_step_are_those_of_its_five_products():
    assert training.FULL.flops == 5 * 2 * 1024 * 1536 * 8192
