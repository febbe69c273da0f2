"""Where the Hub cannot be reached, commands that need it end in one sentence, without the tries of its client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import free_port

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from interventions import Site

TASK = "agreement/simple"
COMMANDS = {
    "SUITE": ["accuracy", "nobody/model", TASK],
    "SUITE: ": ["accuracy", "nobody/model", TASK, "--revisions", "step0,step1"],
    "SUITE: cannot read the configuration": ["similarity", "a=nobody/x,b=nobody/y", "text.txt"],
    "CROSSCODER": ["attribute", "suite", "nobody/crosscoder", TASK],
    "--tokenizer": ["tasks", "show", TASK, "--tokenizer", "nobody/model"],
    "TASK": ["tasks", "show", "blimp/wh_island"],
    "TASK: ": ["accuracy", "suite", "multiblimp/eng/SV-#"],
    "TEXT": ["similarity", "suite", "hf:nobody/text"],
    "--corpus": ["train", "suite", "--corpus", "hf:nobody/text"],
    "--scales-from": ["convert", "c.safetensors", "d", "--scales-from", "nobody/model", "--corpus", "text.txt"],
}
"""Commands by the beginning of their sentences."""
CODE = """
import json, sys
from crosstime.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["crosstime", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 2, arguments
    else:
        raise AssertionError(arguments)
"""


@pytest.mark.slow
def test_no_command_shows_the_tries_of_the_client(tmp_path: Path, brief_suite):
    (tmp_path / "suite").symlink_to(Path(brief_suite["step0"].source).parent)
    (tmp_path / "text.txt").write_text("the cat sleeps\n" * 200)
    CrossCoder(Origin("mine", ("step0", "step6"), Site(0), 16), 12).save(tmp_path / "c.safetensors")
    before = set(tmp_path.iterdir())
    address = f"http://127.0.0.1:{free_port()}"
    place = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, json.dumps(list(COMMANDS.values()))],
        cwd=tmp_path, env=os.environ | place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert len(process.stderr.splitlines()) == len(COMMANDS), process.stderr
    for sentence, beginning in zip(process.stderr.splitlines(), COMMANDS, strict=True):
        assert sentence.startswith(f"crosstime: {beginning}")
        assert "cannot be reached" in sentence or "Connection refused" in sentence
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}
