"""How well descriptions of features predict where they fire, by a language model that somebody else runs.

The model sees a description and some texts, and answers for each text whether the description is right about it:

- ``detection``: does the feature fire anywhere in the text? Half of the texts are some on which it does not.
- ``fuzzing``: are the highlighted tokens those on which it fires? In half of the texts, others are highlighted.

`write_score_requests` writes the requests, and beside them a key with the right answers. `read_scores` compares replies
with the key. A description that says nothing has a score of .5. Give texts that whoever wrote the descriptions has not
seen, and score the features of a null model beside them.

Source: Paulo et al. 2024 (arXiv 2410.13928), section 3.2; the fields of the key are those of delphi, the code published
with it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crosstime.errors import AnnotationError
from crosstime.features.description_requests import CLOSING, OPENING, fields, highlighted_text, is_highlighted
from crosstime.features.replies import read_replies, read_rows, write_rows
from crosstime.report.page.context import Context
from interventions import Bootstrap, interval
from user_input.nearest import nearest
from user_input.parse_json import JsonError, parse_json

KINDS = ("detection", "fuzzing")
QUESTIONS = {
    "detection": "Each text either has a part that the description is about, or has none. Answer 1 if it has, else 0.",
    "fuzzing": (
        f"In each text some tokens stand between {OPENING} and {CLOSING}. Answer 1 if the description is about these "
        "tokens, and 0 if it is about others or none."
    ),
}
FORM = "Answer with one JSON list and nothing else, with a 1 or a 0 for each text in their order, such as [1, 0, 1]."
SCORE_COLUMNS = (
    "feature", "kind", "n", "unanswered", "score", "low", "high", "accuracy", "precision", "recall", "f1",
)  # fmt: skip
"""Columns of `read_scores`."""
_LIST = re.compile(r"\[[^\[\]]*\]")


@dataclass(frozen=True)
class _Example:
    """A text that a model is asked about, and the right answer."""

    context: Context
    mask: tuple[bool, ...]
    activating: bool


def write_score_requests(
    path: str | Path,
    descriptions: pd.DataFrame,
    firing: Mapping[int, Sequence[Context]],
    silent: Mapping[int, Sequence[Context]],
    *,
    kinds: Sequence[str] = KINDS,
    batch: int = 5,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write requests that ask where each described feature fires, and the key with the right answers.

    A request is ``{"id": "f17-detection-0", "feature": 17, "kind": "detection", "messages": [...]}``. The key, beside
    it as ``NAME.key.jsonl``, has for each request its ``examples``: ``str_tokens``, ``activations``, ``highlighted``
    and ``activating``. It is not for the model.

    Args:
        path: of the requests, JSON Lines.
        descriptions: a table with columns feature and description; rows without a description are left out.
        firing: for each feature texts on which it fires, see `crosstime.features.contexts.corpus_contexts`.
        silent: for each feature texts on which it does not, see `crosstime.features.contexts.silent_contexts`.
        kinds: ``detection``, ``fuzzing`` or both.
        batch: most texts in one request.
        seed: of the order of the texts and of the tokens that are highlighted wrongly.

    Returns:
        The paths of requests and key.

    Raises:
        AnnotationError: an unknown kind, a batch below 1, a described feature without texts, a text in `silent` on
            which the feature fires, or a file that exists already.

    Examples:
        >>> shown = {f: texts[:6] for f, texts in contexts.items()}  # doctest: +SKIP
        >>> unseen = {f: texts[6:] for f, texts in contexts.items()}  # doctest: +SKIP
        >>> write_score_requests("scores.jsonl", notes, unseen, silent)  # doctest: +SKIP
    """
    # Check the options
    for kind in kinds:
        if kind not in KINDS:
            raise AnnotationError(f"There is no score {kind!r}: {nearest(kind, KINDS)}")
    if batch < 1:
        raise AnnotationError(f"A request needs at least one text, not {batch}.")
    requests, key = Path(path), Path(path).with_suffix(".key.jsonl")
    if key.exists():
        raise AnnotationError(f"{key} is there already, and replies may refer to it: move it away first.")

    # Ask about every described feature
    asked, answers = [], []
    described = descriptions[descriptions.description.fillna("").astype(str).str.strip() != ""]
    for feature, description in zip(described.feature.tolist(), described.description.astype(str), strict=True):
        _check_texts(feature, firing, silent if "detection" in kinds else None)
        for kind in dict.fromkeys(kinds):
            generator = random.Random(f"{seed} {feature} {kind}")
            examples = list(_examples(kind, firing[feature], silent.get(feature, ()), generator))
            for first in range(0, len(examples), batch):
                name = {"id": f"f{feature}-{kind}-{first // batch}", "feature": int(feature), "kind": kind}
                chunk = examples[first : first + batch]
                asked.append(name | {"messages": _messages(kind, description, chunk)})
                answers.append(name | {"examples": [_key(example) for example in chunk]})

    write_rows(requests, asked)
    write_rows(key, answers)
    return requests, key


def read_scores(
    path: str | Path, key: str | Path, *, bootstrap: Bootstrap = Bootstrap(resamples=2_000)
) -> pd.DataFrame:
    """Compare the replies to `write_score_requests` with their key.

    ::

        score = (share of right answers on activating texts + share of right answers on the others) / 2

        precision = TP / (TP + FP)      recall = TP / (TP + FN)      F1 = 2 TP / (2 TP + FP + FN)

    The text of a reply has one JSON list with a 1 or 0 (or true or false) for each text. Texts of a reply with another
    list, or of a request without a reply, count as unanswered.

    Args:
        path: of the replies.
        key: that `write_score_requests` wrote.
        bootstrap: of the intervals, over the answered texts of each half.

    Returns:
        A row for each feature and kind: feature, kind, n (answered texts), unanswered, score, low, high; NaN where
        either half has no answer; then accuracy (share of right answers), precision, recall and f1, NaN where their
        denominator is 0.

    Raises:
        AnnotationError: a line is no reply or no row of a key, or a reply answers no request.

    Examples:
        >>> read_scores("replies.jsonl", "scores.key.jsonl")  # doctest: +SKIP
    """
    truth = read_key(key)
    return score_replies(read_replies(path, truth), truth, bootstrap=bootstrap)


def score_replies(
    replies: Mapping[str, str],
    truth: Mapping[str, Mapping[str, Any]],
    *,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
) -> pd.DataFrame:
    """The table of `read_scores`, from replies and a key that have been read.

    Args:
        replies: the text of each reply by the id of its request.
        truth: the rows of the key, by `read_key`.
        bootstrap: of the intervals.

    Examples:
        >>> truth = {"f3": {"feature": 3, "kind": "detection", "examples": [{"activating": True}]}}
        >>> score_replies({"f3": "[1]"}, truth)[["n", "accuracy"]].values.tolist()
        [[1.0, 1.0]]
    """
    # Collect right and wrong answers of each feature and kind
    counts: dict[tuple[int, str], dict[str, list[bool]]] = {}
    unanswered: dict[tuple[int, str], int] = {}
    for request, row in truth.items():
        place, activating = (row["feature"], row["kind"]), [example["activating"] for example in row["examples"]]
        halves = counts.setdefault(place, {"activating": [], "other": []})
        answers = _answers(replies.get(request, ""), len(activating))
        unanswered[place] = unanswered.get(place, 0) + (len(activating) if answers is None else 0)
        for answer, right in zip(answers or (), activating, strict=False):
            halves["activating" if right else "other"].append(answer == right)

    # Score them
    rows = []
    for (feature, kind), halves in counts.items():
        score, low, high = _balanced(halves["activating"], halves["other"], bootstrap)
        n = sum(map(len, halves.values()))
        row = {"feature": feature, "kind": kind, "n": n, "unanswered": unanswered[feature, kind]}
        interval_of_score = {"score": score, "low": low, "high": high}
        rows.append(row | interval_of_score | _rates(halves["activating"], halves["other"]))
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _check_texts(
    feature: int, firing: Mapping[int, Sequence[Context]], silent: Mapping[int, Sequence[Context]] | None
) -> None:
    """Refuse a feature without texts, and texts that are not what they should be."""
    if not firing.get(feature) or any(context.peak <= 0 for context in firing[feature]):
        raise AnnotationError(f"Feature {feature} needs texts on which it fires, and only such.")
    if silent is None:
        return
    if not silent.get(feature) or any(any(context.activations) for context in silent[feature]):
        raise AnnotationError(f"Feature {feature} needs texts on which it does not fire, and only such, for detection.")


def _examples(
    kind: str, firing: Sequence[Context], silent: Sequence[Context], generator: random.Random
) -> Iterator[_Example]:
    """The texts of one feature, half of them activating, in random order."""
    if kind == "detection":
        n = min(len(firing), len(silent))
        examples = [_Example(context, (False,) * len(context.tokens), True) for context in firing[:n]]
        examples += [_Example(context, (False,) * len(context.tokens), False) for context in silent[:n]]
        yield from generator.sample(examples, len(examples))
        return

    # Highlight as many wrong tokens as right ones in every second text
    for index, context in enumerate(generator.sample(list(firing), len(firing))):
        right = is_highlighted(context)
        inactive = [i for i, value in enumerate(context.activations) if value == 0]
        if index % 2 == 0 or not inactive:
            yield _Example(context, tuple(right), True)
            continue
        wrong = set(generator.sample(inactive, min(sum(right), len(inactive))))
        yield _Example(context, tuple(i in wrong for i in range(len(right))), False)


def _messages(kind: str, description: str, examples: Sequence[_Example]) -> list[dict[str, str]]:
    """The messages of one request."""
    texts = [
        f"Text {number}: {highlighted_text(example.context.tokens, example.mask)}"
        for number, example in enumerate(examples, start=1)
    ]
    question = "\n\n".join([f"Description: {description}", *texts])
    return [
        {"role": "system", "content": f"You are given a description and some texts. {QUESTIONS[kind]} {FORM}"},
        {"role": "user", "content": question},
    ]


def _key(example: _Example) -> dict[str, Any]:
    return fields(example.context) | {"highlighted": list(example.mask), "activating": example.activating}


def read_key(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read a key that `write_score_requests` wrote: its rows by the ids of their requests.

    Raises:
        AnnotationError: a row does not have the fields of a key, or has the id of another row.

    Examples:
        >>> read_key("scores.key.jsonl")["f3-detection"]["feature"]  # doctest: +SKIP
        3
    """
    truth: dict[str, dict[str, Any]] = {}
    for place, row in read_rows(path):
        examples = row.get("examples")
        complete = (
            isinstance(row.get("id"), str)
            and type(row.get("feature")) is int
            and row.get("kind") in KINDS
            and isinstance(examples, list)
            and all(isinstance(example, dict) and type(example.get("activating")) is bool for example in examples)
        )
        if not complete or row["id"] in truth:
            raise AnnotationError(f"{place} is no row of a key: use the file that write_score_requests wrote.")
        truth[row["id"]] = row
    return truth


def _answers(text: str, n: int) -> list[bool] | None:
    """The answers of a reply; None if it has no list of n answers."""
    lists = _LIST.findall(text)
    try:
        values = parse_json(lists[-1]) if lists else []
    except JsonError:
        return None
    if len(values) != n or any(value not in (0, 1) for value in values):
        return None
    return [bool(value) for value in values]


def _balanced(first: Sequence[bool], second: Sequence[bool], bootstrap: Bootstrap) -> tuple[float, float, float]:
    """Mean of two shares of right answers, with an interval over the answers of each."""
    if not first or not second:
        return float("nan"), float("nan"), float("nan")
    shares = [sum(half) / len(half) for half in (first, second)]
    generator = np.random.default_rng(bootstrap.seed)
    draws = [
        generator.binomial(len(half), share, size=bootstrap.resamples) / len(half)
        for half, share in zip((first, second), shares, strict=True)
    ]
    low, high = interval(torch.from_numpy((draws[0] + draws[1]) / 2), bootstrap)
    return sum(shares) / 2, float(low), float(high)


def _rates(activating: Sequence[bool], other: Sequence[bool]) -> dict[str, float]:
    """Accuracy, precision, recall and F1, from right and wrong answers on activating and on other texts."""
    hits, missed = sum(activating), len(activating) - sum(activating)
    false_alarms = len(other) - sum(other)
    right, n = hits + sum(other), len(activating) + len(other)
    return {
        "accuracy": _ratio(right, n),
        "precision": _ratio(hits, hits + false_alarms),
        "recall": _ratio(hits, hits + missed),
        "f1": _ratio(2 * hits, 2 * hits + false_alarms + missed),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
