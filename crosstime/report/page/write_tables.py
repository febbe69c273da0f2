"""Write the tables of a report as CSV, and as LaTeX with aligned numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from crosstime.machine.storage import write_table
from crosstime.report.columns import COLUMNS
from crosstime.report.numbers import decimals_for

if TYPE_CHECKING:
    from crosstime.report.page.report_input import ReportInput

_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
}
CAPTIONS = {
    "accuracy": "Accuracy of every checkpoint.",
    "effects": "Indirect effects with 95\\,\\% intervals.",
    "temporal": "RelIE and RelDec with 95\\,\\% intervals.",
    "classes": "Classes of features by RelIE and by RelDec.",
    "ablation": "Ablations.",
    "evaluation": "Sparsity and loss of the crosscoder on held-out text.",
    "faithfulness": "Faithfulness and completeness of the top $n$ features.",
    "life_cycles": "Life cycles of features.",
    "rotation": "Mean cosine of decoder directions.",
    "rotation_steps": "Rotation of decoder directions from each checkpoint to the next.",
    "dimensionality": "Dimensions that the features fill.",
    "similarity": "Likeness of activations.",
    "lives": "Lives of the selected features by their effects.",
    "baselines": "The crosscoder beside other dictionaries.",
    "stability": "Agreement of the strongest features under other prompts and options.",
    "replication": "Selected features in other seeds.",
    "nulls": "Classes, life cycles and explained dips under null models.",
    "descriptions": "Descriptions of features by a language model.",
    "dips": "Ablation of features that are given up, or have emerged, where a task dips.",
}
"""Caption in LaTeX of each table that is short enough for a paper; the other tables are written as CSV only."""


def write_tables(report: ReportInput, folder: Path) -> list[Path]:
    """Write each table that is not empty as ``NAME.csv`` and, if it has a caption, as ``NAME.tex``.

    Args:
        report: the checked tables.
        folder: an existing folder.

    Returns:
        The paths of the files.
    """
    paths: list[Path] = []
    for name in (*COLUMNS, "facts"):
        frame: pd.DataFrame = getattr(report, name)
        if frame.empty:
            continue
        paths.append(folder / f"{name}.csv")
        write_table(paths[-1], frame)
        if name in CAPTIONS:
            paths.append(folder / f"{name}.tex")
            paths[-1].write_text(latex(frame, CAPTIONS[name], f"tab:{name}"), encoding="utf-8")
    return paths


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """Return a table as LaTeX, which needs the packages booktabs and longtable.

    Text is escaped. The numbers of a column share one number of decimals, chosen so that the largest of them has three
    significant digits; whole numbers have no decimals, and a missing value is a dash.

    Args:
        frame: the table.
        caption: caption in LaTeX; it is not escaped.
        label: label to refer to the table.

    Examples:
        >>> print(latex(pd.DataFrame({"task": ["a_b"], "n": [3]}), "Pairs.", "tab:pairs").splitlines()[5])
        a\\_b & 3 \\\\
    """
    columns = {str(name): _column(frame[name]) for name in frame.columns}
    alignment = "".join("r" if pd.api.types.is_numeric_dtype(frame[name]) else "l" for name in frame.columns)
    headings = " & ".join(escape(name.replace("_", " ")) for name in columns)
    lines = [
        f"\\begin{{longtable}}{{{alignment}}}",
        f"\\caption{{{caption}}}\\label{{{label}}}\\\\",
        "\\toprule",
        f"{headings} \\\\",
        "\\midrule\\endhead",
        *(" & ".join(row) + " \\\\" for row in zip(*columns.values(), strict=True)),
        "\\bottomrule",
        "\\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Escape text for LaTeX.

    Examples:
        >>> escape("SV-#_1 & 50%")
        'SV-\\\\#\\\\_1 \\\\& 50\\\\%'
    """
    return "".join(_SPECIAL.get(character, character) for character in text)


def _column(values: pd.Series) -> list[str]:
    if not pd.api.types.is_numeric_dtype(values):
        return [escape(str(value)) for value in values]
    finite = [float(value) for value in values if math.isfinite(value)]
    decimals = 0 if all(value.is_integer() for value in finite) else decimals_for(finite)
    return [f"{value:.{decimals}f}".replace("-", "$-$") if math.isfinite(value) else "--" for value in values]
