"""Compare the length of sequences with what a suite's model can run, from its configuration alone."""

from __future__ import annotations

import warnings

import torch

from crosstime.errors import SuiteError
from crosstime.suites.suite import Suite
from interventions.positions import Positions


def check_length(suite: Suite, length: int) -> None:
    """Refuse sequences that are longer than the model's table of positions, before any weights are read.

    A model with rotary positions has no table; sequences beyond the length that it was trained on cause a warning.

    Args:
        suite: the suite.
        length: tokens of the longest sequence.

    Raises:
        SuiteError: gives both lengths.

    Examples:
        >>> check_length(suite, 1024)  # doctest: +SKIP
    """
    config = suite.config(suite.revisions[0])
    trained = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(trained, int) and length <= trained:
        return

    # Only the structure says whether there is a table; the meta device needs no memory for weights
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            module = AutoModelForCausalLM.from_config(config)
    except Exception:  # an architecture that transformers does not build is refused where it is opened
        return
    positions = Positions.of(module, config)
    if problem := positions.problem(length):
        raise SuiteError(f"suite {suite.name!r}: {problem}; use shorter sequences")
    if doubt := positions.doubt(length):
        warnings.warn(f"suite {suite.name!r}: {doubt}: results there mean little", RuntimeWarning, stacklevel=3)
