"""What is left to send about the features of a run, and what it will cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from crosstime.features.request_cost import RequestCost, TokenPrices, request_cost
from crosstime.machine.storage import read_table
from crosstime.runs.descriptions.score_requests import score_files
from crosstime.runs.descriptions.sources import Source

TYPICAL_DESCRIPTION = "x" * 100
"""In place of a description that is not there yet, for the estimate."""


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
    yield from source.first_files.unanswered.values()
    if source.second_files.requests_path.exists():
        yield from source.second_files.unanswered.values()
        return
    features = read_table(source.folder / source.FEATURES).feature
    files = score_files(source, pd.DataFrame({"feature": features, "description": TYPICAL_DESCRIPTION}), seed)
    yield from (json.loads(line) for line in ([] if files is None else files[0].decode().splitlines()))
