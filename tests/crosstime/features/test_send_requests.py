"""The client of a language model, against a stand-in endpoint on loopback."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import traceback
from pathlib import Path

import pytest
from stand_in_endpoint import completion, endpoint

from crosstime.errors import AnnotationError, EndpointError, RunError
from crosstime.features import chat_client
from crosstime.features.chat_client import ChatClient
from crosstime.features.endpoint import Endpoint
from crosstime.features.request_cost import TokenPrices, request_cost
from crosstime.features.send_requests import read_requests, send_requests
from crosstime.machine.lock import exclusive

KEY = "sk-a-secret-that-nobody-may-see"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """A key, no proxy between here and loopback, and short pauses."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(chat_client, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(chat_client, "LONGEST_DELAY", 0.01)


def asked(folder: Path, n: int = 3) -> Path:
    rows = [
        {"id": f"f{i}", "feature": i, "messages": [{"role": "user", "content": f"Describe feature {i}."}]}
        for i in range(n)
    ]
    path = folder / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def replies_of(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row["text"] for row in rows}


def echo(body: dict) -> tuple[int, str, dict[str, str]]:
    return completion("about " + body["messages"][-1]["content"])


def test_every_request_gets_its_own_reply_and_is_sent_once(tmp_path):
    lines: list[str] = []
    with endpoint(echo) as stand_in:
        where = Endpoint(stand_in.url + "/", "small-model", concurrency=3, temperature=0)
        assert send_requests(asked(tmp_path, 7), tmp_path / "new" / "replies.jsonl", where, announce=lines.append) == 7
        assert send_requests(tmp_path / "requests.jsonl", tmp_path / "new" / "replies.jsonl", where) == 0
    texts = replies_of(tmp_path / "new" / "replies.jsonl")
    assert texts == {f"f{i}": f"about Describe feature {i}." for i in range(7)}
    assert set(stand_in.paths) == {"/v1/chat/completions"}
    assert set(stand_in.keys) == {f"Bearer {KEY}"}
    assert stand_in.bodies[0].keys() == {"model", "messages", "temperature"}
    assert len(stand_in.bodies) == 7
    # 5 words of 19 + 1 bytes are 5 tokens, and 4 for the message
    assert lines[0] == "small-model: 7 requests, about 63 tokens to read and 1,050 to write"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["replies.jsonl"]


def test_no_more_requests_at_once_than_the_endpoint_takes(tmp_path):
    both_there = threading.Barrier(2, timeout=60)

    def meet(body: dict):
        both_there.wait()
        return echo(body)

    with endpoint(meet) as stand_in:
        send_requests(asked(tmp_path, 8), tmp_path / "r.jsonl", Endpoint(stand_in.url, "m", concurrency=2))
    assert stand_in.most_at_once == 2


@pytest.mark.parametrize(
    "failure",
    [
        (429, '{"error": {"message": "slow down"}}', {"retry-after": "1"}),
        (429, "slow down", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        (500, "oops", {}),
        (503, "<html>busy</html>", {}),
        (408, "", {}),
        (200, "<html>a proxy</html>", {}),
        (200, "", {}),
        (200, b"\xff\xfe", {}),
        (200, '{"choices": []}', {}),
        (200, '{"choices": [{"text": "an older form"}]}', {}),
        (200, '{"choices": [{"message": {"content": 3}}]}', {}),
        (200, '{"choices": [{"message": {"content": "cut', {}),
        (200, "[" * 400, {}),
        (200, "abc", {"content-length": "900"}),
    ],
)
def test_what_may_pass_is_tried_again(tmp_path, failure):
    attempts: dict[str, int] = {}

    def fail_twice(body: dict):
        content = body["messages"][-1]["content"]
        attempts[content] = attempts.get(content, 0) + 1
        return failure if attempts[content] < 3 else echo(body)

    with endpoint(fail_twice) as stand_in:
        # A server that promises more than it sends is waited for until the timeout
        where = Endpoint(stand_in.url, "m", attempts=3, timeout=60 if failure[2].get("content-length") is None else 0.5)
        assert send_requests(asked(tmp_path, 2), tmp_path / "r.jsonl", where) == 2
    assert set(attempts.values()) == {3}
    assert len(replies_of(tmp_path / "r.jsonl")) == 2


def test_attempts_are_bounded_and_what_was_answered_is_kept(tmp_path):
    def fail_one(body: dict):
        return (500, "no memory", {}) if "feature 1" in body["messages"][-1]["content"] else echo(body)

    with endpoint(fail_one) as stand_in:
        where = Endpoint(stand_in.url, "m", concurrency=1, attempts=3)
        with pytest.raises(EndpointError, match=r"^request 'f1': .* HTTP 500: 'no memory' \(3 attempts\)$"):
            send_requests(asked(tmp_path, 4), tmp_path / "r.jsonl", where)
        assert len(stand_in.bodies) == 1 + 3
        assert list(replies_of(tmp_path / "r.jsonl")) == ["f0"]
        # Started again, it continues
        stand_in.answer = echo
        assert send_requests(tmp_path / "requests.jsonl", tmp_path / "r.jsonl", where) == 3
    assert list(replies_of(tmp_path / "r.jsonl")) == ["f0", "f1", "f2", "f3"]


def test_an_endpoint_that_does_not_answer_in_time_is_an_error(tmp_path):
    release = threading.Event()

    def sleep(body: dict):
        release.wait(60)
        return echo(body)

    with endpoint(sleep) as stand_in:
        where = Endpoint(stand_in.url, "m", attempts=2, timeout=0.2)
        with pytest.raises(EndpointError, match=r"did not answer within 0.2 seconds \(2 attempts\)"):
            send_requests(asked(tmp_path, 1), tmp_path / "r.jsonl", where)
        release.set()
    assert not (tmp_path / "r.jsonl").exists()
    with pytest.raises(EndpointError, match="cannot be reached"):
        send_requests(tmp_path / "requests.jsonl", tmp_path / "r.jsonl", dataclasses.replace(where, attempts=1))


@pytest.mark.parametrize(("status", "advice"), [(401, "OPENAI_API_KEY was used"), (400, "HTTP 400"), (302, "HTTP 302")])
def test_a_refusal_stops_at_once(tmp_path, status, advice):
    with endpoint(lambda body: (status, "no", {"location": "http://127.0.0.1:1/"})) as stand_in:
        where = Endpoint(stand_in.url, "m", concurrency=1)
        with pytest.raises(EndpointError, match=advice):
            send_requests(asked(tmp_path, 5), tmp_path / "r.jsonl", where)
    assert len(stand_in.bodies) == 1


def test_without_a_key_there_is_no_header_and_the_refusal_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with endpoint(lambda body: (403, "no", {})) as stand_in:
        where = Endpoint(stand_in.url, "m", key_variable="OTHER_KEY")
        with pytest.raises(EndpointError, match="OTHER_KEY is not set"):
            send_requests(asked(tmp_path), tmp_path / "r.jsonl", where)
    assert set(stand_in.keys) == {None}


@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_key_is_nowhere_even_if_the_endpoint_repeats_it(tmp_path, caplog, status):
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    content = completion(f"your key is {KEY}")[1] if status == 200 else "x" * 190 + KEY
    with endpoint(lambda body: (status, content, {})) as stand_in:
        where = Endpoint(stand_in.url, "m", attempts=1)
        path = asked(tmp_path, 1)
        if status == 200:
            send_requests(path, tmp_path / "r.jsonl", where, announce=lines.append)
        else:
            with pytest.raises(EndpointError) as caught:
                send_requests(path, tmp_path / "r.jsonl", where, announce=lines.append)
            assert "sk-a" not in str(caught.value)
            lines.append("".join(traceback.format_exception(caught.value)))
    contents = "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in contents + caplog.text + "".join(lines) + repr(where)
    assert stand_in.keys == [f"Bearer {KEY}"]


def test_a_stopped_client_continues_after_half_a_line(tmp_path):
    path, replies = asked(tmp_path), tmp_path / "r.jsonl"
    with endpoint(echo) as stand_in:
        where = Endpoint(stand_in.url, "m")
        send_requests(path, replies, where)
        whole = replies.read_bytes()
        for end in (len(whole) - 1, len(whole) - 30, whole.index(b"\n") + 2):
            replies.write_bytes(whole[:end])
            stand_in.bodies.clear()
            send_requests(path, replies, where)
            assert len(stand_in.bodies) == 3 - whole[:end].count(b"\n") - (end == len(whole) - 1)
            assert set(replies_of(replies)) == {"f0", "f1", "f2"}


def test_an_interrupted_client_keeps_replies_that_are_on_their_way(tmp_path, monkeypatch):
    started, release = threading.Event(), threading.Event()

    def slow(body: dict):
        started.set()
        release.wait(60)
        return echo(body)

    def interrupt(futures, return_when):
        assert started.wait(60)
        threading.Timer(0.05, release.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr("crosstime.features.send_requests.wait", interrupt)
    with endpoint(slow) as stand_in:
        where = Endpoint(stand_in.url, "m", concurrency=1)
        with pytest.raises(KeyboardInterrupt):
            send_requests(asked(tmp_path, 5), tmp_path / "r.jsonl", where)
    assert len(stand_in.bodies) == 1
    assert list(replies_of(tmp_path / "r.jsonl")) == ["f0"]


def test_replies_of_another_model_or_request_are_refused_and_those_of_people_taken(tmp_path):
    path, replies = asked(tmp_path), tmp_path / "r.jsonl"
    replies.write_text('{"id": "f1", "text": "by hand"}\n')
    with endpoint(echo) as stand_in:
        assert send_requests(path, replies, Endpoint(stand_in.url, "m")) == 2
        assert replies_of(replies)["f1"] == "by hand"
        with pytest.raises(AnnotationError, match=r"r.jsonl:\d: the reply to 'f\d' is that of another model"):
            send_requests(path, replies, Endpoint(stand_in.url, "other"))
        path.write_text(path.read_text().replace("feature 2.", "feature two."))
        with pytest.raises(AnnotationError, match="the reply to 'f2' is that of another model, temperature or request"):
            send_requests(path, replies, Endpoint(stand_in.url, "m"))
        assert len(stand_in.bodies) == 2


def test_two_clients_do_not_write_one_file(tmp_path):
    with (
        exclusive(tmp_path / ".r.jsonl.lock", work="a test", instead="wait"),
        pytest.raises(RunError, match="is going on"),
    ):
        send_requests(asked(tmp_path), tmp_path / "r.jsonl", Endpoint("http://127.0.0.1:9/v1", "m"))


def test_a_refused_or_empty_text_is_a_reply(tmp_path):
    with endpoint(lambda body: completion(None)) as stand_in, ChatClient(Endpoint(stand_in.url, "m")) as client:
        assert client.reply([{"role": "user", "content": "x"}]) == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": []}', r'requests.jsonl:4: a request needs a string "id"'),
        ('{"id": "g", "messages": []}', r'requests.jsonl:4: a request needs "messages"'),
        ('{"id": "g", "messages": [{"role": "user"}]}', r'requests.jsonl:4: a request needs "messages"'),
        ('{"id": "f1", "messages": [{"role": "user", "content": "x"}]}', r"4: there is a request 'f1' already"),
        ("{", "requests.jsonl:4: not JSON"),
    ],
)
def test_lines_that_are_no_requests_are_refused_before_any_is_sent(tmp_path, line, message):
    path = asked(tmp_path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(AnnotationError, match=message):
        read_requests(path)
    with pytest.raises(AnnotationError, match=message):
        send_requests(path, tmp_path / "r.jsonl", Endpoint("http://127.0.0.1:9/v1", "m"))
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": "example.org/v1"}, "is such as https://HOST/v1"),
        ({"url": "file:///etc/passwd"}, "is such as https://HOST/v1"),
        ({"url": "http://h:port/v1"}, "is such as https://HOST/v1"),
        ({"url": f"https://user:{KEY}@host/v1"}, "no user, password or query"),
        ({"url": f"https://host/v1?key={KEY}"}, "no user, password or query"),
        ({"model": " "}, "needs the name of a model"),
        ({"concurrency": 0}, "concurrency must be at least 1, not 0"),
        ({"attempts": 0}, "attempts must be at least 1, not 0"),
        ({"timeout": float("nan")}, "timeout must be a positive number"),
        ({"temperature": -1}, "temperature must be at least 0"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_without_quoting_secrets(values, message):
    with pytest.raises(EndpointError, match=message) as caught:
        Endpoint(**{"url": "http://h/v1", "model": "m"} | values)
    assert KEY not in str(caught.value)


def test_a_key_that_is_no_header_is_refused_and_not_quoted(monkeypatch):
    for key in ("two words", "line\nbreak", "schlüssel"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(EndpointError, match="OPENAI_API_KEY holds no API key") as caught:
            Endpoint("http://h/v1", "m").key()
        assert key not in str(caught.value)


def test_the_estimate_is_that_of_a_loop_over_messages():
    texts = [["a" * 9, "é" * 4], ["", "x"]]
    requests = [{"messages": [{"role": "user", "content": text} for text in pair]} for pair in texts]
    # 9 bytes are 3 tokens, 8 are 2, none are none, 1 is one; 4 for every message
    read = (4 + 3) + (4 + 2) + (4 + 0) + (4 + 1)
    cost = request_cost(requests, TokenPrices(3, 15), reply_tokens=100)
    assert (cost.requests, cost.read, cost.written) == (2, read, 200)
    assert cost.price == pytest.approx((read * 3 + 200 * 15) / 1_000_000)
    assert request_cost(requests).price is None
    with pytest.raises(EndpointError, match="price of a million tokens"):
        TokenPrices(-1, 2)
