"""What a suite allows that is refused otherwise, as facts that results record."""

from __future__ import annotations

from typing import Any, TypedDict

from crosstime.suites.suite import Suite


class Allowances(TypedDict, total=False):
    """Whether the checkpoints' own code was run, and which checkpoints have equal weights; what is not so is absent."""

    trust_remote_code: bool
    equal_weights: list[dict[str, Any]]


def allowances(suite: Suite) -> Allowances:
    """What a suite allows, and which of its checkpoints that concerns.

    Examples:
        >>> allowances(Suite.open("EleutherAI/pythia-1b", ["step512", "main"]))
        {}
    """
    facts: Allowances = {}
    if suite.trust_remote_code:
        facts["trust_remote_code"] = True
    if suite.allow_equal_weights and (groups := suite.equal_weights()):
        facts["equal_weights"] = [group.as_fact() for group in groups]
    return facts
