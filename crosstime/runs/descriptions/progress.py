"""How far the descriptions of a source are, and what the rest will cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crosstime.features.replies import read_replies
from crosstime.features.request_cost import RequestCost, TokenPrices, request_cost
from crosstime.features.send_requests import read_requests
from crosstime.machine.storage import read_table
from crosstime.runs.descriptions.score_requests import score_files
from crosstime.runs.descriptions.sources import Source

TYPICAL_DESCRIPTION = "x" * 100
"""In place of a description that is not there yet, for the estimate."""


def unanswered(requests: Path, replies: Path) -> dict[str, dict[str, Any]]:
    """The requests that have no reply yet, by their ids; none where there is no file of requests.

    Args:
        requests, replies: the files.
    """
    if not requests.exists():
        return {}
    asked = read_requests(requests)
    answered = read_replies(replies, asked) if replies.exists() else {}
    return {name: request for name, request in asked.items() if name not in answered}


def remaining_cost(sources: Sequence[Source], prices: TokenPrices | None, seed: int) -> RequestCost:
    """An estimate of what is left to send: descriptions, and their scores.

    Scores of features that have no description yet are counted as if it had 100 letters.

    Args:
        sources: the dictionaries.
        prices: of a million tokens.
        seed: of the requests for scores.
    """
    return request_cost((request for source in sources for request in _remaining(source, seed)), prices)


def _remaining(source: Source, seed: int) -> Iterator[Mapping[str, Any]]:
    """The requests of a source that are left."""
    yield from unanswered(*source.first_files).values()
    if source.second_files[0].exists():
        yield from unanswered(*source.second_files).values()
        return
    features = read_table(source.folder / source.FEATURES).feature
    files = score_files(source, pd.DataFrame({"feature": features, "description": TYPICAL_DESCRIPTION}), seed)
    yield from (json.loads(line) for line in ([] if files is None else files[0].decode().splitlines()))
