"""Progress of several parts in one bar."""

from __future__ import annotations

from crosstime.machine.progress import Bar


def test_the_progress_of_parts_adds_up_in_any_order():
    seen = []

    class Seen(Bar):
        def update(self, done, total):
            seen.append((done, total))

    bar = Seen()
    first, second = bar.part(0, 2), bar.part(1, 2)
    second(3, 10)
    first(10, 10)
    second(10, 10)
    assert seen == [(3, 20), (13, 20), (20, 20)]
