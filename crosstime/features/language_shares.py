"""Which language a feature responds to."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch

from crosstime.effects.relie import SPECIFIC, relative
from crosstime.errors import CorpusError
from crosstime.features.activation_statistics import mean_activation
from crosstime.machine.long_table import long_table
from interventions import Codes


def language_shares(codes: Mapping[str, Codes], *, specific: float = SPECIFIC) -> pd.DataFrame:
    """Find the share of each language in a feature's activation: mean over its tokens, divided by the sum of all means.

    Args:
        codes: of text in each language, by the name of the language (``decompose_text(...).codes``).
        specific: share above which a feature is specific to a language.

    Returns:
        One row for each feature and language: feature, language, share (NaN for a feature that never fires), specific.

    Raises:
        CorpusError: fewer than two languages, or codes of different crosscoders.

    Examples:
        >>> english, french = (Codes.from_dense(torch.tensor([[number]])) for number in (3.0, 1.0))
        >>> language_shares({"en": english, "fr": french}).share.tolist()
        [0.75, 0.25]

    Source: CTT (arXiv 2509.05291), on multilingual models.
    """
    sizes = {language_codes.n_features for language_codes in codes.values()}
    if len(codes) < 2 or len(sizes) > 1:
        raise CorpusError(
            f"language specificity needs codes of at least two languages by one crosscoder, not {len(codes)} languages "
            f"and dictionaries of {', '.join(map(str, sorted(sizes))) or 'no'} features"
        )
    shares = relative(torch.stack([mean_activation(language_codes) for language_codes in codes.values()], 1))
    return long_table(
        {"feature": range(len(shares)), "language": list(codes)},
        {"share": shares, "specific": shares > specific},
    )
