"""The verbs that look at a suite as a whole: what they write is what they say, and mistakes end in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from console_command import crosstime

from crosstime.suites.select import select
from crosstime.suites.similarity import similarity
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions import Site
from tasks.agreement import sentences

SMALL = TinyConfig(
    d_model=16, n_layers=2, n_heads=2, vocab_size=512, sequence_length=16, batch_tokens=64,
    steps=6, checkpoints=(0, 3, 6), lr=1e-2, warmup=2,
)  # fmt: skip
TEXT = list(sentences(60, seed=3))
SHORT = ("--sequences", "4", "--length", "8")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("survey") / "models"
    train_tiny_suite(folder, sentences(1500, seed=0), SMALL)
    return folder


@pytest.fixture
def folder(tmp_path: Path, models: Path, monkeypatch) -> Path:
    """A working folder with a suite and a text."""
    (tmp_path / "models").symlink_to(models)
    (tmp_path / "text.txt").write_text("\n".join(TEXT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def works(monkeypatch, capsys, *arguments: str) -> str:
    code, out, err = crosstime(monkeypatch, capsys, *arguments)
    assert code == 0, err
    return out


def written_names(output: str) -> list[str]:
    """The files that the command says it wrote; each must be there and hold something."""
    (line,) = re.findall(r"^wrote (.*)$", output, flags=re.MULTILINE)
    names = line.split(", ")
    for name in names:
        content = Path(name).read_text(encoding="utf-8")
        assert content.startswith("<svg") if name.endswith(".svg") else content
    return names


def left(folder: Path) -> set[str]:
    """Every file of the survey but the cache, temporary ones included."""
    paths = (path.relative_to(folder) for path in (folder / "survey").rglob("*") if path.is_file())
    return {str(path) for path in paths if "cache" not in path.parts}


@pytest.mark.slow
def test_accuracy_writes_a_table_and_a_chart_of_each_kind(folder: Path, monkeypatch, capsys):
    output = works(monkeypatch, capsys, "accuracy", "models", "agreement/simple", "agreement/attractor", "-n", "6")
    assert written_names(output) == ["survey/accuracy.csv", "survey/accuracy.svg", "survey/sentence_accuracy.svg"]
    assert left(folder) == set(written_names(output))
    table = pd.read_csv("survey/accuracy.csv")
    assert table["revision"].tolist() == ["step0", "step0", "step3", "step3", "step6", "step6"]
    assert table["task"].tolist() == ["agreement/simple", "agreement/attractor"] * 3
    assert (table["n"] == 6).all()
    assert "Accuracy at the answer token" in output
    assert "Accuracy of whole sentences" in output
    cached_files = sorted((folder / "survey" / "cache").iterdir())
    assert len(cached_files) == 6
    times = [path.stat().st_mtime_ns for path in cached_files]
    works(monkeypatch, capsys, "accuracy", "models", "agreement/simple", "agreement/attractor", "-n", "6")
    assert [path.stat().st_mtime_ns for path in cached_files] == times
    assert pd.read_csv("survey/accuracy.csv").equals(table)


def test_accuracy_of_some_checkpoints_without_sentences_goes_where_it_is_told(folder: Path, monkeypatch, capsys):
    options = ("-n", "4", "--no-sentences", "-r", "step6,step0", "-o", "other")
    output = works(monkeypatch, capsys, "accuracy", "models", "agreement/simple", *options)
    assert written_names(output) == ["other/accuracy.csv", "other/accuracy.svg"]
    table = pd.read_csv("other/accuracy.csv")
    assert table["revision"].tolist() == ["step6", "step0"]
    assert not [name for name in table if name.startswith("sentence")]
    assert not (folder / "survey").exists()


@pytest.mark.slow
def test_similarity_writes_the_table_of_the_library_and_three_heat_maps(folder: Path, monkeypatch, capsys):
    output = works(monkeypatch, capsys, "similarity", "models", "text.txt", "--site", "resid.0", *SHORT)
    assert written_names(output) == [
        "survey/similarity.csv", *(f"survey/similarity_{name}.svg" for name in ("cosine", "pearson", "cka"))
    ]  # fmt: skip
    assert left(folder) == set(written_names(output))
    expected = similarity(Suite.open("models"), Site(0), TEXT, TextSample(4, 8))
    pd.testing.assert_frame_equal(pd.read_csv("survey/similarity.csv"), expected, check_dtype=False)
    assert "Mean cosine at resid.0" in output
    assert f"{expected['cosine'][1]:.2f}" in output


def test_ngrams_writes_a_table_and_a_chart(folder: Path, monkeypatch, capsys):
    output = works(monkeypatch, capsys, "ngrams", "models", "text.txt", *SHORT, "--counted", "20", "-r", "step0,step6")
    assert written_names(output) == ["survey/ngrams.csv", "survey/ngrams.svg"]
    assert left(folder) == set(written_names(output))
    table = pd.read_csv("survey/ngrams.csv")
    assert table["revision"].tolist() == ["step0", "step6"]
    for name in ("loss", "unigram_kl", "bigram_kl", "unigram_entropy", "bigram_entropy"):
        assert all(f"{value:.3f}" in output for value in table[name])


@pytest.mark.slow
def test_select_reads_what_the_others_wrote_and_writes_its_choice(folder: Path, monkeypatch, capsys):
    works(monkeypatch, capsys, "accuracy", "models", "agreement/simple", "-n", "6")
    works(monkeypatch, capsys, "similarity", "models", "text.txt", *SHORT)
    output = works(monkeypatch, capsys, "select", "-k", "2", "--keep", "step3", "--measure", "cka", "--weight", "0.3")
    assert written_names(output) == [
        "survey/selection.json", "survey/selection_change.svg", "survey/selection_accuracy.svg"
    ]  # fmt: skip
    tables = [pd.read_csv(f"survey/{name}.csv") for name in ("accuracy", "similarity")]
    choice = select(2, *tables, weight=0.3, measure="cka", keep=["step3"])
    paths = json.loads(Path("survey/selection.json").read_text())
    assert tuple(paths["revisions"]) == choice.revisions
    assert "step3" in choice.revisions
    assert paths["total"] == pytest.approx(choice.total)
    assert {name: paths[name] for name in ("k", "keep", "weight", "measure")} == {
        "k": 2, "keep": ["step3"], "weight": 0.3, "measure": "cka"
    }  # fmt: skip
    assert [step["revision"] for step in paths["steps"] if step["chosen"]] == list(choice.revisions)
    assert f"revisions = {','.join(choice.revisions)}" in output


def test_select_makes_do_with_one_table(folder: Path, monkeypatch, capsys):
    works(monkeypatch, capsys, "similarity", "models", "text.txt", *SHORT)
    output = works(monkeypatch, capsys, "select", "-o", "survey", "-k", "3")
    assert written_names(output) == ["survey/selection.json", "survey/selection_change.svg"]
    assert "revisions = step0,step3,step6" in output


@pytest.mark.parametrize("name", ["induction/5", "ioi/abba"])
def test_tasks_show_marks_the_answers_and_shows_the_patch(folder: Path, monkeypatch, capsys, name: str):
    plain = works(monkeypatch, capsys, "tasks", "show", name, "-n", "2")
    assert plain.startswith(f"{name}: 1,000 pairs, en, from generated by tasks.")
    assert [len(re.findall(rf"^{re.escape(sign)} ", plain, re.MULTILINE)) for sign in "+-"] == [2, 2]
    tokens = works(monkeypatch, capsys, "tasks", "show", name, "-n", "2", "-t", "models")
    lines = [line for line in tokens.splitlines() if "«" in line]
    assert [line.split()[0] for line in lines] == ["+", "-", "patch"] * 2
    assert all(line.count("«") == 1 for line in lines)
    for right, wrong, patch in (lines[:3], lines[3:]):
        answers = [re.search("«(.*)»", line).group(1) for line in (right, wrong, patch)]
        assert answers[0] != answers[1]
        assert answers[2] == answers[1], "the patch prompt's right answer is the clean wrong one"
        assert len(right.split("«")[0].split("|")) == len(patch.split("«")[0].split("|"))
    assert tokens.strip().splitlines()[-1].startswith("kept ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("accuracy", "models", "agreement/simpel"), "did you mean 'simple'?"),
        (("accuracy", "nowhere/at/all", "agreement/simple"), "nowhere/at/all"),
        (("accuracy", "models", "agreement/simple", "-n", "0"), "limit must be at least 1"),
        (("accuracy", "models", "agreement/simple", "-r", "step0,step5"), "no revision 'step5'"),
        (("accuracy", "models", "agreement/simple", "--device", "gpu9x"), "gpu9x"),
        (("accuracy", "models", "agreement/simple", "--dtype", "float3"), "float3"),
        (("accuracy", "models", "agreement/simple", "--max-tokens", "0"), "0"),
        (("similarity", "models", "text.txt", "--site", "resid.7"), "Layer 7 does not exist"),
        (("similarity", "models", "text.txt", "--site", "head.1"), "head"),
        (("similarity", "models", "absent.txt"), "there is no text file absent.txt"),
        (("similarity", "models", "text.txt", "--length", "1"), "at least one sequence of two tokens, not 64 of 1"),
        (("similarity", "models", "text.txt", "--sequences", "0"), "at least one sequence of two tokens, not 0 of"),
        (("similarity", "models", "text.txt", "--sequences", "-1"), "at least one sequence of two tokens, not -1 of"),
        (("ngrams", "models", "text.txt", "--sequences", "100000"), "nothing is left to count"),
        (("ngrams", "models", "text.txt", "--length", "1"), "one sequence of two tokens"),
        (("ngrams", "models", "text.txt", "--counted", "-1"), "at least one sequence must be counted, not -1"),
        (("select", "-o", "survey"), "neither accuracy.csv nor similarity.csv"),
        (("accuracy", "models", "agreement/simple", "--remote", "nowhere"), "starts with http:// or https://"),
        (("accuracy", "models", "agreement/simple", "--remote", "http://127.0.0.1:9"), "a folder of this machine"),
        (("similarity", "models", "text.txt", "--remote", "http://127.0.0.1:9"), "a folder of this machine"),
        (
            ("evolve", "models", "c.safetensors", "agreement/simple", "--remote", "local", "--sandboxed", "maybe"),
            "true or false, not 'maybe'",
        ),
        (("tasks", "show", "ioi/aabb"), "did you mean 'abba'?"),
        (("tasks", "show", "induction/2"), "4 to 64 words, not 2"),
        (("tasks", "show", "ioi/abba", "-t", "nowhere/at/all"), "nowhere/at/all"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_leaves_nothing(
    folder: Path, monkeypatch, capsys, arguments: tuple[str, ...], part: str
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = crosstime(monkeypatch, capsys, *arguments)
    assert code == 2
    assert err.startswith("crosstime: ")
    assert len(err.strip().splitlines()) == 1
    assert part in err
    assert left(folder) == set()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("-k", "4"), "k must be from 2 to the 3"),
        (("-k", "1"), "k must be from 2 to the 3"),
        (("--keep", "step4"), "no checkpoint 'step4' to keep: did you mean"),
        (("--weight", "2"), "between 0 and 1, not 2"),
        (("--measure", "cosin"), "no measure 'cosin': did you mean 'cosine'?"),
    ],
)
def test_a_choice_that_cannot_be_made_is_told_and_writes_nothing(
    folder: Path, monkeypatch, capsys, options: tuple[str, ...], part: str
):
    (folder / "survey").mkdir()
    rows = [(a, b, 1.0 if a == b else 0.5) for a in ("step0", "step3", "step6") for b in ("step0", "step3", "step6")]
    pd.DataFrame(rows, columns=["revision", "other", "cosine"]).to_csv("survey/similarity.csv", index=False)
    code, out, err = crosstime(monkeypatch, capsys, "select", "-o", "survey", *options)
    assert (code, out) == (2, "")
    assert part in err
    assert len(err.strip().splitlines()) == 1
    assert left(folder) == {"survey/similarity.csv"}
