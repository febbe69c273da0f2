"""The client against a stub of a server that runs requests, and that fails in every way when told to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import torch
from ndif_stub import DROP, Answer, Stub
from nnsight import TransformersModel

import interventions.remote.backend as backend
import interventions.remote.server as server
from interventions import (
    CheckpointLoadError,
    Estimator,
    InterventionError,
    KeyRefusedError,
    Model,
    NoGradientsError,
    NoServerError,
    NotDeployedError,
    NotNdifError,
    Remote,
    RevisionUnknownError,
    Sequences,
    ServerError,
    ServerMemoryError,
    Site,
    TimeLimitError,
    ablate,
    fetch,
    indirect_effects,
    log_likelihoods,
    score,
)
from interventions.forward import read
from interventions.remote import probe

RAGGED = Sequences(((5, 6, 7, 8, 9), (10,), (11, 12, 13)))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short pauses, and no answers of the servers of other tests."""
    monkeypatch.setattr(server, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(server, "LONGEST_DELAY", 0.05)
    monkeypatch.setattr(server, "PATIENCE_AT_FIRST", 0.2)
    monkeypatch.setattr(backend, "FIRST_POLL", 0.005)
    monkeypatch.setattr(backend, "LONGEST_POLL", 0.02)
    monkeypatch.setattr(backend, "UNKNOWN_FOR", 0.1)
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    probe.forget()


@pytest.fixture
def stub():
    server = Stub()
    yield server
    server.close()


@pytest.fixture
def away(stub, module_of, tokenizer, monkeypatch):
    """Opens a model that runs on the stub; its local weights are zero, so that no result can come from them."""

    def open_one(name: str = "gpt_neox", remote: Remote | None = None, max_tokens: int = 512) -> Model:
        monkeypatch.setattr(TransformersModel, "_remoteable_model_key", lambda self: getattr(self, "stub_key", name))
        there = TransformersModel(module_of(name), task="text-generation", tokenizer=tokenizer)
        here = TransformersModel(module_of(name), task="text-generation", tokenizer=tokenizer)
        with torch.no_grad():
            for weight in here._module.parameters():
                weight.zero_()
        stub.models[here.to_model_key()] = there
        return Model.validated(here, name, remote or Remote(stub.host), max_tokens)

    return open_one


@pytest.mark.parametrize("name", ["gpt_neox", "olmo2", "bloom"])
def test_results_come_from_the_server_and_equal_those_of_a_local_run(tiny, away, prompts, decompose, name):
    here, there = tiny(name).model, away(name)
    sites = [Site(0, "mlp"), Site(1)]
    expected, actual = fetch(here, RAGGED, sites), fetch(there, RAGGED, sites)
    for site in sites:
        torch.testing.assert_close(actual[site], expected[site], **CLOSE)
    torch.testing.assert_close(score(there, prompts), score(here, prompts), **CLOSE)
    torch.testing.assert_close(log_likelihoods(there, RAGGED), log_likelihoods(here, RAGGED), **CLOSE)
    clean = decompose(here, prompts)
    for method in ("ig", "exact"):
        expected = indirect_effects(here, prompts, Site(1), clean, Estimator(method)).per_feature()
        actual = indirect_effects(there, prompts, Site(1), clean, Estimator(method)).per_feature()
        torch.testing.assert_close(actual, expected, **CLOSE)
    expected = ablate(here, prompts, Site(1), clean, [3, [3, 5]]).metric
    torch.testing.assert_close(ablate(there, prompts, Site(1), clean, [3, [3, 5]]).metric, expected, **CLOSE)


def test_a_model_is_validated_on_the_server_only_once(stub, away):
    first = away()
    n_requests = len(stub.requests)
    second = away()
    assert n_requests == 2
    assert len(stub.requests) == n_requests
    assert (second.components, second.dtype) == (first.components, first.dtype)
    assert second.remote.facts == {"gpt_neox": {"dtype": "float32"}}


def test_only_the_activations_of_tokens_are_received(stub, away):
    model = away(max_tokens=4096)
    traffic = model.remote.traffic
    before = traffic.received
    text = Sequences((tuple(range(4, 60)) * 8, (5,) * 3))
    x = fetch(model, text, [Site(1)])[Site(1)]
    expected = x.numel() * x.element_size()
    assert expected < traffic.received - before < expected + 3_000
    assert traffic.requests == len(stub.requests)
    half = away(remote=Remote(stub.host, wire="bfloat16"), max_tokens=4096)
    y = fetch(half, text, [Site(1)])[Site(1)]
    assert half.remote.traffic.received < expected / 2 + 3_000
    torch.testing.assert_close(y, x, rtol=1e-2, atol=1e-2)


def test_effects_send_two_activations_and_receive_one_gradient_for_any_number_of_nodes(away, prompts, decompose, tiny):
    model, clean = away(), decompose(tiny("gpt_neox").model, prompts)
    model.max_tokens = 1 << 14
    sizes = []
    for steps in (2, 64):
        before = model.remote.traffic.sent, model.remote.traffic.received, model.remote.traffic.requests
        indirect_effects(model, prompts, Site(1), clean, Estimator("ig", steps=steps))
        after = model.remote.traffic.sent, model.remote.traffic.received, model.remote.traffic.requests
        sizes.append([b - a for a, b in zip(before, after, strict=True)])
    (sent, received, _), (sent_64, received_64, _) = sizes
    assert sent_64 - sent < 62 * prompts.n_tokens * 3 * 8 + 62 * 5 * 8 + 30_000
    assert abs(received_64 - received) < 3_000


def test_a_sandboxed_server_is_recognized_and_effects_are_exact(stub, tiny, away, prompts, decompose):
    here, there = tiny("gpt_neox").model, away()
    clean = decompose(here, prompts)
    stub.gradients = False
    with pytest.warns(RuntimeWarning, match="effects are exact ones"):
        actual = indirect_effects(there, prompts, Site(1), clean)
    assert actual.method == "exact"
    assert there.remote.facts["gpt_neox"]["gradients"] is False
    expected = indirect_effects(here, prompts, Site(1), clean, Estimator("exact"))
    torch.testing.assert_close(actual.per_feature(), expected.per_feature(), **CLOSE)
    for method in ("ig", "atp"):
        with pytest.raises(NoGradientsError, match="method='exact'"):
            indirect_effects(there, prompts, Site(1), clean, Estimator(method))


def test_no_request_tests_for_gradients_if_sandboxed_is_given(stub, away, prompts):
    model = away(remote=Remote(stub.host, sandboxed=True))
    n_requests = len(stub.requests)
    assert not model.gradients
    assert away(remote=Remote(stub.host, sandboxed=False)).gradients
    assert len(stub.requests) == n_requests


def test_dropped_connections_and_status_codes_of_500_are_retried(stub, away):
    model = away()
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    stub.fail("request", Answer(503, b'{"detail": "busy"}'), DROP)
    stub.fail("response", Answer(500), DROP, Answer(502))
    stub.fail("result", DROP, Answer(503))
    model.remote.jobs.clear()
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)


def test_a_second_program_resumes_the_jobs_of_the_first(stub, away):
    jobs: dict[str, str] = {}
    expected = fetch(away(remote=Remote(stub.host, jobs=jobs)), RAGGED, [Site(1)])[Site(1)]
    sent, ids = len(stub.requests), dict(jobs)
    again = away(remote=Remote(stub.host, jobs=jobs))
    torch.testing.assert_close(fetch(again, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent
    assert again.remote.traffic.requests == 0
    assert jobs == ids
    fetch(again, RAGGED, [Site(0)])
    assert len(stub.requests) == sent + 1


def test_jobs_of_one_server_are_not_requested_from_another(stub, away):
    jobs: dict[str, str] = {}
    expected = fetch(away(remote=Remote(stub.host, jobs=jobs)), RAGGED, [Site(1)])[Site(1)]
    second_server, known = Stub(), set(jobs.values())
    try:
        second_server.models = stub.models
        actual = fetch(away(remote=Remote(second_server.host, jobs=jobs)), RAGGED, [Site(1)])[Site(1)]
    finally:
        second_server.close()
    torch.testing.assert_close(actual, expected)
    assert not {path.split("/")[-1] for _, path, _ in second_server.asked} & known


def test_the_id_of_a_job_is_stored_before_anything_waits_for_it(stub, away):
    jobs: dict[str, str] = {}
    model = away(remote=Remote(stub.host, jobs=jobs, outage=0.05))
    known = set(jobs)
    stub.fail("response", *[Answer(500)] * 50)
    with pytest.raises(ServerError):
        fetch(model, RAGGED, [Site(1)])
    assert len(set(jobs) - known) == 1


def test_an_unreachable_server_is_retried_longer_than_one_that_fails_on_the_request(stub, away):
    model = away()
    stub.fail("response", *[Answer(503)] * 12)
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    model.remote.jobs.clear()
    stub.fail("response", *[Answer(500)] * 12)
    with pytest.raises(ServerError, match="HTTP 500"):
        fetch(model, RAGGED, [Site(1)])
    stub.canned.clear()
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)


@pytest.mark.parametrize("lost", ["finished", "results"])
def test_a_job_that_is_unknown_or_has_lost_its_result_is_sent_again(stub, away, lost):
    model = away()
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    sent = len(stub.requests)
    getattr(stub, lost).clear()
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 1


QUEUED = Answer(200, json.dumps({"id": "j", "status": "QUEUED"}).encode())


def test_a_job_that_a_restarted_server_reports_as_queued_forever_is_sent_again(stub, away):
    model = away(remote=Remote(stub.host, stalled=0.1))
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    sent = len(stub.requests)
    # Another program sent the job, so the server may have restarted since
    stub.fail("response", *[QUEUED] * 1000)
    again = away(remote=Remote(stub.host, jobs=dict(model.remote.jobs), stalled=0.1))
    assert len(stub.requests) == sent
    again.remote.server.submit = _then(again.remote.server.submit, stub.canned["response"].clear)
    torch.testing.assert_close(fetch(again, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 1
    # This program sent the job, and then the server was unreachable
    again.remote.jobs.clear()
    stub.fail("response", QUEUED, DROP, *[QUEUED] * 1000)
    submits = iter([lambda: None, stub.canned["response"].clear])
    again.remote.server.submit = _then(
        type(again.remote.server).submit.__get__(again.remote.server), lambda: next(submits)()
    )
    torch.testing.assert_close(fetch(again, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 3


def test_a_job_in_a_long_queue_is_waited_for(stub, away):
    model = away(remote=Remote(stub.host, stalled=0.05))
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    model.remote.jobs.clear()
    sent = len(stub.requests)
    stub.fail("response", *[QUEUED] * 60)
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 1
    # News after an interruption shows that the server still has the job
    model.remote.jobs.clear()
    moving = [
        Answer(200, json.dumps({"id": "j", "status": "QUEUED", "description": str(n)}).encode()) for n in range(60)
    ]
    stub.fail("response", DROP, *moving)
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 2


def _then(function: Callable, after: Callable[[], object]) -> Callable:
    """Return a function that calls `function` and then `after`."""

    def call(*arguments):
        returned = function(*arguments)
        after()
        return returned

    return call


def test_a_job_that_is_lost_three_times_is_an_error(stub, away):
    model = away()
    stub.fail("response", *[Answer(404)] * 1000)
    with pytest.raises(ServerError, match="lost a job of gpt_neox 3 times"):
        fetch(model, RAGGED, [Site(1)])


def test_a_job_beyond_the_time_limit_is_an_error_that_names_its_id(stub, away):
    model = away()
    model.remote.patience = 0.2
    running = json.dumps({"id": "j", "status": "RUNNING"}).encode()
    stub.fail("response", *[Answer(200, running)] * 1000)
    with pytest.raises(TimeLimitError, match=r"Job \w+ of gpt_neox .* was not done after 0.2 s"):
        fetch(model, RAGGED, [Site(1)])


def test_an_address_without_a_server_is_an_error(away, stub):
    model = away()
    model.remote = Remote("http://127.0.0.1:9")
    with pytest.raises(NoServerError, match="No server answers at http://127"):
        fetch(model, RAGGED, [Site(1)])


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (Answer(404), NotNdifError, "takes no NDIF requests"),
        (Answer(405), NotNdifError, "takes no NDIF requests"),
        (Answer(501), NotNdifError, "takes no NDIF requests"),
        (Answer(302), NotNdifError, "takes no NDIF requests"),
        (Answer(200, b"<html>hello</html>"), NotNdifError, "<html>hello"),
        (Answer(401, b'{"detail": "who are you"}'), KeyRefusedError, r"NDIF_API_KEY is not set.*who are you"),
        (Answer(403, b'{"detail": "no"}'), KeyRefusedError, "no"),
        (Answer(422, b'{"detail": "odd body"}'), ServerError, "odd body"),
        (Answer(500, b'{"detail": "broken"}'), ServerError, "HTTP 500: broken"),
    ],
)
def test_every_kind_of_refusal_has_its_own_error(stub, away, answer, kind, text):
    model = away()
    stub.fail("request", *[answer] * 50)
    with pytest.raises(kind, match=text):
        fetch(model, RAGGED, [Site(1)])


@pytest.mark.parametrize(
    ("message", "error_class"),
    [
        ("Traceback ...\nRuntimeError: CUDA out of memory. Tried to allocate 2 GiB", ServerMemoryError),
        ("Job took longer than timeout: 30 seconds", TimeLimitError),
        ("RevisionNotFoundError: 404 Client Error", RevisionUnknownError),
        ("Model x is not deployed", NotDeployedError),
        ("Traceback ...\nValueError: something else", ServerError),
    ],
)
def test_the_message_of_a_failed_job_determines_the_error(stub, away, message, error_class):
    model = away()
    stub.fail(
        "response", *[Answer(200, json.dumps({"id": "j", "status": "ERROR", "description": message}).encode())] * 20
    )
    with pytest.raises(InterventionError, match=re.escape(message.splitlines()[-1][:20])) as caught:
        read(model, RAGGED.batch(torch.tensor([0])), [Site(1)])
    assert type(caught.value) is error_class


def test_a_server_that_runs_out_of_memory_receives_smaller_batches(stub, away, tiny):
    model = away()
    short = json.dumps({"id": "j", "status": "ERROR", "description": "CUDA out of memory."}).encode()
    stub.fail("response", Answer(200, short))
    with pytest.warns(RuntimeWarning, match="did not fit into memory"):
        actual = fetch(model, RAGGED, [Site(1)])[Site(1)]
    torch.testing.assert_close(actual, fetch(tiny("gpt_neox").model, RAGGED, [Site(1)])[Site(1)], **CLOSE)


def test_a_result_that_would_run_code_is_not_loaded(stub, away):
    import io

    class Malicious:
        def __reduce__(self):
            return print, ("code of the server",)

    buffer = io.BytesIO()
    torch.save({"saved": Malicious()}, buffer)
    model = away()
    stub.fail("result", Answer(200, buffer.getvalue()))
    with pytest.raises(ServerError, match="cannot be read"):
        fetch(model, RAGGED, [Site(1)])
    stub.fail("result", Answer(200, b"not a tensor"))
    with pytest.raises(ServerError, match="cannot be read"):
        fetch(model, RAGGED, [Site(0)])


def test_the_api_key_is_sent_to_the_server_and_appears_nowhere_else(stub, away, monkeypatch):
    key = "a-secret-0123456789"
    monkeypatch.setenv("NDIF_API_KEY", key)
    model = away()
    fetch(model, RAGGED, [Site(1)])
    sent = {path.split("/")[1]: headers.get("ndif-api-key") for _, path, headers in stub.asked}
    assert sent == {"request": key, "response": key, "result": None}
    for thing in (repr(model.remote), str(vars(model.remote)), str(model), str(stub.requests)):
        assert key not in thing
    stub.fail("request", Answer(401, f'{{"detail": "bad key {key}"}}'.encode()))
    with pytest.raises(KeyRefusedError) as caught:
        fetch(model, RAGGED, [Site(0)])
    assert key not in str(caught.value)
    assert "(key)" in str(caught.value)


def test_a_folder_cannot_be_opened_on_a_server(tmp_path):
    with pytest.raises(CheckpointLoadError, match="is a folder of this machine"):
        Model.open(tmp_path, remote="http://127.0.0.1:9")


def test_a_model_in_memory_cannot_run_on_a_server(module_of, tokenizer):
    with pytest.raises(InterventionError, match="A model in memory cannot run at http://127"):
        Model.wrap(module_of("gpt_neox"), tokenizer, remote="http://127.0.0.1:9")
