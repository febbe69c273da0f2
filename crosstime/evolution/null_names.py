"""Names of the null models, and which claims each makes false; without PyTorch, so that recipes are read quickly."""

from __future__ import annotations

SAME, NOISE, PERMUTED = "same-checkpoint", "same-checkpoint-noise", "permuted-tokens"
RANDOM, ENCODER, DECODERS = "random-weights", "frozen-encoder", "frozen-decoder"
NULLS = (SAME, NOISE, PERMUTED, RANDOM, ENCODER, DECODERS)
"""The null models; docs/guides/nulls.md says what each changes."""
DEFAULT_KINDS = (NOISE, PERMUTED)
"""Null models under which, together, every class and every life cycle is false."""

_OF_SEVERAL = ("shared", "always", "partly shared", "maintained", "intermittent")
"""Claims that a feature is there at more than one checkpoint, apart from classes such as "step64+main"."""


def is_false_under(null: str, claim: str) -> bool:
    """Whether a claim is false by construction under a null model.

    The checkpoints of the same-checkpoint nulls are one checkpoint, so that no feature can come, go, or belong to
    some of them, and no dip has a cause. Between permuted tokens nothing is paired, so that no feature can be that of
    several checkpoints. Under the other null models no claim is false by construction; they say what is claimed where
    nothing was learned.

    Args:
        null: one of `NULLS`.
        claim: a class, a life cycle, or "explained".

    Examples:
        >>> is_false_under("same-checkpoint", "emerging"), is_false_under("same-checkpoint", "shared")
        (True, False)
        >>> is_false_under("permuted-tokens", "step64+main"), is_false_under("permuted-tokens", "main only")
        (True, False)
    """
    if null in (SAME, NOISE):
        return claim not in ("shared", "always", "never")
    # Emerging and discontinued features may be there at a single checkpoint
    several = claim in _OF_SEVERAL or ("+" in claim and not claim.endswith(" only"))
    return null == PERMUTED and several
