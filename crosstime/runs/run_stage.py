"""Run one stage, unless it is done already, alone or with the other processes of a run."""

from __future__ import annotations

from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.ledger import Ledger
from crosstime.runs.stages.stage import Stage
from crosstime.runs.work_shares import broadcast


def run_stage(stage: Stage, inputs: Inputs, folder: RunFolder, ledger: Ledger) -> bool:
    """Run a stage unless it is done, which the first process decides for all; returns whether it was run.

    Args:
        stage: the stage.
        inputs: what the run starts from.
        folder: the folder in which it writes.
        ledger: the record of the stages in this folder.
    """
    processes = ledger.processes
    processes.barrier()
    if not processes.first:
        ledger.reread()
    dependencies, files = stage.dependencies(inputs, ledger), stage.files(inputs.recipe)
    if broadcast(processes.first and ledger.is_done(stage.name, dependencies, files), processes):
        if processes.first:
            ledger.confirm(stage.name)
        return False
    if processes.first:
        ledger.stage(stage.name, dependencies, files, lambda parts: stage.work(inputs, folder, parts))
    elif stage.collective:
        stage.work(inputs, folder, ledger.parts(stage.name, dependencies))
    processes.barrier()
    return True
