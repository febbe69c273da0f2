"""A report and a sheet of what single commands wrote, without a run."""

from __future__ import annotations

import html
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from crosstime.cli.main import main
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.runs.draw_report import draw_report_of_files
from crosstime.runs.report_input_of_files import Tables, report_input_of_files
from crosstime.suites.suite import Suite
from interventions import Site

TASK = "agreement/simple"


def command(patch: pytest.MonkeyPatch, *arguments: str) -> int:
    patch.setattr(sys, "argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def files(learning_suite: Suite, tmp_path_factory) -> Path:
    """A crosscoder, and what attribute, ablate, evolve and accuracy wrote about it."""
    home = tmp_path_factory.mktemp("files")
    suite = learning_suite.select(learning_suite.revisions[:2])
    CrossCoder(Origin(suite.name, suite.revisions, Site(0), suite.d_model), 16, seed=1).save(home / "c.safetensors")
    source = str(Path(suite.checkpoints[0].source).parent)
    (home / "source.json").write_text(json.dumps(source), encoding="utf-8")
    common = [source, str(home / "c.safetensors"), TASK, "--limit", "12"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert command(patch, "attribute", *common, "--top", "3", "--out", "effects") == 0
        features = pd.read_csv(home / "effects" / "effects.csv").feature.unique()[:2]
        group = f"both={','.join(map(str, features))}"
        alone = ",".join(map(str, features))
        assert command(patch, "ablate", *common, "-f", alone, "-f", group, "--out", "ablation") == 0
        assert command(patch, "evolve", *common, "--top", "3", "--out", "evolution") == 0
        assert command(patch, "accuracy", source, TASK, "--limit", "12", "--out", "accuracy") == 0
    return home


@pytest.mark.slow
def test_the_page_has_the_sections_for_which_there_are_tables(files, tmp_path, monkeypatch, capsys):
    arguments = ["--crosscoder", str(files / "c.safetensors")]
    for name in ("effects", "ablation", "evolution", "accuracy"):
        arguments += ["--tables", str(files / name)]
    assert command(monkeypatch, "report", *arguments, "--title", "Mine", "-o", str(tmp_path / "all")) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'all' / 'report.html'}\n"
    page = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in page
    for anchor in ("overview", "effects", "temporal", "decoders", "ablation", "features"):
        assert f'<section id="{anchor}"' in page
    assert 'data-chart="accuracy"' in page
    tables = tmp_path / "all" / "tables"
    table = pd.read_csv(files / "effects" / "effects.csv")
    assert pd.read_csv(tables / "effects.csv").ie.tolist() == table.ie.tolist()
    assert sorted(set(pd.read_csv(tables / "ablation.csv").kind)) == ["set", "single"]

    # Without effects, the page begins with the decoder norms of the features that evolve lists
    few = draw_report_of_files(files / "c.safetensors", [files / "evolution"], tmp_path / "few").read_text()
    for anchor in ("effects", "temporal", "ablation"):
        assert f'<section id="{anchor}"' not in few
    assert few.count(' data-chart="norms"') == 1
    assert 'data-chart="accuracy"' not in few


@pytest.mark.slow
def test_an_evaluation_is_read_and_without_it_the_page_says_how_to_make_it(files, tmp_path, monkeypatch, capsys):
    arguments = ["report", "--crosscoder", str(files / "c.safetensors"), "--tables", str(files / "evolution")]
    assert command(monkeypatch, *arguments, "-o", str(tmp_path / "without")) == 0
    without = html.unescape((tmp_path / "without" / "report.html").read_text(encoding="utf-8"))
    assert (
        "The crosscoder was not evaluated. crosstime evaluate SUITE TEXT CROSSCODER writes evaluation.csv into the "
        "folder of --out: name that folder with --tables." in without
    )
    assert "No training curves were kept. crosstime train writes training.csv" in without

    # What the page names is what the command writes
    text = tmp_path / "text.txt"
    text.write_text("the dog sees the cats .\n\n" * 40, encoding="utf-8")
    source = json.loads((files / "source.json").read_text(encoding="utf-8"))
    survey = ["evaluate", source, str(text), str(files / "c.safetensors"), "--sequences", "4", "--length", "8"]
    assert command(monkeypatch, *survey, "--out", str(tmp_path / "survey")) == 0
    assert command(monkeypatch, *arguments, "--tables", str(tmp_path / "survey"), "-o", str(tmp_path / "with")) == 0
    page = html.unescape((tmp_path / "with" / "report.html").read_text(encoding="utf-8"))
    assert "not evaluated" not in page
    explained = pd.read_csv(tmp_path / "survey" / "evaluation.csv").fve
    for value in explained:
        assert f"{value:.3f}".replace("-", "\u2212") in page
    capsys.readouterr()

    # An evaluation of other checkpoints is refused
    table = pd.read_csv(tmp_path / "survey" / "evaluation.csv").assign(revision=["a", "b"])
    table.to_csv(tmp_path / "survey" / "evaluation.csv", index=False)
    assert command(monkeypatch, *arguments, "--tables", str(tmp_path / "survey"), "-o", str(tmp_path / "no")) == 2
    assert "evaluation.csv is of another crosscoder: it has checkpoint a" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_prompts_and_decoders_are_those_of_the_files(files, tmp_path):
    crosscoder = CrossCoder.load(files / "c.safetensors")
    report = report_input_of_files(crosscoder, Tables([files / "effects"]), title="Mine")
    stored = json.loads((files / "effects" / "contexts.json").read_text())
    assert {str(feature): len(items) for feature, items in report.contexts.items()} == {
        feature: len(items) for feature, items in stored.items()
    }
    assert any(context.effects for items in report.contexts.values() for context in items)
    expected = decoder_evolution(crosscoder)
    assert report.rotation.cosine.tolist() == pytest.approx(expected["rotation"].cosine.tolist())
    assert report.dimensionality.total.tolist() == pytest.approx(expected["dimensionality"].total.tolist())
    norms = crosscoder.decoder_norms()
    for row in report.decoders.itertuples():
        c = crosscoder.origin.revisions.index(row.revision)
        assert row.decoder_norm == pytest.approx(norms[c, row.feature].item())
        assert row.reldec == pytest.approx((norms[c, row.feature] / norms[:, row.feature].sum()).item())


@pytest.mark.slow
def test_a_sheet_is_written_checked_and_shown(files, tmp_path, monkeypatch, capsys):
    tables = ["--tables", str(files / "effects"), "--tables", str(files / "evolution")]
    assert command(monkeypatch, "annotate", *tables, "-o", str(tmp_path / "sheet")) == 0
    sheet = tmp_path / "sheet" / "annotations.csv"
    features = pd.read_csv(sheet).feature.tolist()
    effects, facts = (pd.read_csv(files / name).feature for name in ("effects/effects.csv", "evolution/facts.csv"))
    assert features == sorted({*effects, *facts})
    assert TASK in sheet.with_suffix(".html").read_text(encoding="utf-8")
    sheet.write_text(f"feature,description\n{facts[0]},verbs\n")
    capsys.readouterr()
    assert command(monkeypatch, "annotate", *tables, "--read", str(sheet)) == 0
    assert f"1 of {len(features)} features are annotated" in capsys.readouterr().out
    folders = [files / "effects", files / "evolution"]
    page = draw_report_of_files(files / "c.safetensors", folders, tmp_path / "page", annotations=sheet)
    assert "verbs" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_tables_that_do_not_fit_are_refused(files, tmp_path, monkeypatch, capsys):
    crosscoder = ["report", "--crosscoder", str(files / "c.safetensors"), "-o", str(tmp_path / "page")]
    (tmp_path / "empty").mkdir()
    shutil.copytree(files / "effects", tmp_path / "twice")
    shutil.copytree(files / "effects", tmp_path / "other")
    table = pd.read_csv(tmp_path / "other" / "effects.csv")
    table.assign(feature=99).to_csv(tmp_path / "other" / "effects.csv", index=False)
    shutil.copytree(files / "evolution", tmp_path / "old")
    lives = pd.read_csv(tmp_path / "old" / "life_cycles.csv").drop(columns="strongest")
    lives.to_csv(tmp_path / "old" / "life_cycles.csv", index=False)
    cases = [
        ([*crosscoder, "--tables", str(tmp_path / "old")], "life_cycles.csv has no column strongest"),
        ([*crosscoder, "--tables", str(tmp_path / "missing")], "there is no folder of tables at"),
        ([*crosscoder, "--tables", str(tmp_path / "empty")], "has no table of crosstime accuracy"),
        ([*crosscoder, "--tables", str(files / "effects"), "--tables", str(tmp_path / "twice")], "is both in"),
        ([*crosscoder, "--tables", str(tmp_path / "other")], "it has feature 99, and this one has 0 to 15"),
        (["report"], "RUN"),
        (["report", "somewhere", "--crosscoder", "c.safetensors"], "RUN"),
        (["report", "--crosscoder", str(tmp_path / "c")], "there is no crosscoder at"),
        (["annotate"], "RUN"),
        (["annotate", "--tables", str(files / "ablation")], "no table lists a feature"),
        (["annotate", "--tables", str(files / "evolution")], "no folder has contexts.json"),
    ]
    for arguments, sentence in cases:
        assert command(monkeypatch, *arguments) == 2, arguments
        assert sentence in " ".join(capsys.readouterr().err.split()), arguments
    assert not (tmp_path / "page").exists()
