"""Baselines: the state that features and error term are moved to by effects and ablations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interventions.codes import Codes
from interventions.decomposition import Decomposition
from interventions.errors import InterventionError
from interventions.option_names import BASELINES
from interventions.prompts import Sequences
from user_input.nearest import nearest


@dataclass(frozen=True, eq=False)
class Baseline:
    """The state (f', e') that effects and ablations move to, token for token.

    Attributes:
        codes: f', the features' activations.
        error: e', the error term.
        x: the activation that they decode to, ``codes @ directions + bias + error``.

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
        """No feature fires and the error term is zero, so that only the decoder's bias is left (CTT)."""
        x = clean.bias.expand_as(clean.x)
        return cls(Codes.empty(clean.codes), clean.x.new_zeros(()).expand_as(clean.x), x)

    @classmethod
    def mean(cls, clean: Decomposition, over: Decomposition | None = None) -> Baseline:
        """Every feature and the error term at their means over all tokens of a data set but the fixed ones.

        Args:
            clean: decomposition of the prompts' activations.
            over: decomposition of the data set; by default the prompts themselves.
        """
        over = clean if over is None else over
        codes, error, x = over.codes, over.error, over.x
        if over.fixed is not None:
            counted = (~over.fixed).nonzero().squeeze(1)
            codes, error, x = codes.rows(counted), error[counted], x[counted]
        constant = Codes.constant(codes.mean(), clean.codes.n_tokens)
        return cls(constant, error.mean(0).expand_as(clean.x), x.mean(0).expand_as(clean.x))

    @classmethod
    def resample(cls, clean: Decomposition, prompts: Sequences, *, seed: int = 0) -> Baseline:
        """Every prompt takes the state of another prompt, drawn at random.

        The two prompts are aligned at their last tokens. Tokens that have no counterpart in a shorter donor take the
        state of its first token that is not fixed.

        Args:
            clean: decomposition of the prompts' activations.
            prompts: the prompts.
            seed: of the draw.

        Raises:
            InterventionError: there is only one prompt.
        """
        n_prompts = len(prompts)
        if n_prompts < 2:
            raise InterventionError("Resampling needs at least two prompts to draw from.")

        # Draw a donor for each prompt: a shift of at least one never gives the prompt itself.
        generator = torch.Generator().manual_seed(seed)
        shift = torch.randint(1, n_prompts, (n_prompts,), generator=generator)
        donor = (torch.arange(n_prompts) + shift) % n_prompts

        # Find the donor's token at the same distance from the end.
        row = prompts.sequence_of_token
        from_end = prompts.lengths[row] - prompts.position_of_token
        n_fixed = torch.zeros_like(prompts.lengths)
        if clean.fixed is not None:
            n_fixed = n_fixed.index_add(0, row, clean.fixed.to(n_fixed))
        first = torch.minimum(n_fixed, prompts.lengths - 1)
        position = torch.maximum(prompts.lengths[donor][row] - from_end, first[donor][row])
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
            prompts: the prompts.
            patched: decomposition of the patch prompts, for ``patch``.
            seed: of the draw, for ``resample``.

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
            raise InterventionError(f"There is no baseline {name!r}: {nearest(name, BASELINES)}")
        if patched is None:
            raise InterventionError(
                "Baseline 'patch' needs the decomposition of the patch prompts: use Baseline.patch(decomposition)."
            )
        return cls.patch(patched)

    @classmethod
    def of(cls, baseline: str | Baseline, clean: Decomposition, prompts: Sequences) -> Baseline:
        """Resolve what a caller gives, a `Baseline` or the name of one; fixed tokens keep their clean state.

        Raises:
            InterventionError: an unknown name, or a baseline with another number of tokens or features.
        """
        if isinstance(baseline, str):
            return cls.named(baseline, clean, prompts)._with_fixed(clean)
        expected, received = ((codes.n_tokens, codes.n_features) for codes in (clean.codes, baseline.codes))
        if received != expected:
            raise InterventionError(
                f"The baseline has {received[0]} tokens and {received[1]} features, but the clean state has "
                f"{expected[0]} and {expected[1]}."
            )
        return baseline._with_fixed(clean)

    def _with_fixed(self, clean: Decomposition) -> Baseline:
        """The same baseline, with the clean state at the tokens that are fixed."""
        if clean.fixed is None:
            return self
        fixed = clean.fixed.unsqueeze(1)
        return Baseline(
            self.codes.without(clean.fixed),
            torch.where(fixed, clean.error, self.error),
            torch.where(fixed, clean.x, self.x),
        )

    def change(self, clean: Decomposition, features: Iterable[int] | None = None) -> Codes:
        """``f' - f`` of every feature on every token.

        Args:
            clean: the clean state f.
            features: only these features; by default all. A mean baseline has an entry for every feature on every
                token, so that a selection saves most of the memory.

        Raises:
            FeatureError: a feature that does not exist.
        """
        if features is None:
            return self.codes + (-clean.codes)
        selection = sorted(set(features))
        for feature in selection:
            clean.codes.check(feature)
        return self.codes.select(selection) + (-clean.codes.select(selection))
