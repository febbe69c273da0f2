"""One kind of progress bar for everything that takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bar:
    """A running bar; without a person watching it does nothing.

    Examples:
        >>> with track("Counting", 3, shown=False) as bar:
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


@contextmanager
def track(description: str, total: int | None, *, shown: bool | None = None) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs.

    Args:
        description: what is being done.
        total: number of units; None where it is not known yet.
        shown: True, False, or None to show it when standard error is a terminal.
    """
    console = Console(stderr=True)
    if not (console.is_terminal if shown is None else shown):
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
