"""JSON that anybody may have written is read within limits."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_input import parse_json as module
from user_input.parse_json import DEEPEST, JsonError, parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(value=values, ascii=st.booleans())
def test_what_json_writes_is_read_back(value: object, ascii: bool):
    assert parse_json(json.dumps(value, ensure_ascii=ascii)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value at column 1"),
        ('{"a": 1,\n "b"}', "Expecting ':' delimiter at line 2, column 5"),
        ("9" * 5000, "Exceeds the limit"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('["\\uDC00\\uD800"]', "half of a character"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"more than {DEEPEST} brackets"),
        ('{"a":' * 100_000, "more than 100 brackets"),
        ("[" * 1_000_000, "more than 100 brackets"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_few_words(text: str, said: str):
    with pytest.raises(JsonError) as caught:
        parse_json(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "[" * 500, ["]"] * 500, [[1], [2]] * 500, {"a": ['"', "\\", "[{" * 200]}, "a smile \N{GRINNING FACE}",
        json.loads("[" * DEEPEST + "]" * DEEPEST),
    ],
)  # fmt: skip
def test_brackets_count_where_they_are_open_at_once_and_not_in_a_text(value: object):
    assert parse_json(json.dumps(value)) == value


def test_a_text_that_is_too_long_is_not_parsed(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 10)
    assert parse_json("[1, 2, 3]") == [1, 2, 3]
    with pytest.raises(JsonError, match="longer than the 10 characters"):
        parse_json("[1, 2, 30]" + " ")


@pytest.mark.parametrize("text", ['"\\' * 200_000, "[" * 200 + '"\\"' * 200_000, "[" * 200 + '\\"' * 200_000])
def test_looking_for_brackets_takes_time_in_proportion_to_the_text(text: str):
    started = time.perf_counter()
    with pytest.raises(JsonError):
        parse_json(text)
    assert time.perf_counter() - started < 2
