"""The sparse autoencoder that a recipe names for its baselines."""

from __future__ import annotations

from crosstime.crosscoders.baselines.autoencoders import refuse_unfit
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.formats import read
from crosstime.crosscoders.origin import Origin
from crosstime.errors import RecipeError
from crosstime.runs.recipe.baselines import BaselinesRecipe


def read_autoencoder(table: BaselinesRecipe, origin: Origin) -> CrossCoder:
    """Read the autoencoder that ``baselines.sae`` names, and refuse one that does not fit.

    Args:
        table: the table of the recipe; its key `checkpoint` takes precedence over what the file says.
        origin: the compared checkpoints, the site and the width.

    Raises:
        RecipeError: the recipe names no file.
        CrosscoderError: the file cannot be read, or is not an autoencoder of one of these checkpoints, this site and
            this width.
    """
    if table.sae_file is None:
        raise RecipeError("baselines.sae names no file.")
    revisions = None if table.checkpoint is None else [table.checkpoint]
    autoencoder = read(table.sae_file, revisions=revisions)
    refuse_unfit(origin, autoencoder)
    return autoencoder
