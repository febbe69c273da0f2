"""A configuration of another tool is read key by key, and a value of another kind is refused by name."""

from __future__ import annotations

import pytest

from crosstime.crosscoders.exchange.settings import Settings
from crosstime.errors import CrosscoderError

GOOD = Settings(
    "cfg.json", {"name": "gpt2", "k": 4, "d": 8.0, "on": True, "names": ["a", "b"], "more": {"k": 2}, "none": None}
)


def test_values_are_read_by_kind_and_what_is_absent_or_null_says_nothing():
    assert (GOOD.string("name"), GOOD.integer("k"), GOOD.integer("d")) == ("gpt2", 4, 8)
    assert (GOOD.boolean("on", default=False), GOOD.strings("names"), GOOD.table("more").integer("k")) == (
        True,
        ("a", "b"),
        2,
    )
    for key in ("gone", "none"):
        assert [GOOD.string(key), GOOD.integer(key), GOOD.strings(key)] == [None] * 3
        assert GOOD.boolean(key, default=True) is True
        assert GOOD.table(key).values == {}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: GOOD.string("k"), "cfg.json: k must be a string, not 4"),
        (lambda: GOOD.integer("name"), "cfg.json: name must be an integer, not 'gpt2'"),
        (lambda: GOOD.integer("on"), "cfg.json: on must be an integer, not True"),
        (lambda: Settings("cfg.json", {"k": 2.5}).integer("k"), "cfg.json: k must be an integer, not 2.5"),
        (lambda: GOOD.boolean("k", default=True), "cfg.json: k must be true or false, not 4"),
        (lambda: Settings("cfg.json", {"names": ["a", 2]}).strings("names"), "names must be a list of strings, not"),
        (lambda: GOOD.table("name"), "cfg.json: name must be an object, not 'gpt2'"),
        (lambda: GOOD.table("more").string("k"), "cfg.json, more: k must be a string, not 2"),
        (lambda: Settings.parse("a.safetensors, origin", "[1]"), "a.safetensors, origin must hold a JSON object"),
        (lambda: Settings.parse("a.safetensors, origin", "{"), "a.safetensors, origin is not valid JSON"),
        (lambda: Settings("cfg.json", {"k": "x" * 9000}).integer("k"), "must be an integer, not 'xxxx"),
    ],
)
def test_a_value_of_another_kind_is_named(read, message: str):
    with pytest.raises(CrosscoderError) as caught:
        read()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300
