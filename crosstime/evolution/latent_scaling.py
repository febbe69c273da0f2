"""Is a feature really absent at a checkpoint, or is only its decoder small? Latent scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import joint_codes
from crosstime.effects.relie import relative
from crosstime.errors import CrosscoderError
from crosstime.evolution.presence import PRESENT, present
from crosstime.machine.long_table import long_table
from interventions import Codes, Decomposition

SHARED_RECONSTRUCTION, SHARED_ERROR = 0.5, 0.2
"""Ratios from which a feature counts as present although its decoder is small (Minder et al., section 3)."""
ROWS = 4_096
"""Features whose directions at all checkpoints are in memory at once."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """How much of a feature's direction the activations of each checkpoint contain when the feature fires.

    Attributes:
        reconstruction: beta on the reconstruction; NaN for features that never fire.
        error: beta on the error term, to which the feature's own part was added again.
        peak: index of the checkpoint whose direction is used, for each feature.
    """

    reconstruction: Float[Tensor, "F C"]
    error: Float[Tensor, "F C"]
    peak: Int[Tensor, " F"]

    def ratio(self, name: str) -> Float[Tensor, "F C"]:
        """``nu_c = beta_c / beta_peak`` on the reconstruction or the error; NaN where beta at the peak is not positive.

        Raises:
            CrosscoderError: another name than reconstruction or error.
        """
        betas = {"reconstruction": self.reconstruction, "error": self.error}
        if name not in betas:
            raise CrosscoderError(f"Latent scaling is on the reconstruction or the error, not {name!r}.")
        beta = betas[name]
        peak_beta = beta.gather(1, self.peak.unsqueeze(1))
        return torch.where(peak_beta > 0, beta / peak_beta, torch.nan)


@torch.no_grad()
def scale_latents(crosscoder: CrossCoder, decompositions: Sequence[Decomposition]) -> Scaling:
    """Find, for each feature and checkpoint, the multiple of the feature that fits the checkpoint's activations best.

    With d_i the decoder direction of feature i at the checkpoint of its largest norm, and y_c the target at checkpoint
    c::

        beta_ic = argmin_b sum_t || b f_i(t) d_i - y_c(t) ||² = sum_t f_i(t) <d_i, y_c(t)> / ( ||d_i||² sum_t f_i(t)² )

        reconstruction : y_c = sum_j f_j W_dec[j, c]
        error          : y_c = s_c e_c + f_ic W_dec[i, c]

    all on the scale of training. A feature whose decoder has shrunk although the activation contains its direction
    shows in the error; a feature whose part is written by other features shows in the reconstruction. Adding the
    feature's own part to the error adds ``<d_i, W_dec[i, c]> / ||d_i||²`` to beta, so that nothing is fitted twice.

    With a gate per checkpoint, f_i is the code at the checkpoint of the largest norm (`joint_codes`), and the own part
    counts only the tokens on which the gate of checkpoint c is open: ``sum_t f_ic(t)² / sum_t f_i(t)²`` multiplies it.

    Args:
        crosscoder: the features.
        decompositions: of the same tokens at each checkpoint, as `CrossCoder.decompose` returns them.

    Raises:
        CrosscoderError: the decompositions are of another number of checkpoints or features.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> scale_latents(crosscoder, text.decompositions).ratio("error")  # doctest: +SKIP

    Source: Minder et al. 2025 (arXiv 2504.02922), section 3 and appendix on the closed form.
    """
    codes = joint_codes(decompositions)
    refuse_other_sizes(crosscoder, decompositions, codes)

    # Directions at the peak, on the scale of training; folding divides them by the scales but keeps the norms
    norms, weights = crosscoder.decoder_norms().T, crosscoder.directions()
    spans = [slice(start, start + ROWS) for start in range(0, len(norms), ROWS)]
    to_training = to_scale_of_training(crosscoder)
    peak = norms.argmax(1)
    at_peak = [weights[span][torch.arange(len(peak[span])), peak[span]] for span in spans]
    directions = torch.cat(at_peak) * to_training[peak].unsqueeze(1)

    # Denominator: squared norm of the direction, and squared activation summed over tokens
    energy = _energy(codes)
    square_norm = directions.double().square().sum(1)

    # Numerators at every checkpoint
    reconstruction = torch.zeros(len(norms), len(decompositions), dtype=torch.float64)
    error = torch.zeros_like(reconstruction)
    for c, decomposition in enumerate(decompositions):
        scale = to_training[c] * crosscoder.scales[c]
        target = decomposition.reconstruction - decomposition.bias
        for numerators, vectors in ((reconstruction, target), (error, decomposition.error)):
            inner = codes.inner(vectors * scale, directions).double()
            numerators[:, c] = torch.zeros_like(energy).index_add(0, codes.feature, inner)

    # Betas, with the feature's own part added to the error
    betas = [
        torch.where(energy > 0, numerators.T / (square_norm * energy), torch.nan).T
        for numerators in (reconstruction, error)
    ]
    inner_products = [torch.einsum("fd,fcd->fc", directions[span], weights[span]) for span in spans]
    own_part = torch.cat(inner_products).double() * to_training / square_norm.unsqueeze(1)
    if crosscoder.activation.gate_per_checkpoint:
        own_energy = torch.stack([_energy(decomposition.codes) for decomposition in decompositions], 1)
        own_part = own_part * own_energy / energy.unsqueeze(1)
    return Scaling(reconstruction=betas[0], error=betas[1] + own_part, peak=peak)


def refuse_other_sizes(crosscoder: CrossCoder, decompositions: Sequence[Decomposition], codes: Codes) -> None:
    """Refuse decompositions of another number of checkpoints or features.

    Raises:
        CrosscoderError: names both numbers.
    """
    if (len(decompositions), codes.n_features) != (crosscoder.n_checkpoints, crosscoder.n_features):
        raise CrosscoderError(
            f"Decompositions at {len(decompositions)} checkpoints into {codes.n_features} features do not fit a "
            f"crosscoder of {crosscoder.n_checkpoints} and {crosscoder.n_features}."
        )


def to_scale_of_training(crosscoder: CrossCoder) -> Float[Tensor, " C"]:
    """Factor of each checkpoint from the scale of the weights to that of training; 1 unless the scales are folded.

    Folding divides the weights by the scales but keeps the norms, so the factor is the ratio of the two.
    """
    norms, weights = crosscoder.decoder_norms().T, crosscoder.directions()
    spans = [slice(start, start + ROWS) for start in range(0, len(norms), ROWS)]
    folded_norms = torch.cat([weights[span].norm(dim=-1) for span in spans]).sum(0)
    return torch.where(folded_norms > 0, norms.sum(0) / folded_norms, 1.0)


def _energy(codes: Codes) -> Float[Tensor, " F"]:
    """Squared activation of each feature, summed over tokens."""
    return torch.zeros(codes.n_features, dtype=torch.float64).index_add(0, codes.feature, codes.value.double() ** 2)


def latent_scaling(
    crosscoder: CrossCoder,
    decompositions: Sequence[Decomposition],
    *,
    features: Sequence[int] | None = None,
    reconstruction: float = SHARED_RECONSTRUCTION,
    error: float = SHARED_ERROR,
    fraction: float = PRESENT,
) -> pd.DataFrame:
    """Find features that only look specific by their decoder norms, but are present at other checkpoints.

    A feature is flagged as spurious at a checkpoint where it is absent by its decoder norm (`present`), but nu, the
    best multiple of `scale_latents` relative to that at the peak, is at least `reconstruction` on the reconstruction or
    at least `error` on the error term.

    Args:
        crosscoder, decompositions: see `scale_latents`.
        features: the features to list; by default all.
        reconstruction, error: the two thresholds.
        fraction: see `present`.

    Returns:
        One row for each feature and checkpoint: feature, revision, decoder_share (RelDec), beta_reconstruction,
        beta_error, nu_reconstruction, nu_error, spurious.

    Raises:
        CrosscoderError: the decompositions are of another number of checkpoints or features.

    Examples:
        >>> text = decompose_text(suite, crosscoder, "corpus.txt.gz")  # doctest: +SKIP
        >>> table = latent_scaling(crosscoder, text.decompositions)  # doctest: +SKIP
        >>> table[table.spurious].feature.nunique()  # doctest: +SKIP
        12

    Source: Minder et al. 2025 (arXiv 2504.02922).
    """
    scaling = scale_latents(crosscoder, decompositions)
    norms = crosscoder.decoder_norms().T
    nu_reconstruction, nu_error = scaling.ratio("reconstruction"), scaling.ratio("error")
    contained = (nu_reconstruction >= reconstruction) | (nu_error >= error)
    columns = {
        "decoder_share": relative(norms),
        "beta_reconstruction": scaling.reconstruction,
        "beta_error": scaling.error,
        "nu_reconstruction": nu_reconstruction,
        "nu_error": nu_error,
        "spurious": contained & ~present(norms, fraction),
    }
    selected = torch.tensor(list(range(len(norms)) if features is None else features), dtype=torch.long)
    return long_table(
        {"feature": selected.numpy(), "revision": crosscoder.origin.revisions},
        {name: values[selected] for name, values in columns.items()},
    )
