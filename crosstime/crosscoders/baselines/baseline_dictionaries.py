"""Make the baselines of a crosscoder from text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.baselines.autoencoders import Alignment, refuse_unfit, rescaling, rotations, transferred
from crosstime.crosscoders.baselines.autoencoders import chain as chain_of
from crosstime.crosscoders.baselines.checkpoint_slice import checkpoint_slice
from crosstime.crosscoders.baselines.linear_basis import (
    difference_components,
    neurons,
    principal_components,
    refuse_few_tokens,
)
from crosstime.crosscoders.baselines.names import (
    BASELINE_NAMES,
    CHAIN,
    COMPONENTS,
    DEFAULT_NAMES,
    DIFFERENCES,
    FITTED,
    NEURONS,
    RANDOM,
    RAW,
    RESCALED,
    ROTATED,
    TRANSFERRED,
)
from crosstime.crosscoders.baselines.random_directions import RandomDirections
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import decompose_text
from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Sequences
from user_input.nearest import nearest


def baseline_dictionaries(
    suite: Suite,
    crosscoder: CrosscoderSource,
    corpus: TextSource | Iterable[str] | Sequences,
    names: Sequence[str] = DEFAULT_NAMES,
    *,
    autoencoder: CrosscoderSource | None = None,
    chain: Sequence[CrossCoder] = (),
    seed: int = 0,
    sample: TextSample = TextSample(n_sequences=256),
    compute: Compute = Compute(),
) -> dict[str, Dictionary]:
    """Make the dictionaries with which a crosscoder is compared, for the same checkpoints and site.

    - ``neurons``: the D numbers of an activation.
    - ``components``: principal components of the activations at each checkpoint.
    - ``difference-components``: principal components of the differences between checkpoints.
    - ``random-directions``: the crosscoder's codes with random directions of the same norms.
    - ``sae-raw``, ``sae-rescaled``, ``sae-rotated``: the sparse autoencoder of one checkpoint, applied to the
      activations of the others as they are, with their mean norm made equal, and rotated by orthogonal Procrustes.
    - ``sae-chain``: a sparse autoencoder for each checkpoint, each trained from the one before.

    `attribute`, `ablate`, `faithfulness` and `baselines` take any of them in place of the crosscoder.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the crosscoder, or its path or repository.
        corpus: text to which components, scales and rotations are fitted; not that of the tasks.
        names: which baselines, of the list above.
        autoencoder: sparse autoencoder of one of the checkpoints, such as `train` of this checkpoint alone or
            `exchange.read` returns it, or its path or repository; None takes the last checkpoint of the crosscoder, see
            `checkpoint_slice`.
        chain: what `train_chain` returns; needed for ``sae-chain`` only.
        seed: of the random directions.
        sample: how much of the corpus is read.
        compute: where and how the checkpoints run.

    Returns:
        The dictionaries by their names, in the order of `names`.

    Raises:
        CrosscoderError: there is no such baseline, an autoencoder does not fit, the chain is missing, or the text has
            not more tokens than an activation has dimensions.

    Examples:
        >>> dictionaries = baseline_dictionaries(suite, crosscoder, "held-out.txt.gz")  # doctest: +SKIP
        >>> attribute(suite, dictionaries["neurons"], task)  # doctest: +SKIP
    """
    crosscoder = as_crosscoder(crosscoder)
    origin = crosscoder.origin
    for name in names:
        if name not in BASELINE_NAMES:
            raise CrosscoderError(f"There is no baseline dictionary {name!r}: {nearest(name, BASELINE_NAMES)}")
    if CHAIN in names and not chain:
        raise CrosscoderError(f"The baseline {CHAIN!r} needs chain, the autoencoders that train_chain returns.")
    if set(names) & set(TRANSFERRED) and autoencoder is None:
        autoencoder = checkpoint_slice(crosscoder, origin.revisions[-1])
    used = None if autoencoder is None else as_crosscoder(autoencoder)
    if used is not None:
        refuse_unfit(origin, used)

    # Read the text, if anything is fitted to it
    x = torch.empty(len(origin.revisions), 0, origin.d_model)
    if set(names) & set(FITTED):
        if not isinstance(corpus, Sequences):
            refuse_few_tokens(sample.n_sequences * (sample.sequence_length - 1), origin.d_model)
        text = decompose_text(suite, crosscoder, corpus, sample=sample, compute=compute)
        x = torch.stack([decomposition.x for decomposition in text.decompositions])

    # Make those that are asked for
    def of_one(align: Callable[[Float[Tensor, "C N D"], int], list[Alignment]] | None) -> Dictionary:
        source = used or checkpoint_slice(crosscoder, origin.revisions[-1])
        at = origin.revisions.index(source.origin.revisions[0])
        return transferred(origin, source, None if align is None else align(x, at))

    make: dict[str, Callable[[], Dictionary]] = {
        NEURONS: lambda: neurons(origin),
        COMPONENTS: lambda: principal_components(origin, x),
        DIFFERENCES: lambda: difference_components(origin, x, equal_norms(x)),
        RANDOM: lambda: RandomDirections(crosscoder, seed),
        RAW: lambda: of_one(None),
        RESCALED: lambda: of_one(rescaling),
        ROTATED: lambda: of_one(rotations),
        CHAIN: lambda: chain_of(origin, chain),
    }
    return {name: make[name]() for name in dict.fromkeys(names)}


def equal_norms(x: Float[Tensor, "C N D"]) -> Float[Tensor, " C"]:
    """The scales ``sqrt(D) / E||x_c||``, with which the activations of all checkpoints have the same mean norm."""
    return x.shape[2] ** 0.5 / x.norm(dim=2).mean(1)
