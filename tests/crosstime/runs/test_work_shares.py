from __future__ import annotations

import shutil
from dataclasses import fields
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
import torch
from small_run import home_of, recipe, together

from crosstime.errors import CrosstimeError
from crosstime.machine.processes import ALONE, Processes
from crosstime.runs.work_shares import blocks, broadcast, concatenate_effects, shard
from interventions import Effects
from tasks import TokenizedTask

RECIPE = recipe({"suite.tiny": {"checkpoints": [0, 6, 12]}}, [{"name": "agreement/simple", "limit": 7}])


def test_every_part_is_made_by_exactly_one_process():
    parts = list(range(11))
    made = [shard(parts, Processes(rank=rank, size=4)) for rank in range(4)]
    assert sorted(part for item in made for part in item) == parts
    assert {len(item) for item in made} == {2, 3}
    assert shard(parts, ALONE) == parts


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 3), (3, 3), (10, 3), (10, 1)])
def test_blocks_cover_everything_once(count: int, size: int):
    blocks_of_parts = blocks(count, size)
    assert [row for rows in blocks_of_parts for row in rows] == list(range(count))
    assert all(1 <= len(rows) <= size for rows in blocks_of_parts)


def test_one_process_does_not_wait_and_agrees_with_itself():
    ALONE.barrier()
    assert broadcast(True, ALONE)
    assert not broadcast(False, ALONE)


def effects(prompts: list[int], *, positions: bool = True, n_features: int = 9) -> Effects:
    """Each prompt has as many entries as its number tells, with values that name it."""
    entries = [(row, place) for row, prompt in enumerate(prompts) for place in range(prompt % 4)]
    values = torch.tensor([10.0 * prompts[row] + place for row, place in entries])
    places = torch.tensor([place for _, place in entries], dtype=torch.long)
    whole = torch.tensor([float(prompt) for prompt in prompts])
    rows = torch.tensor([row for row, _ in entries], dtype=torch.long)
    return Effects(
        rows, places if positions else None, places % n_features, values, whole, whole + 1, whole + 2,
        torch.tensor([prompt + 1 for prompt in prompts]), n_features, "ig" if positions else "exact",
    )  # fmt: skip


@pytest.mark.parametrize("positions", [True, False])
def test_effects_on_blocks_join_to_those_on_all_prompts(positions: bool):
    prompts = [5, 2, 7, 3, 0, 6, 1]
    for size in (1, 2, 3, 7):
        parts = [[effects([prompts[row] for row in rows], positions=positions)] * 2 for rows in blocks(7, size)]
        for blocks_of_parts in concatenate_effects(parts):
            whole = effects(prompts, positions=positions)
            for item in fields(Effects):
                left, right = getattr(blocks_of_parts, item.name), getattr(whole, item.name)
                assert torch.equal(left, right) if isinstance(right, torch.Tensor) else left == right, item.name


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(CrosstimeError, match="do not fit together"):
        concatenate_effects([[effects([1])], [effects([1], n_features=5)]])
    with pytest.raises(CrosstimeError, match="do not fit together"):
        concatenate_effects([[effects([1])], [effects([1]), effects([1])]])


def test_some_prompts_of_a_task_are_its_rows():
    task = TokenizedTask("t", ((1,), (2,), (3,)), (4, 5, 6), (7, 8, 9), ((1,), (2,), (3,)), ())
    part = task.select(range(1, 3))
    assert (part.prompts, part.right, part.wrong, part.patch) == (((2,), (3,)), (5, 6), (8, 9), ((2,), (3,)))


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path, forks: BaseContext):
    """Accuracy and effects bit for bit; one trains the crosscoder, since two add gradients up in another order."""

    def finished(folder: Path, size: int) -> None:
        for process in together(forks, folder, folder / "runs", size, block=2):
            process.join(240)
            assert process.exitcode == 0

    home, two = home_of(tmp_path / "one", RECIPE), tmp_path / "two"
    finished(home, 1)
    shutil.copytree(home, two)
    for name in ("accuracy.csv", "effects.csv", "effects.safetensors", "attribution/0.safetensors"):
        (two / "runs" / "small" / name).unlink()
    # In its new place the text has another name, which is part of the keys: keep the old one.
    (two / "small.toml").write_text(RECIPE.replace('"text.txt"', f'"{home / "text.txt"}"'))
    finished(two, 2)
    for name in ("accuracy.csv", "effects.csv", "ablation.csv", "training.csv"):
        assert (two / "runs" / "small" / name).read_bytes() == (home / "runs" / "small" / name).read_bytes(), name
    assert not (two / "runs" / "small" / "partial").exists()
