"""Do a few features do the task, at each checkpoint? Faithfulness and completeness of nested sets of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.decompose import DecomposedTask, TaskInput, prepare_task
from crosstime.crosscoders.open_crosscoder import DictionarySource, as_crosscoder
from crosstime.effects.attribution import Attribution
from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, Circuit, Model, bootstrap_interval, circuit
from interventions.circuit import SIZES
from interventions.metrics import answered_right
from interventions.option_names import BASELINES
from user_input.nearest import nearest

TOP, RANDOM = "top", "random"
"""The two kinds of features in `sufficiency_curves`."""
COLUMNS = (
    "task",
    "revision",
    "features",
    "n",
    "faithfulness",
    "faithfulness_low",
    "faithfulness_high",
    "completeness",
    "completeness_low",
    "completeness_high",
    "accuracy_kept",
    "accuracy_ablated",
)
"""Columns of `sufficiency_curves`."""


@dataclass(frozen=True)
class Restoration:
    """Options of `faithfulness`: how the top n features are restored while the others are at a baseline.

    Attributes:
        sizes: the n; those above the number of ranked features are left out.
        baseline: state of all other features, by name: zero, mean (over the task's tokens), resample, or patch.
        keep_error: whether the error term stays in place; otherwise it moves to the baseline's.

    Raises:
        CrosscoderError: an unknown baseline.

    Examples:
        >>> Restoration(sizes=range(1, 101)).baseline
        'mean'
    """

    sizes: Sequence[int] = SIZES
    baseline: str = "mean"
    keep_error: bool = True

    def __post_init__(self) -> None:
        if self.baseline not in BASELINES:
            raise CrosscoderError(f"There is no baseline {self.baseline!r}: {nearest(self.baseline, BASELINES)}")


def faithfulness(
    suite: Suite,
    crosscoder: DictionarySource,
    task: TaskInput,
    ranked: Mapping[str, Sequence[int]],
    *,
    restoration: Restoration = Restoration(),
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Restore, and ablate, the top n features jointly at every checkpoint, for nested n.

    With m(S) the mean metric with the features S intact and all others at the baseline::

        faithfulness(n) = (m(top n) - m(none)) / (m(all) - m(none))
        completeness(n) = (m(all but the top n) - m(none)) / (m(all) - m(none))

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, its path or repository, or another `Dictionary`, such as those of
            `baseline_dictionaries`.
        task: a task in any form, or its name; see `prepare_task`.
        ranked: for each revision its features, the most important first; see `ranking`.
        restoration: sizes n, baseline, and what happens to the error term.
        bootstrap: of the intervals over prompts.
        compute: where and how the checkpoints run.

    Returns:
        One row for each checkpoint and n: task, revision, n, faithfulness, faithfulness_low, faithfulness_high,
        completeness, completeness_low, completeness_high. A checkpoint without ranked features has no row.

    Raises:
        CrosscoderError: a revision without a ranking, or a crosscoder that does not fit the suite.
        InterventionError: a size below 1.

    Examples:
        >>> faithfulness(suite, crosscoder, task, ranking(attribution, 100))  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.2.
    """
    curves = sufficiency_curves(
        suite,
        crosscoder,
        task,
        ranked,
        restoration=restoration,
        draws=0,
        bootstrap=bootstrap,
        compute=compute,
    )
    return curves.drop(columns=["features", "accuracy_kept", "accuracy_ablated"])


def sufficiency_curves(
    suite: Suite,
    crosscoder: DictionarySource,
    task: TaskInput,
    ranked: Mapping[str, Sequence[int]],
    *,
    restoration: Restoration = Restoration(),
    draws: int = 5,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Measure `faithfulness` of the top n features, with accuracy, next to n random features.

    The control consists of random rankings of the features that fire on the task's prompts and are not among the top n
    of the largest n.

    Args:
        suite, crosscoder, task, ranked: see `faithfulness`.
        restoration: see `faithfulness`; ``Restoration(sizes=range(1, 101))`` gives every n to 100.
        draws: number of random rankings; 0 leaves the control out.
        bootstrap: of the intervals over prompts; its seed is also that of the random rankings and of the baseline
            ``resample``.
        compute: where and how the checkpoints run.

    Returns:
        One row for each checkpoint, kind of features and n: task, revision, features (``top`` or ``random``), n,
        faithfulness and completeness, each with _low and _high, accuracy_kept (with the n features alone) and
        accuracy_ablated (without them). Rows of random features hold means over draws, with the smallest and the
        largest value as _low and _high. Sizes for which too few random features fire are left out.

    Raises:
        CrosscoderError: see `faithfulness`; or a negative number of draws.

    Examples:
        >>> ranked = ranking(attribution, 100)  # doctest: +SKIP
        >>> every = Restoration(sizes=range(1, 101))  # doctest: +SKIP
        >>> sufficiency_curves(suite, crosscoder, task, ranked, restoration=every)  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.2; CTT (arXiv 2509.05291), section 5.
    """
    crosscoder = as_crosscoder(crosscoder)
    if draws < 0:
        raise CrosscoderError(f"A control needs a number of draws that is not negative, not {draws}.")
    for revision in crosscoder.origin.revisions:
        if revision not in ranked:
            raise CrosscoderError(f"There is no ranking for {revision}: {nearest(revision, ranked)}")
    checkpoints, decomposed = prepare_task(suite, crosscoder, task, compute, baseline=restoration.baseline)

    # Draw the random rankings, checkpoint by checkpoint
    generator = torch.Generator().manual_seed(bootstrap.seed)
    largest = max(restoration.sizes, default=0)
    rankings: dict[str, list[list[int]]] = {}
    for revision in checkpoints.revisions:
        top = list(ranked[revision])
        if top:
            rankings[revision] = [top, *_random_rankings(decomposed, top, largest, draws, generator)]
    if not rankings:
        return pd.DataFrame(columns=list(COLUMNS))

    # Restore and ablate the nested sets of every ranking
    ranked_checkpoints = checkpoints.select(list(rankings))
    with track(f"Faithfulness on {decomposed.task.name}", len(rankings)) as bar:

        def circuits_at(index: int, model: Model) -> list[Circuit]:
            revision = ranked_checkpoints.revisions[index]
            bar.note(revision)
            checkpoint_index = checkpoints.revisions.index(revision)
            state = decomposed.baseline(restoration.baseline, checkpoint_index, seed=bootstrap.seed)

            circuits = [
                circuit(
                    model,
                    decomposed.prompts,
                    crosscoder.origin.site,
                    decomposed.clean[checkpoint_index],
                    features,
                    sizes=restoration.sizes,
                    baseline=state,
                    keep_error=restoration.keep_error,
                )
                for features in rankings[revision]
            ]

            bar.advance()
            return circuits

        circuits_by_checkpoint = compute.each(ranked_checkpoints, circuits_at)

    # Summarize the prompts of the top features, and the draws of the random ones
    tables = []
    for revision, (top_circuit, *random_circuits) in zip(rankings, circuits_by_checkpoint, strict=True):
        axes = {"task": [decomposed.task.name], "revision": [revision]}
        tables.append(_top_table(axes, top_circuit, bootstrap))
        if random_circuits:
            table = _random_table(axes, random_circuits)
            tables.append(table[table.n.isin(list(restoration.sizes))])
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def ranking(attribution: Attribution, k: int = 100) -> dict[str, list[int]]:
    """Rank, for each checkpoint, the k features with the largest |IE|, the largest first.

    Features without any effect are left out.

    Examples:
        >>> ranking(attribution, 10)["main"]  # doctest: +SKIP
        [405, 388, ...]
    """
    ranked: dict[str, list[int]] = {}
    for revision, size in zip(attribution.revisions, attribution.ie().abs(), strict=True):
        order = torch.argsort(size, descending=True, stable=True)[:k]
        ranked[revision] = order[size[order] > 0].tolist()
    return ranked


def _random_rankings(
    decomposed: DecomposedTask, top: Sequence[int], largest: int, draws: int, generator: torch.Generator
) -> list[list[int]]:
    """Random rankings of the features that fire on the task and are not among the first `largest` of a ranking."""
    firing = torch.unique(decomposed.codes.feature).tolist()
    candidates = sorted(set(firing) - set(top[:largest]))
    if not candidates:
        return []
    orders = [torch.randperm(len(candidates), generator=generator)[:largest].tolist() for _ in range(draws)]
    return [[candidates[index] for index in order] for order in orders]


def _top_table(axes: Mapping[str, Sequence[str]], result: Circuit, bootstrap: Bootstrap) -> pd.DataFrame:
    """Rows of the top features at one checkpoint, with intervals over prompts."""
    faithfulness_low, faithfulness_high = _share_interval(result.kept, result, bootstrap)
    completeness_low, completeness_high = _share_interval(result.ablated, result, bootstrap)
    return long_table(
        {**axes, "features": [TOP], "n": result.sizes},
        {
            "faithfulness": result.faithfulness().double(),
            "faithfulness_low": faithfulness_low,
            "faithfulness_high": faithfulness_high,
            "completeness": result.completeness().double(),
            "completeness_low": completeness_low,
            "completeness_high": completeness_high,
            "accuracy_kept": answered_right(result.kept).mean(1).double(),
            "accuracy_ablated": answered_right(result.ablated).mean(1).double(),
        },
    )


def _random_table(axes: Mapping[str, Sequence[str]], results: Sequence[Circuit]) -> pd.DataFrame:
    """Rows of the random features at one checkpoint: the mean over draws, and the smallest and the largest value."""
    faithful = torch.stack([result.faithfulness() for result in results])
    complete = torch.stack([result.completeness() for result in results])
    kept_accuracy = torch.stack([answered_right(result.kept).mean(1) for result in results])
    ablated_accuracy = torch.stack([answered_right(result.ablated).mean(1) for result in results])
    # Accuracies are added up draw after draw, so that their last bits do not depend on how a reduction is vectorized.
    return long_table(
        {**axes, "features": [RANDOM], "n": results[0].sizes},
        {
            "faithfulness": _mean_over_draws(faithful),
            "faithfulness_low": faithful.amin(0).double(),
            "faithfulness_high": faithful.amax(0).double(),
            "completeness": _mean_over_draws(complete),
            "completeness_low": complete.amin(0).double(),
            "completeness_high": complete.amax(0).double(),
            "accuracy_kept": kept_accuracy.double().cumsum(0)[-1] / len(results),
            "accuracy_ablated": ablated_accuracy.double().cumsum(0)[-1] / len(results),
        },
    )


def _mean_over_draws(values: Float[Tensor, "R G"]) -> Float[Tensor, " G"]:
    # Column by column: a reduction of all columns at once adds in another order and rounds differently.
    return torch.stack([column.mean() for column in values.T]).double()


def _share_interval(states: Float[Tensor, "G P"], result: Circuit, bootstrap: Bootstrap) -> tuple[Tensor, Tensor]:
    """Interval of ``(m(state) - m(none)) / (m(all) - m(none))`` of each of G states."""
    values = torch.stack([*states, result.empty, result.full], 1)
    return bootstrap_interval(
        values,
        bootstrap,
        statistic=lambda means: (means[:, :-2] - means[:, -2:-1]) / (means[:, -1:] - means[:, -2:-1]),
    )
