"""Checkpoints that run elsewhere: several at a time, their jobs in a file, and the same tables."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

import crosstime as ct
from crosstime.errors import RunError
from crosstime.machine.progress import Bar
from crosstime.runs.jobs import JobFile
from crosstime.suites.compute import GPU_TOKENS, Compute
from interventions import InterventionError, Model, Remote
from interventions.remote.waiting import StoppedError, pause

HOST = "http://127.0.0.1:9"


def test_a_server_gets_large_batches_and_a_number_of_ones_own_is_kept():
    assert Compute().at(HOST).max_tokens == GPU_TOKENS
    assert Compute().at("local").max_tokens == Compute().max_tokens
    assert Compute(max_tokens=77).at(HOST).max_tokens == 77
    assert Compute(remote=HOST).at(None).remote.host == HOST
    assert Compute(dtype="bfloat16").at(HOST).precision == f"dtype of {HOST}"
    with pytest.raises(InterventionError, match="http:// or https://"):
        Compute(remote="nowhere")


def test_checkpoints_of_a_server_are_worked_on_together_and_given_in_order(learning_suite, monkeypatch):
    together = threading.Barrier(len(learning_suite), timeout=20)
    opened = []

    def open_one(compute, suite, revision):
        opened.append(revision)
        return Checkpoint()

    def work(place, model):
        together.wait()
        return place

    monkeypatch.setattr(Compute, "open", open_one)
    assert Compute(remote=HOST).each(learning_suite, work) == list(range(len(learning_suite)))
    assert sorted(opened) == sorted(learning_suite.revisions)


class Checkpoint:
    """What stands for an open model."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_when_one_checkpoint_fails_the_others_stop_waiting(learning_suite, monkeypatch):
    monkeypatch.setattr(Compute, "open", lambda self, suite, revision: Checkpoint())
    together, stopped = threading.Barrier(len(learning_suite), timeout=20), []

    def work(place, model):
        together.wait()
        if place == 1:
            raise RunError("the second one fails")
        try:
            pause(60.0)
        except StoppedError:
            stopped.append(place)
            raise

    began = time.monotonic()
    with pytest.raises(RunError, match="the second one"):
        Compute(remote=HOST).each(learning_suite, work)
    assert time.monotonic() - began < 30
    assert sorted(stopped) == [place for place in range(len(learning_suite)) if place != 1]


def test_an_interrupt_ends_all_waiting(learning_suite, monkeypatch):
    monkeypatch.setattr(Compute, "open", lambda self, suite, revision: Checkpoint())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    together = threading.Barrier(len(learning_suite), timeout=20)

    def work(place, model):
        if together.wait() == 0:
            os.kill(os.getpid(), signal.SIGINT)
        pause(60.0)

    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            Compute(remote=HOST).each(learning_suite, work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_effects_and_ablations_through_the_simulation_equal_local_ones(learning_suite, learning_crosscoder):
    task = ct.tasks.load("agreement/simple", limit=6)
    here = ct.attribute(learning_suite, learning_crosscoder, task)
    remote = Remote("local")
    there = ct.attribute(learning_suite, learning_crosscoder, task, compute=ct.Compute(remote=remote))
    torch.testing.assert_close(there.ie(), here.ie(), rtol=0, atol=1e-5)
    assert here.ie().abs().max() > 1e-4
    assert remote.traffic.requests > 0
    top = here.top(2)
    alone = ct.ablate(learning_suite, learning_crosscoder, here.decomposed, {"top": top})
    also = ct.ablate(
        learning_suite, learning_crosscoder, here.decomposed, {"top": top}, compute=ct.Compute(remote="local")
    )
    for column in ("accuracy", "logit_difference", "logit_difference_change", "low"):
        assert also[column].tolist() == pytest.approx(alone[column].tolist(), abs=1e-5)


@pytest.mark.slow
def test_accuracy_and_similarity_through_the_simulation_equal_local_ones(learning_suite):
    task = ct.tasks.load("agreement/simple", limit=6)
    here = ct.accuracy(learning_suite, task, sentences=True)
    there = ct.accuracy(learning_suite, task, sentences=True, compute=ct.Compute(remote="local"))
    for column in ("accuracy", "logit_difference", "sentence_difference"):
        assert there[column].tolist() == pytest.approx(here[column].tolist(), abs=1e-4)
    text = ["the dog near the cats runs and sleeps today"] * 20
    arguments = {"n_sequences": 2, "sequence_length": 8}
    alike = ct.similarity(learning_suite, ct.Site(0), text, **arguments)
    also = ct.similarity(learning_suite, ct.Site(0), text, compute=ct.Compute(remote="local"), **arguments)
    assert also["cka"].tolist() == pytest.approx(alike["cka"].tolist(), abs=1e-4)


def test_job_ids_outlive_the_program(tmp_path):
    path = tmp_path / "run" / "jobs.json"
    jobs = JobFile(path)
    assert not path.exists()
    jobs["a"], jobs["b"] = "1", "2"
    assert dict(JobFile(path)) == {"a": "1", "b": "2"}
    assert jobs.pop("a") == "1"
    assert dict(JobFile(path)) == {"b": "2"}
    assert [entry.name for entry in path.parent.iterdir()] == ["jobs.json"]


def test_threads_may_write_job_ids_at_the_same_time(tmp_path):
    jobs = JobFile(tmp_path / "jobs.json")
    threads = [
        threading.Thread(target=lambda n=n: [jobs.__setitem__(f"{n} {i}", str(i)) for i in range(20)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(JobFile(tmp_path / "jobs.json")) == 80


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', '"a"'])
def test_a_file_that_holds_no_job_ids_is_refused(tmp_path, content):
    path = tmp_path / "jobs.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"jobs\.json must hold job ids"):
        JobFile(path)


def test_the_progress_of_parts_adds_up_in_any_order():
    seen = []

    class Seen(Bar):
        def update(self, done, total):
            seen.append((done, total))

    bar = Seen()
    first, second = bar.part(0, 2), bar.part(1, 2)
    second(3, 10)
    first(10, 10)
    second(10, 10)
    assert seen == [(3, 20), (13, 20), (20, 20)]


def test_a_servers_own_dtype_is_said(brief_suite, monkeypatch):
    class Half(Model):
        dtype, name = torch.bfloat16, "tiny@step0"

        def __init__(self):
            pass

    monkeypatch.setattr("crosstime.suites.compute.Model.open", lambda *_, **__: Half())
    with pytest.warns(RuntimeWarning, match=r"runs tiny@step0 in bfloat16, not in float32"):
        Compute(remote=HOST).open(brief_suite, brief_suite.revisions[0])
    Compute(dtype="bfloat16", remote=HOST).open(brief_suite, brief_suite.revisions[0])
