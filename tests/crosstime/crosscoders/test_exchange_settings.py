"""A configuration of another tool is read key by key, and a value of another kind is refused by name."""

from __future__ import annotations

import pytest

from crosstime.crosscoders.exchange.settings import Settings
from crosstime.errors import CrosscoderError

GOOD = Settings(
    "cfg.json", {"name": "gpt2", "k": 4, "d": 8.0, "on": True, "names": ["a", "b"], "more": {"k": 2}, "none": None}
)


def test_values_are_read_by_kind_and_what_is_absent_or_null_says_nothing():
    assert (GOOD.text("name"), GOOD.whole("k"), GOOD.whole("d")) == ("gpt2", 4, 8)
    assert (GOOD.truth("on", default=False), GOOD.texts("names"), GOOD.table("more").whole("k")) == (
        True,
        ("a", "b"),
        2,
    )
    for key in ("gone", "none"):
        assert [GOOD.text(key), GOOD.whole(key), GOOD.texts(key)] == [None] * 3
        assert GOOD.truth(key, default=True) is True
        assert GOOD.table(key).values == {}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: GOOD.text("k"), "cfg.json: k must be a text, not 4"),
        (lambda: GOOD.whole("name"), "cfg.json: name must be a whole number, not 'gpt2'"),
        (lambda: GOOD.whole("on"), "cfg.json: on must be a whole number, not True"),
        (lambda: Settings("cfg.json", {"k": 2.5}).whole("k"), "cfg.json: k must be a whole number, not 2.5"),
        (lambda: GOOD.truth("k", default=True), "cfg.json: k must be true or false, not 4"),
        (lambda: Settings("cfg.json", {"names": ["a", 2]}).texts("names"), "names must be a list of texts, not"),
        (lambda: GOOD.table("name"), "cfg.json: name must be an object, not 'gpt2'"),
        (lambda: GOOD.table("more").text("k"), "cfg.json, more: k must be a text, not 2"),
        (lambda: Settings.parse("a.safetensors, origin", "[1]"), "a.safetensors, origin must hold a JSON object"),
        (lambda: Settings.parse("a.safetensors, origin", "{"), "a.safetensors, origin is not valid JSON"),
        (lambda: Settings("cfg.json", {"k": "x" * 9000}).whole("k"), "must be a whole number, not 'xxxx"),
    ],
)
def test_a_value_of_another_kind_is_named(read, message: str):
    with pytest.raises(CrosscoderError) as caught:
        read()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300
