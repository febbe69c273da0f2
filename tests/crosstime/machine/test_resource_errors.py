"""Memory and disk that give out end in one sentence, whatever the command."""

from __future__ import annotations

import sys

import pytest
import torch

from crosstime.cli import main
from crosstime.errors import RunError
from crosstime.machine.resource_errors import explain_resource_errors


def exhausted() -> BaseException:
    """What PyTorch says when the CPU's memory ends: an error of no class of its own."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 62, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (exhausted, "out of memory in stage 'train': take a smaller compute.max_tokens"),
        (MemoryError, "out of memory in stage 'train'"),
        (lambda: OSError(28, "No space left on device"), "no space is left on the disk in stage 'train'"),
        (lambda: OSError(13, "Permission denied", "x.csv"), "stage 'train' was stopped by the system: [Errno 13]"),
    ],
)
def test_what_gave_out_is_said_in_one_sentence(error, sentence: str):
    with pytest.raises(RunError) as caught, explain_resource_errors("stage 'train'"):
        raise error()
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith("the same command resumes from there")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), KeyError("x"), ValueError("y"), RunError("z")])
def test_any_other_error_passes(error: Exception):
    with pytest.raises(type(error)) as caught, explain_resource_errors("stage 'train'"):
        raise error
    assert caught.value is error


def test_every_verb_says_so(monkeypatch, capsys):
    def full(**settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(main, "app", full)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("crosstime: no space is left on the disk in this command")
    assert message.count("\n") == 1


def test_the_command_line_starts_without_pytorch():
    import subprocess

    program = "import sys, crosstime.cli.main; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", program], check=True)
