"""What a feature's activation is replaced by: nothing, its mean, another prompt's, or the patch prompt's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.codes import Codes, Decomposition
from interventions.errors import InterventionError, not_one_of
from interventions.prompts import Sequences

BASELINES = ("zero", "mean", "resample", "patch")
"""Baselines that have a name; any other is given as a `Baseline`."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """The state (f', e') that effects and ablations move to, token for token.

    Attributes:
        codes: f', the features' activations.
        error: e', the error term.
        x: the activation that they make, ``codes @ directions + bias + error``.

    Examples:
        >>> Baseline.zero(decomposition)  # doctest: +SKIP
        >>> Baseline.mean(decomposition)  # doctest: +SKIP
        >>> Baseline.resample(decomposition, prompts, seed=0)  # doctest: +SKIP
        >>> Baseline.patch(patched_decomposition)  # doctest: +SKIP
    """

    codes: Codes
    error: Float[Tensor, "T D"]
    x: Float[Tensor, "T D"]

    @classmethod
    def zero(cls, clean: Decomposition) -> Baseline:
        """No feature fires and there is no error, so only the decoder's bias is left (CTT)."""
        x = clean.bias.expand_as(clean.x)
        return cls(Codes.empty(clean.codes), clean.x.new_zeros(()).expand_as(clean.x), x)

    @classmethod
    def mean(cls, clean: Decomposition, over: Decomposition | None = None) -> Baseline:
        """Every feature and the error at their means over the tokens of a data set (default: these prompts')."""
        over = clean if over is None else over
        codes = Codes.constant(over.codes.mean(), clean.codes.n_tokens)
        return cls(codes, over.error.mean(0).expand_as(clean.x), over.x.mean(0).expand_as(clean.x))

    @classmethod
    def resample(cls, clean: Decomposition, prompts: Sequences, *, seed: int = 0) -> Baseline:
        """Every prompt takes the state of another one, drawn at random.

        Prompts are laid over each other at their last tokens; a token before the other prompt's first takes
        that first token's state.

        Raises:
            InterventionError: there is only one prompt.
        """
        n = len(prompts)
        if n < 2:
            raise InterventionError("Resampling needs at least two prompts to draw from.")
        generator = torch.Generator().manual_seed(seed)
        shift = torch.randint(1, n, (n,), generator=generator)
        donor = (torch.arange(n) + shift) % n
        row = prompts.sequence_of_token
        from_end = prompts.lengths[row] - prompts.position_of_token
        position = (prompts.lengths[donor][row] - from_end).clamp(min=0)
        token = prompts.starts[donor][row] + position
        return cls(clean.codes.rows(token), clean.error[token], clean.x[token])

    @classmethod
    def patch(cls, patched: Decomposition) -> Baseline:
        """The state of the patch prompts."""
        return cls(patched.codes, patched.error, patched.x)

    @classmethod
    def named(
        cls,
        name: str,
        clean: Decomposition,
        prompts: Sequences,
        patched: Decomposition | None = None,
        *,
        seed: int = 0,
    ) -> Baseline:
        """The baseline of a name: zero, mean (over the prompts' own tokens), resample or patch.

        Args:
            name: one of `BASELINES`.
            clean: decomposition of the prompts' activations.
            prompts: the prompts; ``resample`` needs their lengths.
            patched: decomposition of the patch prompts, for ``patch``.
            seed: of ``resample``.

        Raises:
            InterventionError: there is no baseline of that name, ``patch`` without `patched`, or ``resample`` with a
                single prompt.
        """
        if name == "zero":
            return cls.zero(clean)
        if name == "mean":
            return cls.mean(clean)
        if name == "resample":
            return cls.resample(clean, prompts, seed=seed)
        if name != "patch":
            raise InterventionError(not_one_of("baseline", name, BASELINES))
        if patched is None:
            raise InterventionError(
                "Baseline 'patch' needs the decomposition of the patch prompts: use Baseline.patch(decomposition)."
            )
        return cls.patch(patched)

    @classmethod
    def of(cls, baseline: str | Baseline, clean: Decomposition, prompts: Sequences) -> Baseline:
        """A baseline as it is, or by its name; see `named`.

        Raises:
            InterventionError: an unknown name, or a baseline with another number of tokens or features.
        """
        if isinstance(baseline, str):
            return cls.named(baseline, clean, prompts)
        expected, received = ((codes.n_tokens, codes.n_features) for codes in (clean.codes, baseline.codes))
        if received != expected:
            raise InterventionError(
                f"The baseline has {received[0]} tokens and {received[1]} features, but the clean state has "
                f"{expected[0]} and {expected[1]}."
            )
        return baseline

    def change(self, clean: Decomposition, features: Iterable[int] | None = None) -> Codes:
        """``f' - f`` of every feature on every token; or of some, which saves much where all features have a mean.

        Raises:
            FeatureError: a feature that does not exist.
        """
        if features is None:
            return self.codes + (-clean.codes)
        chosen = sorted(set(features))
        for feature in chosen:
            clean.codes.check(feature)
        return self.codes.of(chosen) + (-clean.codes.of(chosen))
