"""Write the report of a run on rows of parameters."""

from __future__ import annotations

from importlib.metadata import version

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.work import Cost, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.report_data import ABOUT, write_rows_about
from crosstime.runs.stages.names import ROW_NAMES, asks_for
from crosstime.runs.stages.report import PAGE_BYTES, Report


class ReportRows(Report):
    """Writes report.html, charts/, tables/ and summary.csv."""

    def dependencies(self, inputs: Inputs, ledger: Ledger) -> object:
        """All earlier stages, and the version of crosstime."""
        recipe = inputs.recipe.to_dict()
        names = [name for name in ROW_NAMES if name != self.name and asks_for(recipe, name)]
        return [[ledger.key(name) for name in names], version("crosstime")]

    def files(self, recipe: Recipe) -> list[str]:
        """The page, the findings in words, and what was done with what."""
        return [RunFolder.REPORT, "summary.csv", ABOUT]

    def cost(self, sizes: Sizes) -> Cost:
        """Charts and tables, which take no matrix products."""
        return sizes.cost(self.name, "charts and tables", Work(), device=0, host=0, disk=PAGE_BYTES)

    def write_data(self, inputs: Inputs, folder: RunFolder) -> None:
        """What the page shows beside the tables of earlier stages."""
        write_rows_about(inputs, folder)
