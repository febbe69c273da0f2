"""How many inputs were tried, said at the end."""

from __future__ import annotations

import broken_input


def pytest_terminal_summary(terminalreporter) -> None:
    # In the parent of several worker processes the count stays at nought.
    if broken_input.TRIED.count:
        terminalreporter.write_line(f"fuzzing: {broken_input.TRIED}")
