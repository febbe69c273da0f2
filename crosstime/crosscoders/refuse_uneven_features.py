"""Whether a dictionary can be divided into shards of features."""

from __future__ import annotations

from crosstime.errors import CrosscoderError


def refuse_uneven_features(n_features: int, feature_shards: int) -> None:
    """Refuse a dictionary that cannot be divided into shards of the same size.

    Raises:
        CrosscoderError: the number of features is not a multiple of the number of shards.
    """
    if n_features % feature_shards:
        raise CrosscoderError(
            f"{n_features:,} features cannot be divided evenly among {feature_shards} feature shards: take a number of "
            "features that is a multiple of it."
        )
