"""Names of the baselines of a crosscoder, so that they can be checked without PyTorch."""

from __future__ import annotations

NEURONS = "neurons"
COMPONENTS = "components"
DIFFERENCES = "difference-components"
RANDOM = "random-directions"
RAW = "sae-raw"
RESCALED = "sae-rescaled"
ROTATED = "sae-rotated"
CHAIN = "sae-chain"

BASELINE_NAMES = (NEURONS, COMPONENTS, DIFFERENCES, RANDOM, RAW, RESCALED, ROTATED, CHAIN)
"""Every baseline."""
DEFAULT_NAMES = tuple(name for name in BASELINE_NAMES if name != CHAIN)
"""The baselines that need no training."""
TRANSFERRED = (RAW, RESCALED, ROTATED)
"""The baselines that apply the sparse autoencoder of one checkpoint to the others."""
FITTED = (COMPONENTS, DIFFERENCES, RESCALED, ROTATED)
"""The baselines that are fitted to activations of text."""
