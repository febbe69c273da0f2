"""The command as a console runs it: its exit code and what it writes."""

from __future__ import annotations

import pytest

from crosstime.cli.main import main


def crosstime(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    monkeypatch.setattr("sys.argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    output = capsys.readouterr()
    return caught.value.code or 0, output.out, output.err
