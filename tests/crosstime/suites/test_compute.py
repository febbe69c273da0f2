"""Where checkpoints run, and one way over all of them: here one by one, on a server several at a time."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import torch

from crosstime.errors import RunError
from crosstime.suites.compute import GPU_TOKENS, Compute
from interventions import InterventionError, Model, Remote
from interventions.remote.pause import StoppedError, pause

HOST = "http://127.0.0.1:9"
MINUTES = 300.0
"""Seconds that no test waits for unless what it tests is broken."""


class OpenModel:
    """Stands for an open model."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def nothing_is_opened(monkeypatch):
    monkeypatch.setattr(Compute, "open", lambda self, suite, revision: OpenModel())


def test_a_server_gets_large_batches_and_a_number_of_ones_own_is_kept():
    assert Compute(remote=HOST).max_tokens == GPU_TOKENS
    assert Compute(remote="local").max_tokens == Compute().max_tokens
    assert Compute(max_tokens=77, remote=HOST).max_tokens == 77


def test_remote_is_a_server_in_whatever_form_it_was_given():
    remote = Remote(HOST)
    assert Compute(remote=HOST).remote.host == HOST
    assert Compute(remote=remote).remote is remote
    assert Compute(remote=False).remote is None
    assert Compute(dtype="bfloat16", remote=HOST).precision == f"dtype of {HOST}"
    with pytest.raises(InterventionError, match="http:// or https://"):
        Compute(remote="nowhere")


def test_checkpoints_of_a_server_are_worked_on_together_and_given_in_order(learning_suite, monkeypatch):
    together = threading.Barrier(len(learning_suite), timeout=MINUTES)
    opened = []

    def open_model(compute, suite, revision):
        opened.append(revision)
        return OpenModel()

    def work(index, model):
        together.wait()
        return index

    monkeypatch.setattr(Compute, "open", open_model)
    assert Compute(remote=HOST).each(learning_suite, work) == list(range(len(learning_suite)))
    assert sorted(opened) == sorted(learning_suite.revisions)


@pytest.mark.usefixtures("nothing_is_opened")
def test_when_one_checkpoint_fails_the_others_stop_waiting(learning_suite):
    together, stopped = threading.Barrier(len(learning_suite), timeout=MINUTES), []

    def work(index, model):
        together.wait()
        if index == 1:
            raise RunError("the second one fails")
        try:
            pause(MINUTES)
        except StoppedError:
            stopped.append(index)
            raise

    with pytest.raises(RunError, match="the second one"):
        Compute(remote=HOST).each(learning_suite, work)
    assert sorted(stopped) == [index for index in range(len(learning_suite)) if index != 1]


def signal_of_the_system() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def signal_that_wakes_nobody() -> None:
    """A signal that arrives after the main thread's last check for one, and before it begins to wait."""
    _thread.interrupt_main(signal.SIGINT)


@pytest.mark.usefixtures("nothing_is_opened")
@pytest.mark.parametrize("interrupt", [signal_of_the_system, signal_that_wakes_nobody])
def test_an_interrupt_ends_all_waiting(learning_suite, interrupt: Callable[[], None]):
    together, stopped = threading.Barrier(len(learning_suite), timeout=MINUTES), []

    def work(index, model):
        if together.wait() == 0:
            interrupt()
        try:
            pause(MINUTES)
        except StoppedError:
            stopped.append(index)
            raise

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Compute(remote=HOST).each(learning_suite, work)
    finally:
        signal.signal(signal.SIGINT, handler)

    # An interrupt while a thread is being started leaves that thread unknown to its pool, which then does not join it.
    deadline = time.monotonic() + MINUTES
    while len(stopped) < len(learning_suite) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(stopped) == list(range(len(learning_suite)))


def test_a_servers_own_dtype_is_said(brief_suite, monkeypatch):
    class Half(Model):
        dtype, name = torch.bfloat16, "tiny@step0"

        def __init__(self):
            pass

    monkeypatch.setattr("interventions.model.Model.open", lambda *_, **__: Half())
    with pytest.warns(RuntimeWarning, match=r"runs tiny@step0 in bfloat16, not in float32"):
        Compute(remote=HOST).open(brief_suite, brief_suite.revisions[0])
    Compute(dtype="bfloat16", remote=HOST).open(brief_suite, brief_suite.revisions[0])
