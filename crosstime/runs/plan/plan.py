"""What a run would cost, from its sizes alone: no model is opened, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosstime.runs.plan.known_models import ModelSize, refuse_broken, size_of
from crosstime.runs.plan.rates import Machine
from crosstime.runs.plan.stage_costs import Cost, Sizes
from crosstime.runs.plan.work import Number
from crosstime.runs.recipe.recipe import Recipe
from interventions import Site

LIBRARIES = {"cpu": 6.5e8, "cuda": 3e9}
"""Bytes of main memory that Python takes with all that it imports, and the GPU's driver."""


@dataclass(frozen=True)
class Plan:
    """What a recipe would cost on a machine.

    Attributes:
        costs: one a stage.
        host_memory: bytes of main memory at once, libraries and buffer of activations among them.
        size: of the model.
        machine: which.
        objections: why this machine cannot hold it; empty where it can.
    """

    costs: tuple[Cost, ...]
    host_memory: Number
    size: ModelSize
    machine: Machine
    objections: tuple[str, ...]

    @property
    def seconds(self) -> Number:
        """Of all stages."""
        return sum(cost.seconds for cost in self.costs)


def plan(recipe: Recipe, machine: Machine) -> Plan:
    """Estimate what a recipe costs on a machine, from the sizes in it.

    The large parts::

        forward of T tokens through n blocks     2 T n P           P: weights of a block; the unembedding adds 2 T V D
        training step of B tokens                B (C forward + 10 C D F)
        crosscoder in training                   16 bytes a weight (weight, gradient, two moments): 32 C D F bytes
        effects of N prompts of S tokens         2 N S nodes C forward(blocks above the site)

    The rest, such as opening checkpoints, calls of small operations and traffic of memory, is in `crosstime.runs.plan.work` and
    `crosstime.runs.plan.stage_costs`. ``docs/scaling.md`` has estimates beside measurements.

    Raises:
        RecipeError: the model's size is not known.
        SuiteError: a checkpoint that is known to be broken.
        SiteError: a layer that the model does not have.

    Examples:
        >>> machine = Machine("cuda", "one GPU", 5e13, 3e12, 1e-5, 10**11, 8 * 10**10, 10**12)
        >>> " ".join(cost.stage for cost in plan(Recipe.named("ctt-pythia-1b"), machine).costs)
        'select train evaluate attribute ablate evolve explain report'
    """
    refuse_broken(recipe)
    size = size_of(recipe)
    layer = Site.parse(recipe.compare.site).resolve(size.n_layers).layer
    costs = tuple(Sizes(recipe, size, layer, machine).costs())
    host = LIBRARIES[machine.device] + max(cost.host for cost in costs)
    return Plan(costs, host, size, machine, tuple(_objections(costs, host, machine)))


def _objections(costs: Sequence[Cost], host: Number, machine: Machine) -> list[str]:
    found = []
    if host > machine.memory:
        found.append(f"it needs {in_bytes(host)} of main memory, and this machine has {in_bytes(machine.memory)}")
    if machine.device != "cpu":
        most = max(costs, key=lambda cost: cost.memory)
        if most.memory > machine.device_memory:
            found.append(
                f"stage {most.stage} needs {in_bytes(most.memory)} on the GPU, which has "
                f"{in_bytes(machine.device_memory)}"
            )
    disk = sum(cost.disk for cost in costs)
    if disk > machine.disk:
        found.append(f"it needs {in_bytes(disk)} of disk, and {in_bytes(machine.disk)} are free")
    return found


def in_bytes(count: Number) -> str:
    """A number of bytes for people.

    Examples:
        >>> in_bytes(2.5e9)
        '2.5 GB'
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def in_time(seconds: Number) -> str:
    """A span of time for people.

    Examples:
        >>> in_time(7200)
        '2 h'
    """
    for unit, scale in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * scale or (unit != "days" and seconds >= scale):
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.2g} s"
