"""The report of a run is drawn from its folder alone, with what the models gave when the run went through."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_run import home_of, recipe, short_page

import crosstime as ct
from crosstime.cli.main import main
from crosstime.errors import AnnotationError, RunError
from crosstime.report.page.context import Context
from crosstime.runs import draw_report as drawing
from crosstime.runs import report_data
from crosstime.runs.draw_report import draw_report
from crosstime.runs.folder import RunFolder
from crosstime.runs.report_input import read_contexts, report_input
from crosstime.runs.status import status

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def computed() -> dict[str, object]:
    """What the stage computed with models and text, before it was written."""
    return {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, computed) -> Path:
    """A run with a text, whose suite and text are gone afterwards; its page is a real one."""
    home = home_of(tmp_path_factory.mktemp("drawing"), recipe({"evolve": {"text": True}, "effects": {"top": 2}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in ("_contexts", "_logit_effects", "_facts", "_similarity", "_setup"):
            real = getattr(report_data, name)

            def record(*args, real=real, name=name):
                computed[name] = real(*args)
                return computed[name]

            patch.setattr(report_data, name, record)
        folder = ct.run(home / "small.toml", home / "runs").folder
    (home / "text.txt").unlink()
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def _no_charts(monkeypatch):
    """Charts take longer than all else."""

    def write(report: object, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        short_page(report, folder)
        return folder / "report.html"

    monkeypatch.setattr(drawing, "write_report", write)


def command(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and message of a command."""
    monkeypatch.setattr(sys, "argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_what_is_read_is_what_was_computed(finished, computed):
    report = report_input(finished)
    assert report.contexts == computed["_contexts"]
    assert any(report.contexts.values())
    assert dict(report.setup) == computed["_setup"]
    for name in ("logit_effects", "facts", "similarity"):
        expected = computed[f"_{name}"]
        pd.testing.assert_frame_equal(getattr(report, name)[list(expected)], expected, check_dtype=False)


def test_the_same_page_comes_again_and_the_run_stays_done(run):
    page = (run / "report.html").read_bytes()
    shutil.rmtree(run / "charts")
    (run / "report.html").unlink()
    assert draw_report(run) == run / "report.html"
    assert (run / "report.html").read_bytes() == page
    assert (run / "charts").is_dir()
    assert status(run).finished


@pytest.mark.long
def test_a_run_with_seeds_null_models_baselines_and_stability_gives_the_same_page_again(tmp_path, monkeypatch):
    tables = {"crosscoder": {"seeds": [5, 6]}, "effects": {"top": 3}}
    others = {
        "baselines": {"names": ["random-directions"], "sizes": [1, 2], "prompts": 8},
        "stability": {"comparisons": ["prompts"], "prompts": 8, "resamples": 5},
        "null": {"kinds": ["permuted-tokens"]},
    }
    text = recipe(tables, tasks=[{"name": "agreement/simple", "limit": 12}])
    for name, table in others.items():
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        text += "\n".join(["", f"[{name}]", *lines])
    home = home_of(tmp_path / "home", text)
    monkeypatch.chdir(home)
    folder = ct.run(home / "small.toml", home / "runs").folder

    # The page shows all of them
    report = report_input(folder)
    for name in ("replication", "nulls", "baselines"):
        assert len(getattr(report, name))
    sentences = " ".join(report.findings)
    assert "PW-MCC" in sentences
    assert any("stab" in sentence or "agree" in sentence for sentence in report.findings[-2:])
    page = (folder / "report.html").read_bytes()
    tables_before = {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}

    # It comes again from the files of the run, without its text
    (home / "text.txt").unlink()
    assert draw_report(folder, output=tmp_path / "again").read_bytes() == page
    assert {path.name: path.read_bytes() for path in (tmp_path / "again" / "tables").iterdir()} == tables_before


def test_numbers_that_do_not_exist_survive(tmp_path):
    folder = RunFolder(tmp_path)
    context = Context("t", (" a", "\n"), (1.5, math.nan), effects={"step0": (math.nan, 1e-7)})
    folder.write_json("report_data/contexts", {"3": [context]})
    (read,) = read_contexts(folder)[3]
    assert read.tokens == context.tokens
    assert read.activations[0] == 1.5
    assert math.isnan(read.activations[1])
    assert math.isnan(read.effects["step0"][0])
    assert read.effects["step0"][1] == 1e-7


@pytest.mark.usefixtures("_no_charts")
def test_annotations_are_facts_of_their_features(run, tmp_path, monkeypatch, capsys):
    code, printed, _ = command(monkeypatch, capsys, "annotate", str(run))
    sheet = run / "annotations" / "annotations.csv"
    assert (code, printed) == (0, f"wrote {sheet}, {sheet.with_suffix('.html')}\n")
    table = pd.read_csv(sheet)
    effects = pd.read_csv(run / "effects.csv")
    assert table.feature.tolist() == list(dict.fromkeys(effects.feature))

    # A filled sheet is checked, compared with itself, and shown
    feature = int(table.feature[0])
    sheet.write_text(f"feature,description,complexity,interpretable,note\n{feature},plural nouns,2,yes,\n")
    code, printed, _ = command(monkeypatch, capsys, "annotate", str(run), "--read", str(sheet), "--read", str(sheet))
    assert code == 0
    assert f"1 of {len(table)} features are annotated" in printed
    assert "kappa" in printed
    facts = report_input(run, ct.read_annotations(sheet, [feature])).facts.set_index("feature")
    assert facts.description[feature] == "plural nouns"
    assert set(facts.description.drop(feature)) <= {""}
    code, printed, _ = command(
        monkeypatch, capsys, "report", str(run), "--annotations", str(sheet), "--output", str(tmp_path / "other")
    )
    assert (code, printed) == (0, f"{tmp_path / 'other' / 'report.html'}\n")
    assert status(run).finished

    # A feature that the run does not have, and a sheet that is there already
    sheet.write_text("feature,description\n999,nothing\n")
    with pytest.raises(AnnotationError, match="no feature '999'"):
        draw_report(run, annotations=sheet)
    code, _, message = command(monkeypatch, capsys, "annotate", str(run))
    assert code == 2
    assert "is there already" in message


@pytest.mark.parametrize("verb", ["report", "annotate"])
def test_a_folder_that_is_no_finished_run_is_refused(run, tmp_path, monkeypatch, capsys, verb):
    (tmp_path / "empty").mkdir()
    code, _, message = command(monkeypatch, capsys, verb, str(tmp_path / "empty"))
    assert code == 2
    assert "manifest.json" in message
    (run / "effects.csv").unlink()
    code, _, message = command(monkeypatch, capsys, verb, str(run))
    assert code == 2
    assert "its stage 'attribute' is damaged" in message
    assert not (run / "annotations").exists()


@pytest.mark.usefixtures("_no_charts")
@pytest.mark.parametrize("content", ["[]", '{"3": 4}', '{"3": [{"task": "t"}]}', '{"x": []}', "{"])
def test_damaged_contexts_are_named(run, content):
    before = (run / "report.html").read_bytes()
    (run / "report_data" / "contexts.json").write_text(content)
    with pytest.raises(RunError, match=r"contexts\.json"):
        draw_report(run)
    assert (run / "report.html").read_bytes() == before


@pytest.mark.usefixtures("_no_charts")
def test_a_run_of_an_earlier_version_is_named(run):
    shutil.rmtree(run / "report_data")
    manifest = json.loads((run / "manifest.json").read_text())
    files = manifest["stages"]["report"]["files"]
    manifest["stages"]["report"]["files"] = {name: files[name] for name in files if "report_data" not in name}
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"has no report_data/about\.json"):
        draw_report(run)
