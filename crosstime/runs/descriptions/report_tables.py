"""What the report of a run shows of descriptions, if there are any."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from crosstime.machine.checksum import checksum_of
from crosstime.report.columns import RUN
from crosstime.runs.descriptions.options import FOLDER
from crosstime.runs.descriptions.sentences import FEATURES, SOURCES, description_tables


def described_input(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a report about descriptions, by the names of `ReportInput`; empty without any.

    Args:
        folder: of the run.
    """
    tables = description_tables(folder)
    return {"descriptions": tables[SOURCES], "complexity": tables[FEATURES]} if tables else {}


def described_facts(facts: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Facts about features with their description and complexity, where a language model gave them.

    Args:
        facts: a table with a column feature.
        folder: of the run.
    """
    tables = description_tables(folder)
    if not tables:
        return facts
    table = tables[FEATURES]
    columns = ["feature", "description", "complexity"]
    return facts.merge(table[table.source == RUN][columns], on="feature", how="left")


def description_checksums(folder: Path) -> list[str]:
    """Checksums of the tables, so that the report is written again when they change; none without descriptions.

    Args:
        folder: of the run.
    """
    paths = [folder / FOLDER / f"{name}.csv" for name in (FEATURES, SOURCES)]
    return [checksum_of(path) for path in paths] if all(path.exists() for path in paths) else []
