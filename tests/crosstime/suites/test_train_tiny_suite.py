from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from crosstime.errors import CorpusError, SuiteError
from crosstime.machine.progress import show_progress
from crosstime.suites.corpus import corpus_hash
from crosstime.suites.suite import Suite
from crosstime.suites.tiny_config import ARCHITECTURES, DEMO, DEMO_ATTRACTOR_SHARE, DEMO_SENTENCES, TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from crosstime.suites.train_tokenizer import train_tokenizer
from tasks.agreement import Agreement, sentences

SMALL = TinyConfig(
    d_model=16,
    n_layers=2,
    n_heads=2,
    vocab_size=320,
    sequence_length=16,
    batch_tokens=64,
    steps=12,
    checkpoints=(0, 4, 12),
    lr=1e-2,
    warmup=2,
)
TEXT = list(sentences(300, seed=0))


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    return train_tiny_suite(tmp_path_factory.mktemp("tiny") / "mine", TEXT, SMALL)


def index(suite: Suite) -> dict:
    return json.loads((Path(suite.checkpoints[0].source).parent / "suite.json").read_text())


def weights(suite: Suite, revision: str) -> dict[str, torch.Tensor]:
    return load_file(Path(suite[revision].source) / "model.safetensors")


def test_the_suite_has_the_asked_for_checkpoints_with_steps_and_tokens(suite: Suite):
    assert suite.name == "mine"
    assert [(checkpoint.revision, checkpoint.step, checkpoint.tokens) for checkpoint in suite] == [
        ("step0", 0, 0),
        ("step4", 4, 256),
        ("step12", 12, 768),
    ]
    assert (suite.d_model, suite.n_layers) == (16, 2)


def test_the_index_records_configuration_and_corpus(suite: Suite):
    record = index(suite)
    assert record["corpus"] == corpus_hash(TEXT)
    assert TinyConfig(**{**record["config"], "checkpoints": tuple(record["config"]["checkpoints"])}) == SMALL
    assert record["tokens_per_step"] == 64
    assert record["vocab"] == len(suite.tokenizer) <= 320


def test_validation_loss_falls_from_that_of_chance(suite: Suite):
    losses = [record["val_loss"] for record in index(suite)["revisions"]]
    assert losses[0] == pytest.approx(math.log(len(suite.tokenizer)), abs=0.3)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.5


def test_the_recorded_loss_is_that_of_the_saved_model_on_the_held_out_text(suite: Suite):
    ids = [token for line in TEXT[::20] for token in [*suite.tokenizer(line)["input_ids"], 0]]
    rows = torch.tensor(ids[: len(ids) // 16 * 16]).reshape(-1, 16)[:32]
    for record in index(suite)["revisions"]:
        model = AutoModelForCausalLM.from_pretrained(suite[record["revision"]].source).eval()
        with torch.no_grad():
            expected = model(rows, labels=rows).loss.item()
        assert record["val_loss"] == pytest.approx(expected, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(suite: Suite, tmp_path: Path):
    state = torch.random.get_rng_state()
    again = train_tiny_suite(tmp_path / "again", iter(TEXT), SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.fingerprint == suite.fingerprint
    for revision in suite.revisions:
        first, second = weights(suite, revision), weights(again, revision)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    reseeded = train_tiny_suite(tmp_path / "other", TEXT, replace(SMALL, seed=1, checkpoints=(0,)))
    assert reseeded.fingerprint != suite.select(["step0"]).fingerprint


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_read_back_in_float32_and_learns(architecture: str, tmp_path: Path):
    config = replace(SMALL, architecture=architecture, steps=4, checkpoints=(0, 4))
    suite = train_tiny_suite(tmp_path / architecture, TEXT, config)
    model = AutoModelForCausalLM.from_pretrained(suite["step4"].source)
    assert model.config.model_type == architecture
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert (suite.d_model, suite.n_layers) == (16, 2)
    first, last = (record["val_loss"] for record in index(suite)["revisions"])
    assert last < first


def test_training_ends_with_the_last_checkpoint_on_the_schedule_of_all_steps(suite: Suite, tmp_path: Path):
    config = replace(SMALL, checkpoints=(4,))
    short = train_tiny_suite(tmp_path / "short", TEXT, config)
    assert short.revisions == ("step4",)
    assert all(torch.equal(weights(short, "step4")[name], weight) for name, weight in weights(suite, "step4").items())


def test_nothing_is_left_of_a_training_that_fails(tmp_path: Path):
    with pytest.raises(CorpusError, match="too few for one sequence"):
        train_tiny_suite(tmp_path / "short", ["a b", "c d"], SMALL)
    with pytest.raises(SuiteError, match="corpus of 1 documents is too short"):
        train_tiny_suite(tmp_path / "short", ["a"], SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_training_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("crosstime.suites.train_tiny_suite._validation_loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny_suite(tmp_path / "mine", TEXT, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_not_overwritten(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SuiteError, match="exists already"):
        train_tiny_suite(tmp_path, TEXT, SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "gpt-neox"}, "did you mean 'gpt_neox'"),
        ({"d_model": 20, "n_heads": 4}, r"d_model \(20\) must be a multiple of 2 \* n_heads \(2 \* 4\)"),
        ({"batch_tokens": 100}, r"batch_tokens \(100\) must be a multiple of sequence_length"),
        ({"vocab_size": 256}, "vocab_size must be above 256"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"checkpoints": (4, 2)}, "must be increasing steps"),
        ({"checkpoints": (4, 4)}, "must be increasing steps"),
        ({"checkpoints": ()}, "must be increasing steps"),
        ({"checkpoints": (0, 13)}, r"between 0 and steps \(12\)"),
        ({"checkpoints": (-1, 3)}, r"between 0 and steps \(12\)"),
        ({"lr": 0.0}, "lr must be positive"),
    ],
)
def test_configurations_that_cannot_be_are_refused(change: dict, message: str):
    with pytest.raises(SuiteError, match=message):
        replace(SMALL, **change)


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress_is_shown_when_asked_for_or_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: bool | None, shown: bool
):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with show_progress(progress):
        train_tiny_suite(tmp_path / "mine", TEXT, SMALL)
    assert all((word in stream.getvalue()) == shown for word in ("12/12", "loss", "tokens/s"))


def test_the_tokenizer_gives_every_text_back():
    tokenizer = train_tokenizer(TEXT, 300)
    for text in ["the cat .", " two  blanks ", "é ☃\n\ttab", ""]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == 0
    assert len(tokenizer) == 300


def accuracy(suite: Suite, revision: str, variant: str) -> float:
    task = Agreement().load(variant, None).tokenize(suite.tokenizer, limit=200)
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()
    right = 0
    for prompt, good, bad in zip(task.prompts, task.right, task.wrong, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        right += bool(logits[good] > logits[bad])
    return right / len(task)


@pytest.mark.long
def test_the_demo_first_agrees_with_the_nearest_noun_and_then_with_the_subject(tmp_path: Path):
    text = sentences(DEMO_SENTENCES, seed=0, attractor_share=DEMO_ATTRACTOR_SHARE)
    suite = train_tiny_suite(tmp_path / "demo", text, DEMO)
    assert accuracy(suite, "step0", "simple") < 0.7
    assert accuracy(suite, "step64", "simple") > 0.9
    assert accuracy(suite, "step64", "attractor") < 0.2
    assert accuracy(suite, suite.revisions[-1], "simple") > 0.95
    assert accuracy(suite, suite.revisions[-1], "attractor") > 0.95
