"""Rows of a data set on the Hugging Face Hub; no other module of `tasks` accesses the network."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import DataError
from user_input.hub_reach import hub_or_cache, why_unreachable
from user_input.reason import reason


def rows(dataset: str, config: str | None = None, split: str | None = None) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield ``("dataset[config]:row", row)`` of one split, downloaded by the `datasets` package.

    Args:
        dataset: Repository of the data set, e.g. ``"nyu-mll/blimp"``.
        config: Configuration of the data set; None if it has only one.
        split: Split of the data set; None takes its only split.

    Raises:
        DataError: The data set, configuration or split cannot be downloaded, or there are several splits and none is
            named.

    Examples:
        >>> where, row = next(rows("nyu-mll/blimp", "wh_island", "train"))  # doctest: +SKIP
        >>> where  # doctest: +SKIP
        'nyu-mll/blimp[wh_island]:1'
    """
    label = dataset + (f"[{config}]" if config else "")
    # The import takes seconds, and tasks on disk do not need it.
    import datasets

    # Download the data set
    try:
        with hub_or_cache():
            table = datasets.load_dataset(dataset, config, split=split)
    except Exception as error:  # the package raises errors of a dozen other packages when the Hub cannot be reached
        because = why_unreachable() or f"{type(error).__name__}: {reason(error)}"
        raise DataError(
            f"{label} cannot be downloaded from the Hugging Face Hub ({because}): check the name and the network, or "
            "pass path= with a local copy"
        ) from error

    # Take its only split, if none was named
    if isinstance(table, dict):
        splits = sorted(table)
        if len(splits) != 1:
            raise DataError(f"{label} has several splits: name one of {', '.join(map(str, splits))}")
        table = table[splits[0]]
    for number, row in enumerate(table, start=1):
        yield f"{label}:{number}", dict(row)
