"""Is a feature there at a checkpoint, and by how much? A test of presence on held-out activations.

The norm of a decoder direction says how strongly the dictionary writes a feature, not whether the feature is there: one
with a fifth of its strength is weak, but present. For each feature i and checkpoint c:

1. **Target.** The error term of the checkpoint, to which the feature's own contribution is added again, is projected on
   a unit direction u: ``z(t) = <u, s_c e_c(t) + f_ic(t) W_dec[i, c]>``. The contributions of all other features are not
   part of it. u is the decoder direction at c, or that at the peak where the norm at c has shrunk below the smallest
   share of interest; both are known before the held-out tokens are read.
2. **Slope.** ``b_ic = Cov(f_i, z) / Var(f_i)``: how much of u the activation gains per unit of the feature.
3. **Uncertainty.** With residuals r, the influence of token t on the slope is
   ``(f_i(t) - mean f_i) r(t) / sum (f_i - mean f_i)²``. It is summed within sequences, whose tokens are dependent;
   the variance is the sum of the squares of these sums (a cluster-robust variance), times G / (G - 1) for the G
   sequences in which the feature fires.
4. **Decision.** The hypothesis "the share ``b_ic / b_i,peak`` is at most `minimum`" is tested by
   ``b_ic - minimum b_i,peak``, with Student's t of G - 1 degrees of freedom, and so is the opposite one. Both are
   corrected for all features and checkpoints by Benjamini and Hochberg.

Source: Liang and Zeger 1986 for the variance; Minder et al. 2025 (arXiv 2504.02922) for the regression on the error
term; Benjamini and Hochberg 1995.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import joint_codes
from crosstime.errors import CrosscoderError
from crosstime.evolution.latent_scaling import SHARED_RECONSTRUCTION, refuse_other_sizes, to_scale_of_training
from crosstime.evolution.specificity_test import benjamini_hochberg
from crosstime.machine.long_table import long_table
from crosstime.report.columns import UNDECIDED
from interventions import Codes, Decomposition

MINIMUM_SHARE = 0.1
"""Smallest share of the slope at the peak with which a feature counts as present."""
FEWEST_SEQUENCES = 10
"""Number of sequences in which a feature must fire to be tested."""
BLOCKS = 256
"""Number of blocks of consecutive tokens that take the place of sequences where these are not known."""
PRESENT_THERE, ABSENT_THERE = "present", "absent"
"""Answers of the test, apart from undecided."""
CHUNK = 1 << 22
"""Numbers of the dense codes that are in memory at a time (32 MB in float64)."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """Slopes of K features at C checkpoints, and the influence of each of G sequences on them.

    Attributes:
        slope: K C.
        influence: what each sequence adds to the error of a slope.
        n_firing: number of sequences in which each feature fires.
    """

    slope: Float[Tensor, "K C"]
    influence: Float[Tensor, "G K C"]
    n_firing: Int[Tensor, " K"]

    def error_of(self, influence: Float[Tensor, "G K C"]) -> Float[Tensor, "K C"]:
        """Standard error of a quantity with the given influence."""
        n = self.n_firing.double().unsqueeze(1)
        return (influence.square().sum(0) * n / (n - 1)).sqrt()

    def share(
        self, peak: Int[Tensor, " K"], level: float
    ) -> tuple[Float[Tensor, "K C"], Float[Tensor, "K C"], Float[Tensor, "K C"]]:
        """``b_c / b_peak`` with the bounds of its interval, by the delta method."""
        at_peak, influence_at_peak = self._at_peak(peak)
        share = self.slope / at_peak
        half = self.error_of((self.influence - share * influence_at_peak) / at_peak) * self._quantile(level)
        return share, share - half, share + half

    def exceeds(
        self, minimum: float, peak: Int[Tensor, " K"]
    ) -> tuple[Float[Tensor, "K C"], Float[Tensor, "K C"], Float[Tensor, " K"]]:
        """P of "the share is at most `minimum`", p of "it is at least `minimum`", and p of "b_peak is at most 0"."""
        at_peak, influence_at_peak = self._at_peak(peak)
        contrast = (self.slope - minimum * at_peak) / self.error_of(self.influence - minimum * influence_at_peak)
        of_peak = at_peak / self.error_of(influence_at_peak)
        degrees = (self.n_firing.unsqueeze(1) - 1).clamp(min=1).numpy()
        above, below = stats.t.sf(contrast.numpy(), degrees), stats.t.cdf(contrast.numpy(), degrees)
        p_peak = stats.t.sf(of_peak.numpy(), degrees)
        return torch.from_numpy(above), torch.from_numpy(below), torch.from_numpy(p_peak).squeeze(1)

    def _at_peak(self, peak: Int[Tensor, " K"]) -> tuple[Float[Tensor, "K 1"], Float[Tensor, "G K 1"]]:
        index = peak.unsqueeze(1)
        return self.slope.gather(1, index), self.influence.gather(2, index.expand(len(self.influence), -1, 1))

    def _quantile(self, level: float) -> Float[Tensor, "K 1"]:
        degrees = (self.n_firing - 1).clamp(min=1).numpy()
        return torch.from_numpy(stats.t.isf(level / 2, degrees)).unsqueeze(1)


@torch.no_grad()
def presence_test(
    crosscoder: CrossCoder,
    decompositions: Sequence[Decomposition],
    *,
    features: Sequence[int] | None = None,
    sequence_of_token: Int[Tensor, " T"] | None = None,
    minimum: float = MINIMUM_SHARE,
    level: float = 0.05,
) -> pd.DataFrame:
    """Test at which checkpoints a feature is there, with an interval of how strong it is relative to its peak.

    ::

        share    b_ic / b_i,peak, the slope of the checkpoint's activation on the feature relative to that at the peak
        present  the share is above `minimum`, with q <= level
        absent   the share is below `minimum`, with q_absent <= level

    A feature is undecided where neither holds: it fires in fewer than ten sequences, its slope at the peak is not above
    zero, or its share is too close to `minimum` for so few tokens. The module's description has the formulas.

    Args:
        crosscoder: the features.
        decompositions: of the same tokens, which the crosscoder was not trained on, at each checkpoint.
        features: the features to test; by default all.
        sequence_of_token: number of the sequence of each token; by default 256 blocks of consecutive tokens.
        minimum: the smallest share of interest, above 0 and below 1.
        level: of the tests, and 1 - coverage of the intervals.

    Returns:
        One row for each feature and checkpoint: feature, revision, slope, share, low, high, p, q, q_absent, presence
        (present, absent or undecided), activation_share, activation_low, activation_high (the share by a regression of
        the whole activation, to which other features contribute), written_by_others (absent, although the activation
        has at least half of the direction: other features write it). The checkpoint of the largest decoder norm is the
        reference of the shares: it has no p, and is not counted among the tests.

    Raises:
        CrosscoderError: a feature does not exist, `minimum` or `level` is out of range, or the decompositions or
            sequences do not fit.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "held_out.txt.gz")  # doctest: +SKIP
        >>> table = presence_test(crosscoder, text.decompositions)  # doctest: +SKIP
        >>> table[table.presence == "present"].groupby("revision").size()  # doctest: +SKIP

    Source: Liang and Zeger 1986; Minder et al. 2025 (arXiv 2504.02922); Benjamini and Hochberg 1995.
    """
    codes = joint_codes(decompositions)
    selected = _check(crosscoder, decompositions, codes, features, minimum, level)
    sequences = _sequences(sequence_of_token, codes.n_tokens)

    # The direction at each checkpoint; that at the peak where the decoder has shrunk
    norms = crosscoder.decoder_norms().T[selected]
    weights = crosscoder.directions()[selected]
    peak = norms.argmax(1)
    own_norms = weights.norm(dim=-1, keepdim=True)
    units = weights / torch.where(own_norms > 0, own_norms, 1.0)
    at_peak = units[torch.arange(len(units)), peak].unsqueeze(1)
    shrunken = norms < minimum * norms.amax(1, keepdim=True)
    directions = torch.where(shrunken.unsqueeze(-1), at_peak, units)

    # Regressions of the error term with the feature's own part, and of the whole activation
    error, activation = _slopes(crosscoder, decompositions, codes, selected, weights, directions, sequences)

    # Tests, corrected for all features and checkpoints but the peaks
    above, below, p_peak = error.exceeds(minimum, peak)
    testable = (error.n_firing >= FEWEST_SEQUENCES) & (p_peak <= level)
    is_peak = torch.nn.functional.one_hot(peak, norms.shape[1]).bool()
    tested = testable.unsqueeze(1) & ~is_peak
    p, p_absent = (torch.where(tested, values, torch.nan) for values in (above, below))
    q, q_absent = (
        torch.from_numpy(benjamini_hochberg(values.flatten().numpy()).reshape(values.shape)) for values in (p, p_absent)
    )
    is_present = (testable.unsqueeze(1) & is_peak) | (q <= level)
    is_absent = q_absent <= level
    presence = np.where(is_present.numpy(), PRESENT_THERE, np.where(is_absent.numpy(), ABSENT_THERE, UNDECIDED))

    # The table; shares are relative to a slope that is above zero
    columns: dict[str, Tensor | np.ndarray] = {"slope": error.slope}
    for prefix, slopes in (("", error), ("activation_", activation)):
        shares = slopes.share(peak, level)
        names = ("activation_share", "activation_low", "activation_high") if prefix else ("share", "low", "high")
        columns |= {
            name: torch.where(testable.unsqueeze(1), values, torch.nan)
            for name, values in zip(names, shares, strict=True)
        }
        if not prefix:
            columns |= {"p": p, "q": q, "q_absent": q_absent, "presence": presence}
    columns["written_by_others"] = is_absent & (torch.as_tensor(columns["activation_low"]) >= SHARED_RECONSTRUCTION)
    return long_table({"feature": selected.numpy(), "revision": crosscoder.origin.revisions}, columns)


def _check(
    crosscoder: CrossCoder,
    decompositions: Sequence[Decomposition],
    codes: Codes,
    features: Sequence[int] | None,
    minimum: float,
    level: float,
) -> Int[Tensor, " K"]:
    """Refuse what does not fit, and return the features to test."""
    refuse_other_sizes(crosscoder, decompositions, codes)
    if not 0 < minimum < 1:
        raise CrosscoderError(f"The smallest share of a feature that is present is between 0 and 1, not {minimum}.")
    if not 0 < level < 1:
        raise CrosscoderError(f"The level of the test of presence is between 0 and 1, not {level}.")
    selected = list(range(crosscoder.n_features) if features is None else features)
    for feature in selected:
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )
    return torch.tensor(selected, dtype=torch.long)


def _sequences(sequence_of_token: Int[Tensor, " T"] | None, n_tokens: int) -> Int[Tensor, " T"]:
    """Numbers of the sequences from 0 on, without gaps."""
    if sequence_of_token is None:
        return torch.arange(n_tokens) * min(BLOCKS, max(1, n_tokens)) // max(1, n_tokens)
    if len(sequence_of_token) != n_tokens:
        raise CrosscoderError(f"Sequences of {len(sequence_of_token)} tokens do not fit codes of {n_tokens}.")
    return torch.unique(sequence_of_token, return_inverse=True)[1]


def _slopes(
    crosscoder: CrossCoder,
    decompositions: Sequence[Decomposition],
    codes: Codes,
    selected: Int[Tensor, " K"],
    weights: Float[Tensor, "K C D"],
    directions: Float[Tensor, "K C D"],
    sequences: Int[Tensor, " T"],
) -> tuple[Slopes, Slopes]:
    """Slopes of the error term with the feature's own part, and of the whole activation, on the scale of training."""
    n_sequences, n_selected = int(sequences.max()) + 1 if len(sequences) else 0, len(selected)
    scales = to_scale_of_training(crosscoder)
    slope = torch.full((2, n_selected, len(decompositions)), torch.nan, dtype=torch.float64)
    influence = torch.zeros(2, n_sequences, n_selected, len(decompositions), dtype=torch.float64)
    n_firing = torch.zeros(n_selected, dtype=torch.long)

    # Decoding is the same for all chunks of features
    errors = [decomposition.error for decomposition in decompositions]
    own_sizes = (directions * weights).sum(2).double() * scales
    size = max(1, CHUNK // max(1, codes.n_tokens))
    for start in range(0, n_selected, size):
        chunk = slice(start, start + size)
        features = selected[chunk]

        # Codes of these features, centred
        joint = _columns(codes, features)
        centred = joint - joint.mean(0)
        square = centred.square().sum(0)
        fires = torch.zeros(n_sequences, len(features), dtype=torch.float64).index_add(
            0, sequences, (joint > 0).double()
        )
        n_firing[chunk] = (fires > 0).sum(0)

        # Both regressions at every checkpoint
        for c, decomposition in enumerate(decompositions):
            unit, scale = directions[chunk, c], scales[c] * crosscoder.scales[c]
            own = joint if decomposition.codes is codes else _columns(decomposition.codes, features)
            in_error = (errors[c] * scale @ unit.T).double() + own * own_sizes[chunk, c]
            in_activation = (decomposition.x * scale @ unit.T).double()
            for target, z in enumerate((in_error, in_activation)):
                b = (centred * z).sum(0) / square
                residual = z - z.mean(0) - b * centred
                slope[target, chunk, c] = b
                influence[target, :, chunk, c] = influence[target, :, chunk, c].index_add(
                    0, sequences, centred * residual / square
                )
    return Slopes(slope[0], influence[0], n_firing), Slopes(slope[1], influence[1], n_firing)


def _columns(codes: Codes, features: Int[Tensor, " K"]) -> Float[Tensor, "T K"]:
    """Dense codes of some features."""
    column = torch.full((codes.n_features,), -1)
    column[features] = torch.arange(len(features))
    column_of_entry = column[codes.feature]
    mask = column_of_entry >= 0
    dense = torch.zeros(codes.n_tokens, len(features), dtype=torch.float64)
    return dense.index_put((codes.token[mask], column_of_entry[mask]), codes.value[mask].double(), accumulate=True)
