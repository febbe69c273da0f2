"""Memory and traffic of the papers' trainings on several GPUs: ``python -m benchmarks.scaling_table``.

It is the table of docs/scaling.md; a test keeps both in step. The numbers are those of
`crosstime run RECIPE --dry-run --processes N` on machines with GPUs of 80 GB.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.machine.memory import in_bytes
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.plan.training_plan import TrainingPlan
from crosstime.runs.recipe.recipe import Recipe

MACHINE = Machine("cuda", "eight GPUs of 80 GB", 1e14, 2e12, 10**12, 8 * 10**10, 10**14)
GPUS = (1, 4, 8, 16)
HEAD = (
    "| training | GPUs | groups x shards | crosscoder | batch | checkpoints open | bytes a step | buffer |",
    "|---|--:|---|--:|--:|---|--:|--:|",
)


@dataclass(frozen=True)
class Case:
    """A training of a paper.

    Attributes:
        name: for people.
        recipe: the shipped recipe.
        overrides: what is changed in it.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()


CASES = (
    Case("CTT, Pythia-1B, C 3, F 16,384", "ctt-pythia-1b"),
    Case("CTT, BLOOM-1.1B, C 3, F 16,384", "ctt-bloom-1b1"),
    Case("EoC, Pythia-160M, C 32, F 24,576", "eoc-pythia-160m"),
    Case("EoC, Pythia-160M, C 32, F 98,304", "eoc-pythia-160m", ("crosscoder.n_features=98304",)),
    Case("EoC, Pythia-6.9B, C 32, F 32,768", "eoc-pythia-6.9b"),
)


def table() -> str:
    """The table in Markdown: for each number of GPUs the fewest shards that fit, and the rest data-parallel."""
    rows = [_row(case, training) for case in CASES for n in GPUS if (training := _fitting(case, n)) is not None]
    return "\n".join([*HEAD, *rows])


def _fitting(case: Case, n_gpus: int) -> TrainingPlan | None:
    """The training on so many GPUs, in as few shards as fit their memory; None if it does not fit."""
    for shards in (1, 2, 4, 8, 16):
        if shards <= n_gpus:
            recipe = Recipe.named(
                case.recipe, ["compute.device=cpu", f"compute.feature_shards={shards}", *case.overrides]
            )
            estimate = plan(recipe, MACHINE, n_gpus)
            (training,) = [cost for cost in estimate.costs if cost.stage == "train"]
            if training.memory <= MACHINE.device_memory:
                return estimate.training
    return None


def _row(case: Case, training: TrainingPlan) -> str:
    memory = training.memory
    opened = f"{training.n_open} of {training.n_checkpoints}, {in_bytes(training.open_bytes)}"
    traffic = in_bytes(training.traffic.total) if training.processes > 1 else "-"
    cells = (
        case.name,
        f"{training.processes}",
        f"{training.groups} x {training.feature_shards}",
        in_bytes(memory.crosscoder),
        in_bytes(memory.batch),
        opened,
        traffic,
        in_bytes(memory.buffer),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
