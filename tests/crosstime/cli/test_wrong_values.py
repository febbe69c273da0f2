"""Every option and argument that takes a value refuses a wrong one in one sentence that names it, with exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from small_run import finished_run, home_of

from crosstime.cli.main import app, main
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from interventions import Site
from tasks.agreement import sentences

TASK, CROSSCODER, RUN = "agreement/simple", "crosscoder.safetensors", "home/runs/small"
RIGHT = {
    "run": ["home/small.toml"],
    "null": [RUN],
    "describe": [RUN],
    "status": [RUN],
    "train": ["suite", "--corpus", "text.txt"],
    "accuracy": ["suite", TASK],
    "similarity": ["suite", "text.txt"],
    "ngrams": ["suite", "text.txt"],
    "select": ["--out", "survey"],
    "harvest": ["suite", "text.txt", "store"],
    "evaluate": ["suite", "text.txt", CROSSCODER],
    "attribute": ["suite", CROSSCODER, TASK],
    "ablate": ["suite", CROSSCODER, TASK, "--features", "1"],
    "evolve": ["suite", CROSSCODER, TASK],
    "convert": [CROSSCODER, "converted"],
    "report": [RUN],
    "annotate": [RUN],
    "serve": [RUN],
    "tasks show": [TASK],
}
"""Arguments with which each verb would work."""
WRONG: dict[str, list[list[str]]] = {
    # Arguments
    "SUITE": [["./missing"], ["no/such/place"], ["base=suite/step0,chat"], ["a=suite/step0,a=suite/step6"], ["file"]],
    "TEXT": [["missing.txt"], ["file"]],
    "TASK": [["agreement/simpel"], ["agremeent"], ["pairs/mine=missing.jsonl"]],
    "CROSSCODER": [["missing.safetensors"], ["file"]],
    "RUN": [["missing"], ["suite"]],
    "STORE": [["file"], ["suite"], ["file/store"]],
    "RECIPE": [["dmeo"], ["missing.toml"]],
    "FROM": [["missing"], ["file"]],
    "TO": [["suite"], ["file/converted"]],
    # Where things are, and where results go
    "--out": [["file"], ["file/inside"]],
    "--output": [["file"], ["file/inside"]],
    "--runs": [["file"]],
    "--path": [["missing"]],
    "--corpus": [["missing.txt"], ["file"]],
    "--text": [["missing.txt"], ["file"]],
    "--language": [["en"], ["en=missing.txt"]],
    "--tokenizer": [["./missing"], ["file"]],
    "--crosscoder": [["missing"], ["file"]],
    "--tables": [["missing"], ["suite"]],
    "--annotations": [["missing.csv"], ["file"]],
    "--read": [["missing.csv"], ["file"]],
    "--scales-from": [["./missing", "--corpus", "text.txt"], ["suite"]],
    # What is read and run
    "--site": [["resid.x"], ["residual.0"]],
    "--revisions": [["step1"], [","], ["step0,step0"]],
    "--text-start": [["boss"]],
    "--sequences": [["0"], ["-1"], ["x"]],
    "--length": [["0"], ["1"], ["x"]],
    "--limit": [["0"], ["-2"], ["x"]],
    "--prepend": [["boss"]],
    "--seed": [["-1"], ["x"], ["1.5"]],
    "--device": [["gpu"]],
    "--dtype": [["float8"]],
    "--max-tokens": [["0"], ["x"]],
    "--remote": [["example"]],
    "--sandboxed": [["maybe"]],
    # What is computed
    "--kind": [["l2"]],
    "--features": [["0"], ["x"]],
    "--steps": [["0"], ["x"]],
    "--batch": [["0"], ["x"]],
    "--lr": [["-1"], ["x"]],
    "--held-out": [["2"], ["x"]],
    "--evaluate": [["-1"]],
    "--shards": [["0"]],
    "--counted": [["0"], ["-1"]],
    "--tokens": [["0"], ["x"]],
    "--store-dtype": [["int4"]],
    "--shard-tokens": [["0"]],
    "--scales": [["one"], ["1,2,3"], ["-1,2"]],
    "--top": [["0"], ["x"]],
    "--estimator": [["ctt"]],
    "--baseline": [["none"]],
    "--dip": [["step0"], ["step0,step9"]],
    "-k": [["0"], ["4"], ["x"]],
    "--keep": [["step5"]],
    "--weight": [["2"], ["x"]],
    "--measure": [["cosin"]],
    "--to": [["sealens"], ["dictionary_learning"]],
    "--from": [["sealens"], ["ctt"]],
    "--parts": [["0"], ["5"]],
    "--title": [["A title"]],
    "--port": [["70000"], ["x"]],
    "--seeds": [["0"], ["x"]],
    "--checkpoint": [["step9"]],
    "--set": [["nonsense"], ["crosscoder.stepz=1"], ["crosscoder.steps=many"]],
    "--force": [["trian"]],
    "--processes": [["0"], ["2"]],
    "--shown": [["0"]],
    "--unseen": [["0"]],
    "--endpoint": [["localhost", "--model", "mine"], ["http://user:word@localhost/v1", "--model", "mine"]],
    "--model": [["", "--endpoint", "http://127.0.0.1:9/v1"], ["mine"]],
    "--concurrency": [["0"]],
    "--temperature": [["-1"], ["x"]],
    "--prices": [["-1", "2"], ["x", "2"]],
    "-n": [["0"], ["x"]],
}
"""Wrong values by option or argument, each with what belongs to it."""
OF_VERB: dict[tuple[str, str], list[list[str]]] = {
    ("train", "--set"): [["k=3"], ["stepz=1"], ["l1=many"], ["nonsense"]],
    ("train", "--site"): [["resid.x"], ["resid.9"]],
    ("similarity", "--site"): [["resid.x"], ["resid.9"]],
    ("harvest", "--site"): [["resid.x"], ["resid.-3"]],
    ("convert", "--revisions"): [],
    ("null", "--kind"): [["x"], ["permuted-token"]],
    ("ablate", "--features"): [["x"], ["99"], ["-3"], ["late="]],
    ("convert", "--corpus"): [["missing.txt", "--scales-from", "suite"]],
    ("harvest", "--tokens"): [["0"], ["5"]],
}
"""Wrong values where they are others for a verb."""
FREE = {"--suite", "--ignore", "--key-variable"}
"""Options that take any text, which a name, a setting or a variable of the environment may be."""


def parameters() -> Iterator[tuple[str, Any]]:
    """Every verb with each parameter that takes a value."""

    def walk(path: list[str], command: Any) -> Iterator[tuple[str, Any]]:
        for name, verb in getattr(command, "commands", {}).items():
            yield from walk([*path, name], verb)
        if path and not getattr(command, "commands", None):
            for parameter in command.params:
                if not getattr(parameter, "is_flag", False) and parameter.name != "help":
                    yield " ".join(path), parameter

    return walk([], typer.main.get_command(app))


def place_of(parameter: Any) -> str:
    return parameter.metavar if parameter.param_type_name == "argument" else max(parameter.opts, key=len)


def command_line(verb: str, parameter: Any, words: list[str]) -> list[str]:
    """The verb with a wrong value, in the place of the right one for an argument."""
    right, place = list(RIGHT[verb]), place_of(parameter)
    if parameter.param_type_name == "argument":
        arguments = [other for name, other in parameters() if name == verb and other.param_type_name == "argument"]
        right[[place_of(argument) for argument in arguments].index(place)] = words[0]
    elif verb in ("report", "annotate") and place in ("--crosscoder", "--tables") and words != ["suite"]:
        right = (
            ["--crosscoder", CROSSCODER, place, *words] if place == "--tables" and verb == "report" else [place, *words]
        )
    elif place in right:
        right[right.index(place) + 1] = words[0]
    else:
        right += [place, *words]
    return [*verb.split(), *right]


CASES = [
    pytest.param(verb, parameter, words, id=f"{verb} {place_of(parameter)} {' '.join(words)}")
    for verb, parameter in parameters()
    if verb != "demo"  # which has the options of run
    for words in OF_VERB.get((verb, place_of(parameter)), WRONG.get(place_of(parameter), []))
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, brief_suite) -> Path:
    """A folder with a suite, a text, a crosscoder, a survey and a finished run."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "suite").symlink_to(Path(brief_suite["step0"].source).parent)
    (folder / "file").write_text("x\n")
    (folder / "text.txt").write_text("\n".join(sentences(300, seed=3)))
    CrossCoder(Origin("mine", ("step0", "step6"), Site(0), 16), 12).save(folder / CROSSCODER)
    (folder / "survey").mkdir()
    rows = [f"{a},{b},{1 if a == b else 0.5}" for a in ("step0", "step3", "step6") for b in ("step0", "step3", "step6")]
    (folder / "survey" / "similarity.csv").write_text("revision,other,cosine\n" + "\n".join(rows) + "\n")
    finished_run(home_of(folder / "home"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "parameter", "words"), CASES)
def test_a_wrong_value_is_refused_in_one_sentence_with_its_name(
    place: Path, verb: str, parameter: Any, words: list[str], monkeypatch, capsys
):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = set(place.rglob("*"))
    monkeypatch.setattr("sys.argv", ["crosstime", *command_line(verb, parameter, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    (sentence,) = printed.err.strip().splitlines()
    assert stopped.value.code == 2, sentence
    assert sentence.startswith("crosstime: ")
    assert place_of(parameter) in sentence
    assert printed.out == ""
    assert set(place.rglob("*")) == before


def test_every_option_that_takes_a_value_has_a_wrong_one():
    without = {place_of(parameter) for _, parameter in parameters()} - set(WRONG)
    assert without == FREE
    assert {verb for verb, _ in parameters()} - {"demo", "recipes"} == set(RIGHT)


def test_the_values_that_one_types_are_in_the_sentence(place: Path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for words, sentence in (
        (["train", "suite", "--corpus", "text.txt", "--lr", "fast"], "--lr: fast is not allowed: "),
        (["accuracy", "suite", TASK, "-n", "2.5"], "--limit: 2.5 is not allowed: "),
        (["describe", RUN, "--prices", "1", "much"], "--prices: 1 much is not allowed: "),
        (["accuracy", "./suit", TASK], "(ORG/NAME): did you mean 'suite'?"),
        (["evaluate", "suite", "text.text", CROSSCODER], "TEXT: cannot read text.text: a text source ends in .txt"),
        (["evaluate", "suite", "test.txt", CROSSCODER], "TEXT: there is no text file test.txt: did you mean 'text"),
        (["evaluate", "suite", "text.txt", "croscoder.safetensors"], "did you mean 'crosscoder.safetensors'?"),
    ):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["crosstime", *words])
        with pytest.raises(SystemExit):
            main()
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("verb", [*RIGHT, "demo", "recipes"])
def test_usage_and_help_have_the_names_that_errors_have(verb: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    monkeypatch.setattr("sys.argv", ["crosstime", *verb.split(), "--help"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    arguments = [
        parameter for name, parameter in parameters() if name == verb and parameter.param_type_name == "argument"
    ]
    assert lines[0].startswith(f"Usage: crosstime {verb} [OPTIONS]")
    assert lines[0].split("[OPTIONS]")[1].replace("...", "").replace("[RUN]", "RUN").split() == [
        place_of(argument) for argument in arguments
    ]
    assert "{" not in lines[0]
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "list[" not in text
    assert " range>" not in text
    for argument in arguments:
        assert any(line.split()[0].strip("[].") == place_of(argument) for line in lines if line.strip())
