"""The toolkit against a real NDIF server that has three revisions of a model; `run.py` runs this file.

Every result is compared with a local run.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from stack import HOST, Stack

import crosstime as ct
import interventions as iv
from crosstime.runs.jobs import JobFile
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from interventions.remote import probe
from tasks.agreement import sentences

REPOSITORY, REVISIONS = "local/tiny-pythia", ["step64", "step512", "main"]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "suites" / "tiny-pythia"
BRIEF = TinyConfig(
    d_model=64,
    n_layers=4,
    n_heads=4,
    vocab_size=512,
    sequence_length=16,
    batch_tokens=512,
    steps=60,
    checkpoints=(5, 20, 60),
    lr=1e-2,
    warmup=4,
)
WORK = Path(os.environ["CROSSTIME_NDIF_WORK"])
SITE = ct.Site(2)
CLOSE = {"rtol": 0, "atol": 1e-5}
FIGURES: dict[str, float | str] = {}

TRUSTED_ONLY = pytest.mark.skipif(
    os.environ["CROSSTIME_NDIF_ACTOR"] != "Trusted",
    reason="waiting and resuming do not depend on the actor, and a sandbox is started for each request",
)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """The shared suite if it is present, or else a suite that is trained for a few seconds."""
    if SHARED.is_dir():
        return SHARED
    trained, folder = tmp_path_factory.mktemp("trained") / "tiny", tmp_path_factory.mktemp("served")
    train_tiny_suite(trained, sentences(1500, seed=0), BRIEF)
    for step, name in zip(BRIEF.checkpoints, REVISIONS, strict=True):
        (trained / f"step{step}").rename(folder / name)
    return folder


@pytest.fixture(scope="session")
def near(checkpoints) -> ct.Suite:
    return ct.Suite.open(checkpoints, REVISIONS)


@pytest.fixture(scope="session")
def crosscoder(near) -> ct.CrossCoder:
    config = ct.L1Config(n_features=128, steps=40, lr=2e-3, l1=0.5)
    text = list(sentences(2_000, seed=1, attractor_share=0.2))
    return ct.train(near, SITE, text, config, data=ct.DataConfig(batch_size=256, sequence_length=16)).crosscoder


@pytest.fixture(scope="session")
def task(near):
    return ct.tasks.load("agreement/simple", limit=24).tokenize(near.tokenizer)


@pytest.fixture(scope="session")
def stack(checkpoints):
    began = time.monotonic()
    with Stack(os.environ["CROSSTIME_NDIF_ACTOR"], REPOSITORY, checkpoints, WORK) as running:
        FIGURES["seconds to start"] = time.monotonic() - began
        yield running
    report = "".join(
        f"{running.actor}: {name}: {f'{value:.3g}' if isinstance(value, float) else value}\n"
        for name, value in FIGURES.items()
    )
    print("\n" + report)
    if "CROSSTIME_NDIF_FIGURES" in os.environ:
        with Path(os.environ["CROSSTIME_NDIF_FIGURES"]).open("a") as file:
            file.write(report)


@pytest.fixture(scope="session")
def far(stack) -> ct.Suite:
    return ct.Suite.open(REPOSITORY, REVISIONS)


def test_activations_and_scores_equal_local_ones(stack, near, far, task):
    remote, prompts = iv.Remote(HOST), iv.Prompts.of(task)
    for revision in REVISIONS:
        began = time.monotonic()
        with ct.Compute(remote=remote).open(far, revision) as away, ct.Compute().open(near, revision) as here:
            FIGURES[f"seconds to open {revision} for the first time"] = time.monotonic() - began
            assert away.dtype == torch.float32
            sites = [SITE, ct.Site(1, "mlp")]
            expected, actual = iv.fetch(here, prompts, sites), iv.fetch(away, prompts, sites)
            for site in sites:
                torch.testing.assert_close(actual[site], expected[site], **CLOSE)
            torch.testing.assert_close(iv.score(away, prompts), iv.score(here, prompts), **CLOSE)
            summed = iv.log_likelihoods(here, prompts)
            torch.testing.assert_close(iv.log_likelihoods(away, prompts), summed, rtol=1e-5, atol=1e-5)
    assert remote.facts[f"{REPOSITORY}@main"]["dtype"] == "float32"
    FIGURES["traffic of activations and scores"] = str(remote.traffic)


# Several threads warn at once, which a test cannot catch safely; the test below catches the warning of one thread
@pytest.mark.filterwarnings("ignore:.*effects are exact ones")
def test_effects_equal_local_ones(stack, near, far, crosscoder, task):
    remote = iv.Remote(HOST)
    method = "ig" if stack.actor == "Trusted" else "exact"
    actual = ct.attribute(far, crosscoder, task, compute=ct.Compute(remote=remote))
    expected = ct.attribute(near, crosscoder, task, iv.Estimator(method=method))
    assert {result.method for result in actual.effects} == {method}
    assert expected.ie().abs().max() > 1e-3
    top = expected.top(5)
    assert_same("effect", actual.ie(), expected.ie())
    # Exact effects are differences of two passes, whose quotients have larger rounding errors than those of gradients
    atol = 1e-5 if method == "ig" else 1e-4
    assert_same("RelIE of the strongest features", actual.relie()[top], expected.relie()[top], atol)
    FIGURES["traffic of effects"] = str(remote.traffic)
    alone = ct.ablate(near, crosscoder, expected.decomposed, {"top": top})
    there = ct.ablate(far, crosscoder, expected.decomposed, {"top": top}, compute=ct.Compute(remote=remote))
    columns = ["accuracy", "logit_difference", "logit_difference_change"]
    assert_same("ablation", *(torch.tensor(table[columns].to_numpy()) for table in (there, alone)))


def assert_same(name: str, actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    """Compare two results, and report their largest difference."""
    FIGURES[f"largest difference, {name}"] = float((actual - expected).abs().max())
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def test_a_server_without_gradients_is_recognized_and_a_warning_says_so(stack, near, far, crosscoder, task):
    decomposed = ct.decompose_task(near, crosscoder, task)
    with ct.Compute(remote=HOST).open(far, "main") as model:
        arguments = model, decomposed.prompts, SITE, decomposed.clean[-1]
        if stack.actor == "Trusted":
            assert iv.indirect_effects(*arguments).method == "ig"
        else:
            with pytest.warns(RuntimeWarning, match="effects are exact ones"):
                assert iv.indirect_effects(*arguments).method == "exact"


def test_methods_that_need_gradients_are_errors_in_a_sandbox(stack, far, crosscoder, task):
    if stack.actor == "Trusted":
        effects = ct.attribute(far, crosscoder, task, iv.Estimator("atp"), compute=ct.Compute(remote=HOST))
        assert effects.effects[0].method == "atp"
    else:
        with pytest.raises(iv.NoGradientsError, match="method='exact'"):
            ct.attribute(far, crosscoder, task, iv.Estimator("atp"), compute=ct.Compute(remote=HOST))


def test_edits_and_patches_equal_local_ones(stack, near, far, task):
    prompts = iv.Prompts.of(task)
    with ct.Compute(remote=HOST).open(far, "main") as away, ct.Compute().open(near, "main") as here:
        shift = torch.linspace(-1, 1, here.d_model)
        edits = {ct.Site(1, "mlp"): lambda x: x + shift.to(x.device)}
        torch.testing.assert_close(iv.score(away, prompts, edits=edits), iv.score(here, prompts, edits=edits), **CLOSE)
        x = iv.fetch(here, prompts, [ct.Site(1)])[ct.Site(1)]
        put = {ct.Site(1): x * 0.5, ct.Site(2, "attn"): x}
        torch.testing.assert_close(iv.patch(away, prompts, put), iv.patch(here, prompts, put), **CLOSE)
        with pytest.raises(iv.MixedModelsError):
            iv.score(away, prompts, edits={ct.Site(1): lambda x: x + here.blocks[0].output})


def test_what_does_not_exist_is_named(stack, far):
    with pytest.raises(iv.RevisionUnknownError, match="step3"):
        iv.Model.open(REPOSITORY, revision="step3", remote=HOST)
    with pytest.raises(iv.CheckpointLoadError, match="nobody/nothing"):
        iv.Model.open("nobody/nothing", remote=HOST)
    with pytest.raises(iv.NoServerError):
        iv.Model.open(REPOSITORY, revision="main", remote=iv.Remote("http://127.0.0.1:9", outage=0.1))
    from stack import HUB

    probe.forget()
    with pytest.raises(iv.NotNdifError):
        iv.Model.open(REPOSITORY, revision="main", remote=HUB)


def test_the_overhead_of_a_warm_server_is_measured(stack, near, far, task):
    prompts, compute = iv.Prompts.of(task), ct.Compute(max_tokens=4096, remote=iv.Remote(HOST))
    took = {}
    for name, suite, machine in (("here", near, ct.Compute(max_tokens=4096)), ("there", far, compute)):
        with machine.open(suite, "main") as model:
            times = []
            for _ in range(5):
                began = time.monotonic()
                iv.fetch(model, prompts, [SITE])
                times.append(time.monotonic() - began)
                compute.remote.jobs.clear()
            took[name] = sorted(times)[2]
    FIGURES["milliseconds that a warm fetch takes longer"] = 1e3 * (took["there"] - took["here"])


@TRUSTED_ONLY
def test_revisions_are_in_flight_together(stack, far, task):
    prompts = iv.Prompts.of(task)
    remote = iv.Remote(HOST)
    compute = ct.Compute(max_tokens=4096, remote=remote)

    def work(checkpoint_index, model):
        for layer in range(8):
            iv.fetch(model, prompts, [ct.Site(layer % model.n_layers)])
            remote.jobs.clear()

    def three_over_one(rounds: int) -> float:
        times = {1: [], 3: []}
        for _ in range(1 + rounds):
            for n, runs in times.items():
                began = time.monotonic()
                compute.each(far.select(REVISIONS[:n]), work)
                runs.append(time.monotonic() - began)
        # The first round warms up.
        return median(times[3][1:]) / median(times[1][1:])

    busy = os.getloadavg()[0]
    FIGURES["three revisions in flight over one, all on these cores"] = three_over_one(5)
    # A server spends its time in forward passes on its own devices, but here three models share the client's cores
    wait = stack.work / "forward_seconds"
    wait.write_text("0.25")
    try:
        ratio = three_over_one(3)
    finally:
        wait.unlink()
    FIGURES["three revisions in flight over one, forward passes of 0.25 s elsewhere"] = ratio
    if ratio >= 2 and busy > 1.5 * (os.cpu_count() or 1):
        pytest.skip(f"other programs cause a load of {busy:.1f}; three revisions took {ratio:.1f} times as long as one")
    assert ratio < 2


@TRUSTED_ONLY
def test_a_program_resumes_its_jobs_after_the_api_was_killed(stack, near, far, crosscoder, task, tmp_path):
    decomposed = ct.decompose_task(near, crosscoder, task)
    compute = ct.Compute(max_tokens=256)

    def effects(suite: ct.Suite, remote: iv.Remote | None) -> torch.Tensor:
        on_server = replace(compute, remote=remote)
        return ct.attribute(suite, crosscoder, decomposed, iv.Estimator("exact"), compute=on_server).ie()

    expected = effects(near, None)
    uninterrupted = iv.Remote(HOST)
    effects(far, uninterrupted)
    path = tmp_path / "jobs.json"
    first = iv.Remote(HOST, jobs=JobFile(path), outage=1.0)
    failed = []

    def run() -> None:
        try:
            effects(far, first)
        except iv.RemoteError as error:
            failed.append(error)

    running = threading.Thread(target=run)
    running.start()
    while running.is_alive() and len(first.jobs) < uninterrupted.traffic.requests // 3:
        time.sleep(0.01)
    stack.kill_api()
    running.join(120)
    assert failed, "the API was killed too late"
    assert json.loads(path.read_text()) == dict(first.jobs)
    assert 0 < len(first.jobs) < uninterrupted.traffic.requests

    stack.start_api()
    stack.wait_until_ready()
    # The API reports the last state of the jobs that it had in memory, so they must be sent again
    second = iv.Remote(HOST, jobs=JobFile(path), patience=120.0, stalled=10.0)
    torch.testing.assert_close(effects(far, second), expected, **CLOSE)
    assert second.traffic.requests < uninterrupted.traffic.requests
    FIGURES["requests in all, sent before the API was killed, after"] = (
        f"{uninterrupted.traffic.requests}, {first.traffic.requests}, {second.traffic.requests}"
    )
