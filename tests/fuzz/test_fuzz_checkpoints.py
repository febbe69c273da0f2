"""Folders of checkpoints: configurations, weights in every format, indices of shards, tokenizers and suite.json."""

from __future__ import annotations

import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from broken_input import edits, fuzzed, refuses_politely, replaced, tensors_like
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite

sys.path.append(str(Path(__file__).parents[1] / "crosstime"))
from checkpoint_folders import to_bin, write_suite

pytestmark = [
    pytest.mark.fuzz,
    # What torch and transformers say of odd numbers is not what is looked at here.
    pytest.mark.filterwarnings("ignore"),
]
FORMATS = ("safetensors", "shards", "bin", "bin shards")
WAYS = ("edited", "half", "empty", "gone", "folder", "swapped", "pointer", "zeros")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@cache
def good(format: str) -> dict[str, bytes]:
    """The files of a suite of two checkpoints by their paths; they are written once."""
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "mine"
    write_suite(folder, ["step1", "step2"], shard_size="12KB" if format == "shards" else None)
    if format.startswith("bin"):
        for checkpoint in folder.iterdir():
            to_bin(checkpoint, sharded=format == "bin shards")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder.parent)
    return files


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """The suite in a folder that is empty before."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read(folder: Path) -> None:
    """Open every checkpoint, as all that runs a suite does; whatever is opened computes finite numbers."""
    suite = Suite.open(folder)
    Compute(device="cpu").each(suite, lambda index, model: model.n_layers)
    assert len(suite.fingerprint) == 16


@pytest.mark.parametrize("format", FORMATS)
def test_the_good_folders_are_opened(tmp_path: Path, format: str):
    read(put(tmp_path / "mine", good(format)))


@pytest.mark.long
@pytest.mark.parametrize("format", FORMATS)
@fuzzed
@given(data=st.data())
def test_one_broken_file(tmp_path: Path, format: str, data: st.DataObject):
    files = dict(good(format))
    name = data.draw(st.sampled_from(sorted(files)))
    content, way = files[name], data.draw(st.sampled_from(WAYS))
    other = data.draw(st.sampled_from(sorted(files)))
    broken: dict[str, bytes] = {
        "half": content[: data.draw(st.integers(0, len(content)))],
        "empty": b"",
        "swapped": files[other],
        "pointer": POINTER,
        "zeros": bytes(len(content)),
    }
    if way == "edited":
        files[name] = data.draw(edits(content))
    elif way in ("gone", "folder"):
        del files[name]
    else:
        files[name] = broken[way]
    folder = put(tmp_path / "mine", files)
    if way == "folder":
        (folder / name).mkdir(parents=True)
    refuses_politely(lambda: read(folder))


@fuzzed
@given(data=st.data())
def test_configurations_with_other_values(tmp_path: Path, data: st.DataObject):
    files = dict(good("safetensors"))
    config = json.loads(files["step2/config.json"])
    files["step2/config.json"] = json.dumps(data.draw(replaced(config))).encode()
    refuses_politely(lambda: read(put(tmp_path / "mine", files)))


@pytest.mark.long
@fuzzed
@given(data=st.data())
def test_indices_with_other_values(tmp_path: Path, data: st.DataObject):
    files = dict(good("shards"))
    name = "step2/model.safetensors.index.json"
    index = json.loads(files[name])
    files[name] = json.dumps(data.draw(replaced(index))).encode()
    refuses_politely(lambda: read(put(tmp_path / "mine", files)))


@fuzzed
@given(data=st.data())
def test_other_tensors(tmp_path: Path, data: st.DataObject):
    folder = put(tmp_path / "mine", good("safetensors"))
    path = folder / "step2" / "model.safetensors"
    save_file(data.draw(tensors_like(load_file(path))), path, {"format": "pt"})
    refuses_politely(lambda: read(folder))


@fuzzed
@given(data=st.data())
def test_files_of_suites_with_other_values(tmp_path: Path, data: st.DataObject):
    entries: list[dict[str, Any]] = [{"revision": f"step{n}", "step": n, "tokens": 10 * n} for n in (1, 2)]
    index = data.draw(replaced({"name": "mine", "revisions": entries}))
    folder = put(tmp_path / "mine", good("safetensors") | {"suite.json": json.dumps(index).encode()})
    refuses_politely(lambda: Suite.open(folder).verify())
