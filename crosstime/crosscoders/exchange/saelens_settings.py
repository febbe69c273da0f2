"""The checks of a configuration of SAELens: whether its autoencoder is one of the activations that crosstime reads."""

from __future__ import annotations

import warnings

from crosstime.crosscoders.exchange.known_keys import MODEL_LOADING, SAELENS
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Source
from crosstime.errors import CrosscoderError

PROCESSING = (
    "center_writing_weights", "fold_ln", "fold_value_biases", "refactor_factored_attn_matrices"
)  # fmt: skip
"""Options of TransformerLens that rewrite the weights of a model; false leaves them as they are."""


def check_settings(source: Source) -> None:
    """Refuse a configuration with keys that are not known, or of an autoencoder of other activations.

    Raises:
        CrosscoderError: names the key and its value.
    """
    config, ignored = source.config, source.overrides.ignored
    metadata = config.table("metadata")
    source.check_keys(SAELENS)
    metadata.check_keys(SAELENS, ignored)
    for table in (config, metadata):
        _check_heads(table)
        _check_loading(table.table("model_from_pretrained_kwargs"), ignored, has_revisions=source.has_revisions)

    # Before 3.0, whose keys were these, SAELens took models as TransformerLens prepares them
    kwargs = (table.table("model_from_pretrained_kwargs").values for table in (config, metadata))
    if "hook_point" in config.values and not any("center_writing_weights" in values for values in kwargs):
        warnings.warn(
            f"{config.location} is of SAELens before 3.0, which subtracted from the activations of models with "
            "LayerNorm their mean over the D dimensions (center_writing_weights), and did not write so: codes of "
            "activations as they are can differ from those of training",
            RuntimeWarning,
            stacklevel=2,
        )


def hook_points(source: Source) -> list[str | None]:
    """The hook point as each place of a configuration has it, in agreement with the number of the layer beside it.

    Raises:
        CrosscoderError: the layer is another one.
    """
    config = source.config
    named = []
    for table in (config.table("metadata"), config):
        for key, layer_key in (("hook_name", "hook_layer"), ("hook_point", "hook_point_layer")):
            hook, layer = table.string(key), table.integer(layer_key)
            if hook and layer is not None and f".{layer}." not in f".{hook}.":
                raise CrosscoderError(f"{table.location} says {key} {hook!r}, but {layer_key} {layer}")
            named.append(hook)
    return named


def revision_of(source: Source) -> tuple[str, ...] | None:
    """The revision of the model, if the configuration names one."""
    tables = (source.config, source.config.table("metadata"))
    revisions = [table.table("model_from_pretrained_kwargs").string("revision") for table in tables]
    named = next((revision for revision in revisions if revision), None)
    return None if named is None else (named,)


def _check_heads(table: Settings) -> None:
    """Refuse autoencoders of one attention head, and transcoders, which predict another activation."""
    for key in ("hook_head_index", "hook_point_head_index", "hook_head_index_out"):
        if table.values.get(key) is not None:
            raise CrosscoderError(
                f"{table.location} says {key} {table.values[key]}: the activation of one attention head is no site"
            )
    output = table.string("hook_name_out")
    if output is not None and output != table.string("hook_name"):
        raise CrosscoderError(f"{table.location} says hook_name_out {output!r}: that is a transcoder, not a crosscoder")


def _check_loading(kwargs: Settings, ignored: tuple[str, ...], *, has_revisions: bool) -> None:
    """Refuse models whose activations are others than those that crosstime reads."""
    for key in PROCESSING:
        if kwargs.boolean(key, default=False):
            raise CrosscoderError(
                f"{kwargs.location} says {key}: the autoencoder was trained on a model with rewritten weights, and its "
                "codes of the model as it is would differ"
            )
    checkpoint = [key for key in ("checkpoint_index", "checkpoint_value") if kwargs.values.get(key) is not None]
    if checkpoint and not has_revisions:
        raise CrosscoderError(
            f"{kwargs.location} says {checkpoint[0]} {kwargs.values[checkpoint[0]]}: name the revision that this is, "
            "with revisions=[...] (crosstime convert --revisions)"
        )
    kwargs.check_keys(MODEL_LOADING.union(PROCESSING, checkpoint), ignored)
