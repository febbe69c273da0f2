"""Tables for a terminal name their checkpoints whole, however narrow it is."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from crosstime.cli import tables

REVISIONS = ["step64", "step512", "stage1-step140000-tokens294B"]


def printed(table: tables.WideTable, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return "\n".join(lines)


@pytest.mark.parametrize("width", [60, 80, 100, 300])
def test_an_evaluation_has_every_name_and_number_whole(width: int):
    numbers = {name: [1234.5, 23456.5, 345678.5] for name in tables._EVALUATION}
    text = printed(tables.evaluation_table(pd.DataFrame({"revision": REVISIONS, **numbers})), width)
    assert "…" not in text
    for name, (heading, decimals) in tables._EVALUATION.items():
        assert heading in text
        assert all(f"{number:,.{decimals}f}" in text for number in numbers[name])
    # As many tables as there are headings of the first column, each with every row
    parts = text.count("checkpoint")
    assert (parts == 1) == (width == 300)
    assert all(text.count(f" {revision} ") == parts for revision in REVISIONS)


@pytest.mark.parametrize("width", [60, 80, 300])
def test_checkpoints_that_are_columns_are_named_whole_too(width: int):
    rows = [{"revision": first, "other": second, "cosine": 0.5} for first in REVISIONS for second in REVISIONS]
    text = printed(tables.similarity_table(pd.DataFrame(rows), "resid.1"), width)
    assert "…" not in text
    assert all(f" {revision} " in text for revision in REVISIONS)
    assert text.count("0.50") == len(REVISIONS) ** 2


def test_a_name_wider_than_the_terminal_is_broken_and_not_cut():
    name = "z" * 50
    table = tables.table_of("Names", ["checkpoint", "tokens"])
    table.add_row(name, "1")
    text = printed(table, 30)
    assert text.count("z") == 50
    assert "…" not in text
