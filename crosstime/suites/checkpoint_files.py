"""Configurations and weight files of the checkpoints of a suite, each read once for the suite and its selections."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crosstime.errors import SuiteError
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.config_and_tokenizer import check_weight_names, read_config
from crosstime.suites.fingerprint import checkpoint_content
from crosstime.suites.verify import unavailable
from crosstime.suites.weights import Weights, folder_state, has_weights, read_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FolderState = tuple[tuple[str | int, ...], ...]
"""Names, sizes and times of change of the files of a checkpoint, by `folder_state`."""


class CheckpointFiles:
    """What has been read of the files of checkpoints.

    Args:
        trust_remote_code: whether Python code that the checkpoints bring is run.

    Attributes:
        verified: states of suites that `Suite.verify` has accepted.

    Examples:
        >>> files = CheckpointFiles(trust_remote_code=False)
        >>> files.config(suite["main"]).hidden_size  # doctest: +SKIP
        2048
    """

    def __init__(self, *, trust_remote_code: bool) -> None:
        self.verified: set[tuple[object, ...]] = set()
        self._trust_remote_code = trust_remote_code
        self._configs: dict[str, PretrainedConfig] = {}
        self._weights: dict[str, Weights | SuiteError] = {}
        self._folder_states: dict[str, FolderState] = {}

    def config(self, checkpoint: Checkpoint) -> PretrainedConfig:
        """The model configuration of a checkpoint.

        Raises:
            SuiteError: it cannot be read.
        """
        if checkpoint.revision not in self._configs:
            self._configs[checkpoint.revision] = read_config(checkpoint, trust_remote_code=self._trust_remote_code)
        return self._configs[checkpoint.revision]

    def weights(self, checkpoints: Sequence[Checkpoint]) -> dict[str, Weights | SuiteError]:
        """The weight files of checkpoints by revision, or why they cannot be read; several are read at the same time.

        Files that have changed since are read again.

        Raises:
            SuiteError: a configuration cannot be read.
        """
        # Find those that have not been read, or whose files have changed since
        states = {checkpoint.revision: folder_state(checkpoint) for checkpoint in checkpoints}
        unread = [
            checkpoint
            for checkpoint in checkpoints
            if checkpoint.revision not in self._weights
            or self._folder_states[checkpoint.revision] != states[checkpoint.revision]
        ]

        # Read them
        if unread:
            names = [getattr(self.config(checkpoint), "transformers_weights", None) for checkpoint in unread]
            weights = read_weights(list(zip(unread, names, strict=True)))
            for checkpoint, files in zip(unread, weights, strict=True):
                self._weights[checkpoint.revision] = files
                self._folder_states[checkpoint.revision] = states[checkpoint.revision]
        return {checkpoint.revision: self._weights[checkpoint.revision] for checkpoint in checkpoints}

    def problems(self, checkpoints: Sequence[Checkpoint], *, weights_here: bool) -> list[str]:
        """A sentence for each checkpoint whose configuration or weights cannot be read.

        Args:
            checkpoints: the checkpoints.
            weights_here: whether the weights are loaded on this machine; if not, they are not looked at.
        """
        # Read the configurations
        problems = []
        for checkpoint in checkpoints:
            try:
                self.config(checkpoint)
            except SuiteError as error:
                problems.append(str(error))
        if problems or not weights_here:
            return problems

        # Read the weights
        weights = self.weights(checkpoints)
        for checkpoint in checkpoints:
            problem = self._weight_problem(checkpoint, weights[checkpoint.revision])
            if problem is not None:
                problems.append(problem)
        return problems

    def common_value(self, checkpoints: Sequence[Checkpoint], attribute: str, label: str, suite: str) -> int:
        """A number in the configurations that must be the same at every checkpoint.

        Args:
            checkpoints: the checkpoints.
            attribute: its name in a configuration.
            label: its name in a message.
            suite: name of the suite in a message.

        Raises:
            SuiteError: two checkpoints differ; the message names them.
        """
        first, *later = checkpoints
        expected = getattr(self.config(first).get_text_config(), attribute)
        for checkpoint in later:
            value = getattr(self.config(checkpoint).get_text_config(), attribute)
            if value != expected:
                raise SuiteError(
                    f"{label} differs between revisions of suite {suite!r}: "
                    f"{expected} at {first.revision!r}, {value} at {checkpoint.revision!r}"
                )
        return int(expected)

    def fingerprint(self, checkpoints: Sequence[Checkpoint]) -> str:
        """Hash of names, order, configurations and weights of checkpoints; see `Suite.fingerprint`.

        Raises:
            SuiteError: a configuration or a weight file cannot be read.
        """
        weights = self.weights(checkpoints)
        digest = hashlib.sha256()
        for checkpoint in checkpoints:
            of_checkpoint = weights[checkpoint.revision]
            if isinstance(of_checkpoint, SuiteError) and has_weights(checkpoint):
                raise SuiteError(str(of_checkpoint))
            files = () if isinstance(of_checkpoint, SuiteError) else (*of_checkpoint.files, *of_checkpoint.base)
            digest.update(checkpoint_content(checkpoint, self.config(checkpoint), files))
        return digest.hexdigest()[:16]

    def _weight_problem(self, checkpoint: Checkpoint, weights: Weights | SuiteError) -> str | None:
        """What is wrong with the weight files of a checkpoint, or with their names and shapes."""
        if isinstance(weights, SuiteError):
            return str(weights)
        problem = unavailable(checkpoint.revision, weights)
        if problem is not None or not weights.here or checkpoint.model is not None:
            return problem
        try:
            check_weight_names(checkpoint, trust_remote_code=self._trust_remote_code)
        except SuiteError as error:
            return str(error)
        return None


def known_weights(weights: Mapping[str, Weights | SuiteError]) -> dict[str, Weights]:
    """The weight files that could be read, by revision."""
    return {revision: files for revision, files in weights.items() if isinstance(files, Weights)}
