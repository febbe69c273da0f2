"""Progress of several parts in one bar."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from crosstime.activations.data_config import DataConfig
from crosstime.machine import progress_lines
from crosstime.machine.progress import Bar, show_progress, track
from crosstime.machine.progress_lines import ProgressLines
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from crosstime.training.trainer import Trainer
from interventions import Site


def test_the_progress_of_parts_adds_up_in_any_order():
    updates = []

    class RecordedBar(Bar):
        def update(self, done, total):
            updates.append((done, total))

    bar = RecordedBar()
    first, second = bar.part(0, 2), bar.part(1, 2)
    second(3, 10)
    first(10, 10)
    second(10, 10)
    assert updates == [(3, 20), (13, 20), (20, 20)]


class Log(io.StringIO):
    """A standard error that is no terminal, and tells when it has a number of lines with a text."""

    def __init__(self, wanted: int, text: str = "") -> None:
        super().__init__()
        self.wanted, self.text, self.complete = wanted, text, threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        if len([line for line in self.lines() if self.text in line]) >= self.wanted:
            self.complete.set()
        return count

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def log(monkeypatch) -> Callable[..., Log]:
    """Standard error without a terminal, in which a minute takes hundredths of a second."""

    def replace(wanted: int, text: str = "") -> Log:
        stream = Log(wanted, text)
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(progress_lines, "LINE_SECONDS", 0.03)
    return replace


def test_a_line_has_counts_note_rate_and_time_left():
    lines = ProgressLines("Training", 10_000, "steps")
    lines.start_at(4_000)
    began = lines._began
    assert lines.line(began + 5) == "Training: 4,000 of 10,000 steps, running for 5 s"
    lines.advance(1_000)
    lines.note("loss 0.5")
    # 1,000 steps in 200 seconds, so that the other 5,000 take 1,000 seconds
    assert lines.line(began + 200) == "Training: 5,000 of 10,000 steps, loss 0.5, 5.0 per second, 17 min left"
    lines = ProgressLines("Reading", None, "tokens")
    lines.advance(3)
    assert lines.line(lines._began + 600) == "Reading: 3 tokens, 18.0 per hour"


def test_lines_come_while_a_single_unit_takes_long(log):
    stream = log(3)
    with track("Counting", 2, "files") as bar:
        bar.note("first")
        bar.advance()
        assert stream.complete.wait(600)
    for line in stream.lines():
        assert re.fullmatch(r"Counting: 1 of 2 files, first, [\d,.]+ per (second|minute), \d+ s left", line), line
    after = len(stream.lines())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("progress")]
    assert len(stream.lines()) == after


def test_the_innermost_work_writes_and_short_pieces_are_not_silent_together(log):
    stream = log(3)
    with track("Outer", 2), track("Inner", 5):
        assert stream.complete.wait(600)
    assert {line.split(":")[0] for line in stream.lines()} == {"Inner"}

    stream = log(2)
    for _ in range(10_000):
        with track("Short", 1) as bar:
            bar.advance()
            if stream.complete.wait(0.002):
                break
    assert stream.complete.is_set()


@pytest.mark.parametrize(("shown", "rank"), [(False, "0"), (None, "1")])
def test_nothing_is_written_where_progress_is_hidden_or_by_another_process(log, monkeypatch, shown, rank):
    stream = log(1)
    monkeypatch.setenv("RANK", rank)
    with show_progress(shown), track("Counting", 2) as bar:
        bar.advance()
        assert not stream.complete.wait(0.2)
    assert stream.getvalue() == ""


def test_an_error_ends_the_lines(log):
    log(1)
    with pytest.raises(ZeroDivisionError), track("Counting", 2):
        1 / 0  # noqa: B018
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("progress")]


def test_a_bar_at_a_terminal_shows_the_time_left(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system=None, width=120)
    monkeypatch.setattr("crosstime.machine.progress.Console", lambda stderr: console)
    monkeypatch.delenv("RANK", raising=False)
    with track("Counting", 4, "files") as bar:
        assert bar.needs_note
        bar.start_at(2)
        bar.note("loss 1")
        assert not bar.needs_note
        bar.advance()
    assert "3/4" in stream.getvalue()
    assert re.search(r"(-|\d):(--|\d\d):(--|\d\d) left", stream.getvalue())


def test_training_says_step_and_loss_in_every_line(log, brief_suite, monkeypatch):
    stream = log(1, ", loss ")
    update = Trainer.update

    def slow(self, step, x):
        update(self, step, x)
        if step == 1:
            assert stream.complete.wait(600)

    monkeypatch.setattr(Trainer, "update", slow)
    config = L1Config(n_features=8, steps=3, lr=1e-3)
    data = DataConfig(batch_size=16, sequence_length=8)
    train(brief_suite, Site(0), ["some words to read " * 8] * 40, config, data=data)
    pattern = r"^Training the crosscoder: 1 of 3 steps, loss [\d.e+]+, \d+ features per token, "
    assert re.search(pattern, stream.getvalue(), re.M)
