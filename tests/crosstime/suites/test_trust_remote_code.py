"""Python code that checkpoints bring runs only where it is allowed, and nobody is asked on the terminal."""

import builtins
import json
import re
import subprocess
import sys

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from crosstime.errors import SuiteError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from crosstime.suites.train_tokenizer import train_tokenizer
from interventions import Model
from interventions.errors import CheckpointLoadError
from tasks.agreement import sentences

CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig
Path({marker!r}).touch()
class Mine(LlamaConfig):
    model_type = "mine"
"""
MODEL = """
from transformers import LlamaForCausalLM
from .configuration_mine import Mine
class MineForCausalLM(LlamaForCausalLM):
    config_class = Mine
"""
OWN_CODE = (
    r"by Python code of its own \(auto_map\).*trust_remote_code=True \(--trust-remote-code .*suite\.trust_remote_code"
)


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """A suite of one checkpoint with code of its own; the code makes the file ``ran`` beside it."""
    tokenizer = train_tokenizer(list(sentences(300, seed=0)), 400)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    folder = tmp_path / "suite" / "step1"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "configuration_mine.py").write_text(CONFIGURATION.format(marker=str(tmp_path / "ran")))
    (folder / "modeling_mine.py").write_text(MODEL)
    name(folder, "mine")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("asked on the terminal"))
    return tmp_path


def name(folder, model_type):
    """Give a checkpoint a type of model, and name its own code for it."""
    path = folder / "config.json"
    own = {"AutoConfig": "configuration_mine.Mine", "AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": model_type, "auto_map": own}))


def test_code_of_a_checkpoint_is_refused_by_everything_that_opens_one(own_code):
    suite = Suite.open(own_code / "suite")
    for use in (suite.verify, lambda: suite.fingerprint, lambda: suite.d_model, lambda: Compute().open(suite, "step1")):
        with pytest.raises(SuiteError, match=OWN_CODE):
            use()
    with pytest.raises(CheckpointLoadError, match=OWN_CODE):
        Model.open(own_code / "suite" / "step1")
    assert not (own_code / "ran").exists()


def test_code_that_is_allowed_runs(own_code):
    suite = Suite.open(own_code / "suite", trust_remote_code=True)
    suite.verify()
    with Compute().open(suite, "step1") as model:
        assert type(model.module).__name__ == "MineForCausalLM"
    assert suite.select(["step1"]).trust_remote_code
    assert (own_code / "ran").exists()


def test_where_transformers_has_a_class_the_code_does_not_run_and_a_warning_says_so(own_code):
    name(own_code / "suite" / "step1", "llama")
    suite = Suite.open(own_code / "suite")
    with pytest.warns(RuntimeWarning, match=r"brings Python code of its own .* was not run: .* 'llama' opened it"):
        suite.verify()
    assert not (own_code / "ran").exists()


def test_code_of_a_tokenizer_is_refused(own_code):
    folder = own_code / "suite" / "step1"
    name(folder, "llama")
    path = folder / "tokenizer_config.json"
    own = {"tokenizer_class": "MineTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_mine.MineTokenizer", None]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    with pytest.raises(SuiteError, match="cannot read the tokenizer of revision 'step1'.*" + OWN_CODE):
        _ = Suite.open(own_code / "suite").tokenizer


@pytest.mark.slow
def test_the_command_line_refuses_code_without_asking_and_allows_it_by_an_option(own_code):
    command = [
        sys.executable,
        "-m",
        "crosstime",
        "accuracy",
        str(own_code / "suite"),
        "agreement/simple",
        "--limit",
        "40",
    ]
    command += ["--out", str(own_code / "survey")]
    refused = subprocess.run(command, input="y\n", capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert re.search(OWN_CODE, " ".join(refused.stderr.split()))
    assert not (own_code / "ran").exists()
    allowed = subprocess.run([*command, "--trust-remote-code"], capture_output=True, text=True, check=False)
    assert allowed.returncode == 0, allowed.stderr
