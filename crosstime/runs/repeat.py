"""Repeat stages of a run with other inputs, in a folder of their own: for null models, and for other seeds."""

from __future__ import annotations

from collections.abc import Sequence

from crosstime.errors import NothingSelectedError, RunError
from crosstime.machine.processes import Processes
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.run_stage import run_stage
from crosstime.runs.stages.stage import Stage
from crosstime.runs.work_shares import broadcast


def repeat(
    inputs: Inputs, original: RunFolder, stages: Sequence[Stage], processes: Processes, name: str, **facts: object
) -> bool:
    """Run stages with other inputs; those that are done already are kept.

    If no feature has an effect with these inputs, which ends a run of its own, the stages that follow are left out:
    then no feature is selected, and nothing is claimed about any.

    The accuracy, on which dips rest, is that of the run.

    Args:
        inputs: the other inputs, with their own folder.
        original: the folder of the run.
        stages: the stages, in order.
        processes: the processes of the run.
        name: what the inputs are, for errors.
        facts: plain values for the manifest.

    Returns:
        Whether features were selected, and all stages done.

    Raises:
        RunError: a stage cannot be done.
    """
    ledger = Ledger(inputs.folder.path, processes)
    if processes.first:
        ledger.start(inputs.recipe.to_dict(), **facts)
        accuracy = original.table("accuracy")
        ledger.stage(
            "select",
            accuracy.to_dict("list"),
            ["accuracy.csv"],
            lambda parts: inputs.folder.write_table("accuracy", accuracy),
        )
        _ = inputs.compared  # which the first process writes where weights are re-randomised
    processes.barrier()

    for stage in stages:
        selected = True
        try:
            run_stage(stage, inputs, inputs.folder, ledger)
        except NothingSelectedError:
            # The first process alone finds out, and the others wait for it
            selected = False
            processes.barrier()
        except RunError as error:
            raise RunError(f"{name}: {error}") from error
        if not broadcast(selected, processes):
            return False
    return True
