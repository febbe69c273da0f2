"""One kind of progress bar for everything that takes long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bar:
    """A running bar; without a person watching it does nothing.

    Examples:
        >>> with track("Counting", 3) as bar:
        ...     for _ in range(3):
        ...         bar.advance()
    """

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None) -> None:
        self._progress, self._task = progress, task
        self._parts: dict[int, tuple[int, int]] = {}

    def advance(self, by: int = 1) -> None:
        """Count `by` more units as done."""
        if self._progress is not None:
            self._progress.advance(self._task, by)

    def note(self, text: str) -> None:
        """Show `text` behind the bar: the loss, or what is being done."""
        if self._progress is not None:
            self._progress.update(self._task, note=text)

    def of(self, done: int, total: int) -> None:
        """Set how much of how much is done; `interventions` reports in this form."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total)

    def part(self, index: int, parts: int) -> Callable[[int, int], None]:
        """The same for one of several parts, which may run one after another or all at once."""

        def report(done: int, total: int) -> None:
            self._parts[index] = done, total
            known = list(self._parts.values())
            self.of(sum(part[0] for part in known), parts * max(part[1] for part in known))

        return report


_shown: bool | None = None
"""Whether bars are shown; None shows them where standard error is a terminal."""


class show_progress:
    """Show progress bars, hide them, or (None, the default) show them where standard error is a terminal.

    One setting for the whole library. As a context manager, the setting before is restored at the end of the block.
    Under ``torchrun`` only the first process ever shows a bar.

    Args:
        shown: True, False or None.

    Examples:
        >>> with show_progress(False):
        ...     with track("Counting", 3) as bar:
        ...         bar.advance()
    """

    def __init__(self, shown: bool | None) -> None:
        global _shown
        self._before = _shown
        _shown = shown

    def __enter__(self) -> None:
        """Nothing more to do: the setting is made."""

    def __exit__(self, *_: object) -> None:
        global _shown
        _shown = self._before


@contextmanager
def track(description: str, total: int | None) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs, as `show_progress` says.

    Args:
        description: what is being done.
        total: number of units; None where it is not known yet.
    """
    console = Console(stderr=True)
    wanted = console.is_terminal if _shown is None else _shown
    if not wanted or os.environ.get("RANK", "0") != "0":
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
