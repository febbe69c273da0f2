"""The client against a server that runs requests, and that refuses, breaks off, forgets and lies when told to."""

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
    """Small pauses, and no memory of other tests' servers."""
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
    found = Stub()
    yield found
    found.close()


@pytest.fixture
def away(stub, module_of, tokenizer, monkeypatch):
    """Opens a model that runs on the stub; here its weights are zero, so that no number can come from them."""

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
def test_numbers_come_from_the_server_and_equal_those_of_a_local_run(tiny, away, prompts, decompose, name):
    here, there = tiny(name).model, away(name)
    sites = [Site(0, "mlp"), Site(1)]
    expected, found = fetch(here, RAGGED, sites), fetch(there, RAGGED, sites)
    for site in sites:
        torch.testing.assert_close(found[site], expected[site], **CLOSE)
    torch.testing.assert_close(score(there, prompts), score(here, prompts), **CLOSE)
    torch.testing.assert_close(log_likelihoods(there, RAGGED), log_likelihoods(here, RAGGED), **CLOSE)
    clean = decompose(here, prompts)
    for method in ("ig", "exact"):
        expected = indirect_effects(here, prompts, Site(1), clean, Estimator(method)).per_feature()
        found = indirect_effects(there, prompts, Site(1), clean, Estimator(method)).per_feature()
        torch.testing.assert_close(found, expected, **CLOSE)
    expected = ablate(here, prompts, Site(1), clean, [3, [3, 5]]).metric
    torch.testing.assert_close(ablate(there, prompts, Site(1), clean, [3, [3, 5]]).metric, expected, **CLOSE)


def test_the_server_is_asked_once_what_it_runs(stub, away):
    first = away()
    asked = len(stub.requests)
    second = away()
    assert asked == 2
    assert len(stub.requests) == asked
    assert (second.components, second.dtype) == (first.components, first.dtype)
    assert second.remote.facts == {"gpt_neox": {"dtype": "float32"}}


def test_only_tokens_at_the_site_come_back(stub, away):
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


def test_two_activations_go_up_and_one_gradient_comes_down_whatever_the_number_of_nodes(away, prompts, decompose, tiny):
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


def test_a_sandboxed_server_is_found_out_and_gets_exact_effects(stub, tiny, away, prompts, decompose):
    here, there = tiny("gpt_neox").model, away()
    clean = decompose(here, prompts)
    stub.gradients = False
    with pytest.warns(RuntimeWarning, match="effects are exact ones"):
        found = indirect_effects(there, prompts, Site(1), clean)
    assert found.method == "exact"
    assert there.remote.facts["gpt_neox"]["gradients"] is False
    expected = indirect_effects(here, prompts, Site(1), clean, Estimator("exact"))
    torch.testing.assert_close(found.per_feature(), expected.per_feature(), **CLOSE)
    for method in ("ig", "atp"):
        with pytest.raises(NoGradientsError, match="method='exact'"):
            indirect_effects(there, prompts, Site(1), clean, Estimator(method))


def test_a_server_that_is_said_to_be_sandboxed_is_not_asked(stub, away, prompts):
    model = away(remote=Remote(stub.host, sandboxed=True))
    asked = len(stub.requests)
    assert not model.gradients
    assert away(remote=Remote(stub.host, sandboxed=False)).gradients
    assert len(stub.requests) == asked


def test_refused_connections_broken_answers_and_500s_are_asked_again(stub, away):
    model = away()
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    stub.fail("request", Answer(503, b'{"detail": "busy"}'), DROP)
    stub.fail("response", Answer(500), DROP, Answer(502))
    stub.fail("result", DROP, Answer(503))
    model.remote.jobs.clear()
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)


def test_a_job_is_taken_up_again_where_it_is(stub, away):
    jobs: dict[str, str] = {}
    expected = fetch(away(remote=Remote(stub.host, jobs=jobs)), RAGGED, [Site(1)])[Site(1)]
    sent, kept = len(stub.requests), dict(jobs)
    again = away(remote=Remote(stub.host, jobs=jobs))
    torch.testing.assert_close(fetch(again, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent
    assert again.remote.traffic.requests == 0
    assert jobs == kept
    fetch(again, RAGGED, [Site(0)])
    assert len(stub.requests) == sent + 1


def test_another_server_is_not_asked_for_the_jobs_of_the_first(stub, away):
    jobs: dict[str, str] = {}
    expected = fetch(away(remote=Remote(stub.host, jobs=jobs)), RAGGED, [Site(1)])[Site(1)]
    other, known = Stub(), set(jobs.values())
    try:
        other.models = stub.models
        found = fetch(away(remote=Remote(other.host, jobs=jobs)), RAGGED, [Site(1)])[Site(1)]
    finally:
        other.close()
    torch.testing.assert_close(found, expected)
    assert not {path.split("/")[-1] for _, path, _ in other.asked} & known


def test_the_id_of_a_job_is_written_before_it_is_waited_for(stub, away):
    jobs: dict[str, str] = {}
    model = away(remote=Remote(stub.host, jobs=jobs, outage=0.05))
    known = set(jobs)
    stub.fail("response", *[Answer(500)] * 50)
    with pytest.raises(ServerError):
        fetch(model, RAGGED, [Site(1)])
    assert len(set(jobs) - known) == 1


def test_a_server_that_was_there_may_be_away_for_a_while_but_not_break(stub, away):
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
def test_an_unknown_job_or_an_expired_result_is_sent_again(stub, away, lost):
    model = away()
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    sent = len(stub.requests)
    getattr(stub, lost).clear()
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 1


QUEUED = Answer(200, json.dumps({"id": "j", "status": "QUEUED"}).encode())


def test_a_job_that_a_restarted_server_keeps_queued_for_ever_is_sent_again(stub, away):
    model = away(remote=Remote(stub.host, stalled=0.1))
    expected = fetch(model, RAGGED, [Site(1)])[Site(1)]
    sent = len(stub.requests)
    # Another program sent it: nobody knows whether the server has restarted since.
    stub.fail("response", *[QUEUED] * 1000)
    again = away(remote=Remote(stub.host, jobs=dict(model.remote.jobs), stalled=0.1))
    assert len(stub.requests) == sent
    again.remote.server.submit = _then(again.remote.server.submit, stub.canned["response"].clear)
    torch.testing.assert_close(fetch(again, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 1
    # This program sent it, and then the server was away.
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
    # News are a sign of life even after an interruption.
    model.remote.jobs.clear()
    moving = [
        Answer(200, json.dumps({"id": "j", "status": "QUEUED", "description": str(n)}).encode()) for n in range(60)
    ]
    stub.fail("response", DROP, *moving)
    torch.testing.assert_close(fetch(model, RAGGED, [Site(1)])[Site(1)], expected)
    assert len(stub.requests) == sent + 2


def _then(first: Callable, then: Callable[[], object]) -> Callable:
    def both(*arguments):
        found = first(*arguments)
        then()
        return found

    return both


def test_a_server_that_forgets_every_job_is_given_up(stub, away):
    model = away()
    stub.fail("response", *[Answer(404)] * 1000)
    with pytest.raises(ServerError, match="lost a job of gpt_neox 3 times"):
        fetch(model, RAGGED, [Site(1)])


def test_a_job_that_takes_too_long_is_left_with_its_id(stub, away):
    model = away()
    model.remote.patience = 0.2
    running = json.dumps({"id": "j", "status": "RUNNING"}).encode()
    stub.fail("response", *[Answer(200, running)] * 1000)
    with pytest.raises(TimeLimitError, match=r"Job \w+ of gpt_neox .* was not done after 0.2 s"):
        fetch(model, RAGGED, [Site(1)])


def test_nobody_at_the_address_is_said_so(away, stub):
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
def test_every_refusal_is_an_error_of_its_own(stub, away, answer, kind, text):
    model = away()
    stub.fail("request", *[answer] * 50)
    with pytest.raises(kind, match=text):
        fetch(model, RAGGED, [Site(1)])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Traceback ...\nRuntimeError: CUDA out of memory. Tried to allocate 2 GiB", ServerMemoryError),
        ("Job took longer than timeout: 30 seconds", TimeLimitError),
        ("RevisionNotFoundError: 404 Client Error", RevisionUnknownError),
        ("Model x is not deployed", NotDeployedError),
        ("Traceback ...\nValueError: something else", ServerError),
    ],
)
def test_what_a_failed_job_says_decides_the_kind_of_error(stub, away, said, kind):
    model = away()
    stub.fail("response", *[Answer(200, json.dumps({"id": "j", "status": "ERROR", "description": said}).encode())] * 20)
    with pytest.raises(InterventionError, match=re.escape(said.splitlines()[-1][:20])) as caught:
        read(model, RAGGED.batch(torch.tensor([0])), [Site(1)])
    assert type(caught.value) is kind


def test_a_server_out_of_memory_gets_smaller_batches(stub, away, tiny):
    model = away()
    short = json.dumps({"id": "j", "status": "ERROR", "description": "CUDA out of memory."}).encode()
    stub.fail("response", Answer(200, short))
    with pytest.warns(RuntimeWarning, match="did not fit into memory"):
        found = fetch(model, RAGGED, [Site(1)])[Site(1)]
    torch.testing.assert_close(found, fetch(tiny("gpt_neox").model, RAGGED, [Site(1)])[Site(1)], **CLOSE)


def test_a_result_that_would_run_code_is_not_loaded(stub, away):
    import io

    class Odd:
        def __reduce__(self):
            return print, ("code of the server's",)

    buffer = io.BytesIO()
    torch.save({"found": Odd()}, buffer)
    model = away()
    stub.fail("result", Answer(200, buffer.getvalue()))
    with pytest.raises(ServerError, match="cannot be read"):
        fetch(model, RAGGED, [Site(1)])
    stub.fail("result", Answer(200, b"not a tensor"))
    with pytest.raises(ServerError, match="cannot be read"):
        fetch(model, RAGGED, [Site(0)])


def test_the_key_goes_to_the_server_and_nowhere_else(stub, away, monkeypatch):
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
