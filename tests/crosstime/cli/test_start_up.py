"""Verbs that run no model start without PyTorch and what stands on it, and so does every mistake in arguments."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from crosstime.crosscoders.exchange import FORMATS
from crosstime.crosscoders.exchange.format_names import FORMAT_NAMES
from crosstime.machine.dtypes import DTYPES, torch_dtype
from crosstime.runs.stages.names import NAMES
from crosstime.runs.stages.registry import STAGES
from interventions import METRICS
from interventions.option_names import METRIC_NAMES

HEAVY = ("torch", "transformers", "nnsight", "datasets", "altair", "pandas", "numpy", "jaxtyping")
CODE = """
import json, sys
from crosstime.cli.main import main
records = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["crosstime", *arguments]
    try:
        main()
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    records.append((code, [name for name in json.loads({heavy!r}) if name in sys.modules]))
print("records", json.dumps(records))
""".replace("{heavy!r}", repr(json.dumps(HEAVY)))


def started(folder: Path, *commands: list[str]) -> tuple[list[tuple[int, list[str]]], str, str]:
    """Exit code and loaded packages after each command, one after another in one process; and what they printed."""
    process = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands)], cwd=folder, capture_output=True, text=True, check=True
    )
    printed, _, records = process.stdout.rpartition("records ")
    return [(code, loaded) for code, loaded in json.loads(records)], printed, process.stderr


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a text, a file in place of a crosscoder, and a suite that nobody opens."""
    (tmp_path / "text.txt").write_text("the cat sleeps\n")
    (tmp_path / "crosscoder.safetensors").write_text("")
    for revision in ("step0", "main"):
        (tmp_path / "suite" / revision).mkdir(parents=True)
        (tmp_path / "suite" / revision / "config.json").write_text("{}")
    return tmp_path


def test_verbs_that_run_no_model_start_without_pytorch(place: Path):
    manifest = {"recipe": {"suite": {"source": "suite"}}, "stages": {}}
    (place / "run").mkdir()
    (place / "run" / "manifest.json").write_text(json.dumps(manifest))
    commands = [["--version"], ["-h"], ["train", "--help"], ["recipes"], ["tasks"], ["tasks", "show", "ioi/abba"]]
    records, printed, _ = started(place, *commands, ["status", "run"])
    assert records == [*[(0, [])] * len(commands), (1, [])]
    assert f"crosstime {importlib.metadata.version('crosstime')}\n" in printed
    assert "ctt-pythia-1b" in printed
    assert "waiting" in printed


def test_a_selection_needs_tables_and_charts_and_no_pytorch(place: Path):
    rows = [("step0", 0, 0.5), ("step64", 64, 0.6), ("main", 512, 0.9)]
    lines = [f"{name},{tokens},{tokens},agreement/simple,10,{share},0,1,0" for name, tokens, share in rows]
    header = "revision,step,tokens,task,n,accuracy,low,high,logit_difference"
    (place / "survey").mkdir()
    (place / "survey" / "accuracy.csv").write_text("\n".join([header, *lines]) + "\n")
    [(code, loaded)], printed, _ = started(place, ["select", "-k", "2"])
    assert (code, "revisions = step0,main" in printed) == (0, True)
    assert not {"torch", "transformers", "nnsight", "datasets"} & set(loaded)


MISTAKES = [
    ["run", "dmeo"],
    ["run", "missing.toml"],
    ["run", "demo", "--set", "crosscoder.stepz=1"],
    ["run", "demo", "--set", "compare.site=resid"],
    ["run", "demo", "--set", "compute.dtype=float8"],
    ["run", "demo", "--set", "effects.baseline=none"],
    ["run", "demo", "--set", "remote.host=example"],
    ["run", "eoc-tiny", "--set", "crosscoder.penalty=l2"],
    ["run", "demo", "--force", "trian"],
    ["run", "parameter-rows", "--set", "rows.matrices=['W_V']"],
    ["run", "parameter-rows", "--set", "null.kinds=['random-weights']"],
    ["demo", "--force", "trian", "--dry-run"],
    ["run", "demo", "--estimator", "ctt"],
    ["train", "suite"],
    ["train", "suite", "--corpus", "missing.txt"],
    ["train", "suite", "--corpus", "text.txt", "--kind", "l2"],
    ["train", "suite", "--corpus", "text.txt", "--set", "k=3"],
    ["train", "suite", "--corpus", "text.txt", "--site", "resid.x"],
    ["train", "suite", "--corpus", "text.txt", "--held-out", "2"],
    ["train", "suite", "--corpus", "text.txt", "--length", "1"],
    ["train", "suite", "--corpus", "text.txt", "--revisions", "step1"],
    ["train", "suite", "--corpus", "text.txt", "--device", "gpu"],
    ["train", "suite", "--corpus", "text.txt", "--shards", "0"],
    ["train", "./missing", "--corpus", "text.txt"],
    ["accuracy", "suite", "agreement/simpel"],
    ["accuracy", "suite", "agremeent"],
    ["accuracy", "suite", "agreement/simple", "--max-tokens", "0"],
    ["accuracy", "suite", "agreement/simple", "--remote", "example"],
    ["similarity", "suite", "text.txt", "--site", "residual.0"],
    ["similarity", "suite", "text.txt", "--sequences", "0"],
    ["ngrams", "suite", "text.md"],
    ["harvest", "suite", "missing.txt", "store"],
    ["harvest", "suite", "text.txt", "store", "--dtype", "int4"],
    ["evaluate", "suite", "text.txt", "missing.safetensors"],
    ["evaluate", "suite", "text.txt", "crosscoder.safetensors", "--scales", "one"],
    ["evolve", "suite", "missing.safetensors", "agreement/simple"],
    ["evolve", "suite", "crosscoder.safetensors", "agreement/simple", "--dip", "step0"],
    ["evolve", "suite", "crosscoder.safetensors", "agreement/simple", "--language", "en"],
    ["convert", "crosscoder.safetensors", "other", "--to", "sealens"],
    ["convert", "missing", "other"],
    ["describe", "missing"],
    ["describe", "run", "--features", "0"],
    ["describe", "run", "--endpoint", "http://127.0.0.1:8000/v1"],
    ["describe", "run", "--endpoint", "localhost", "--model", "mine"],
    ["describe", "run", "--prices", "-1", "2"],
    ["status", "missing"],
    ["report"],
    ["report", "missing"],
    ["report", "run", "--tables", "effects"],
    ["report", "--crosscoder", "missing"],
    ["annotate"],
    ["annotate", "missing"],
    ["serve", "missing"],
    ["tasks", "show", "blipm"],
    ["trian"],
    ["train", "--no-such-option"],
]


def test_mistakes_in_arguments_are_found_without_pytorch(place: Path):
    records, printed, errors = started(place, *MISTAKES)
    wrong = [(arguments, record) for arguments, record in zip(MISTAKES, records, strict=True) if record != (2, [])]
    assert not wrong
    assert printed == ""
    assert "Traceback" not in errors


def test_what_help_says_about_brackets_is_not_taken_for_markup(place: Path):
    records, printed, errors = started(place, ["train", "--help"], ["train", "suite", "--corpus", "text.txt", "[bold]"])
    assert [code for code, _ in records] == [0, 2]
    assert "Another key of a recipe's [crosscoder], such as" in " ".join(printed.split())
    assert "[bold]" in errors


@pytest.mark.parametrize("room", ["interventions", "crosstime.crosscoders.exchange", "crosstime"])
def test_a_name_of_a_lazy_package_is_its_function_even_if_its_module_was_imported_first(room: str):
    code = (
        f"import importlib, {room} as package; "
        "names = [name for name in package.__all__]; "
        "[importlib.import_module(f'{package.__name__}.{name}') for name in ('score', 'patch', 'ablate') "
        "if package.__name__ == 'interventions']; "
        "assert all(type(getattr(package, name)).__name__ != 'module' for name in names "
        "if name not in ('tasks', 'interventions', 'exchange', 'errors')), names"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_that_are_known_without_pytorch_are_those_of_what_they_name():
    assert [stage.name for stage in STAGES] == list(NAMES)
    assert list(METRICS) == list(METRIC_NAMES)
    assert list(FORMATS) == list(FORMAT_NAMES)
    assert [str(torch_dtype(name)) for name in DTYPES] == [f"torch.{name}" for name in DTYPES]
