"""Processes in a grid: those of a row share the features of a crosscoder, those of a column share the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.distributed.device_mesh import init_device_mesh

from crosstime.errors import ProcessError
from crosstime.machine.processes import ALONE, Processes


@dataclass(frozen=True)
class Mesh:
    """A grid of P x R processes, seen from one of them: P data-parallel groups of R feature shards.

    ::

                         features 0 .. F/R    features F/R .. 2F/R
        rows 0, P, ..    process 0            process 1
        rows 1, P+1, ..  process 2            process 3

    Attributes:
        data: the P processes that hold the same features, each with its rows of a batch.
        features: the R processes that see the same rows, each with its features.
        everyone: all processes.

    Examples:
        >>> Mesh.of(ALONE).features.size
        1
    """

    data: Processes = ALONE
    features: Processes = ALONE
    everyone: Processes = ALONE

    @classmethod
    def of(cls, processes: Processes, feature_shards: int = 1, device: str = "cpu") -> Mesh:
        """Arrange the processes of ``torchrun`` in a grid.

        Args:
            processes: all processes.
            feature_shards: R, the number of processes over which the features of a crosscoder are sharded.
            device: type of the device of the tensors that the processes exchange.

        Raises:
            ProcessError: R is not a divisor of the number of processes.
        """
        refuse_uneven(processes, feature_shards)
        if feature_shards == 1:
            return cls(data=processes, everyone=processes)
        if feature_shards == processes.size:
            return cls(features=processes, everyone=processes)

        grid = init_device_mesh(
            device, (processes.size // feature_shards, feature_shards), mesh_dim_names=("data", "features")
        )
        return cls(_along(grid, "data"), _along(grid, "features"), processes)


def refuse_uneven(processes: Processes, feature_shards: int) -> None:
    """Refuse a number of processes that cannot be arranged in groups of `feature_shards`.

    Raises:
        ProcessError: it is not a multiple of it.
    """
    if processes.size % feature_shards:
        started = "one process was" if processes.size == 1 else f"{processes.size} processes were"
        raise ProcessError(
            f"feature_shards is {feature_shards}, but {started} started: the number of processes must be a multiple of "
            f"it; start them with torchrun --nproc-per-node {feature_shards}."
        )


def _along(grid: torch.distributed.device_mesh.DeviceMesh, axis: str) -> Processes:
    """The processes of one axis of the grid."""
    return Processes(grid.get_local_rank(axis), grid[axis].size(), grid.get_group(axis))


NO_MESH = Mesh()
"""The grid of a program that was not started by ``torchrun``."""
