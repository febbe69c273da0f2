"""Checkpoints of a suite that share weight files, byte for byte, though each is another point of training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.weight_format import holds_trained_weights
from crosstime.suites.weights import WeightFile, Weights

OPTION = "allow_equal_weights=True (--allow-equal-weights on the command line, suite.allow_equal_weights in a recipe)"
_MOST_NAMES, _MOST_GROUPS = 8, 4


@dataclass(frozen=True)
class EqualWeights:
    """Checkpoints that share weight files.

    Attributes:
        revisions: the checkpoints, in the order of the suite.
        files: the names of the files that are equal, as the first of them has them.
        n_files: the number of weight files that the first of them has.
        step: the step of training for which all of these names stand, as ``main`` and ``step143000`` of Pythia do; None
            if they stand for several, or one is unknown.
    """

    revisions: tuple[str, ...]
    files: tuple[str, ...]
    n_files: int
    step: int | None

    @property
    def complete(self) -> bool:
        """Whether all files are equal, rather than a few of several shards."""
        return len(self.files) == self.n_files

    def __str__(self) -> str:
        names = _listed([repr(revision) for revision in self.revisions])
        files = _listed(list(self.files))
        if self.complete:
            return f"{names} have the same weights, byte for byte ({files})"
        return f"{names} share {len(self.files)} of {self.n_files} weight files, byte for byte ({files})"

    def as_fact(self) -> dict[str, Any]:
        """Plain values for the records of results."""
        return {"revisions": list(self.revisions), "files": list(self.files), "complete": self.complete}


def find_equal_weights(checkpoints: Sequence[Checkpoint], weights: Mapping[str, Weights]) -> tuple[EqualWeights, ...]:
    """Groups of checkpoints that have a weight file in common, in the order of the suite.

    Files whose tensors training does not change, such as a small shard of norms before the first step, are no evidence
    and are passed over.

    Args:
        checkpoints: the checkpoints.
        weights: their weights by revision, of those that are known.

    Examples:
        >>> same = Weights((WeightFile("model.safetensors", "ab", None),), None)
        >>> points = [Checkpoint(name, None, None, "folder", None) for name in ("step64", "step128")]
        >>> print(*find_equal_weights(points, {"step64": same, "step128": same}))
        'step64' and 'step128' have the same weights, byte for byte (model.safetensors)
    """
    # Find the checkpoints of every file; adapters of other models, or of other settings, are no equal weights
    owners: defaultdict[tuple[str, ...], dict[str, WeightFile]] = defaultdict(dict)
    for checkpoint in checkpoints:
        if (known := weights.get(checkpoint.revision)) is not None:
            base = tuple(file.digest for file in known.base)
            for file in known.files:
                owners[file.digest, *base].setdefault(checkpoint.revision, file)

    # Group equal files by the checkpoints that have them
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for by_revision in owners.values():
        first = next(iter(by_revision.values()))
        if len(by_revision) > 1 and holds_trained_weights(first.path):
            groups[tuple(by_revision)].append(first.name)

    steps = {checkpoint.revision: checkpoint.step for checkpoint in checkpoints}
    return tuple(
        EqualWeights(
            revisions,
            tuple(files),
            len(weights[revisions[0]].files),
            steps[revisions[0]] if len({steps[revision] for revision in revisions}) == 1 else None,
        )
        for revisions, files in groups.items()
    )


def message_about(groups: Sequence[EqualWeights], suite: str) -> str:
    """The sentence that names the checkpoints and files, and says what can be done."""
    described = "; revisions ".join(map(str, groups[:_MOST_GROUPS]))
    if len(groups) > _MOST_GROUPS:
        described += f"; and {len(groups) - _MOST_GROUPS} more groups of revisions share files"
    if all(group.complete and "main" in group.revisions and len(group.revisions) == 2 for group in groups):
        advice = "'main' is often the last step under another name: leave one of the two out"
    else:
        advice = "at most one of them is what its name says: leave the others out, or get their own files"
    return f"in suite {suite!r}, revisions {described}; {advice}, or allow it with {OPTION}"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: the first few, and how many more there are."""
    names = list(_shortened(names))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shortened(names: Sequence[str]) -> Iterator[str]:
    if len(names) <= _MOST_NAMES + 1:
        yield from names
    else:
        yield from names[:_MOST_NAMES]
        yield f"{len(names) - _MOST_NAMES} more"
