"""Rows of a data set on the Hugging Face Hub: the one place that goes there."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import DataError
from user_input.first_line import first_line


def rows(dataset: str, config: str | None = None, split: str | None = None) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield ``("dataset[config]:row", row)`` of one split, downloaded by the `datasets` package.

    Args:
        dataset: Repository of the data set, e.g. ``"nyu-mll/blimp"``.
        config: Its configuration; None for a data set that has but one.
        split: Its split; None takes the only split there is.

    Raises:
        DataError: The data set, configuration or split cannot be had; says how to pass a local path.

    Examples:
        >>> where, row = next(rows("nyu-mll/blimp", "wh_island", "train"))  # doctest: +SKIP
        >>> where
        'nyu-mll/blimp[wh_island]:1'
    """
    label = dataset + (f"[{config}]" if config else "")
    # Imported here: it takes seconds, and tasks on disk do not need it.
    import datasets

    try:
        found = datasets.load_dataset(dataset, config, split=split)
    except Exception as error:  # the package raises classes of a dozen others when the Hub is out of reach
        raise DataError(
            f"{label} cannot be had from the Hugging Face Hub ({type(error).__name__}: "
            f"{first_line(error)}): check the name and the network, or pass path= with a local copy"
        ) from error
    if isinstance(found, dict):
        splits = sorted(found)
        if len(splits) != 1:
            raise DataError(f"{label} has several splits: name one of {', '.join(map(str, splits))}")
        found = found[splits[0]]
    for number, row in enumerate(found, start=1):
        yield f"{label}:{number}", dict(row)
