"""The features that one of several processes holds, when a crosscoder is larger than one device."""

from __future__ import annotations

from crosstime.crosscoders.refuse_uneven_features import refuse_uneven_features
from crosstime.machine.processes import ALONE, Processes


class FeatureShard:
    """A contiguous block of features: rows of W_dec, columns of W_enc, and everything else that exists per feature.

    Codes, decoder norms, gates and penalties of a feature need nothing of other features. What does is summed or
    compared over `processes`: the reconstruction, TopK selections, and the norm of the gradient.

    It is not a dataclass, because PyTorchModelHubMixin copies the dataclasses that a module is made from, and a process
    group cannot be copied.

    Args:
        n_features: F, the size of the whole dictionary.
        processes: the R processes that hold one shard each, in the order of the features.
        writes: whether these processes write files: False if other processes hold the same features and do it.

    Raises:
        CrosscoderError: R does not divide F.

    Examples:
        >>> shard = FeatureShard(1024, Processes(rank=1, size=4))
        >>> shard.start, shard.stop
        (256, 512)
    """

    def __init__(self, n_features: int, processes: Processes = ALONE, *, writes: bool = True) -> None:
        refuse_uneven_features(n_features, processes.size)
        self.n_features, self.processes, self.writes = n_features, processes, writes

    @property
    def size(self) -> int:
        """Number of features of the shard, F / R."""
        return self.n_features // self.processes.size

    @property
    def start(self) -> int:
        """Index of its first feature in the whole dictionary."""
        return self.processes.rank * self.size

    @property
    def stop(self) -> int:
        """Index behind its last feature."""
        return self.start + self.size

    def overlap(self, count: int) -> int:
        """How many of the first `count` features of the whole dictionary are in this shard.

        Examples:
            >>> FeatureShard(8, Processes(rank=1, size=2)).overlap(5)
            1
        """
        return max(0, min(count, self.stop) - self.start)
