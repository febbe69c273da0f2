"""What a language model is asked about the features of a run; without PyTorch, so that mistakes are found quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from crosstime.errors import AnnotationError
from crosstime.machine.storage import read_json

FOLDER, OPTIONS = "descriptions", "options.json"
"""Folder of the descriptions in that of a run, and the file in it with the options."""


@dataclass(frozen=True)
class DescribeOptions:
    """Options of `crosstime.describe`: which features are described, from how many texts.

    Attributes:
        features: features that are drawn at random among those that fire on the text; means and correlations are over
            these. The features that the run selected by their effects are described as well.
        shown: most texts from which a feature is described.
        unseen: most further texts on which a feature fires, and most on which it does not, by which its description is
            scored.
        tokens: tokens of held-out text in which texts are looked for.
        seed: of the draw of features, and of texts on which features do not fire.

    Raises:
        AnnotationError: a number that is not allowed.

    Examples:
        >>> DescribeOptions(features=30).shown
        6
    """

    features: int = 100
    shown: int = 6
    unseen: int = 6
    tokens: int = 1 << 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("features", 1), ("shown", 1), ("unseen", 1), ("tokens", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise AnnotationError(f"{name} must be a whole number from {least} on, not {value!r}")


def recorded_options(folder: Path, changes: Mapping[str, int]) -> DescribeOptions:
    """The options of descriptions that were begun, or the defaults, with changes.

    Args:
        folder: of the descriptions; it need not exist.
        changes: values by the names of options.

    Raises:
        AnnotationError: descriptions were begun with other values, or the file of options is no such file.
    """
    path = folder / OPTIONS
    if not path.is_file():
        return DescribeOptions(**changes)

    # Read what was recorded
    recorded = read_json(path)
    if not isinstance(recorded, dict) or recorded.keys() != asdict(DescribeOptions()).keys():
        raise AnnotationError(f"{path} does not hold the options of descriptions: move {folder} away to begin again")
    try:
        options = DescribeOptions(**recorded)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}: move {folder} away to begin again") from error

    # Requests were written with them
    different = [f"{name} {recorded[name]}, not {value}" for name, value in changes.items() if recorded[name] != value]
    if different:
        raise AnnotationError(
            f"the descriptions in {folder} were begun with {', '.join(different)}: leave the options out to go on with "
            "them, or move the folder away to begin again"
        )
    return options
