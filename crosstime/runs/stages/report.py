"""Write the report."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import pandas as pd

from crosstime.report.page.write_report import write_report
from crosstime.runs.descriptions.report_tables import description_checksums
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.parts import Parts
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.report_data import CORPUS_TOKENS, REPORT_DATA, write_report_data
from crosstime.runs.report_input import report_input
from crosstime.runs.stages.names import NAMES, asks_for
from crosstime.runs.stages.stage import Stage

PAGE_BYTES = 5e6
"""Bytes of a report with its charts and tables."""


class Report(Stage):
    """Writes report.html, charts/, tables/ and summary.csv."""

    name: ClassVar[str] = "report"
    title: ClassVar[str] = "the report"

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """All earlier stages, and the version of crosstime."""
        recipe = inputs.recipe.to_dict()
        names = [name for name in NAMES if name != self.name and asks_for(recipe, name)]
        keys: list[object] = [[ledger.key(name) for name in names], version("crosstime"), CORPUS_TOKENS]
        return [*keys, *description_checksums(inputs.folder.path)]

    def files(self, recipe: Recipe) -> list[str]:
        """The page, the findings in words, and what the page shows of models and text."""
        return [RunFolder.REPORT, "summary.csv", *REPORT_DATA]

    def cost(self, sizes: Sizes) -> Cost:
        """Charts and tables, which take no matrix products."""
        return sizes.cost(
            self.name,
            "charts and tables",
            Work(),
            device=sizes.model_bytes,
            host=sizes.decomposed_bytes(sizes.prompt_tokens),
            disk=PAGE_BYTES,
        )

    def work(self, inputs: Inputs, folder: RunFolder, parts: Parts) -> None:
        """See `crosstime.report`; the page is drawn from the files of the run alone."""
        self.write_data(inputs, folder)
        report = report_input(folder.path)
        folder.write_table("summary", pd.DataFrame({"text": [report.summary, *report.findings]}))
        write_report(report, folder.path)

    def write_data(self, inputs: Inputs, folder: RunFolder) -> None:
        """What the page shows of models and text."""
        write_report_data(inputs, folder)
