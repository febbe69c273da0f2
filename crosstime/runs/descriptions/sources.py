"""The dictionaries whose features are described: that of the run, and those of its null models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crosstime.errors import AnnotationError, RunError
from crosstime.machine.storage import read_json
from crosstime.report.columns import RUN
from crosstime.runs.descriptions.options import FOLDER
from crosstime.runs.descriptions.request_files import RequestFiles
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.manifest import read_manifest
from crosstime.runs.null_inputs import NullInputs, NullModel
from crosstime.runs.stages.null import NULLS


@dataclass(frozen=True)
class Source:
    """A dictionary, and the files of its descriptions.

    Attributes:
        name: ``run``, or the folder of the null model, such as ``random-weights-0``.
        inputs: checkpoints and text.
        results: folder with its crosscoder, effects and tables.
        folder: folder of its descriptions.
    """

    name: str
    inputs: Inputs
    results: RunFolder
    folder: Path

    RECORD, FEATURES, CONTEXTS = "source.json", "features.csv", "contexts.jsonl"
    DESCRIBE, DESCRIPTIONS = "describe.jsonl", "descriptions.jsonl"
    SCORE, KEY, ANSWERS = "score.jsonl", "score.key.jsonl", "answers.jsonl"

    @cached_property
    def first_files(self) -> RequestFiles:
        """The requests for descriptions, and their replies."""
        return RequestFiles(self.folder / self.DESCRIBE, self.folder / self.DESCRIPTIONS)

    @cached_property
    def second_files(self) -> RequestFiles:
        """The requests for scores, and their replies."""
        return RequestFiles(self.folder / self.SCORE, self.folder / self.ANSWERS)

    @property
    def stage_key(self) -> str:
        """The key of the stage `evolve`, which tells this dictionary and its onsets from those of another training."""
        entry = read_manifest(self.results.path)["stages"].get("evolve")
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
            raise RunError(f"{self.results.path} has no finished stage evolve: repeat the run or 'crosstime null'")
        return str(entry["key"])

    def refuse_other_dictionary(self) -> None:
        """Refuse descriptions of a dictionary that has been trained again.

        Raises:
            AnnotationError: the requests are about another dictionary.
        """
        record = read_json(self.folder / self.RECORD)
        if not isinstance(record, dict) or record.get("key") != self.stage_key:
            raise AnnotationError(
                f"{self.folder} describes the features of an earlier training of {self.results.path}: move it away to "
                "describe those of this one"
            )


def sources(inputs: Inputs) -> list[Source]:
    """The dictionaries of a finished run: its own, then one for each training of a null model.

    Args:
        inputs: of the run.
    """
    folder, table = inputs.folder, inputs.recipe.null
    dictionaries = [Source(RUN, inputs, folder, folder.path / FOLDER / RUN)]
    for kind in table.kinds:
        for seed in range(table.seeds):
            null = NullModel(kind, seed, table.checkpoint)
            results = RunFolder(folder.path / NULLS / null.name)
            null_inputs = NullInputs(inputs, null, results)
            dictionaries.append(Source(null.name, null_inputs, results, folder.path / FOLDER / null.name))
    return dictionaries
