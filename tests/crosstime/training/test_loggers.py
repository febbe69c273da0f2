"""Metrics of a training run: always JSON Lines, and other loggers if they are requested and installed."""

from __future__ import annotations

import json
import sys
import types

import pytest

from crosstime.errors import CrosscoderError, RunError
from crosstime.training.loggers import LOGGERS, Logging, MetricsWriter


def module(**names: object) -> types.ModuleType:
    """Stands for a package that is not installed."""
    package = types.ModuleType("stand_in")
    vars(package).update(names)
    return package


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_row_is_on_the_disk_as_soon_as_it_is_written(tmp_path):
    with MetricsWriter(Logging(tmp_path / "new" / "run")) as metrics:
        for step in range(3):
            metrics.write({"step": step, "loss": 1.5 / (step + 1)})
            assert len(lines(tmp_path / "new" / "run")) == step + 1
    assert lines(tmp_path / "new" / "run")[1] == {"step": 1, "loss": 0.75}
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["metrics.jsonl"]


def test_a_resumed_training_replaces_the_rows_of_repeated_steps(tmp_path):
    with MetricsWriter(Logging(tmp_path)) as metrics:
        for step in range(5):
            metrics.write({"step": step, "loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # what a kill leaves
    with MetricsWriter(Logging(tmp_path), start=3) as metrics:
        metrics.write({"step": 3, "loss": 2.0})
    assert [(row["step"], row["loss"]) for row in lines(tmp_path)] == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_new_training_drops_earlier_rows(tmp_path):
    for loss in (1.0, 2.0):
        with MetricsWriter(Logging(tmp_path)) as metrics:
            metrics.write({"step": 0, "loss": loss})
    assert lines(tmp_path) == [{"step": 0, "loss": 2.0}]


def test_nan_and_infinity_are_null_in_json(tmp_path):
    with MetricsWriter(Logging(tmp_path)) as metrics:
        metrics.write({"step": 0, "loss": float("nan"), "l0": float("inf")})
    assert lines(tmp_path) == [{"step": 0, "loss": None, "l0": None}]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MetricsWriter(Logging(None)) as metrics:
        metrics.write({"step": 0, "loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make the folder .*file"):
        MetricsWriter(Logging(tmp_path / "file" / "run")).write({"step": 0})


def test_a_training_that_fails_to_start_leaves_earlier_rows_intact(tmp_path):
    with MetricsWriter(Logging(tmp_path)) as metrics:
        metrics.write({"step": 0, "loss": 1.0})
    with MetricsWriter(Logging(tmp_path)):
        pass
    assert lines(tmp_path) == [{"step": 0, "loss": 1.0}]


def test_an_unknown_logger_or_one_without_a_folder_is_rejected(tmp_path):
    with pytest.raises(CrosscoderError, match="no logger 'tensorbord': did you mean 'tensorboard'"):
        Logging(tmp_path, ["tensorbord"])
    with pytest.raises(CrosscoderError, match="Logging to wandb needs a folder"):
        Logging(None, ["wandb"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_logger_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch, name: str, module: str):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CrosscoderError, match=rf"Logging to {name} needs a package: pip install 'crosstime\[{name}\]'"):
        MetricsWriter(Logging(tmp_path, [name]))


def test_tensorboard_gets_every_metric_at_its_step_and_purges_repeated_steps(tmp_path, monkeypatch):
    calls: list = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            calls.append((folder, purge_step))

        def add_scalar(self, *arguments: object) -> None:
            calls.append(arguments)

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module(SummaryWriter=SummaryWriter))
    with MetricsWriter(Logging(tmp_path, ["tensorboard"]), start=4) as metrics:
        metrics.write({"step": 4, "loss": 1.0, "l0": 3.0})
    assert calls == [(str(tmp_path / "tensorboard"), 4), ("loss", 1.0, 4), ("l0", 3.0, 4), "closed"]
    assert len(lines(tmp_path)) == 1


@pytest.mark.parametrize(("environment", "mode"), [(None, "offline"), ("online", "online")])
def test_wandb_stays_on_the_machine_unless_the_environment_says_otherwise(
    tmp_path, monkeypatch, environment: str | None, mode: str
):
    calls: list = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((row, step)),
        finish=lambda: calls.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "wandb", module(init=lambda **options: calls.append(options["mode"]) or run))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    with MetricsWriter(Logging(tmp_path, ["wandb"])) as metrics:
        metrics.write({"step": 7, "loss": 1.0})
    assert calls == [mode, ({"loss": 1.0}, 7), "finished"]


def test_loggers_are_the_extras_of_the_package():
    assert set(LOGGERS) == {"tensorboard", "wandb"}
