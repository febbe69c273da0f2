"""One checkpoint of a crosscoder as a sparse autoencoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import (
    Activation,
    BatchTopK,
    JumpReLU,
    PerCheckpointJumpReLU,
    activation_named,
)
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
from crosstime.errors import CrosscoderError
from user_input.nearest import nearest


def checkpoint_slice(crosscoder: CrossCoder, revision: str) -> CrossCoder:
    """Encoder and decoder of one checkpoint of a crosscoder, as a crosscoder of this checkpoint alone.

    ``f = act( C W_enc[c] s_c x_c + b_enc )``: every other checkpoint's part of the sum is taken to be that of
    checkpoint c. A feature is gated as in the crosscoder: a threshold on codes times the sum of the decoder norms
    becomes a threshold of its own on codes times the norm at c. TopK selects by the norms at c.

    Args:
        crosscoder: the crosscoder.
        revision: name of the checkpoint.

    Raises:
        CrosscoderError: the crosscoder has no such checkpoint, or is too large to be held in memory.

    Examples:
        >>> from crosstime.crosscoders.origin import Origin
        >>> from interventions import Site
        >>> crosscoder = CrossCoder(Origin("tiny", ("step64", "main"), Site(1), d_model=8), 16)
        >>> checkpoint_slice(crosscoder, "main").origin.revisions
        ('main',)
    """
    revisions = crosscoder.origin.revisions
    if revision not in revisions:
        raise CrosscoderError(f"The crosscoder has no checkpoint {revision!r}: {nearest(revision, revisions)}")
    if isinstance(crosscoder, SlicedCrossCoder):
        raise CrosscoderError(
            "This crosscoder is too large to be held in memory, so that no checkpoint can be cut out of it: give a "
            "sparse autoencoder of that checkpoint."
        )

    # The part of the checkpoint in each feature's norm, by which features are gated
    c, norms = revisions.index(revision), crosscoder.decoder_norms()
    share = norms[c] / norms.sum(0).clamp_min(torch.finfo(norms.dtype).tiny)

    autoencoder = CrossCoder(
        replace(crosscoder.origin, revisions=(revision,)),
        crosscoder.n_features,
        crosscoder.scales[c : c + 1],
        activation=_own_gates(crosscoder.activation, share),
    )
    with torch.no_grad():
        autoencoder.W_enc.copy_(crosscoder.W_enc[c : c + 1] * crosscoder.n_checkpoints)
        autoencoder.W_dec.copy_(crosscoder.W_dec[:, c : c + 1])
        autoencoder.b_enc.copy_(crosscoder.b_enc)
        autoencoder.b_dec.copy_(crosscoder.b_dec[c : c + 1])
    if crosscoder.norms_before_folding is not None:
        autoencoder.norms_before_folding = norms[c : c + 1].clone()
    return autoencoder.eval()


def _own_gates(activation: Activation, share: Float[Tensor, " F"]) -> Activation:
    """The activation function of one checkpoint: thresholds on the sum of the norms, on its share of the norms."""
    n_features = len(share)
    if isinstance(activation, PerCheckpointJumpReLU):
        threshold = activation.log_threshold.detach().exp()
    elif isinstance(activation, JumpReLU):
        threshold = activation.log_threshold.detach().exp() * share
    elif isinstance(activation, BatchTopK):
        threshold = activation.threshold.detach() * share
    else:
        return activation_named(activation.name, n_features, activation.settings())
    bandwidth = activation.bandwidth if isinstance(activation, JumpReLU) else 1.0
    gated = JumpReLU(n_features, bandwidth=bandwidth)
    with torch.no_grad():
        # A threshold of zero has no logarithm; no code is as small as the smallest number
        gated.log_threshold.copy_(threshold.clamp_min(torch.finfo(threshold.dtype).tiny).log())
    return gated
