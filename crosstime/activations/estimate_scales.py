"""Scales of the activations of several checkpoints, measured on a text."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.read_text import read_text
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Model, Site, fetch


def estimate_scales(
    suite: Suite,
    site: Site | str,
    corpus: TextSource | Iterable[str],
    sample: TextSample = TextSample(n_sequences=256),
    *,
    first_tokens: bool = False,
    compute: Compute = Compute(),
) -> Float[Tensor, " C"]:
    """Estimate the scales ``s_c = sqrt(D) / E||x_c||`` of a crosscoder from a file that does not store them.

    E is the mean over the tokens of the text. A training here leaves the first token of each sequence out of it, whose
    norm is of another magnitude; the code of CTT and of Kissane et al. estimates scales with the first tokens, although
    it trains without them. Estimates are as good as the text is like that of the training.

    Args:
        suite: the C checkpoints of the crosscoder, in its order.
        site: where its activations are read, such as ``Site(8)`` or ``"resid.8"``.
        corpus: a text source as for `crosstime.train`, or documents.
        sample: how much of the text is read.
        first_tokens: whether the first token of each sequence counts.
        compute: how the checkpoints are run.

    Returns:
        The C scales, in float32.

    Raises:
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        SiteError: the models have no such site.
        CorpusError: the text does not fill one sequence.

    Source: design.md, *Crosscoder*; CTT's ``buffer.py`` (`estimate_act_norm`) for the first tokens.

    Examples:
        >>> estimate_scales(suite, Site(8), "corpus.txt.gz", first_tokens=True)  # doctest: +SKIP
        tensor([0.2759, 0.2442])
    """
    # Check the checkpoints, and read the text
    compute.verify(suite)
    site = Site.of(site).resolve(suite.n_layers)
    text = read_text(suite, corpus, sample)
    counts = torch.ones_like(text.position_of_token, dtype=torch.bool) if first_tokens else text.position_of_token > 0

    # Measure the norms at every checkpoint
    with track("Measuring norms", len(suite), "checkpoints") as bar:

        def mean_norm(index: int, model: Model) -> float:
            bar.note(suite.revisions[index])
            activations = fetch(model, text, [site])[site][counts]
            bar.advance()
            return float(activations.double().norm(dim=-1).mean())

        norms = compute.each(suite, mean_norm)
    return torch.tensor([suite.d_model**0.5 / norm for norm in norms], dtype=torch.float32)
