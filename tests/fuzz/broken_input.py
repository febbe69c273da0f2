"""Ways in which a file can be broken; a few of each in every test run, thousands with ``-m fuzz``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from crosstime.errors import USER_ERRORS

EXAMPLES, THOROUGH = 25, 400
fuzzed = settings(
    max_examples=THOROUGH if "fuzz" in sys.argv else EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
_SPECIAL = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b'"', b"{", b"}", b"[", b"\t", b",", b"1e999", b"NaN", b"-1",
    b"9" * 30, "é\u202e".encode(), b"../", b"[" * 2000,
]  # fmt: skip
NUMBERS = [0.0, 1.0, -2.0, 1e9, float("nan"), float("inf")]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool,
          torch.complex64, torch.float8_e4m3fn]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def edits(draw: Callable[..., Any], base: bytes) -> bytes:
    """A good file with a few pieces of it cut out, put in or replaced."""
    content = base
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        removed = draw(st.integers(0, 8) | st.just(len(content)))
        added = draw(st.binary(max_size=8) | st.sampled_from(_SPECIAL) | st.just(b""))
        content = content[:place] + added + content[place + removed :]
    return content


@st.composite
def replaced(draw: Callable[..., Any], base: Any) -> Any:
    """A good JSON value with one value in it replaced by another, or one key removed or renamed."""
    value = json.loads(json.dumps(base))
    place, inside = value, value
    while isinstance(inside, dict | list) and inside and draw(st.integers(0, 3)):
        place = inside
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        inside = place[key]
    if place is inside or not isinstance(place, dict | list):
        return draw(json_values)
    if isinstance(place, dict) and draw(st.booleans()):
        entry = place.pop(key)
        if draw(st.booleans()):
            place[draw(st.text(max_size=8))] = entry
    else:
        place[key] = draw(json_values)
    return value


@dataclass
class Tried:
    """How many inputs were given to readers, and how many of them were refused."""

    count: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return f"{self.count:,} inputs, of which {self.refused:,} were refused and the others read"


TRIED = Tried()


def refuses_politely(read: Callable[[], object]) -> None:
    """Whatever is read, it is read, or refused by an error of ours in one short text."""
    TRIED.count += 1
    outcome = "read"
    try:
        read()
    except USER_ERRORS as error:
        TRIED.refused += 1
        outcome = str(error)
    assert outcome.strip()
    assert len(outcome) < 5_000


@st.composite
def tensors_like(draw: Callable[..., Any], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Good tensors with one of them left out, renamed, added, or of another shape, type or content."""
    tensors = dict(base)
    name = draw(st.sampled_from(sorted(base)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4) | st.just(list(base[name].shape)))
    number, dtype = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(DTYPES))
    other = torch.full(shape, number)
    other = (other if dtype.is_floating_point or dtype.is_complex else other.nan_to_num(2, 3, 4)).to(dtype)
    way = draw(st.sampled_from(["other", "other", "other", "gone", "renamed", "more"]))
    if way in ("gone", "renamed"):
        other = tensors.pop(name)
    if way != "gone":
        tensors[name if way == "other" else draw(st.text(max_size=9))] = other
    return tensors


def write_file(folder: Path, name: str, content: bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content)
    return path
