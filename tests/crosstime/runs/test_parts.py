from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from crosstime.runs.parts import Parts


def test_a_part_is_made_once(tmp_path: Path):
    made: list[int] = []
    parts = Parts(tmp_path / "stage")

    def table() -> pd.DataFrame:
        made.append(1)
        return pd.DataFrame({"task": ["1"], "x": [0.1]})

    first = parts.table("a.csv", table)
    second = Parts(tmp_path / "stage").table("a.csv", table)
    assert made == [1]
    pd.testing.assert_frame_equal(first, second)
    assert first.task[0] == "1"


@pytest.mark.parametrize("how", ["flipped", "cut", "unsealed", "seal not text"])
def test_a_part_that_is_not_what_was_written_is_made_again(tmp_path: Path, how: str):
    parts = Parts(tmp_path)
    path = parts.file("a", lambda path: path.write_text("whole"))
    seal = tmp_path / "a.sha256"
    if how == "flipped":
        path.write_text("wholf")
    elif how == "cut":
        path.write_text("who")
    elif how == "unsealed":
        seal.unlink()
    else:
        seal.write_bytes(b"\xff\xfe")
    assert not parts.is_finished("a")
    assert parts.file("a", lambda path: path.write_text("again")).read_text() == "again"
    assert parts.is_finished("a")


def test_a_part_whose_making_fails_is_not_there(tmp_path: Path):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path).file("a", fail)
    assert not Parts(tmp_path).is_finished("a")
