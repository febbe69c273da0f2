"""Descriptions and scores through files: what is asked, what is read back, and what a stand-in model scores."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from crosstime.crosscoders.decompose import decompose_text
from crosstime.errors import AnnotationError
from crosstime.features.annotation import COLUMNS, annotate
from crosstime.features.contexts import corpus_contexts, silent_contexts
from crosstime.features.description_requests import read_descriptions, write_description_requests
from crosstime.features.description_scores import read_scores, write_score_requests
from crosstime.report.page.context import Context
from crosstime.suites.text_sample import TextSample
from interventions import Bootstrap
from tasks.agreement import sentences

CONTEXTS = {
    3: [
        Context("corpus", ("the", " c", "ats", " eat"), (0.0, 1.0, 4.0, 0.5)),
        Context("corpus", (" dogs", " and", " pigs"), (2.0, 0.0, 2.0)),
    ],
    17: [Context("corpus", ("é\n", '"x"'), (1.0, float("nan")))],
    18: [Context("corpus", ("never",), (0.0,))],
}
FEATURES = [3, 17, 18]


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_file(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_request_shows_the_tokens_on_which_the_feature_fires(tmp_path):
    requests = rows_of(write_description_requests(tmp_path / "requests.jsonl", CONTEXTS))
    assert [(row["id"], row["feature"]) for row in requests] == [("f3", 3), ("f17", 17)]
    system, user = requests[0]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert '{"description": "...", "complexity": 3}' in system["content"]
    # 1.0 of 4.0 and 0.5 of 4.0 are below three tenths of the peak
    assert user["content"] == (
        "Text 1: the c<<ats>> eat\nActivations: 'ats' 10\n\n"
        "Text 2: << dogs>> and<< pigs>>\nActivations: 'dogs' 10, 'pigs' 10"
    )
    assert requests[0]["contexts"][0] == {
        "task": "corpus",
        "str_tokens": ["the", " c", "ats", " eat"],
        "activations": [0.0, 1.0, 4.0, 0.5],
    }
    assert requests[1]["contexts"][0]["activations"] == [1.0, None]


def test_requests_are_not_overwritten_and_not_empty(tmp_path):
    path = write_description_requests(tmp_path / "requests.jsonl", CONTEXTS)
    before = path.read_bytes()
    with pytest.raises(AnnotationError, match="is there already"):
        write_description_requests(path, CONTEXTS)
    assert path.read_bytes() == before
    with pytest.raises(AnnotationError, match="no requests to write"):
        write_description_requests(tmp_path / "none.jsonl", {18: CONTEXTS[18]})
    assert not (tmp_path / "none.jsonl").exists()


def test_replies_become_annotations(tmp_path):
    replies = [
        {"id": "f17", "text": 'Here it is:\n```json\n{"description": "a letter", "complexity": 1}\n```'},
        {"id": "f3", "text": '{"description": " plural {nouns} ", "complexity": 2.5, "reason": "x"}', "model": "m"},
    ]
    notes = read_descriptions(write_file(tmp_path / "replies.jsonl", replies), FEATURES)
    assert tuple(notes.columns) == COLUMNS
    assert notes.feature.tolist() == [3, 17]
    assert notes.description.tolist() == ["plural {nouns}", "a letter"]
    assert notes.complexity.tolist() == [2.5, 1.0]
    assert notes.note.tolist() == ["", ""]
    joined = annotate(pd.DataFrame({"feature": FEATURES}), notes)
    assert joined.description.tolist()[:2] == ["plural {nouns}", "a letter"]


@pytest.mark.parametrize(
    ("text", "description", "note"),
    [
        ("I cannot say.", "", "has no JSON object"),
        ('{"description": 3}', "", "has no JSON object"),
        ('{"description": "a", "complexity"', "", "has no JSON object"),
        ("[" * 300 + "{" * 300 + "}" * 300, "", "has no JSON object"),
        ('{"description": "a"}', "a", "^$"),
        ('{"description": "a", "complexity": 6}', "a", "no number from 1 to 5"),
        ('{"description": "a", "complexity": true}', "a", "no number from 1 to 5"),
        ('{"description": "a", "complexity": "3"}', "a", "no number from 1 to 5"),
        ('{"description": "a", "complexity": NaN}', "a", "no number from 1 to 5"),
    ],
)
def test_what_a_model_answers_otherwise_is_noted(tmp_path, text, description, note):
    notes = read_descriptions(write_file(tmp_path / "replies.jsonl", [{"id": "f3", "text": text}]), FEATURES)
    assert notes.description.tolist() == [description]
    assert re.search(note, notes.note[0])
    assert math.isnan(notes.complexity[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "f4", "text": ""}', r"replies.jsonl:2: there is no request 'f4': .*f3"),
        ('{"id": "f3", "text": ""}', r"replies.jsonl:2: request 'f3' has a reply already"),
        ('{"id": "f17"}', r"replies.jsonl:2: a reply needs the strings \"id\" and \"text\"; 'text' is none"),
        ('{"id": 17, "text": ""}', r"replies.jsonl:2: .*'id' is none"),
        ("[]", "replies.jsonl:2: expected one JSON object a line"),
        ("{", "replies.jsonl:2: not JSON"),
    ],
)
def test_lines_that_are_no_replies_are_refused(tmp_path, line, message):
    path = tmp_path / "replies.jsonl"
    path.write_text('{"id": "f3", "text": "x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
        read_descriptions(path, FEATURES)
    with pytest.raises(AnnotationError, match="There is no file"):
        read_descriptions(tmp_path / "other.jsonl", FEATURES)


def firing(n: int) -> list[Context]:
    """Texts with one token "cat" on which the feature fires, and words on which it does not."""
    return [Context("corpus", ("a", f" word{i}", " cat", " sleeps"), (0.0, 0.0, 1.0 + i, 0.0)) for i in range(n)]


def silent(n: int) -> list[Context]:
    return [Context("corpus", ("a", f" word{i}", " dog", " sleeps"), (0.0,) * 4) for i in range(n)]


NOTES = pd.DataFrame({"feature": [3, 5, 7], "description": ["cats", "", float("nan")]})


def answer(request: dict) -> str:
    """A model that knows what a cat is."""
    texts = re.findall(r"Text \d+: (.*)", request["messages"][1]["content"])
    wanted = "cat" if request["kind"] == "detection" else "<< cat>>"
    return f"The answer is {[int(wanted in text) for text in texts]}."


def test_a_model_that_knows_scores_one_and_one_that_guesses_a_half(tmp_path):
    requests, key = write_score_requests(tmp_path / "scores.jsonl", NOTES, {3: firing(8)}, {3: silent(9)}, batch=5)
    asked = rows_of(requests)
    assert key == tmp_path / "scores.key.jsonl"
    assert [row["id"] for row in asked] == [
        *(f"f3-detection-{i}" for i in range(4)),
        *(f"f3-fuzzing-{i}" for i in range(2)),
    ]
    assert not any("activating" in json.dumps(row) for row in asked)
    answers = [example for row in rows_of(key) for example in row["examples"]]
    assert sum(example["activating"] for example in answers) == 8 + 4
    assert {"str_tokens", "activations", "highlighted", "activating"} == set(answers[0])

    knowing = write_file(tmp_path / "a.jsonl", [{"id": row["id"], "text": answer(row)} for row in asked])
    scores = read_scores(knowing, key)
    assert scores.kind.tolist() == ["detection", "fuzzing"]
    assert scores.n.tolist() == [16, 8]
    assert scores.unanswered.tolist() == [0, 0]
    assert scores[["score", "low", "high"]].to_numpy().tolist() == [[1.0] * 3] * 2

    always = [{"id": row["id"], "text": str([1] * row["messages"][1]["content"].count("Text "))} for row in asked]
    assert read_scores(write_file(tmp_path / "b.jsonl", always), key).score.tolist() == [0.5, 0.5]


def test_the_score_is_the_mean_of_both_halves_with_its_interval(tmp_path):
    truth = [True] * 4 + [False] * 6
    key = [{"id": "f3-detection-0", "feature": 3, "kind": "detection", "examples": [{"activating": t} for t in truth]}]
    write_file(tmp_path / "key.jsonl", key)
    # Three of four and three of six are right
    text = json.dumps([1, 1, True, 0, 0, 0, False, 1, 1, 1])
    path = write_file(tmp_path / "replies.jsonl", [{"id": "f3-detection-0", "text": text}])
    row = read_scores(path, tmp_path / "key.jsonl", bootstrap=Bootstrap(resamples=4_000, seed=1)).iloc[0]
    assert row.score == pytest.approx((3 / 4 + 3 / 6) / 2)
    # Normal approximation: the variances of two binomial shares, halved
    deviation = math.sqrt(0.75 * 0.25 / 4 + 0.5 * 0.5 / 6) / 2
    assert row.high - row.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_accuracy_and_f1_are_those_of_a_count_of_all_four_outcomes(tmp_path):
    generator = random.Random(0)
    key, replies, outcomes = [], [], []
    for i in range(4):
        truth = [generator.random() < 0.5 for _ in range(5)]
        answers = [generator.random() < 0.5 for _ in truth]
        examples = [{"activating": right} for right in truth]
        key.append({"id": f"f3-fuzzing-{i}", "feature": 3, "kind": "fuzzing", "examples": examples})
        replies.append({"id": f"f3-fuzzing-{i}", "text": json.dumps([int(answer) for answer in answers])})
        outcomes += zip(truth, answers, strict=True)
    write_file(tmp_path / "key.jsonl", key)
    row = read_scores(write_file(tmp_path / "replies.jsonl", replies), tmp_path / "key.jsonl").iloc[0]
    true_positives, positives = outcomes.count((True, True)), sum(answer for _, answer in outcomes)
    precision, recall = true_positives / positives, true_positives / sum(truth for truth, _ in outcomes)
    assert row.accuracy == pytest.approx(sum(truth == answer for truth, answer in outcomes) / 20)
    assert (row.precision, row.recall) == pytest.approx((precision, recall))
    assert row.f1 == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("text", ["", "no", "[1, 0]", "[1, 0, 2]", "[1, 0, null]", '["1", "0", "1"]', "[1, 0, 1, 1]"])
def test_replies_without_a_list_of_answers_count_as_unanswered(tmp_path, text):
    examples = [{"activating": True}, {"activating": False}, {"activating": True}]
    key = [{"id": f"f3-fuzzing-{i}", "feature": 3, "kind": "fuzzing", "examples": examples} for i in range(3)]
    write_file(tmp_path / "key.jsonl", key)
    replies = [{"id": "f3-fuzzing-0", "text": text}, {"id": "f3-fuzzing-1", "text": "[1, 0, 0]"}]
    row = read_scores(write_file(tmp_path / "replies.jsonl", replies), tmp_path / "key.jsonl").iloc[0]
    assert (row.n, row.unanswered) == (3, 6)
    assert row.score == 0.75
    none = read_scores(write_file(tmp_path / "none.jsonl", replies[:1]), tmp_path / "key.jsonl").iloc[0]
    assert (none.n, none.unanswered) == (0, 9)
    assert math.isnan(none.score)
    assert math.isnan(none.low)
    assert none[["accuracy", "precision", "recall", "f1"]].isna().all()


def test_wrong_highlights_are_on_tokens_that_do_not_fire(tmp_path):
    _, key = write_score_requests(tmp_path / "s.jsonl", NOTES, {3: firing(8)}, {}, kinds=["fuzzing"], seed=4)
    for row in rows_of(key):
        for example in row["examples"]:
            fires = [value > 0 for value in example["activations"]]
            assert (example["highlighted"] == fires) == example["activating"]
            assert sum(example["highlighted"]) == 1
            assert example["activating"] or not any(a and b for a, b in zip(example["highlighted"], fires, strict=True))
    _, same = write_score_requests(tmp_path / "t.jsonl", NOTES, {3: firing(8)}, {}, kinds=["fuzzing"], seed=4)
    _, other = write_score_requests(tmp_path / "u.jsonl", NOTES, {3: firing(8)}, {}, kinds=["fuzzing"], seed=5)
    assert same.read_bytes() == key.read_bytes() != other.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["fuzing"]}, r"no score 'fuzing'.*did you mean 'fuzzing'\?"),
        ({"batch": 0}, "at least one text, not 0"),
        ({"firing": {}}, "Feature 3 needs texts on which it fires"),
        ({"firing": {3: silent(2)}}, "Feature 3 needs texts on which it fires"),
        ({"silent": {3: []}}, "Feature 3 needs texts on which it does not fire"),
        ({"silent": {3: firing(2)}}, "Feature 3 needs texts on which it does not fire"),
        ({"descriptions": NOTES[1:]}, "no requests to write"),
    ],
)
def test_score_requests_that_mean_nothing_are_refused(tmp_path, options, message):
    arguments = {"descriptions": NOTES, "firing": {3: firing(2)}, "silent": {3: silent(2)}} | options
    with pytest.raises(AnnotationError, match=message):
        write_score_requests(tmp_path / "scores.jsonl", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"id": "a", "feature": "3", "kind": "fuzzing", "examples": []},
        {"id": "a", "feature": 3, "kind": "other", "examples": []},
        {"id": "a", "feature": 3, "kind": "fuzzing", "examples": [{"activating": 1}]},
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path, row):
    replies, key = write_file(tmp_path / "r.jsonl", []), write_file(tmp_path / "k.jsonl", [row])
    with pytest.raises(AnnotationError, match=r"k\.jsonl:1 is no row of a key"):
        read_scores(replies, key)


def test_silent_contexts_are_windows_on_which_the_feature_does_not_fire(learning_suite, learning_crosscoder):
    documents = list(sentences(200, seed=5))
    text = decompose_text(learning_suite, learning_crosscoder, documents, sample=TextSample(12, 30))
    features, codes = list(range(24)), text.codes
    dense = torch.zeros(text.text.n_tokens, codes.n_features)
    dense[text.token_mask.nonzero().squeeze(1)[codes.token], codes.feature] = codes.value.float()
    tokens = [str(learning_suite.tokenizer.decode([token])) for token in text.text.tokens.tolist()]
    excerpts = silent_contexts(text, features, learning_suite.tokenizer, most=3, window=2)
    assert sum(map(len, excerpts.values())) > 24
    for feature, feature_contexts in excerpts.items():
        assert len({context.tokens for context in feature_contexts}) == len(feature_contexts) <= 3
        for context in feature_contexts:
            assert len(context.tokens) == 5
            assert context.peak == 0
            places = [i for i in range(len(tokens) - 4) if tuple(tokens[i : i + 5]) == context.tokens]
            assert any(not dense[place : place + 5, feature].any() for place in places)
    strongest = corpus_contexts(text, features, learning_suite.tokenizer, most=3)
    assert any(context.peak > 0 for context in strongest[0] + strongest[1])
    other = silent_contexts(text, features, learning_suite.tokenizer, most=3, window=2, seed=1)
    assert other != excerpts
