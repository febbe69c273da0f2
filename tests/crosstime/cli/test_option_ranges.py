"""Numbers on the command line that no command can use are refused with the option's name and its range."""

from __future__ import annotations

import pytest

from crosstime.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["accuracy", "suite", "task", "--seed", "-1"], "--seed"),
        (["attribute", "suite", "crosscoder", "task", "--top", "0"], "--top"),
        (["evolve", "suite", "crosscoder", "--top", "0"], "--top"),
        (["train", "suite", "text", "--seed", "-1"], "--seed"),
        (["harvest", "suite", "--shard-tokens", "0"], "--shard-tokens"),
        (["tasks", "show", "task", "-n", "0"], "-n"),
        (["tasks", "show", "task", "--seed", "-1"], "--seed"),
        (["null", "run", "--seeds", "0"], "--seeds"),
        (["describe", "run", "--concurrency", "0"], "--concurrency"),
        (["serve", "run", "--port", "70000"], "--port"),
        (["convert", "a", "b", "--parts", "0"], "--parts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_an_option_out_of_range_is_named(arguments, option, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"crosstime: {option}: ")
    assert "greater than or equal to" in error or "less than or equal to" in error or "not in the range" in error
    assert not list(tmp_path.iterdir())
