"""Progress bars on standard error, and the one setting that shows or hides them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bar:
    """A progress bar; one that is hidden accepts all calls and does nothing.

    Args:
        progress: rich's display; None for a hidden bar.
        task: the bar's task in that display; its first task if None.

    Examples:
        >>> with track("Counting", 3) as bar:
        ...     for _ in range(3):
        ...         bar.advance()
    """

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None) -> None:
        self._progress = progress
        self._task = TaskID(0) if task is None else task
        self._parts: dict[int, tuple[int, int]] = {}

    def advance(self, by: int = 1) -> None:
        """Count `by` more units as done."""
        if self._progress is not None:
            self._progress.advance(self._task, by)

    def note(self, text: str) -> None:
        """Show `text` after the bar, such as the current loss or checkpoint."""
        if self._progress is not None:
            self._progress.update(self._task, note=text)

    def update(self, done: int, total: int) -> None:
        """Set the number of finished units and their total; functions of `interventions` report in this form."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total)

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
"""Whether bars are shown; None shows them if standard error is a terminal."""


class show_progress:
    """Show progress bars (True), hide them (False), or show them if standard error is a terminal (None, the default).

    This one setting holds for the whole library. As a context manager, it restores the previous setting at the end of
    the block. Under ``torchrun`` only the first process ever shows a bar.

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


@contextmanager
def track(description: str, total: int | None) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs, if `show_progress` says so.

    Args:
        description: what is being done.
        total: number of units; None if it is not known yet.
    """
    console = Console(stderr=True)
    visible = console.is_terminal if _shown is None else _shown
    if not visible or os.environ.get("RANK", "0") != "0":
        yield Bar()
        return

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, progress.add_task(description, total=total, note=""))
