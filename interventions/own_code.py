"""Checkpoints that bring Python code of their own, which runs only if it is allowed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OPTION = "trust_remote_code=True (--trust-remote-code on the command line, suite.trust_remote_code in a recipe)"


def own_code_refusal(name: str, error: BaseException) -> str | None:
    """The sentence about a checkpoint that needs its own code, if that is why transformers did not open it.

    Examples:
        >>> own_code_refusal("ORG/NAME", OSError("no such file")) is None
        True
    """
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"{name} is opened by Python code of its own (auto_map), which does not run unless it is allowed; read it, "
        f"then allow it with {OPTION}"
    )


def warn_of_unused_code(name: str, config: PretrainedConfig) -> None:
    """Warn about a checkpoint with code of its own that transformers has a class for: that class opened it."""
    if getattr(config, "auto_map", None):
        warnings.warn(
            f"{name} brings Python code of its own (auto_map), which was not run: transformers' class for "
            f"{config.model_type!r} opened it; {OPTION} runs it.",
            RuntimeWarning,
            stacklevel=4,
        )
