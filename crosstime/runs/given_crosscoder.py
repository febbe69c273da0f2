"""A crosscoder that exists already, in place of one that the run trains."""

from __future__ import annotations

from dataclasses import replace

from crosstime.crosscoders import exchange
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.open_crosscoder import as_crosscoder, path_of
from crosstime.crosscoders.origin import ORDERED, ROWS
from crosstime.errors import RecipeError
from crosstime.machine.checksum import checksum_of
from crosstime.machine.part_names import index_of, is_sharded
from crosstime.suites.suite import Suite
from interventions import Site


def given_crosscoder(source: str, compared: Suite, site: Site, rows: str | None = None) -> CrossCoder:
    """The crosscoder that ``crosscoder.source`` names, for the checkpoints and the site of a recipe.

    A file of another tool often does not say which checkpoints and which site it is of: it takes those of the recipe.

    Args:
        source: a path in any format, the folder of a run, or a repository of the Hub.
        compared: the compared checkpoints.
        site: where the recipe reads activations.
        rows: name of the rows of parameters that the recipe reads instead; None for activations.

    Raises:
        CrosscoderError: there is none, or it cannot be read.
        RecipeError: it is of other checkpoints, in another order, of another site, of another width, or of other rows.
    """
    # Read it
    path = path_of(source)
    if path is not None and exchange.detect(path) != "crosstime":
        crosscoder = exchange.read(path, suite=compared.name, revisions=compared.revisions, site=site)
        if rows is not None:
            named = crosscoder.origin
            crosscoder.origin = replace(named, training=named.training | {ROWS: named.rows or rows})
    else:
        crosscoder = as_crosscoder(source)

    # Compare what it was trained on with the recipe
    origin, n_layers = crosscoder.origin, compared.n_layers
    if origin.rows is not None and rows is None:
        raise RecipeError(
            f"crosscoder.source: {source} was trained on rows of {origin.rows}, which are no activations: name "
            "one that was trained on a text."
        )
    if origin.rows != rows:
        trained_on = f"activations at {origin.site}" if origin.rows is None else f"rows of {origin.rows}"
        raise RecipeError(
            f"crosscoder.source: {source} was trained on {trained_on}, but rows.matrices are those of {rows}."
        )
    if origin.revisions != compared.revisions:
        raise RecipeError(
            f"crosscoder.source: {source} was trained on {', '.join(origin.revisions)}, but compare.revisions are "
            f"{', '.join(compared.revisions)}: name the same in the same order."
        )
    if origin.site.resolve(n_layers) != site.resolve(n_layers):
        raise RecipeError(f"crosscoder.source: {source} was trained at {origin.site}, but compare.site is {site}.")
    if origin.d_model != compared.d_model:
        raise RecipeError(
            f"crosscoder.source: {source} is for activations of width {origin.d_model}, but those of suite "
            f"{compared.name!r} have {compared.d_model}."
        )
    if not compared.ordered and origin.ordered:
        crosscoder.origin = replace(origin, training=origin.training | {ORDERED: False})
    return crosscoder


def source_identity(source: str) -> object:
    """Plain values that tell a crosscoder from any other: checksums of its files, or the name of its repository."""
    path = path_of(source)
    if path is None:
        return source
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {str(file.relative_to(path)): checksum_of(file) for file in files}
    return checksum_of(index_of(path) if is_sharded(path) else path)
