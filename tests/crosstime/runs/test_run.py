from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_run import contents, half_written, home_of, recipe, short_page

import crosstime as ct
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.errors import CrosstimeError, RunError
from crosstime.machine.checksum import checksum_of
from crosstime.machine.tensors import read_tensors
from crosstime.runs.manifest import MANIFEST
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.run import RunResult
from crosstime.runs.stages import report as reporting
from interventions import Bootstrap
from tasks.agreement import pairs

RECIPE = recipe(
    {
        "": {"name": "mine"},
        "suite.tiny": {
            "d_model": 16, "vocab_size": 512, "batch_tokens": 256, "steps": 40, "warmup": 4, "checkpoints": [0, 20, 40]
        },
        "compare": {"revisions": ["step0", "step40"]},
        "corpus": {"held_out": "agreement", "sentences": 400},
        "crosscoder": {"n_features": 32, "steps": 30, "batch_size": 64, "l1": 0.2, "save_every": None},
        "effects": {"top": 2, "steps": None, "resamples": 50},
        "evolve": {"text": None, "resamples": None},
    },
    [{"name": "pairs/mine", "path": "mine.jsonl"}, {"name": "agreement/attractor", "limit": 10}],
)  # fmt: skip
STAGES = ("a tiny suite of checkpoints", "accuracy of every checkpoint", "the crosscoder", "how good it is",
          "indirect effects", "ablations", "features over time", "dips explained", "the report")  # fmt: skip
TABLES = (
    "accuracy", "training", "evaluation", "effects", "error_term", "completeness", "ablation", "faithfulness", "summary"
)  # fmt: skip
FILES = {f"{name}.csv" for name in TABLES} | {
    MANIFEST, "crosscoder.safetensors", "effects.safetensors", "report.html", "charts", "suite", "attribution",
    "metrics.jsonl", "evolution", "tables", "dips.csv", "dips.json", "report_data",
}  # fmt: skip

pytestmark = pytest.mark.slow


def data(count: int, first: int = 0) -> str:
    """Clean and patch prompts as a file of JSON lines."""
    rows = []
    for pair in list(pairs("simple"))[first : first + count]:
        (clean, right), (patch, wrong) = (
            text.removesuffix(" .").rsplit(" ", 1) for text in (pair.right, pair.patch_right)
        )
        rows.append(
            {"clean_prefix": clean, "patch_prefix": patch, "clean_answer": f" {right}", "patch_answer": f" {wrong}"}
        )
    return "\n".join(json.dumps(row) for row in rows)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with the recipe and its data, and with a run that went through."""
    folder = home_of(tmp_path_factory.mktemp("running"), RECIPE, 1500, "mine.toml")
    (folder / "mine.jsonl").write_text(data(9))
    return folder


SECRETS = {
    name: f"secret-{name.lower()}-0123456789" for name in ("HF_TOKEN", "NDIF_API_KEY", "WANDB_API_KEY")
}  # fmt: skip


@pytest.fixture(scope="module")
def first(home: Path) -> RunResult:
    """A whole run, in an environment that holds the user's keys."""
    with pytest.MonkeyPatch.context() as patch:
        for name, key in SECRETS.items():
            patch.setenv(name, key)
        return ct.run(home / "mine.toml", home / "runs")


@pytest.fixture(autouse=True)
def _short_page(first: RunResult, monkeypatch):
    """The first run has a real report; in the others its many charts would take longer than all else."""
    monkeypatch.setattr(reporting, "write_report", short_page)


@pytest.fixture
def again(home: Path, first: RunResult, tmp_path: Path):
    """Runs a copy of the finished run once more, and says which stages were made and which were kept."""
    shutil.copytree(home, tmp_path / "copy")

    class Again:
        folder = tmp_path / "copy"
        run_folder = tmp_path / "copy" / "runs" / "mine"

        def __call__(self, *overrides: str) -> list[str]:
            lines: list[str] = []
            recipe = Recipe.load(self.folder / "mine.toml", overrides)
            # The copy stands for the same files, so it must look like them to the recipe too.
            ct.run(recipe, self.folder / "runs", announce=lines.append)
            assert [line.partition(" ")[2] for line in lines] == list(STAGES)
            return [what for line in lines for made, _, what in [line.partition(" ")] if made == "made"]

    return Again()


def test_a_run_writes_everything(first: RunResult):
    assert {path.name for path in first.folder.iterdir()} == FILES
    assert half_written(first.folder) == []
    assert first.report == first.folder / "report.html"
    shown = first.report.read_text()
    assert all(html.escape(line) in shown for line in first.summary.splitlines())


def test_no_file_of_a_run_holds_a_key_of_the_user(first: RunResult):
    files = [path for path in first.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        assert not [name for name, key in SECRETS.items() if key.encode() in content], path


def test_every_table_is_whole_and_finite(first: RunResult):
    rows = {"accuracy": 3 * 2, "training": 30, "evaluation": 2, "completeness": 2 * 2, "error_term": 2 * 2}
    for name in TABLES:
        table = pd.read_csv(first.folder / f"{name}.csv")
        assert len(table) == rows.get(name, len(table))
        may_lack = ["relie", "relie_low", "relie_high", "ce_recovered", "faithfulness", "completeness"]
        assert not table.drop(columns=may_lack, errors="ignore").isna().any().any(), name
        assert not table.select_dtypes("number").isin([float("inf"), -float("inf")]).any().any(), name


def test_effects_have_a_row_for_each_task_feature_and_checkpoint(first: RunResult):
    effects = first.effects
    features = effects.feature.unique()
    assert 2 <= len(features) <= 2 * 2 * 2
    assert len(effects) == 2 * len(features) * 2
    tensors, _ = read_tensors(first.folder / "effects.safetensors")
    for row in effects.itertuples():
        c = ["step0", "step40"].index(row.revision)
        # The tensor is of all prompts: of the half that selects features, and of the half that tests them
        n = int(first.accuracy[first.accuracy.task == row.task].n.iloc[0])
        of_all = (n // 2 * row.selection_ie + (n - n // 2) * row.ie) / n
        assert tensors[row.task][c, row.feature].item() == pytest.approx(of_all, rel=1e-4, abs=1e-7)


def test_effects_of_a_run_are_those_of_the_verbs_by_hand(first: RunResult):
    suite = ct.Suite.open(first.folder / "suite").select(["step0", "step40"])
    task = ct.tasks.load("agreement/attractor").tokenize(suite.tokenizer, limit=10, seed=3)
    attribution = ct.attribute(suite, CrossCoder.load(first.folder / "crosscoder.safetensors"), task)
    own = first.effects[first.effects.task == "agreement/attractor"]
    selection, held_out = attribution.halves(seed=3)
    features = own.feature.unique().tolist()
    assert set(selection.top(2)) <= set(features)
    table = held_out.table(features, bootstrap=Bootstrap(50, 3))
    measured = own.drop(columns=["selection_ie", "selection_class"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(measured, table, rtol=1e-4, check_dtype=False)

    # The classes are those of the groups, which are ablated on the half that did not class them
    selected = selection.table(features, bootstrap=Bootstrap(2))
    assert own.selection_ie.tolist() == pytest.approx(selected.ie.tolist(), rel=1e-4, abs=1e-7)
    assert own.selection_class.tolist() == selected.class_ie.tolist()
    crosscoder = CrossCoder.load(first.folder / "crosscoder.safetensors")
    by_hand = ct.ablate(suite, crosscoder, held_out.decomposed, features, bootstrap=Bootstrap(2_000, 3))
    rows = first.ablation[(first.ablation.task == task.name) & (first.ablation.kind == "single")]
    assert rows.logit_difference_change.tolist() == pytest.approx(
        by_hand.logit_difference_change.tolist(), rel=1e-3, abs=1e-6
    )


def test_the_manifest_says_what_was_done_with_what(first: RunResult):
    manifest = json.loads((first.folder / MANIFEST).read_text())
    assert list(manifest["stages"]) == [
        "suite", "select", "train", "evaluate", "attribute", "ablate", "evolve", "explain", "report"
    ]  # fmt: skip
    assert manifest["recipe"]["crosscoder"]["n_features"] == 32
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["peak_memory_bytes"] > 1 << 20
    assert manifest["seeds"] == {"recipe": 3, "crosscoder": 124, "suite": 0}
    assert manifest["commit"] is None or len(manifest["commit"]) == 40
    entry = manifest["stages"]["train"]
    assert entry["seconds"] > 0
    assert entry["files"]["training.csv"] == checksum_of(first.folder / "training.csv")


def test_the_tiny_suite_learned_the_corpus_file(first: RunResult):
    records = json.loads((first.folder / "suite" / "suite.json").read_text())["revisions"]
    assert records[-1]["val_loss"] < 0.8 * records[0]["val_loss"]
    assert " the" in first.suite.tokenizer.convert_tokens_to_string(list(first.suite.tokenizer.get_vocab()))


def test_a_second_run_keeps_every_stage(home: Path, first: RunResult):
    before, lines = contents(first.folder), []
    second = ct.run(home / "mine.toml", home / "runs", announce=lines.append)
    assert lines == [f"kept {stage}" for stage in STAGES]
    assert contents(first.folder) == before
    for name in ("accuracy", "evaluation", "effects", "ablation"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))
    assert second.summary == first.summary


def test_a_killed_run_resumes_and_gives_what_a_whole_run_gives(home: Path, first: RunResult, tmp_path, monkeypatch):
    """Also two runs from scratch: every number comes from the seed."""

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("crosstime.runs.stages.ablate.ablate", killed)
        with pytest.raises(KeyboardInterrupt):
            ct.run(home / "mine.toml", tmp_path)
    assert half_written(tmp_path) == []
    assert not (tmp_path / "mine" / "ablation.csv").exists()
    lines: list[str] = []
    ct.run(home / "mine.toml", tmp_path, announce=lines.append)
    assert [line.split()[0] for line in lines] == ["kept"] * 5 + ["made"] * 4
    assert contents(tmp_path / "mine") == contents(first.folder)


@pytest.mark.parametrize(
    ("file", "stage"),
    [("effects.csv", "indirect effects"), ("crosscoder.safetensors", "the crosscoder"),
     ("suite/step40/tokenizer.json", "a tiny suite of checkpoints"), ("report.html", "the report")],
)  # fmt: skip
def test_a_file_cut_short_is_made_again(again, home: Path, first: RunResult, file: str, stage: str):
    shutil.rmtree(again.folder)
    shutil.copytree(first.folder, again.run_folder)
    path = again.run_folder / file
    path.write_bytes(path.read_bytes()[:40])
    lines: list[str] = []
    ct.run(home / "mine.toml", again.folder / "runs", announce=lines.append)
    assert [line for line in lines if line.startswith("made")] == [f"made {stage}"]
    assert contents(again.run_folder) == contents(first.folder)


def test_a_changed_setting_redoes_its_stage_and_what_follows(home: Path, first: RunResult, tmp_path):
    shutil.copytree(first.folder, tmp_path / "mine")
    lines: list[str] = []
    ct.run(Recipe.load(home / "mine.toml", ["effects.top=1"]), tmp_path, announce=lines.append)
    assert [line.split()[0] for line in lines] == ["kept"] * 4 + ["made"] * 5


def test_changed_lines_of_a_data_file_redo_what_was_measured_on_it(again):
    # In the copy every path is another one, so the first run there makes some stages; the second none.
    again()
    assert again() == []
    (again.folder / "mine.jsonl").write_text(data(9, first=20))
    assert again() == [
        "accuracy of every checkpoint",
        "indirect effects",
        "ablations",
        "features over time",
        "dips explained",
        "the report",
    ]


def test_changed_text_trains_everything_anew(home: Path, first: RunResult, tmp_path):
    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        raise Stopped(line)

    shutil.copytree(first.folder, tmp_path / "mine")
    text = (home / "text.txt").read_text()
    try:
        (home / "text.txt").write_text(text.replace("\nthe ", "\nThe ", 1))
        with pytest.raises(Stopped, match="made a tiny suite"):
            ct.run(home / "mine.toml", tmp_path, announce=stop)
    finally:
        (home / "text.txt").write_text(text)


def test_an_error_in_the_middle_leaves_nothing_half_written(home: Path, first: RunResult, tmp_path, monkeypatch):
    shutil.copytree(first.folder, tmp_path / "mine")

    def full(*arguments, **options):
        raise RunError("no space left on the disk")

    with monkeypatch.context() as patched:
        patched.setattr("crosstime.runs.stages.attribute.write_tensors", full)
        with pytest.raises(RunError, match="no space left"):
            ct.run(Recipe.load(home / "mine.toml", ["effects.top=1"]), tmp_path)
    assert half_written(tmp_path) == []
    assert (tmp_path / "mine" / "effects.csv").read_bytes() != contents(first.folder)["effects.csv"]
    lines: list[str] = []
    ct.run(home / "mine.toml", tmp_path, announce=lines.append)
    assert contents(tmp_path / "mine") == contents(first.folder)


def test_a_recipe_by_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(CrosstimeError, match="There is no recipe 'mien'"):
        ct.run("mien", tmp_path)
    assert list(tmp_path.iterdir()) == []
