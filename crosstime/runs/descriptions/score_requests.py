"""The second requests: where does each description say that its feature fires?"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from crosstime.errors import AnnotationError
from crosstime.features.description_scores import write_score_requests
from crosstime.machine.storage import atomic_path
from crosstime.runs.descriptions.sources import Source
from crosstime.runs.descriptions.write_source import read_contexts


def keep_score_requests(source: Source, descriptions: pd.DataFrame, seed: int) -> bool:
    """Write the requests that score descriptions, and their key, unless they are there.

    Args:
        source: the dictionary.
        descriptions: a table with columns feature and description.
        seed: of the order of texts.

    Returns:
        Whether there are requests; there are none if no described feature has texts of both kinds.

    Raises:
        AnnotationError: the requests that are there are about other descriptions.
    """
    requests, key = source.folder / source.SCORE, source.folder / source.KEY
    expected = score_files(source, descriptions, seed)
    if requests.exists() and expected != tuple(path.read_bytes() for path in (requests, key) if path.exists()):
        raise AnnotationError(
            f"{requests} is about other descriptions than {source.folder / source.DESCRIPTIONS}: move {source.SCORE}, "
            f"{source.KEY} and {source.ANSWERS} away to score these"
        )
    if expected is None or requests.exists():
        return expected is not None

    # The requests come last: where they are, their key is
    for path, content in zip((key, requests), reversed(expected), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return True


def score_files(source: Source, descriptions: pd.DataFrame, seed: int) -> tuple[bytes, bytes] | None:
    """The contents of the files of score requests and of their key; None if there is nothing to ask.

    Args:
        source, descriptions, seed: see `keep_score_requests`.
    """
    if not (source.folder / source.CONTEXTS).exists():
        return None
    unseen, silent = read_contexts(source.folder / source.CONTEXTS)
    described = descriptions.description.fillna("").str.strip() != ""
    complete = descriptions.feature.map(lambda feature: bool(unseen.get(feature)) and bool(silent.get(feature)))
    rows = descriptions[described & complete.astype(bool)]
    if rows.empty:
        return None
    with TemporaryDirectory() as folder:
        paths = write_score_requests(Path(folder) / source.SCORE, rows, unseen, silent, seed=seed)
        requests, key = (path.read_bytes() for path in paths)
    return requests, key
