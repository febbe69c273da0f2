from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from crosstime.errors import RunError
from crosstime.machine.storage import atomic_path, read_json, read_table, write_json, write_table
from crosstime.machine.tensors import read_tensors


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_only_when_the_block_ends(tmp_path: Path):
    target = tmp_path / "new" / "notes.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert entries(target.parent) == {"notes.txt"}


def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path: Path):
    target = tmp_path / "notes.txt"
    target.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyError("stop")

    with pytest.raises(KeyError), atomic_path(target) as temporary:
        half(temporary)
    assert target.read_text() == "old"
    assert entries(tmp_path) == {"notes.txt"}


def test_a_folder_replaces_the_whole_folder_before_it(tmp_path: Path):
    target = tmp_path / "suite"
    (target / "inner").mkdir(parents=True)
    (target / "inner" / "stale.txt").write_text("stale")
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "fresh.txt").write_text("fresh")
    assert entries(target) == {"fresh.txt"}
    assert entries(tmp_path) == {"suite"}


def test_an_error_in_a_folder_leaves_the_old_folder(tmp_path: Path):
    target = tmp_path / "suite"
    target.mkdir()
    (target / "kept.txt").write_text("kept")

    def half(temporary: Path) -> None:
        temporary.mkdir()
        (temporary / "half.txt").write_text("half")
        raise KeyError("stop")

    with pytest.raises(KeyError), atomic_path(target) as temporary:
        half(temporary)
    assert entries(target) == {"kept.txt"}
    assert entries(tmp_path) == {"suite"}


def test_writing_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(RunError, match="nothing was written"), atomic_path(tmp_path / "empty"):
        pass
    assert entries(tmp_path) == set()


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot make the folder"):
        write_json(tmp_path / "file" / "inner.json", {})


@dataclass(frozen=True)
class Point:
    x: float
    folder: Path


def test_json_takes_dataclasses_paths_and_numpy_and_writes_nan_as_null(tmp_path: Path):
    path = tmp_path / "a.json"
    value = {
        "p": Point(0.1, Path("a/b")),
        "n": np.float64(1e-300),
        "m": np.int64(3),
        "nan": math.nan,
        "é": (1,),
    }
    write_json(path, value)
    assert read_json(path) == {"p": {"x": 0.1, "folder": "a/b"}, "n": 1e-300, "m": 3, "nan": None, "é": [1]}


@pytest.mark.parametrize("value", [math.inf, torch.zeros(1), object()])
def test_json_refuses_what_it_has_no_form_for(tmp_path: Path, value: object):
    with pytest.raises(RunError, match="as JSON"):
        write_json(tmp_path / "a.json", {"value": value})
    assert entries(tmp_path) == set()


def test_a_table_keeps_floats_bit_for_bit_and_strings_as_written(tmp_path: Path):
    bits = np.random.default_rng(0).integers(0, 2**63, 2000, dtype=np.uint64)
    floats = bits.view(np.float64)
    floats[:4] = [np.nan, np.inf, -np.inf, 5e-324]
    token = np.resize([" the", "NA", "null", 'say "x"', "a,b", "line\nbreak", "carriage\rreturn", "1"], 2000)
    table = pd.DataFrame({"value": floats, "token": token, "count": range(2000), "kept": [True, False] * 1000})
    write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "t.csv", dtypes={"token": str}),
        table.astype({"token": "str"}),
        check_exact=True,
    )


def test_float32_columns_are_exact_after_a_cast(tmp_path: Path):
    column = np.random.default_rng(1).standard_normal(500).astype(np.float32)
    write_table(tmp_path / "t.csv", pd.DataFrame({"x": column}))
    np.testing.assert_array_equal(read_table(tmp_path / "t.csv")["x"].to_numpy(np.float32), column)


@pytest.mark.parametrize("read", [read_json, read_table, read_tensors])
def test_a_missing_file_is_named(tmp_path: Path, read):
    with pytest.raises(RunError, match=r"there is no .*gone"):
        read(tmp_path / "gone")


@pytest.mark.parametrize("read", [read_json, read_table, read_tensors])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00broken", b'{"a": [1, 2'])
def test_a_broken_file_is_one_sentence(tmp_path: Path, read, content: bytes):
    if read is read_table and content.startswith(b"{"):
        content = b"a,b\n1,2\n1,2,3\n"
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(RunError, match="is not a valid") as caught:
        read(path)
    assert "\n" not in str(caught.value)
