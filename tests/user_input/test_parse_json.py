"""JSON of unknown origin is parsed within limits."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from user_input import parse_json as module
from user_input.parse_json import MAX_DEPTH, JsonError, parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@settings(deadline=None)  # a busy machine may take long for one example
@given(value=values, ascii=st.booleans())
def test_json_that_python_wrote_is_parsed_to_the_same_value(value: object, ascii: bool):
    assert parse_json(json.dumps(value, ensure_ascii=ascii)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value at column 1"),
        ('{"a": 1,\n "b"}', "Expecting ':' delimiter at line 2, column 5"),
        ("9" * 5000, "Exceeds the limit"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('["\\uDC00\\uD800"]', "half of a character"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} nested brackets"),
        ('{"a":' * 100_000, "more than 100 nested brackets"),
        ("[" * 1_000_000, "more than 100 nested brackets"),
    ],
)
def test_invalid_json_is_rejected_with_a_short_reason(text: str, reason: str):
    with pytest.raises(JsonError) as caught:
        parse_json(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "[" * 500,
        ["]"] * 500,
        [[1], [2]] * 500,
        {"a": ['"', "\\", "[{" * 200]},
        "a smile \N{GRINNING FACE}",
        json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH),
    ],
)
def test_only_nested_brackets_outside_strings_count(value: object):
    assert parse_json(json.dumps(value)) == value


def test_a_text_above_the_limit_is_not_parsed(monkeypatch):
    monkeypatch.setattr(module, "MAX_LENGTH", 10)
    assert parse_json("[1, 2, 3]") == [1, 2, 3]
    with pytest.raises(JsonError, match="longer than the 10 characters"):
        parse_json("[1, 2, 30]" + " ")


@pytest.mark.parametrize("text", ['"\\' * 200_000, "[" * 200 + '"\\"' * 200_000, "[" * 200 + '\\"' * 200_000])
def test_counting_brackets_takes_linear_time(text: str):
    started = time.perf_counter()
    with pytest.raises(JsonError):
        parse_json(text)
    # A quadratic search would take hours
    assert time.perf_counter() - started < 60


def test_a_byte_order_mark_is_left_out():
    assert parse_json('\ufeff{"a": "\ufeffb"}') == {"a": "\ufeffb"}
