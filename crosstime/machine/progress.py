"""Progress on standard error: a bar at a terminal, a line a minute elsewhere; and the one setting that shows it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from crosstime.machine.progress_lines import ProgressLines

_NOTE_SECONDS = 20.0
"""Age from which on the note of a bar is out of date."""

_SPEED_SECONDS = 600.0
"""Seconds over which the time left is estimated: the steps of a training run stop while activations are computed."""


@runtime_checkable
class Display(Protocol):
    """Where a bar shows its state."""

    def start_at(self, done: int) -> None:
        """Count `done` units as those of an earlier session, which say nothing about speed."""

    def advance(self, by: int) -> None:
        """Count `by` more units as done."""

    def note(self, text: str) -> None:
        """Show a text beside the counts."""

    def update(self, done: int, total: int) -> None:
        """Set both counts."""


class Bar:
    """Progress of one piece of work; one without a display accepts all calls and does nothing.

    Args:
        display: a bar at a terminal, or a line a minute; None shows nothing.

    Examples:
        >>> with track("Counting", 3) as bar:
        ...     for _ in range(3):
        ...         bar.advance()
    """

    def __init__(self, display: Display | None = None) -> None:
        self._display = display
        self._parts: dict[int, tuple[int, int]] = {}
        self._noted = float("-inf")

    def start_at(self, done: int) -> None:
        """Count `done` units as those of an earlier session, so that the time left is that of the others."""
        if self._display is not None:
            self._display.start_at(done)

    def advance(self, by: int = 1) -> None:
        """Count `by` more units as done."""
        if self._display is not None:
            self._display.advance(by)

    @property
    def needs_note(self) -> bool:
        """Whether the note is shown and out of date, for loops in which a note costs time."""
        return self._display is not None and time.monotonic() - self._noted > _NOTE_SECONDS

    def note(self, text: str) -> None:
        """Show `text` after the bar, such as the current loss or checkpoint."""
        self._noted = time.monotonic()
        if self._display is not None:
            self._display.note(text)

    def update(self, done: int, total: int) -> None:
        """Set the number of finished units and their total; functions of `interventions` report in this form."""
        if self._display is not None:
            self._display.update(done, total)

    def part(self, index: int, n_parts: int) -> Callable[[int, int], None]:
        """`update` for one of several parts of the work, which may run in sequence or concurrently.

        The total of the bar is estimated as that of the largest part so far, times the number of parts.

        Args:
            index: of the part.
            n_parts: number of parts.
        """

        def report(done: int, total: int) -> None:
            self._parts[index] = done, total
            done_of_parts, totals = zip(*self._parts.values(), strict=True)
            self.update(sum(done_of_parts), n_parts * max(totals))

        return report


_shown: bool | None = None
"""Whether bars are shown; None shows them if standard error is a terminal, and lines elsewhere."""


class show_progress:
    """Show progress bars (True), show nothing (False), or let standard error decide (None, the default).

    If it is a terminal, the default shows bars, with the time left. Elsewhere, as in a log of a batch job, it writes a
    line a minute with what is done, the rate and the time left; work of less than a minute writes nothing. This one
    setting holds for the whole library. As a context manager, it restores the previous setting at the end of the block.
    Under ``torchrun`` only the first process ever shows progress.

    Args:
        shown: True, False or None.

    Examples:
        >>> with show_progress(False):
        ...     with track("Counting", 3) as bar:
        ...         bar.advance()
    """

    def __init__(self, shown: bool | None) -> None:
        global _shown
        self._previous = _shown
        _shown = shown

    def __enter__(self) -> None:
        """The setting is in effect since the call."""

    def __exit__(self, *_: object) -> None:
        global _shown
        _shown = self._previous


class _RichBar:
    """A task of rich's progress display."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def start_at(self, done: int) -> None:
        self._progress.reset(self._task, completed=done)

    def advance(self, by: int) -> None:
        self._progress.advance(self._task, by)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)

    def update(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def track(description: str, total: int | None, unit: str = "") -> Iterator[Bar]:
    """Show progress on standard error while the block runs, if `show_progress` says so.

    Args:
        description: what is being done.
        total: number of units; None if it is not known yet.
        unit: what is counted, in the plural, for the lines that are written where there is no terminal.
    """
    console = Console(stderr=True)
    bars = console.is_terminal if _shown is None else _shown
    if _shown is False or os.environ.get("RANK", "0") != "0":
        yield Bar()
        return
    if not bars:
        with ProgressLines(description, total, unit) as lines:
            yield Bar(lines)
        return

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=_SPEED_SECONDS) as progress:
        yield Bar(_RichBar(progress, progress.add_task(description, total=total, note="")))
