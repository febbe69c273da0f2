"""The verbs that run checkpoints, with --remote: a server has the models, the client a Hub name; their tables agree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from crosstime.activations.store import ActivationStore
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions import Site
from tasks.agreement import sentences

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]
NAME, REVISIONS = "somebody/tiny", ("step0", "step6")
SMALL = TinyConfig(
    d_model=16, n_layers=2, n_heads=2, vocab_size=512, sequence_length=16, batch_tokens=64,
    steps=6, checkpoints=(0, 6), lr=1e-2, warmup=2,
)  # fmt: skip
# A process of its own: nnsight's tracing of client and server would meet in one.
SERVER = """
import json, os, sys
from pathlib import Path
from stand_in_hub import StandInHub

folder, name, *revisions = sys.argv[1:]
branches = {revision: Path(folder, revision) for revision in revisions}
with StandInHub({name: branches | {"main": branches[revisions[-1]]}}) as hub:
    os.environ["HF_ENDPOINT"] = hub.url
    from ndif_stub import Stub
    from nnsight import TransformersModel

    stub = Stub()
    for revision in revisions:
        model = TransformersModel(name, revision=revision, task="text-generation", dispatch=True)
        stub.models[model.to_model_key()] = model
    print(json.dumps([hub.url, stub.host]), flush=True)
    sys.stdin.read()
"""
CLIENT = """
import json, sys
from crosstime.cli.main import main

for arguments in json.load(sys.stdin):
    sys.argv = ["crosstime", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)
    print("done", arguments[0])
"""
VERBS = {
    "accuracy": ("agreement/simple", "-n", "8", "-r", ",".join(REVISIONS)),
    "similarity": ("text.txt", "--site", "resid.0", "--sequences", "4", "--length", "8", "-r", ",".join(REVISIONS)),
    "ngrams": ("text.txt", "--sequences", "4", "--length", "8", "--counted", "20", "-r", ",".join(REVISIONS)),
    "evaluate": ("text.txt", "crosscoder.safetensors", "--sequences", "4", "--length", "8"),
    "evolve": ("crosscoder.safetensors", "agreement/simple", "-n", "6", "--top", "2"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with a suite, a text and a crosscoder."""
    folder = tmp_path_factory.mktemp("remote")
    train_tiny_suite(folder / "models", sentences(1500, seed=0), SMALL)
    (folder / "text.txt").write_text("\n".join(sentences(60, seed=3)))
    CrossCoder(Origin("tiny", REVISIONS, Site(0), 16), 12).save(folder / "crosscoder.safetensors")
    return folder


@pytest.fixture(scope="module")
def outputs(folder: Path) -> dict[str, str]:
    """What each verb said, run here (`here`), on the server (`there`), and once more when all its jobs were known."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    paths = [ROOT, ROOT / "tests" / "crosstime", ROOT / "tests" / "interventions"]
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_DISABLE_TELEMETRY": "1", "COLUMNS": "200"}

    def client(home: str, commands: list[tuple[str, ...]]) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CLIENT], cwd=folder, capture_output=True, text=True, check=False,
            input=json.dumps(commands), env=environment | {"HF_HOME": str(folder / home), "HF_ENDPOINT": hub},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    arguments = [sys.executable, "-c", SERVER, str(folder / "models"), NAME, *REVISIONS]
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"HF_HOME": str(folder / "server")},
    ) as server:
        try:
            hub, host = json.loads(server.stdout.readline())
            there = [(verb, NAME, *more, "-o", "there", "--remote", host) for verb, more in VERBS.items()]
            harvest = ("text.txt", "--site", "resid.0", "--length", "8", "--tokens", "70", "-r", ",".join(REVISIONS))
            commands = [(verb, "models", *more, "-o", "here") for verb, more in VERBS.items()]
            commands += [("harvest", "models", harvest[0], "stored-here", *harvest[1:]), *there]
            commands.append(("harvest", NAME, harvest[0], "stored-there", *harvest[1:], "--remote", host))
            first = client("client", commands)
            shutil.copytree(folder / "there", folder / "first")
            shutil.rmtree(folder / "there" / "cache")
            again = client("client", there[:2])
        finally:
            server.communicate()
    assert server.returncode == 0
    return {"first": first, "again": again, "host": host}


@pytest.mark.parametrize("table", ["accuracy", "similarity", "ngrams", "evaluation", "pairs"])
def test_tables_from_a_server_are_those_from_here(folder: Path, outputs: dict[str, str], table: str):
    # A Hub name does not tell how many tokens a checkpoint has seen; this folder does.
    here, there = (
        pd.read_csv(folder / place / f"{table}.csv").drop(columns="tokens", errors="ignore")
        for place in ("here", "there")
    )
    assert len(here)
    pd.testing.assert_frame_equal(there, here, rtol=1e-4, atol=1e-4)


def test_every_verb_writes_the_same_tables_from_a_server(folder: Path, outputs: dict[str, str]):
    def tables(place: str) -> set[str]:
        return {path.name for path in (folder / place).iterdir() if path.suffix in (".csv", ".json")}

    assert tables("there") == tables("here") | {"jobs.json"}


def test_a_store_from_a_server_holds_the_activations_of_one_from_here(folder: Path, outputs: dict[str, str]):
    here, there = (ActivationStore.open(folder / f"stored-{place}") for place in ("here", "there"))
    assert there.n_tokens == here.n_tokens == 70
    torch.testing.assert_close(there.scales, here.scales, rtol=1e-4, atol=1e-4)


def test_what_went_over_the_wire_is_said(outputs: dict[str, str]):
    lines = re.findall(
        rf"^{re.escape(outputs['host'])}: (\d+) requests, (\S+) kB sent, (\S+) kB received$", outputs["first"], re.M
    )
    assert len(lines) == len(VERBS) + 1
    assert all(int(requests) > 0 and float(sent) > 0 and float(received) > 0 for requests, sent, received in lines)


def test_the_same_command_takes_up_the_jobs_that_it_sent(folder: Path, outputs: dict[str, str]):
    lines = re.findall(r"(\d+) requests?, \S+ kB sent, (\S+) kB received", outputs["again"])
    assert len(lines) == 2
    assert {int(requests) for requests, _ in lines} == {0}
    assert all(float(received) > 0 for _, received in lines)
    for table in ("accuracy", "similarity"):
        first, again = ((folder / place / f"{table}.csv").read_bytes() for place in ("first", "there"))
        assert first == again
