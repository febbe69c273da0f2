"""``crosstime train``: one command from a suite and a text to a crosscoder and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from console_command import crosstime

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.suites.suite import Suite
from tasks.agreement import sentences

QUICK = ("--features", "24", "--steps", "12", "--batch", "32", "--length", "8", "--lr", "3e-3", "--held-out", "0.3")


@pytest.fixture(scope="module")
def models(brief_suite: Suite) -> Path:
    return Path(brief_suite["step0"].source).parent


@pytest.fixture
def folder(tmp_path: Path, models: Path, monkeypatch) -> Path:
    (tmp_path / "models").symlink_to(models)
    (tmp_path / "text.txt").write_text("\n".join(sentences(200, seed=3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.parametrize(("kind", "settings"), [("l1", ()), ("batchtopk", ("k=4", "k_start=8")), ("jumprelu", ())])
def test_a_kind_is_trained_saved_and_evaluated_on_text_held_out(
    kind: str, settings: tuple[str, ...], folder: Path, monkeypatch, capsys
):
    extra = [part for setting in settings for part in ("--set", setting)]
    code, out, err = crosstime(
        monkeypatch, capsys, "train", "models", "-c", "text.txt", "--site", "resid.0", "--kind", kind,
        "-r", "step0,step6", "--evaluate", "8", *QUICK, *extra,
    )  # fmt: skip
    assert code == 0, err
    assert {path.name for path in (folder / "crosscoder").iterdir()} == {
        "crosscoder.safetensors", "training.csv", "metrics.jsonl", "evaluation.csv"
    }  # fmt: skip
    crosscoder = CrossCoder.load("crosscoder/crosscoder.safetensors")
    assert (crosscoder.n_features, crosscoder.origin.revisions) == (24, ("step0", "step6"))
    assert crosscoder.activation.name == {"l1": "relu"}.get(kind, kind)
    table = pd.read_csv("crosscoder/evaluation.csv")
    assert table["revision"].tolist() == ["step0", "step6"]
    assert f"{table['fve'][1]:.3f}" in out
    rows = [json.loads(line) for line in Path("crosscoder/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(12))
    assert {"loss", "l2", "sparsity", "l0", "dead", "held_out_loss", "held_out_l2", "lr", "tokens"} <= set(rows[0])
    assert rows[-1]["tokens"] == 12 * 32


def test_an_interrupted_command_goes_on_when_it_is_given_again(folder: Path, monkeypatch, capsys):
    from crosstime.training.trainer import Trainer

    real, steps = Trainer.update, []

    def update(self: Trainer, step: int, x: object) -> object:
        if step == 7 and 7 not in steps:
            steps.append(step)
            raise KeyboardInterrupt
        steps.append(step)
        return real(self, step, x)

    monkeypatch.setattr(Trainer, "update", update)
    command = ("train", "models", "-c", "text.txt", *QUICK, "--evaluate", "0", "--set", "save_every=5")
    crosstime(monkeypatch, capsys, *command)
    assert (folder / "crosscoder" / "training.safetensors").is_file()
    code, _, err = crosstime(monkeypatch, capsys, *command)
    assert code == 0, err
    assert steps == [*range(8), *range(5, 12)]
    assert not (folder / "crosscoder" / "training.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-c", "none.txt"), "there is no text file none.txt"),
        (("-c", "models"), "cannot read models"),
        (("-c", "text.txt", "--kind", "l2"), "There is no kind of crosscoder 'l2'"),
        (("-c", "text.txt", "--set", "lambda=1"), "has no key 'lambda'"),
        (("-c", "text.txt", "--steps", "0"), "steps must be positive, not 0"),
        (("-c", "text.txt", "--site", "resid.9"), "Layer 9 does not exist"),
        (("-c", "text.txt", "--length", "8"), "fewer than a batch of 4,096"),
    ],
)
def test_mistakes_end_in_one_sentence_and_leave_nothing(
    arguments: tuple[str, ...], sentence: str, folder: Path, monkeypatch, capsys
):
    code, _, err = crosstime(monkeypatch, capsys, "train", "models", *arguments)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert not (folder / "crosscoder").exists()
