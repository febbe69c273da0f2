from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crosstime.cli.main import app, main
from crosstime.suites.suite import Suite
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from tasks.agreement import sentences

SMALL = TinyConfig(
    d_model=16, n_layers=2, n_heads=2, vocab_size=512, sequence_length=16, batch_tokens=64,
    steps=4, checkpoints=(0, 4), lr=1e-2, warmup=2,
)  # fmt: skip
RECIPE = """
name = "mine"

[suite]
source = "models"

[compare]
revisions = ["step0", "step4"]
site = "resid.0"

[corpus]
source = "text.txt"
sequence_length = 16

[crosscoder]
n_features = 8
steps = 4
batch_size = 16

[effects]
halves = false

[[tasks]]
name = "pairs/mine"
path = "mine.jsonl"
"""
PAIR = {
    "clean_prefix": "the author", "patch_prefix": "the authors", "clean_answer": " laughs", "patch_answer": " smile"
}  # fmt: skip


@pytest.fixture(scope="module")
def suites(tmp_path_factory) -> Path:
    """Three suites: one as it should be, and two that differ from it in width and in tokenizer."""
    folder = tmp_path_factory.mktemp("cli")
    text = list(sentences(800, seed=0))
    train_tiny_suite(folder / "models", text, SMALL)
    train_tiny_suite(folder / "wide", text, replace(SMALL, d_model=32))
    train_tiny_suite(folder / "other_words", text, replace(SMALL, vocab_size=400))
    return folder


@pytest.fixture
def folder(tmp_path: Path, suites: Path, monkeypatch) -> Path:
    """A working folder with a recipe, its data and its suite."""
    (tmp_path / "mine.toml").write_text(RECIPE)
    (tmp_path / "mine.jsonl").write_text(json.dumps(PAIR) + "\n")
    (tmp_path / "text.txt").write_text("\n".join(sentences(50, seed=1)))
    shutil.copytree(suites / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(folder: Path, monkeypatch, capsys, *arguments: str) -> str:
    """What the command says on standard error when it refuses; it must leave nothing but a manifest."""
    monkeypatch.setattr(sys, "argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert "Traceback" not in output.err
    assert output.err.startswith("crosstime: ")
    assert len(output.err.strip().splitlines()) == 1
    assert output.out == ""
    left = {str(path.relative_to(folder / "runs")) for path in (folder / "runs").rglob("*") if path.is_file()}
    assert left <= {"mine/manifest.json", "demo/manifest.json"}
    return output.err


def test_a_named_estimator_is_an_option_and_a_wrong_name_one_sentence(folder: Path, monkeypatch, capsys):
    sentence = refused(folder, monkeypatch, capsys, "run", "mine.toml", "--estimator", "ctt-as-writen")
    assert "did you mean 'ctt-as-written'" in sentence
    contradiction = ("run", "mine.toml", "--estimator", "ctt-as-written", "--set", "effects.steps=4")
    assert "has steps 10, but the recipe says 4" in refused(folder, monkeypatch, capsys, *contradiction)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("tasks.0.name=blmp/one", ("tasks[0]", "there is no task family 'blmp'", "did you mean 'blimp'?")),
        ("tasks.0.name=agreement/simpel", ("tasks[0]", "'simpel'", "did you mean 'simple'?")),
        ("tasks.0.path=absent.jsonl", ("tasks[0]", "absent.jsonl does not exist")),
        ('compare.revisions=["step0", "step5"]', ("compare.revisions: no revision 'step5'", "step0, step4")),
        ('suite.revisions=["step0", "final"]', ("suite.revisions: no revision 'final'", "step0, step4")),
        ('suite.revisions=["step0", "step0"]', ("suite.revisions: revision 'step0' is given twice",)),
        ('compare.revisions=["step0", "step0"]', ("compare.revisions: revision 'step0' is given twice",)),
        ("compare.revisions=[]", ("[compare] revisions must be a list of checkpoints, not []",)),
        ("suite.source=/nowhere/models", ("suite.source: there is no folder /nowhere/models",)),
        ("suite.source=models/step0", ("suite.source: models/step0 is a single checkpoint",)),
        ("suite.tokenizer=absent/", ("suite.tokenizer: ", "absent")),
        ("compare.site=resid.2", ("compare.site: Layer 2 does not exist: the model has layers 0 to 1",)),
        ("compare.site=resid.-3", ("compare.site: Layer -3 does not exist",)),
        ("compare.site=head.1", ("compare.site",)),
        ("crosscoder.feature=3", ("[crosscoder] has no key 'feature'", "did you mean 'n_features'?")),
        ("crosscoder.steps=many", ("crosscoder.steps must be a whole number",)),
        ("corpus.source=absent.txt", ("corpus.source: there is no text file absent.txt",)),
        ("corpus.held_out=absent.txt", ("corpus.held_out: there is no text file absent.txt",)),
        ("corpus.source=table.csv", ("corpus.source: cannot read table.csv",)),
        ('evolve.languages={en="text.txt", de="absent.txt"}', ("evolve.languages.de: there is no text file absent.",)),
        ("corpus.held_out=mine.toml", ("corpus.held_out: cannot read mine.toml",)),
        ("crosscoder.batch_size=100000", ("corpus.source: The corpus gives", "fewer than a batch of 100,000")),
        ("crosscoder.n_features=99999999999", ("crosscoder.n_features: training 99,999,999,999 features",)),
        ("crosscoder.source=absent.safetensors", ("crosscoder.source: ", "absent.safetensors")),
        ("effects.halves=true", ("effects.halves: task pairs/mine has 1 prompts",)),
        ("compute.device=gpu9x", ("there is no device 'gpu9x'",)),
        ("nonsense", ("table.key=value",)),
    ],
)
def test_a_mistake_ends_in_one_sentence(folder: Path, monkeypatch, capsys, override: str, parts: tuple[str, ...]):
    sentence = refused(folder, monkeypatch, capsys, "run", "mine.toml", "--set", override)
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["suite.tiny.architecture=gpt_nex"], "unknown architecture 'gpt_nex': did you mean 'gpt_neox'?"),
        (['compare.revisions=["step0", "step3"]'], "no revision 'step3'"),
        (["compare.site=resid.9"], "Layer 9 does not exist: the model has layers 0 to 3"),
        (["suite.tiny.d_model=30"], "d_model (30) must be a multiple"),
    ],
)
def test_a_mistake_about_a_suite_to_train_is_found_before_training(
    folder: Path, monkeypatch, capsys, overrides: list[str], part: str
):
    options = ["suite.source=tiny", 'compare.revisions=["step0", "step16"]', *overrides]
    arguments = [word for option in options for word in ("--set", option)]
    assert part in refused(folder, monkeypatch, capsys, "run", "mine.toml", *arguments)


def test_values_that_the_suite_the_machine_or_the_text_do_not_allow_are_named_by_their_keys(
    folder: Path, monkeypatch, capsys
):
    def output(*overrides: str) -> str:
        arguments = [word for override in overrides for word in ("--set", override)]
        return refused(folder, monkeypatch, capsys, "run", "mine.toml", *arguments)

    sae = ("baselines.names=['sae-raw']", "baselines.sae=absent.safetensors", "baselines.prompts=4")
    assert "baselines.sae: " in output(*sae)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "crosscoder.loggers: Logging to wandb needs a package" in output("crosscoder.loggers=['wandb']")
    (folder / "mine.toml").write_text(RECIPE.replace('revisions = ["step0", "step4"]', ""))
    assert "select.k must be at most 2, the number of checkpoints of the suite, not 3" in output("select.k=3")
    (folder / "text.txt").write_text("too short\n")
    assert "corpus.source: " in output("select.k=2")


def test_a_broken_line_of_data_is_named_by_file_and_line(folder: Path, monkeypatch, capsys):
    (folder / "mine.jsonl").write_text(json.dumps(PAIR) + '\n{"clean_prefix": \n')
    assert "mine.jsonl:2: not JSON" in refused(folder, monkeypatch, capsys, "run", "mine.toml")
    (folder / "mine.jsonl").write_text(json.dumps(PAIR) + '\n{"clean_prefix": "the"}\n')
    assert "mine.jsonl:2: no field 'patch_prefix'" in refused(folder, monkeypatch, capsys, "run", "mine.toml")


def test_a_task_of_which_nothing_is_left_says_why(folder: Path, monkeypatch, capsys):
    (folder / "mine.jsonl").write_text(json.dumps(PAIR | {"patch_answer": " laughs"}) + "\n")
    sentence = refused(folder, monkeypatch, capsys, "run", "mine.toml")
    assert "pairs/mine: no pair is left to work with (1 the two sentences are the same)" in sentence


def test_an_empty_data_file_is_named(folder: Path, monkeypatch, capsys):
    (folder / "mine.jsonl").write_text("\n")
    assert "holds no pair" in refused(folder, monkeypatch, capsys, "run", "mine.toml")


@pytest.mark.parametrize(
    ("other", "part"),
    [("wide", "d_model differs between revisions"), ("other_words", "the tokenizers of revisions 'step0' and 'step4'")],
)
def test_checkpoints_that_do_not_fit_together_are_named(
    folder: Path, suites: Path, monkeypatch, capsys, other: str, part: str
):
    shutil.rmtree(folder / "models" / "step4")
    shutil.copytree(suites / other / "step4", folder / "models" / "step4")
    assert part in refused(folder, monkeypatch, capsys, "run", "mine.toml")


def test_a_checkpoint_with_damaged_weights_is_named(folder: Path, monkeypatch, capsys):
    (folder / "models" / "step0" / "model.safetensors").write_bytes(b"damaged")
    sentence = refused(folder, monkeypatch, capsys, "run", "mine.toml")
    assert "cannot use the weights of revision 'step0' from models/step0: model.safetensors is incomplete" in sentence


@pytest.mark.parametrize(
    ("text", "part"),
    [(None, "Cannot read recipe mine.toml"), ("name = ", "is not a TOML file"), ('name = "x"', "needs a key 'suite'")],
)
def test_a_recipe_that_cannot_be_read_is_named(folder: Path, monkeypatch, capsys, text: str | None, part: str):
    (folder / "mine.toml").unlink()
    if text is not None:
        (folder / "mine.toml").write_text(text)
    assert part in refused(folder, monkeypatch, capsys, "run", "mine.toml")


def test_an_unknown_shipped_recipe_is_named_with_the_nearest(folder: Path, monkeypatch, capsys):
    sentence = refused(folder, monkeypatch, capsys, "run", "dmeo")
    assert "There is no recipe 'dmeo': did you mean 'demo'?" in sentence


def test_a_folder_with_the_name_of_a_shipped_recipe_does_not_hide_it(folder: Path, monkeypatch, capsys):
    (folder / "demo").mkdir()
    sentence = refused(folder, monkeypatch, capsys, "run", "demo", "--set", "compare.site=resid.9")
    assert "Layer 9 does not exist" in sentence


def test_a_runs_folder_that_cannot_be_made_is_named(folder: Path, monkeypatch, capsys):
    sentence = refused(folder, monkeypatch, capsys, "run", "mine.toml", "--runs", "text.txt")
    assert "--runs: text.txt is a file, so that no folder text.txt can be made" in sentence


def test_the_help_names_the_verbs_and_their_options():
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    top = runner.invoke(app, ["--help"])
    assert top.exit_code == 0
    for verb in ("demo", "run", "tasks"):
        assert verb in top.output
        output = runner.invoke(app, [verb, "--help"])
        assert output.exit_code == 0
        if verb != "tasks":
            assert "--set" in output.output
            assert "--runs" in output.output
    assert "A recipe file (.toml)" in runner.invoke(app, ["run", "--help"]).output


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["run", "mine.toml", "--sett", "a=1"]])
def test_a_mistyped_command_shows_its_usage(arguments: list[str]):
    output = CliRunner().invoke(app, arguments)
    assert output.exit_code == 2
    assert "Usage:" in output.output


def test_tasks_lists_every_family():
    output = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["tasks"])
    assert output.exit_code == 0
    for family in ("agreement", "blimp", "clams", "multiblimp", "pairs"):
        assert f"{family}/" in output.output


def test_the_installed_command_refuses_without_a_stack_trace(folder: Path):
    done = subprocess.run(
        [sys.executable, "-c", "from crosstime.cli.main import main; main()", "run", "absent.toml"],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("crosstime: RECIPE: Cannot read recipe absent.toml: No such file or directory")
    assert len(done.stderr.splitlines()) == 1


def test_the_suites_of_these_tests_are_sound(suites: Path):
    assert Suite.open(suites / "models").revisions == ("step0", "step4")
    assert Suite.open(suites / "wide").d_model == 32


def test_a_reader_that_stops_reading_is_no_error(folder: Path):
    """As in ``crosstime recipes | head -1``, whose reader has gone before anything is written."""
    program = "import sys; sys.stdin.read(); from crosstime.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--help"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    process.stdout.close()
    process.stdin.close()
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=300) == 0, message
    assert message == b""
