"""Descriptions of a small run and its null models: by hand, through a stand-in endpoint, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import finished_run, home_of, recipe, short_page
from stand_in_endpoint import Answer, completion, endpoint

import crosstime as ct
from crosstime.cli.main import main
from crosstime.errors import AnnotationError, EndpointError, RunError
from crosstime.features import chat_client
from crosstime.features.endpoint import Endpoint
from crosstime.features.request_cost import TokenPrices, request_cost
from crosstime.machine.lock import exclusive
from crosstime.runs.stages import report as reporting
from crosstime.runs.status import status

pytestmark = pytest.mark.slow

SPARSE = {"crosscoder": {"kind": "topk", "k": 1, "l1": None, "n_features": 48}}
"""A dictionary whose features are silent in some texts."""
NULLS = ["random-weights-0", "permuted-tokens-0"]
SOURCES = ["run", *NULLS]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """No proxy between here and loopback, short pauses, and a short page in place of the report."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(chat_client, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(reporting, "write_report", short_page)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run with two null models."""
    text = recipe(SPARSE) + '\n[null]\nkinds = ["random-weights", "permuted-tokens"]\n'
    return finished_run(home_of(tmp_path_factory.mktemp("describe"), text))


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run, without descriptions."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reply(messages: list[dict[str, str]]) -> str:
    """What the model writes: a complexity by the length of the request, or 1 and 0 in turn."""
    question = messages[-1]["content"]
    n = len(re.findall(r"^Text \d+:", question, re.MULTILINE))
    if question.startswith("Description: "):
        return json.dumps([(len(question) + i) % 2 for i in range(n)])
    return json.dumps({"description": f"words of {len(question)} letters", "complexity": 1 + len(question) % 5})


def answer(body: dict) -> Answer:
    return completion(reply(body["messages"]))


def answer_by_hand(run: Path, requests: str, replies: str, text: Callable[[list], str] = reply) -> None:
    for source in SOURCES:
        folder = run / "descriptions" / source
        rows = [{"id": row["id"], "text": text(row["messages"])} for row in rows_of(folder / requests)]
        (folder / replies).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_each_call_without_an_endpoint_does_the_next_step(run):
    # Requests about the run and both null models, of the same number of features
    lines: list[str] = []
    first = ct.describe(run, {"features": 5, "seed": 4}, prices=TokenPrices(1, 2), announce=lines.append)
    root = run / "descriptions"
    assert list(first.waiting.values()) == [root / source / "descriptions.jsonl" for source in SOURCES]
    assert first.complexity.empty
    assert not first.sentences
    tables = {source: pd.read_csv(root / source / "features.csv") for source in SOURCES}
    for source, table in tables.items():
        assert table.drawn.sum() == 5, source
        assert len(rows_of(root / source / "describe.jsonl")) == len(table) >= 5
    assert not list(root.rglob(".*"))

    # The estimate, whose scores are for descriptions of 100 letters
    assert lines[-1].startswith("left to send, scores included: ")
    described = request_cost(row for source in SOURCES for row in rows_of(root / source / "describe.jsonl"))
    assert int(lines[-1].split(": ")[1].split()[0].replace(",", "")) > described.requests

    # Replies to one source only: nothing to score elsewhere
    answer_by_hand(run, "describe.jsonl", "descriptions.jsonl")
    (root / "run" / "descriptions.jsonl").rename(root / "aside")
    second = ct.describe(run)
    assert list(second.waiting) == [root / "run" / "describe.jsonl", *(root / null / "score.jsonl" for null in NULLS)]
    (root / "aside").rename(root / "run" / "descriptions.jsonl")

    # Descriptions and no scores yet: complexity is known
    third = ct.describe(run)
    assert list(third.waiting) == [root / source / "score.jsonl" for source in SOURCES]
    assert third.complexity.complexity.notna().all()
    assert third.complexity.detection.isna().all()

    # Everything
    answer_by_hand(run, "score.jsonl", "answers.jsonl")
    last = ct.describe(run)
    assert not last.waiting
    assert last.complexity.detection.notna().any()
    assert status(run).finished
    summary = "\n".join(pd.read_csv(run / "summary.csv").text)
    assert all(sentence in summary for sentence in last.sentences)
    assert len(last.sentences) >= 2
    report = (run / "report.html").stat().st_mtime_ns
    assert not ct.describe(run).waiting
    assert (run / "report.html").stat().st_mtime_ns == report


def test_the_tables_are_those_of_independent_calculations(run):
    scipy = pytest.importorskip("scipy.stats")
    with endpoint(answer) as stand_in:
        result = ct.describe(run, {"features": 12}, endpoint=Endpoint(stand_in.url, "small-model"))
    complexity, root = result.complexity, run / "descriptions"
    assert list(dict.fromkeys(complexity.source)) == SOURCES

    # Complexity, onsets and scores, read from the files
    for source, table in complexity.groupby("source"):
        results = run if source == "run" else run / "nulls" / source
        evolution = pd.read_csv(results / "evolution" / "evolution.csv").set_index("feature")
        requests = {row["feature"]: row["messages"] for row in rows_of(root / source / "describe.jsonl")}
        assert table.complexity.tolist() == [1 + len(requests[f][-1]["content"]) % 5 for f in table.feature]
        assert table.onset.tolist() == evolution.onset[table.feature].tolist()
        assert table.peak.tolist() == evolution.peak[table.feature].tolist()
        key = {row["id"]: row for row in rows_of(root / source / "score.key.jsonl")}
        answers = {row["id"]: json.loads(row["text"]) for row in rows_of(root / source / "answers.jsonl")}
        for kind in ("detection", "fuzzing"):
            for row in table.itertuples():
                pairs = [
                    (bool(reply), example["activating"])
                    for name, entry in key.items()
                    if (entry["feature"], entry["kind"]) == (row.feature, kind)
                    for reply, example in zip(answers[name], entry["examples"], strict=True)
                ]
                right = [reply for reply, truth in pairs if truth], [not reply for reply, truth in pairs if not truth]
                score = np.mean([np.mean(half) for half in right]) if all(right) else np.nan
                assert getattr(row, kind) == pytest.approx(score, nan_ok=True)

    # Correlations and means
    places = {"step0": 0, "step12": 1}
    for row in result.sources.itertuples():
        table = complexity[(complexity.source == row.source) & complexity.drawn]
        assert row.complexity == pytest.approx(table.complexity.mean())
        assert row.detection == pytest.approx(table.detection.mean())
        for by in ("onset", "peak"):
            x = table[by].map(places)
            if x.nunique() < 2 or table.complexity.nunique() < 2:
                assert np.isnan(getattr(row, f"{by}_r"))
                continue
            expected = scipy.pearsonr(x, table.complexity)
            assert getattr(row, f"{by}_r") == pytest.approx(expected.statistic)
            assert getattr(row, f"{by}_p") == pytest.approx(expected.pvalue)
            assert getattr(row, f"{by}_low") <= expected.statistic <= getattr(row, f"{by}_high")


def test_an_endpoint_that_fails_midway_is_asked_for_the_rest_only(run):
    left = [5]

    def failing(body: dict) -> Answer:
        left[0] -= 1
        return answer(body) if left[0] >= 0 else (403, "no credit", {})

    root = run / "descriptions"
    with endpoint(failing) as stand_in:
        where = Endpoint(stand_in.url, "small-model", concurrency=1)
        with pytest.raises(EndpointError, match="HTTP 403"):
            ct.describe(run, {"features": 8}, endpoint=where)
    assert len(rows_of(root / "run" / "descriptions.jsonl")) == 5
    assert not (root / "complexity.csv").exists()

    # A dry run sends nothing
    with endpoint(answer) as stand_in:
        where, lines = Endpoint(stand_in.url, "small-model", concurrency=1), []
        ct.describe(run, endpoint=where, dry_run=True, announce=lines.append)
        assert not stand_in.bodies
        assert any(line.startswith("left to send") for line in lines)

        # The rest, each once
        result = ct.describe(run, endpoint=where)
    replies = [root / source / name for source in SOURCES for name in ("descriptions.jsonl", "answers.jsonl")]
    n = sum(len(rows_of(path)) for path in replies)
    assert len(stand_in.bodies) == n - 5
    assert not result.waiting

    # Another model's replies are not mixed with these
    with pytest.raises(AnnotationError, match="another model"):
        ct.describe(run, endpoint=Endpoint("http://127.0.0.1:9/v1", "other-model"))


def test_replies_of_another_form_leave_their_cells_empty(run):
    def careless(body: dict) -> Answer:
        text = reply(body["messages"])
        if text.startswith("["):
            return completion("I would say yes, mostly." if len(text) % 2 else text)
        n = len(body["messages"][-1]["content"])
        return completion(["no idea", "", '{"description": "x", "complexity": 9}', text][n % 4])

    with endpoint(careless) as stand_in:
        result = ct.describe(run, {"features": 16}, endpoint=Endpoint(stand_in.url, "small-model"))
    table = result.complexity
    assert not result.waiting
    unreadable = table.description.isna()
    assert unreadable.any()
    assert (table.note[unreadable] == "the reply has no JSON object with a description").all()
    assert table.complexity[unreadable].isna().all()
    assert table.detection[unreadable].isna().all()
    counts = table[table.drawn].groupby("source", sort=False).description.count()
    assert result.sources.described.tolist() == counts.tolist()


def test_no_reply_of_use_is_no_error(run):
    with endpoint(lambda body: completion("I cannot help with that.")) as stand_in:
        result = ct.describe(run, {"features": 3}, endpoint=Endpoint(stand_in.url, "small-model"))
    assert not result.waiting
    assert result.sources.described.tolist() == [0, 0, 0]
    assert result.sources.complexity.isna().all()
    assert not result.sentences


def test_what_does_not_fit_together_is_refused(run, finished, tmp_path, monkeypatch, capsys):
    for changes, match in (
        ({"features": 0}, "features must be a whole number from 1 on, not 0"),
        ({"seed": -1}, "seed must be a whole number from 0 on, not -1"),
    ):
        with pytest.raises(AnnotationError, match=match):
            ct.describe(run, changes)
    assert not (run / "descriptions").exists()
    with exclusive(run / "run.lock", work="a run", instead="wait"), pytest.raises(RunError, match="a run is going on"):
        ct.describe(run)

    # Other options than those of the requests
    ct.describe(run, {"features": 2})
    with pytest.raises(AnnotationError, match=r"were begun with features 2, not 3: leave the options out"):
        ct.describe(run, {"features": 3})

    # Other descriptions than those that were scored
    answer_by_hand(run, "describe.jsonl", "descriptions.jsonl")
    ct.describe(run)
    answer_by_hand(run, "describe.jsonl", "descriptions.jsonl", lambda messages: '{"description": "others"}')
    with pytest.raises(AnnotationError, match="is about other descriptions than"):
        ct.describe(run)

    # Another training
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["stages"]["evolve"]["key"] = "other"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AnnotationError, match="describes the features of an earlier training"):
        ct.describe(run)

    # On the command line: one sentence, exit code 2; a slow machine has written lines of progress before
    capsys.readouterr()
    for arguments, message in (
        (["--endpoint", "http://127.0.0.1:9/v1"], "--endpoint and --model belong together"),
        (["--features", "0"], "features must be a whole number from 1 on"),
        (["--prices", "-1", "2"], "the price of a million tokens"),
    ):
        monkeypatch.setattr(sys, "argv", ["crosstime", "describe", str(finished), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        error_output = capsys.readouterr().err
        assert (ended.value.code, len(error_output.strip().splitlines())) == (2, 1)
        assert message in error_output


def test_a_run_without_random_weights_says_how_to_make_them(tmp_path, monkeypatch, capsys):
    folder = finished_run(home_of(tmp_path / "plain", recipe(SPARSE)))
    monkeypatch.setattr(reporting, "write_report", short_page)
    with endpoint(answer) as stand_in:
        arguments = ["--features", "4", "--endpoint", stand_in.url, "--model", "small-model"]
        monkeypatch.setattr(sys, "argv", ["crosstime", "describe", str(folder), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    printed = capsys.readouterr()
    assert not ended.value.code
    assert f"'crosstime null {folder} --kind random-weights' makes it" in " ".join(printed.err.split())
    assert "Features that were drawn at random" in printed.out
    assert "No null model was described" in " ".join(printed.out.split())

    # The features of a null model that is made later are described by the next call
    ct.null_models(folder, ["random-weights"])
    assert list(ct.describe(folder).waiting) == [folder / "descriptions" / "random-weights-0" / "describe.jsonl"]
