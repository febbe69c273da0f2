"""The sentences about checkpoints that cannot be used, or do not fit together: the checks of `Suite.verify`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crosstime.errors import SuiteError
from crosstime.suites.equal_weights import EqualWeights, message_about
from crosstime.suites.weights import Weights
from user_input.first_names import first_names

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

SHAPE = {"model_type": "the type of model", "hidden_size": "d_model", "num_hidden_layers": "the number of layers"}
"""Attributes of a configuration that all checkpoints share, and what they are called in messages."""
VOCABULARY = {"vocab_size": "the vocabulary size"}
_MOST_PROBLEMS = 5


def refuse_problems(problems: Sequence[str], count: int, suite: str) -> None:
    """Refuse a suite with checkpoints that cannot be used, in one sentence about all of them.

    Args:
        problems: a sentence for each such checkpoint.
        count: number of checkpoints of the suite.
        suite: its name.

    Raises:
        SuiteError: there are problems.
    """
    if len(problems) == 1:
        raise SuiteError(problems[0])
    if problems:
        listed = first_names(problems, _MOST_PROBLEMS, separator="; ")
        raise SuiteError(f"{len(problems)} of the {count} revisions of suite {suite!r} cannot be used: {listed}")


def unavailable(revision: str, weights: Weights) -> str | None:
    """Why the weights of a checkpoint cannot be loaded on this machine, although their digests are known."""
    missing = [file.name for file in weights.files if file.path is None]
    if not (missing and weights.unreachable):
        return None
    return (
        f"cannot use the weights of revision {revision!r}: {missing[0]} is not in the local cache of the Hub, and "
        f"{weights.unreachable}"
    )


def refuse_other_shapes(configs: Mapping[str, PretrainedConfig], attributes: Mapping[str, str], suite: str) -> None:
    """Refuse a checkpoint whose configuration differs from the first in one of some attributes.

    Args:
        configs: configurations by revision, in the order of the suite.
        attributes: names of the attributes, and what they are called in messages.
        suite: name of the suite.

    Raises:
        SuiteError: names both revisions and both values.
    """
    (first, expected), *later = configs.items()
    for revision, config in later:
        for name, label in attributes.items():
            values = _attribute(expected, name), _attribute(config, name)
            if values[0] != values[1]:
                raise SuiteError(
                    f"{label} differs between revisions of suite {suite!r}: {values[0]} at {first!r}, {values[1]} at "
                    f"{revision!r}"
                )


def refuse_small_vocabulary(
    configs: Mapping[str, PretrainedConfig], tokenizer: PreTrainedTokenizerBase, suite: str
) -> None:
    """Refuse a model whose vocabulary is smaller than others' and has not all tokens of the tokenizer they share.

    Args:
        configs: configurations by name of the model.
        tokenizer: the tokenizer of the suite.
        suite: name of the suite.

    Raises:
        SuiteError: names the model and both numbers.
    """
    sizes = {name: int(_attribute(config, "vocab_size")) for name, config in configs.items()}
    largest = max(tokenizer.get_vocab().values())
    smallest = min(sizes, key=lambda name: sizes[name])
    if len(set(sizes.values())) > 1 and largest >= sizes[smallest]:
        raise SuiteError(
            f"the tokenizer of suite {suite!r} has token {largest}, but model {smallest!r} has only {sizes[smallest]} "
            "tokens: give the tokenizer with the smaller vocabulary as tokenizer=..."
        )


def refuse_equal_weights(groups: Sequence[EqualWeights], suite: str, *, distinct: bool) -> None:
    """Refuse checkpoints that share weight files; two names of one step are only warned about, unless `distinct`.

    Raises:
        SuiteError: names the revisions and the files.
    """
    if refused := [group for group in groups if distinct or group.step is None]:
        raise SuiteError(message_about(refused, suite))
    for group in groups:
        warnings.warn(
            f"in suite {suite!r}, revisions {group}; all of them stand for step {group.step}.",
            RuntimeWarning,
            stacklevel=4,
        )


def _attribute(config: PretrainedConfig, name: str) -> Any:
    return getattr(config if name == "model_type" else config.get_text_config(), name, None)
