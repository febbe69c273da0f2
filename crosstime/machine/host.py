"""The processes of one machine, and one process of each machine: memory is shared within, messages go between."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import torch.distributed as dist

from crosstime.machine.processes import ALONE, TIMEOUT, Processes


@dataclass(frozen=True)
class Host:
    """The machine of this process, among the machines of a group of processes.

    Attributes:
        processes: the processes on this machine, which can share memory.
        leaders: the first process of each machine, in the order of the machines; `ALONE` in the other processes.
        machine_of: for each process of the whole group, the index of its machine.

    Examples:
        >>> Host.of(ALONE).machine_of
        (0,)
    """

    processes: Processes = ALONE
    leaders: Processes = ALONE
    machine_of: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, processes: Processes, name: str | None = None) -> Host:
        """Find out which processes are on which machine; all processes of the group call this together.

        Args:
            processes: the whole group.
            name: of this process's machine; None for its host name. Containers have names of their own, and no memory
                in common.
        """
        if processes.size == 1:
            return cls()
        names = processes.gather(name or socket.gethostname())
        machines = list(dict.fromkeys(names))
        machine_of = tuple(machines.index(machine) for machine in names)
        members = [[rank for rank, machine in enumerate(machine_of) if machine == m] for m in range(len(machines))]

        # Every process makes every group, as torch.distributed asks
        groups = [_group(processes, ranks) for ranks in members]
        leaders = _group(processes, [ranks[0] for ranks in members])
        machine = machine_of[processes.rank]
        own = Processes(members[machine].index(processes.rank), len(members[machine]), groups[machine])
        return cls(own, Processes(machine, len(machines), leaders) if own.first else ALONE, machine_of)

    @classmethod
    def apart(cls, processes: Processes) -> Host:
        """Treat every process as a machine of its own.

        Examples:
            >>> Host.apart(Processes(rank=1, size=2)).machine_of
            (0, 1)
        """
        return cls(ALONE, processes, tuple(range(processes.size)))


def _group(processes: Processes, ranks: list[int]) -> dist.ProcessGroup:
    """A group of some of the processes, for tensors in main memory."""
    if processes.group is not None:
        ranks = [dist.get_global_rank(processes.group, rank) for rank in ranks]
    group: dist.ProcessGroup = dist.new_group(ranks, timeout=TIMEOUT, backend="gloo")
    return group
