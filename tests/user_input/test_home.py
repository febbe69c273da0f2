"""``~`` in paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from user_input.home import expanded


@pytest.mark.parametrize(
    ("path", "meant"),
    [("~/a.txt", "HOME/a.txt"), ("~", "HOME"), ("a/~b", "a/~b"), ("~nobody-of-that-name/a", "~nobody-of-that-name/a")],
)
def test_the_home_folder_takes_the_place_of_a_leading_tilde(path: str, meant: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(path) == expanded(Path(path)) == Path(meant.replace("HOME", str(tmp_path)))
