"""The notebooks run as they are stored, what their text says is so, and every chart is in the output."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SHARED = ROOT.parent / "shared"


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, claims: str) -> Any:
    """The notebook after it ran in an empty folder, and after it the statements of `claims`."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install -e '.[dev]'")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "examples" / name, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(claims))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    return notebook


def charts_drawn(notebook: Any) -> int:
    pages = [
        output.data["text/html"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    return sum("data-crosstime-chart=" in page for page in pages)


def charts_called(name: str) -> int:
    source = "\n".join("".join(cell["source"]) for cell in cells(ROOT / "examples" / name, "code"))
    return len(re.findall(r"^\w+_chart\(", source, re.MULTILINE))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_which_would_become_old(path: Path) -> None:
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    assert path.stat().st_size < 40_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_files_that_a_notebook_links_exist(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    links = re.findall(r"\]\(((?!https?://)[^)#]+)\)", text)
    assert links
    for link in links:
        assert (path.parent / link).exists(), link


@pytest.mark.long
def test_five_minutes_runs_and_its_text_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = """
on = accuracy.set_index(["task", "revision"]).accuracy
assert on["agreement/simple", "step64"] > 0.95 and on["agreement/attractor", "step64"] < 0.05
assert on["agreement/attractor", "step256"] > 0.95
effect = table.pivot(index="feature", columns="revision", values="ie")
assert effect["step64"][effect["step64"].abs().idxmax()] < 0 < effect["step256"][effect["step256"].abs().idxmax()]
change = ablation.set_index(["features", "revision"]).accuracy_change
assert change["largest effects at step64", "step64"] > 0.1
assert abs(change["largest effects at step64", "step256"]) < 0.1
assert result.report.exists()
"""
    notebook = executed("five_minutes.ipynb", tmp_path, monkeypatch, claims)
    assert charts_drawn(notebook) == charts_called("five_minutes.ipynb") == 6
    assert (tmp_path / "runs" / "five-minutes-report" / "report.html").stat().st_size > 100_000


CLAIMS = """
assert len(choice.revisions) == 3
default, written = attributions[-1].completeness(), by_the_paper.completeness()
assert max(default.values()) <= 0.02 < max(written.values())
assert set(table.task) == {task.name for task in tasks}
assert set(ablation.features) == set(groups)
"""


@pytest.mark.long
def test_crosscoding_through_time_runs_on_its_own_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CROSSTIME_SUITE", "CROSSTIME_DATA"):
        monkeypatch.delenv(name, raising=False)
    claims = CLAIMS + "\nassert choice.revisions[1] == 'step64'\n"
    notebook = executed("crosscoding_through_time.ipynb", tmp_path, monkeypatch, claims)
    assert charts_drawn(notebook) == charts_called("crosscoding_through_time.ipynb") == 10


@pytest.mark.long
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared suites and data are not beside the checkout")
def test_crosscoding_through_time_runs_on_a_suite_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSTIME_SUITE", str(SHARED / "suites" / "tiny-pythia"))
    monkeypatch.setenv("CROSSTIME_DATA", str(SHARED / "data"))
    notebook = executed("crosscoding_through_time.ipynb", tmp_path, monkeypatch, CLAIMS)
    assert charts_drawn(notebook) == 10
    assert list(tmp_path.iterdir()) == []  # nothing is trained or saved
