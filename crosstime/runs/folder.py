"""The folder of a run: where its files are, and how later stages read what earlier ones wrote."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.crosscoders.open_crosscoder import open_crosscoder
from crosstime.effects.attribution import Attribution
from crosstime.effects.effects_file import read_effects
from crosstime.errors import RunError
from crosstime.machine.storage import read_json, read_table, write_json, write_table

TEXT_COLUMNS = dict.fromkeys(
    (
        "task",
        "features",
        "kind",
        "revision",
        "class_ie",
        "selection_class",
        "class_dec",
        "text",
        "dip",
        "at",
        "other",
        "group",
        "null",
        "source",
        "claim",
        "dictionary",
        "comparison",
        "variant",
        "token",
        "label",
    ),
    "str",
)
"""Columns of a run's tables that are text even where every entry looks like a number."""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; it need not exist until something is written.

    Examples:
        >>> RunFolder(Path("runs/demo")).table("effects")  # doctest: +SKIP
    """

    SUITE = "suite"
    CROSSCODER = "crosscoder.safetensors"
    SELECTION = "selection.json"
    SEEDS = "seeds"
    REPORT = "report.html"
    JOBS = "jobs.json"

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, name: str) -> pd.DataFrame:
        """Read the table ``NAME.csv``."""
        return read_table(self.path / f"{name}.csv", dtypes=TEXT_COLUMNS)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write the table ``NAME.csv``."""
        write_table(self.path / f"{name}.csv", table)

    def json(self, name: str) -> object:
        """Read the file ``NAME.json``."""
        return read_json(self.path / f"{name}.json")

    def write_json(self, name: str, value: object) -> None:
        """Write the file ``NAME.json``."""
        write_json(self.path / f"{name}.json", value)

    @property
    def dips(self) -> list[dict[str, Any]]:
        """The dips that the stage `explain` tested, each as plain values."""
        dips = self.json("dips")
        return dips if isinstance(dips, list) else []

    @cached_property
    def crosscoder(self) -> CrossCoder:
        """The crosscoder that the stage `train` wrote."""
        return open_crosscoder(self.path / self.CROSSCODER)

    @classmethod
    def seed_file(cls, seed: int) -> str:
        """Name of the file with the crosscoder of another seed, see ``crosscoder.seeds``."""
        return f"{cls.SEEDS}/{seed}.safetensors"

    @staticmethod
    def effects_file(task: int) -> str:
        """Name of the file with the effects on a task, by the task's index in the recipe."""
        return f"attribution/{task}.safetensors"

    def attribution(self, task: int, decomposed: DecomposedTask) -> Attribution:
        """The indirect effects on a task, as the stage `attribute` wrote them.

        Args:
            task: index of the task in the recipe.
            decomposed: its decomposed prompts.
        """
        return Attribution(
            task=decomposed.task.name,
            revisions=self.crosscoder.origin.revisions,
            effects=read_effects(self.path / self.effects_file(task)),
            decoder_norms=self.crosscoder.decoder_norms(),
            decomposed=decomposed,
        )


def read_selection(path: Path) -> list[str]:
    """The checkpoints that the stage `select` chose, from its file.

    Raises:
        RunError: the file is missing, or does not name checkpoints.
    """
    selection = read_json(path)
    revisions = selection.get("revisions") if isinstance(selection, dict) else None
    if not isinstance(revisions, list) or not all(isinstance(revision, str) for revision in revisions):
        raise RunError(f"{path} does not name the checkpoints that were chosen; remove it to have them chosen again")
    return revisions
