"""Is a feature really missing at a checkpoint, or has only its decoder shrunk? Latent scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.effects.relie import relative
from crosstime.errors import CrosscoderError
from crosstime.evolution.life_cycles import PRESENT, present
from interventions import Decomposition

SHARED_RECONSTRUCTION, SHARED_ERROR = 0.5, 0.2
"""Ratios from which a feature counts as there although its decoder is not (Minder et al., section 3)."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """How much of a feature's direction each checkpoint holds when the feature fires.

    Attributes:
        reconstruction: beta on the reconstruction, F C; NaN for features that never fire.
        error: beta on the error term with the feature's own part put back, F C.
        peak: number of the checkpoint whose direction is looked for, per feature.
    """

    reconstruction: Float[Tensor, "F C"]
    error: Float[Tensor, "F C"]
    peak: Tensor

    def ratio(self, name: str) -> Float[Tensor, "F C"]:
        """``nu_c = beta_c / beta_peak`` of one of the two; NaN where beta at the peak is not positive.

        Raises:
            CrosscoderError: another name than reconstruction or error.
        """
        if name not in ("reconstruction", "error"):
            raise CrosscoderError(f"Latent scaling is on the reconstruction or the error, not {name!r}.")
        beta = getattr(self, name)
        best = beta.gather(1, self.peak.unsqueeze(1))
        return torch.where(best > 0, beta / best, torch.nan)


@torch.no_grad()
def scale_latents(crosscoder: CrossCoder, decomposed: Sequence[Decomposition]) -> Scaling:
    """For each feature and checkpoint, the multiple of the feature that fits the checkpoint's activations best.

    d_i is feature i's decoder direction at the checkpoint of its largest norm, y_c what is fitted at checkpoint c::

        beta_ic = argmin_b sum_t || b f_i(t) d_i - y_c(t) ||² = sum_t f_i(t) <d_i, y_c(t)> / ( ||d_i||² sum_t f_i(t)² )

        reconstruction : y_c = sum_j f_j W_dec[j, c]
        error          : y_c = s_c e_c + f_i W_dec[i, c]

    all on the scale of training. A feature whose decoder has shrunk to nothing although the checkpoint holds its
    direction shows in the error; one whose work is done there by other features, in the reconstruction. Putting
    the own part back adds ``<d_i, W_dec[i, c]> / ||d_i||²`` to beta on the error, so nothing is fitted twice.

    Args:
        crosscoder: whose features.
        decomposed: one decomposition a checkpoint of the same tokens, as `CrossCoder.decompose` gives them.

    Raises:
        CrosscoderError: another number of checkpoints or features.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> scale_latents(crosscoder, text.decompositions).ratio("error")  # doctest: +SKIP

    Source: Minder et al. 2025 (arXiv 2504.02922), section 3 and appendix on the closed form.
    """
    codes = decomposed[0].codes
    if (len(decomposed), codes.n_features) != (crosscoder.n_checkpoints, crosscoder.n_features):
        raise CrosscoderError(
            f"Decompositions at {len(decomposed)} checkpoints into {codes.n_features} features do not fit a crosscoder "
            f"of {crosscoder.n_checkpoints} and {crosscoder.n_features}."
        )
    norms, weights = crosscoder.decoder_norms().T, crosscoder.W_dec.detach()
    # Folding divides directions by the scales, which the norms of training have kept.
    folded = weights.norm(dim=-1).sum(0)
    to_training = torch.where(folded > 0, norms.sum(0) / folded, 1.0)
    peak = norms.argmax(1)
    rows = torch.arange(len(norms))
    wanted = weights[rows, peak] * to_training[peak].unsqueeze(1)
    energy = torch.zeros(len(norms), dtype=torch.float64).index_add(0, codes.feature, codes.value.double() ** 2)
    size = wanted.double().square().sum(1)
    out = {name: torch.zeros(len(norms), len(decomposed), dtype=torch.float64) for name in ("reconstruction", "error")}
    for c, one in enumerate(decomposed):
        scale = to_training[c] * crosscoder.scales[c]
        for name, target in (("reconstruction", one.reconstruction - one.bias), ("error", one.error)):
            inner = codes.inner(target * scale, wanted).double()
            out[name][:, c] = torch.zeros_like(energy).index_add(0, codes.feature, inner)
    betas = {name: torch.where(energy > 0, sums.T / (size * energy), torch.nan).T for name, sums in out.items()}
    own = torch.einsum("fd,fcd->fc", wanted, weights).double() * to_training / size.unsqueeze(1)
    return Scaling(betas["reconstruction"], betas["error"] + own, peak)


def latent_scaling(
    crosscoder: CrossCoder,
    decomposed: Sequence[Decomposition],
    *,
    features: Sequence[int] | None = None,
    reconstruction: float = SHARED_RECONSTRUCTION,
    error: float = SHARED_ERROR,
    fraction: float = PRESENT,
) -> pd.DataFrame:
    """Find features that are specific by their decoder norms, but are there at other checkpoints all the same.

    A feature is flagged at a checkpoint where its decoder norm says that it is absent (`life_cycles.present`),
    but nu, the multiple that fits best (`scale_latents`) relative to the one at its peak, is at least
    `reconstruction` on the reconstruction or at least `error` on the error term.

    Args:
        crosscoder, decomposed: see `scale_latents`.
        features: rows for which; default all.
        reconstruction, error: the two thresholds.
        fraction: see `life_cycles.present`.

    Returns:
        One row for each feature and checkpoint: feature, revision, decoder_share (RelDec), beta_reconstruction,
        beta_error, nu_reconstruction, nu_error, spurious.

    Raises:
        CrosscoderError: decompositions by another crosscoder.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> table = latent_scaling(crosscoder, text.decompositions)  # doctest: +SKIP
        >>> table[table.spurious].feature.nunique()  # doctest: +SKIP
        12

    Source: Minder et al. 2025 (arXiv 2504.02922).
    """
    found = scale_latents(crosscoder, decomposed)
    norms = crosscoder.decoder_norms().T
    nu = {name: found.ratio(name) for name in ("reconstruction", "error")}
    there = (nu["reconstruction"] >= reconstruction) | (nu["error"] >= error)
    spurious = there & ~present(norms, fraction)
    chosen = torch.arange(len(norms)) if features is None else torch.tensor(list(features), dtype=torch.long)
    revisions = crosscoder.origin.revisions
    columns = {
        "decoder_share": relative(norms),
        "beta_reconstruction": found.reconstruction,
        "beta_error": found.error,
        "nu_reconstruction": nu["reconstruction"],
        "nu_error": nu["error"],
        "spurious": spurious,
    }
    return pd.DataFrame(
        {
            "feature": np.repeat(chosen.numpy(), len(revisions)),
            "revision": np.tile(list(revisions), len(chosen)),
            **{name: values[chosen].flatten().numpy() for name, values in columns.items()},
        }
    )
