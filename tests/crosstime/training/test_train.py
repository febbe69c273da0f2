from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.activations.data_config import DataConfig
from crosstime.activations.harvest import harvest
from crosstime.errors import CorpusError, CrosscoderError, CrosstimeError, StoreError
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import documents
from crosstime.suites.suite import Suite
from crosstime.training.held_out_documents import held_out_documents, without_held_out
from crosstime.training.l1_config import L1Config
from crosstime.training.loggers import Logging
from crosstime.training.loop import LOG_ROWS
from crosstime.training.train import train
from interventions import Site, SiteError
from tasks.agreement import sentences

TEXT = list(sentences(200, seed=3))
CONFIG = L1Config(n_features=12, steps=30, lr=3e-3, l1=0.05, seed=5)
DATA = DataConfig(batch_size=32, sequence_length=8, buffer_tokens=1024)


@pytest.fixture(scope="module")
def suite(brief_suite: Suite) -> Suite:
    return brief_suite


def test_training_lowers_the_loss_and_logs_every_step_of_a_short_run(suite: Suite):
    trained = train(suite, Site(0), TEXT, CONFIG, data=DATA)
    assert list(trained.log.columns) == ["step", "loss", "l2", "sparsity", "l0", "dead"]
    assert trained.log.step.tolist() == list(range(30))
    assert trained.log.l2.tail(5).mean() < 0.8 * trained.log.l2.head(3).mean()
    assert trained.tokens == 30 * 32
    assert not trained.crosscoder.training


def test_a_long_run_is_logged_about_a_hundred_times_and_at_its_last_step(suite: Suite):
    config = L1Config(n_features=4, steps=250, lr=1e-3)
    log = train(suite, Site(0), TEXT, config, data=replace(DATA, batch_size=2)).log
    assert LOG_ROWS <= len(log) <= 1.3 * LOG_ROWS
    assert log.step.iloc[-1] == 249


def test_the_crosscoder_remembers_what_it_was_trained_on(suite: Suite):
    origin = train(
        suite.select(["step6", "step0"]), Site(-1), TEXT, CONFIG, data=replace(DATA, seed=8)
    ).crosscoder.origin
    assert (origin.suite, origin.revisions, origin.d_model) == ("mine", ("step6", "step0"), 16)
    assert origin.site == Site(1)
    data_settings = {"trainer": "L1", "batch_size": 32, "sequence_length": 8, "data_seed": 8}
    # What is not frozen is left out, as in crosscoders that were trained before there was a choice
    settings = {name: value for name, value in asdict(CONFIG).items() if name != "frozen"}
    assert origin.training == settings | data_settings


def test_scales_bring_every_checkpoints_activations_to_the_root_of_the_width(suite: Suite):
    trained = train(suite, Site(0), TEXT, CONFIG, data=DATA)
    ids = [token for line in TEXT for token in [*suite.tokenizer(line)["input_ids"], suite.tokenizer.eos_token_id]]
    rows = torch.tensor(ids[: len(ids) // 8 * 8]).reshape(-1, 8)
    for c, checkpoint in enumerate(suite):
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source).eval()
        with torch.no_grad():
            hidden = model(rows, output_hidden_states=True).hidden_states[1][:, 1:]
        # The buffer saw a random part of this text, so the mean norm agrees but for sampling.
        assert (hidden.norm(dim=-1).mean() * trained.crosscoder.scales[c]).item() == pytest.approx(4.0, rel=0.05)


def test_the_same_seeds_give_the_same_crosscoder(suite: Suite):
    first, repeated = (train(suite, Site(0), TEXT, CONFIG, data=replace(DATA, seed=1)) for _ in range(2))
    for name, weight in first.crosscoder.state_dict().items():
        assert torch.equal(weight, repeated.crosscoder.state_dict()[name]), name
    assert first.log.equals(repeated.log)
    different = train(suite, Site(0), TEXT, CONFIG, data=replace(DATA, seed=2))
    assert not torch.equal(first.crosscoder.W_dec, different.crosscoder.W_dec)


def test_a_file_and_its_lines_train_the_same_crosscoder(suite: Suite, tmp_path):
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress("\n".join(TEXT).encode()))
    crosscoders = [train(suite, Site(0), corpus, CONFIG, data=DATA).crosscoder for corpus in (path, [str(path)], TEXT)]
    assert torch.equal(crosscoders[0].W_dec, crosscoders[1].W_dec)
    assert torch.equal(crosscoders[0].W_dec, crosscoders[2].W_dec)


def test_a_short_corpus_is_read_again(suite: Suite):
    trained = train(suite, Site(0), TEXT[:4], CONFIG, data=DATA)
    assert trained.tokens == 30 * 32


def test_a_corpus_shorter_than_a_batch_is_rejected_with_its_length(suite: Suite):
    with pytest.raises(CrosscoderError, match=r"The corpus gives \d+ tokens, fewer than a batch of 512"):
        train(suite, Site(0), TEXT[:4], CONFIG, data=replace(DATA, batch_size=512))


def test_documents_held_out_are_measured_and_change_nothing_but_the_text(suite: Suite, tmp_path):
    trained = train(suite, Site(0), TEXT, CONFIG, data=replace(DATA, validation=0.2), logging=Logging(tmp_path))
    training_text = list(without_held_out(TEXT, 0.2))
    assert 0 < len(TEXT) - len(training_text) == len(list(held_out_documents(TEXT, 0.2)))
    without = train(suite, Site(0), training_text, CONFIG, data=DATA)
    assert torch.equal(trained.crosscoder.W_dec, without.crosscoder.W_dec)
    log = trained.log.drop(columns=["held_out_loss", "held_out_l2"])
    assert log.equals(without.log)
    assert trained.log.held_out_l2.iloc[-1] < 0.8 * trained.log.held_out_l2.iloc[0]
    assert (trained.log.held_out_l2 != trained.log.l2).all()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in trained.log} for row in rows] == trained.log.to_dict("records")
    assert [row["tokens"] for row in rows[:2]] == [32, 64]


def test_held_out_documents_that_do_not_fill_a_batch_are_rejected(suite: Suite):
    with pytest.raises(CrosscoderError, match=r"held-out documents give \d+ tokens, fewer than a batch of 512"):
        train(suite, Site(0), TEXT, CONFIG, data=replace(DATA, batch_size=512, validation=0.05))


def test_an_unknown_precision_is_named(suite: Suite):
    with pytest.raises(CrosscoderError, match="no precision 'bf16': did you mean 'bfloat16'"):
        train(suite, Site(0), TEXT, CONFIG, data=DATA, precision="bf16")


def test_a_store_of_activations_trains_without_running_a_model(suite: Suite, tmp_path, monkeypatch):
    store = harvest(suite, Site(0), TEXT, tmp_path / "store", sequence_length=8, dtype="float32")
    monkeypatch.setattr(Compute, "open", None)
    trained = train(suite, Site(0), store, CONFIG, data=DATA)
    assert trained.tokens == 30 * 32
    assert trained.log.l2.tail(5).mean() < 0.8 * trained.log.l2.head(3).mean()
    assert torch.allclose(trained.crosscoder.scales, store.scales)
    with_length = train(suite, Site(0), store, CONFIG, data=replace(DATA, sequence_length=99))
    assert with_length.crosscoder.origin.training["sequence_length"] == 8
    with pytest.raises(StoreError, match=r"site .*resid\.1"):
        train(suite, Site(1), store, CONFIG, data=DATA)
    with pytest.raises(CrosscoderError, match="no documents to hold out"):
        train(suite, Site(0), store, CONFIG, data=replace(DATA, validation=0.1))


def test_a_corpus_that_cannot_be_read_again_and_is_too_short_is_named(suite: Suite, monkeypatch):
    monkeypatch.setattr("crosstime.suites.corpus.read_lines", lambda source: iter(TEXT[:20]))
    with pytest.raises(CrosscoderError, match=r"The corpus gives \d+ tokens, but 30 steps of 32 need 960"):
        train(suite, Site(0), "hf:somebody/text", CONFIG, data=DATA)


def test_documents_tells_sources_from_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    for source in (path, str(path), [path], [str(path)]):
        lines, in_memory = documents(source)
        assert list(lines) == ["one", "two"]
        assert in_memory
    lines, in_memory = documents(["one sentence .", "another ."])
    assert list(lines) == ["one sentence .", "another ."]
    assert in_memory
    assert documents("hf:a/b")[1] is False


def test_a_layer_that_does_not_exist_is_named(suite: Suite):
    with pytest.raises(SiteError, match="Layer 2 does not exist: the model has layers 0 to 1"):
        train(suite, Site(2), TEXT, CONFIG, data=DATA)


def test_a_corpus_too_short_for_one_sequence_is_named(suite: Suite):
    with pytest.raises(CorpusError, match="too few for one sequence of 8"):
        train(suite, Site(0), ["the"], CONFIG, data=DATA)


def test_a_missing_file_is_named(suite: Suite, tmp_path):
    with pytest.raises(CorpusError, match=r"there is no text file .*absent\.txt"):
        train(suite, Site(0), tmp_path / "absent.txt", CONFIG, data=DATA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "there is no dtype 'float8': did you mean 'float32'"),
        ({"device": "gpu9x"}, "there is no device 'gpu9x'"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
    ],
)
def test_compute_rejects_unknown_values(options: dict, message: str):
    with pytest.raises(CrosstimeError, match=message):
        Compute(**options)
