"""What a run would cost, from its sizes alone: no model is opened, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosstime.machine.memory import in_bytes
from crosstime.machine.mesh import refuse_uneven
from crosstime.machine.processes import Processes
from crosstime.runs.check import refuse_broken
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.model_size import ModelSize, model_size
from crosstime.runs.plan.sizes import Sizes
from crosstime.runs.plan.training_plan import TrainingPlan
from crosstime.runs.plan.work import Cost, Number, Work
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages.registry import stages_of
from interventions import Site

LIBRARIES = {"cpu": 6.5e8, "cuda": 3e9}
"""Bytes of main memory that Python takes with all that it imports, and the GPU's driver."""
UNCERTAINTY = 4
"""How many times as long as its products and their memory traffic a stage may take; see docs/scaling.md."""


@dataclass(frozen=True)
class Plan:
    """An estimate of what a recipe costs on a machine.

    Attributes:
        costs: the cost of each stage.
        host_memory: bytes of main memory at once, libraries and buffer of activations included.
        size: size of the model.
        machine: the machine.
        training: what each process of the training holds and exchanges.
        objections: reasons why this machine cannot hold it; empty if it can.
    """

    costs: tuple[Cost, ...]
    host_memory: Number
    size: ModelSize
    machine: Machine
    training: TrainingPlan
    objections: tuple[str, ...]

    def seconds(self, *costs: Cost) -> tuple[Number, Number]:
        """Least and most seconds of some stages, or of all stages if none is given.

        The least is the time of matrix products at the measured rate, and of moving their operands and results at the
        measured bandwidth; the most is `UNCERTAINTY` times that.
        """
        least = sum(_seconds(cost.work, self.machine) for cost in costs or self.costs)
        return least, UNCERTAINTY * least


def plan(recipe: Recipe, machine: Machine, processes: int | None = None) -> Plan:
    """Compute what a recipe costs on a machine, from the sizes in it.

    The large parts::

        forward of T tokens through n blocks     n T (2 P + 4 S D)    P: weights of a block; S: tokens of a sequence
        training step of B tokens                B (C forward + 10 C D F)
        crosscoder in training                   16 bytes a weight (weight, gradient, two moments): 32 C D F bytes
        effects of N prompts of S tokens         2 N S nodes C forward(blocks above the site)

    Each stage states its own cost; see ``docs/scaling.md``.

    Args:
        recipe: the recipe.
        machine: the machine, such as `Machine.here`; with several GPUs, `device_memory` is that of each.
        processes: processes that train together; None for as many as the crosscoder has feature shards.

    Raises:
        ProcessError: the number of processes is not a multiple of the number of feature shards.
        RecipeError: the model's size is not known.
        SuiteError: a checkpoint is known to be damaged.
        SiteError: the model does not have the layer.

    Examples:
        >>> machine = Machine("cuda", "one GPU", 5e13, 3e12, 10**11, 8 * 10**10, 10**12)
        >>> " ".join(cost.stage for cost in plan(Recipe.named("ctt-pythia-1b"), machine).costs)
        'select train evaluate attribute ablate evolve explain report'
    """
    refuse_broken(recipe)
    size = model_size(recipe.suite)
    layer = Site.parse(recipe.compare.site).resolve(size.n_layers).layer
    processes = processes or recipe.compute.feature_shards
    refuse_uneven(Processes(size=processes), recipe.compute.feature_shards)
    sizes = Sizes(recipe, size, layer, machine.memory, gpu=machine.device != "cpu", processes=processes)
    costs = tuple(stage.cost(sizes) for stage in stages_of(recipe))
    host = LIBRARIES[machine.device] + max(cost.host for cost in costs)
    training = TrainingPlan.of(sizes, machine.device_memory)
    return Plan(costs, host, size, machine, training, tuple(_objections(costs, host, machine)))


def _seconds(work: Work, machine: Machine) -> Number:
    """Time of matrix products, and of the memory traffic of their operands and results."""
    return work.flops / machine.flops + work.moved / machine.bandwidth


def _objections(costs: Sequence[Cost], host: Number, machine: Machine) -> list[str]:
    """What the machine does not have enough of."""
    objections = []
    if host > machine.memory:
        objections.append(f"it needs {in_bytes(host)} of main memory, and this machine has {in_bytes(machine.memory)}")
    largest = max(costs, key=lambda cost: cost.memory)
    if machine.device != "cpu" and largest.memory > machine.device_memory:
        objections.append(
            f"stage {largest.stage} needs {in_bytes(largest.memory)} on the GPU, which has "
            f"{in_bytes(machine.device_memory)}"
        )
    disk = sum(cost.disk for cost in costs)
    if disk > machine.disk:
        objections.append(f"it needs {in_bytes(disk)} of disk, and {in_bytes(machine.disk)} are free")
    return objections


def in_time(least: Number, most: Number) -> str:
    """A range of seconds for people, in the unit of its upper end.

    Examples:
        >>> in_time(1800, 7200)
        '0.5 to 2 h'
        >>> in_time(86_400 * 350, 86_400 * 1400)
        '350 to 1,400 days'
    """
    for unit, scale in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if most >= 2 * scale or (unit != "days" and most >= scale):
            return f"{_two_digits(least / scale)} to {_two_digits(most / scale)} {unit}"
    return f"{_two_digits(least)} to {_two_digits(most)} s"


def _two_digits(number: Number) -> str:
    """A number with two digits at least, and without an exponent where it is large."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"
