"""Progress where there is no terminal: a line a minute, with what is done, the rate and the time left."""

from __future__ import annotations

import sys
import threading
import time

LINE_SECONDS = 60.0
"""Seconds between two lines."""

_lock = threading.Lock()
_open: list[ProgressLines] = []
"""Work in progress, from the outermost to the innermost, which is the one that writes."""
_last_line = float("-inf")
"""When the last line was written, or work began after a pause."""
_last_end = float("-inf")
"""When there was last no work in progress."""


class ProgressLines:
    """Writes a line a minute to standard error while a block runs.

    Work inside other work writes in its place. The minute is counted from the last line of any work, so that a sequence
    of short pieces of work is not silent. A thread writes the lines, so that they come even if one unit takes hours.

    Args:
        description: what is being done.
        total: number of units; None if it is not known yet.
        unit: what is counted, in the plural.

    Examples:
        >>> with ProgressLines("Training", 1000, "steps") as lines:
        ...     lines.advance(100)
    """

    def __init__(self, description: str, total: int | None, unit: str = "") -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done = self._done_before = 0
        self._note = ""
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_lines, name=f"progress: {description}", daemon=True)

    def __enter__(self) -> ProgressLines:
        global _last_line
        with _lock:
            # Work that follows other work at once continues its minute; after a pause a new one begins
            if not _open and self._began - _last_end > LINE_SECONDS / 10:
                _last_line = self._began
            _open.append(self)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _last_end
        with _lock:
            _open.remove(self)
            _last_end = time.monotonic()
        self._ended.set()
        self._thread.join()

    def start_at(self, done: int) -> None:
        """See `Display.start_at`."""
        self._done = self._done_before = done
        self._began = time.monotonic()

    def advance(self, by: int) -> None:
        """See `Display.advance`."""
        self._done += by

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._note = text

    def update(self, done: int, total: int) -> None:
        """See `Display.update`."""
        self._done, self._total = done, total

    def line(self, now: float) -> str:
        """The state at a time of `time.monotonic`, as one line."""
        # What is done
        parts = [f"{self._done:,}"]
        if self._total:
            parts = [f"{self._done:,} of {self._total:,}"]
        if self._unit:
            parts[0] += f" {self._unit}"
        if self._note:
            parts.append(self._note)

        # The rate since the start of this session, and the time that the rest takes at this rate
        done, seconds = self._done - self._done_before, now - self._began
        if done > 0 and seconds > 0:
            parts.append(rate(done / seconds))
            if self._total:
                parts.append(f"{duration((self._total - self._done) * seconds / done)} left")
        else:
            parts.append(f"running for {duration(seconds)}")
        return f"{self._description}: {', '.join(parts)}"

    def _write_lines(self) -> None:
        global _last_line
        while True:
            with _lock:
                now = time.monotonic()
                due = max(_last_line + LINE_SECONDS, self._began + LINE_SECONDS / 60)
                if now >= due and _open and _open[-1] is self:
                    _last_line, due = now, now + LINE_SECONDS
                    _write(self.line(now))
            # Work that is not the innermost looks again soon, since that may end
            if self._ended.wait(max(due - now, LINE_SECONDS / 60)):
                return


def rate(per_second: float) -> str:
    """Units per second, minute or hour, whichever gives a number of at least 1.

    Examples:
        >>> rate(3.21), rate(0.1), rate(1 / 1800)
        ('3.2 per second', '6.0 per minute', '2.0 per hour')
    """
    for factor, unit in ((1, "second"), (60, "minute"), (3600, "hour")):
        if per_second * factor >= 1 or unit == "hour":
            value = per_second * factor
            break
    return f"{value:,.0f} per {unit}" if value >= 100 else f"{value:.1f} per {unit}"


def duration(seconds: float | int) -> str:
    """A number of seconds in the two largest units that it has.

    Examples:
        >>> duration(40), duration(90), duration(2 * 3600 + 300), duration(50 * 3600)
        ('40 s', '2 min', '2 h 5 min', '2 d 2 h')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _write(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Standard error is closed: the work goes on
        return
