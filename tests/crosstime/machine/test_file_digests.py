"""Digests of files: every byte counts, and a file that did not change is read once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from crosstime.machine import file_digests as module
from crosstime.machine.file_digests import cache_folder, file_digests

OLD = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("CROSSTIME_CACHE", str(tmp_path / "cache"))
    # Files count as settled at once, although they have just been written
    monkeypatch.setattr(module, "_SETTLED", -(10**18))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files that are read, in order."""
    names: list[str] = []
    read_all = module._read_all

    def counting(places, bar):
        names.extend(place.name for place in places)
        return read_all(places, bar)

    monkeypatch.setattr(module, "_read_all", counting)
    return names


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 23) - 1, 1 << 23, (1 << 23) + 7])
def test_the_digest_is_the_sha256_of_every_byte(tmp_path: Path, size: int):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert file_digests([path]) == {path: sha256(path)}
    if size:
        content = bytearray(path.read_bytes())
        content[size // 2] ^= 1
        path.write_bytes(content)
        assert file_digests([path]) == {path: sha256(path)}


def test_a_file_that_did_not_change_is_read_once(tmp_path: Path, reads: list[str]):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode() * 50)
    expected = {path: sha256(path) for path in paths}
    assert file_digests(paths) == expected
    assert reads == ["a", "b", "c"]
    assert file_digests(paths) == expected
    assert reads == ["a", "b", "c"]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, reads: list[str]):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.utime(path, (OLD, OLD))
    first = file_digests([path])[path]
    path.write_bytes(b"new")
    os.utime(path, (OLD, OLD))
    assert path.stat().st_mtime == OLD
    assert file_digests([path])[path] == sha256(path) != first

    # Another file under its name, with the same size and time
    other = tmp_path / "other"
    other.write_bytes(b"odd")
    os.utime(other, (OLD, OLD))
    other.replace(path)
    assert file_digests([path])[path] == sha256(path)
    assert reads == ["file"] * 3


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, reads: list[str], monkeypatch):
    monkeypatch.setattr(module, "_SETTLED", 3_600 * 10**9)
    path = tmp_path / "file"
    path.write_bytes(b"new")
    file_digests([path])
    file_digests([path])
    assert reads == ["file", "file"]


def test_links_and_copies_have_the_digest_of_their_content(tmp_path: Path):
    path, link, copy = tmp_path / "file", tmp_path / "link", tmp_path / "copy"
    path.write_bytes(b"x")
    link.symlink_to(path)
    copy.write_bytes(b"x")
    assert set(file_digests([path, link, copy]).values()) == {sha256(path)}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"sha256": 1}', '{"place": "elsewhere", "sha256": "0"}'])
def test_a_damaged_entry_of_the_cache_is_passed_over(tmp_path: Path, cache: Path, content: str):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    file_digests([path])
    (entry,) = (cache / "digests").iterdir()
    entry.write_text(content)
    assert file_digests([path])[path] == sha256(path)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, cache: Path, reads: list[str]):
    cache.write_text("a file where the folder should be")
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert file_digests([path])[path] == file_digests([path])[path] == sha256(path)
    assert reads == ["file", "file"]


def test_the_cache_is_where_the_platform_has_caches_unless_the_variable_says_so(tmp_path: Path, monkeypatch):
    import platformdirs

    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CROSSTIME_CACHE")
    assert cache_folder() == platformdirs.user_cache_path("crosstime", False)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        file_digests([tmp_path / "gone"])
