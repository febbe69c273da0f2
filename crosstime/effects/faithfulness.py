"""Do a few features do the task, at each checkpoint? Faithfulness and completeness of nested sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, baseline_named, decompose_task, fitting, refuse_foreign
from crosstime.effects.attribute import Attribution
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, Circuit, bootstrap_interval, circuit
from interventions.circuit import SIZES
from interventions.metrics import answered_right
from tasks import Task, TokenizedTask
from user_input.nearest import nearest

TOP, RANDOM = "top", "random"
"""Which features a row of `sufficiency_curves` is about."""
COLUMNS = (
    "task", "revision", "features", "n", "faithfulness", "faithfulness_low", "faithfulness_high", "completeness",
    "completeness_low", "completeness_high", "accuracy_kept", "accuracy_ablated",
)  # fmt: skip


def faithfulness(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | DecomposedTask,
    ranked: Mapping[str, Sequence[int]],
    *,
    sizes: Sequence[int] = SIZES,
    baseline: str = "mean",
    keep_error: bool = True,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Keep, and take away, the top n features at every checkpoint, for nested n.

    Args:
        suite, crosscoder, task: as for `attribute`.
        ranked: features for each revision, the most important first; see `ranking`.
        sizes: n.
        baseline: what all other features are set to: zero, mean (over the task's prompts), resample, patch.
        keep_error: leave the error term in place.
        resamples, seed: of the bootstrap over prompts.
        compute: how the checkpoints are run.

    Returns:
        One row for each checkpoint and n: task, revision, n, faithfulness, faithfulness_low, faithfulness_high,
        completeness, completeness_low, completeness_high. A checkpoint at which no feature is ranked has no row.

    Raises:
        CrosscoderError: an unknown baseline, a revision without a ranking, or a crosscoder that does not fit.

    Examples:
        >>> faithfulness(suite, crosscoder, task, ranking(attribution, 100))  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.2.
    """
    curves = sufficiency_curves(
        suite, crosscoder, task, ranked, sizes=sizes, draws=0, baseline=baseline, keep_error=keep_error,
        resamples=resamples, seed=seed, compute=compute,
    )  # fmt: skip
    return curves.drop(columns=["features", "accuracy_kept", "accuracy_ablated"])


def sufficiency_curves(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | DecomposedTask,
    ranked: Mapping[str, Sequence[int]],
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = 5,
    baseline: str = "mean",
    keep_error: bool = True,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Restore, and ablate, the top n features jointly at every checkpoint, next to n random ones.

    What `faithfulness` measures, with the accuracy of both states, and the same for `draws` random rankings of the
    features that fire on the task's prompts and are not among the largest n looked at.

    Args:
        suite, crosscoder, task, ranked, sizes, baseline, keep_error, resamples, seed, compute: see
            `faithfulness`; ``sizes=range(1, 101)`` gives every n to 100.
        draws: random rankings; 0 leaves the control out.

    Returns:
        One row for each checkpoint, kind of features and n: task, revision, features (``top`` or ``random``), n,
        faithfulness, completeness, each with _low and _high, accuracy_kept (with the n features alone) and
        accuracy_ablated (without them). Of the random ones: means over draws, with the least and the largest for _low
        and _high. Sizes for which too few random features fire are left out.

    Raises:
        CrosscoderError: see `faithfulness`; or a negative number of draws.

    Examples:
        >>> ranked = ranking(attribution, 100)  # doctest: +SKIP
        >>> sufficiency_curves(suite, crosscoder, task, ranked, sizes=range(1, 101))  # doctest: +SKIP

    Source: Marks et al. 2024 (arXiv 2403.19647), section 3.2; CTT (arXiv 2509.05291), section 5.
    """
    if draws < 0:
        raise CrosscoderError(f"A control needs a number of draws that is not negative, not {draws}.")
    chosen = fitting(suite, crosscoder)
    for revision in chosen.revisions:
        if revision not in ranked:
            raise CrosscoderError(f"There is no ranking for {revision}: {nearest(revision, ranked)}")
    decomposed = task if isinstance(task, DecomposedTask) else decompose_task(suite, crosscoder, task, compute=compute)
    refuse_foreign(decomposed, crosscoder)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    with track(f"Faithfulness on {decomposed.task.name}", len(chosen)) as bar:
        for c, checkpoint in enumerate(chosen):
            bar.note(checkpoint.revision)
            if top := list(ranked[checkpoint.revision]):
                to = baseline_named(baseline, decomposed, c, seed)
                orders = [top, *_random_rankings(decomposed, top, max(sizes, default=0), draws, generator)]
                with compute.open(chosen, checkpoint.revision) as model:
                    found = [
                        circuit(
                            model, decomposed.prompts, crosscoder.origin.site, decomposed.clean[c], order, sizes=sizes,
                            baseline=to, keep_error=keep_error,
                        )
                        for order in orders
                    ]  # fmt: skip
                described = {"task": decomposed.task.name, "revision": checkpoint.revision}
                rows += [described | row for row in _top_rows(found[0], resamples, seed)]
                rows += [described | row for row in _random_rows(found[1:], sizes)]
            bar.advance()
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _random_rankings(
    decomposed: DecomposedTask, top: Sequence[int], size: int, draws: int, generator: torch.Generator
) -> list[list[int]]:
    """Random orders of features that fire on the task and are not among the first `size` of a ranking."""
    firing = torch.unique(decomposed.clean[0].codes.feature).tolist()
    others = sorted(set(firing) - set(top[:size]))
    if not others:
        return []
    orders = [torch.randperm(len(others), generator=generator)[:size].tolist() for _ in range(draws)]
    return [[others[place] for place in order] for order in orders]


def _top_rows(found: Circuit, resamples: int, seed: int) -> list[dict[str, object]]:
    kept, ablated = (_interval(states, found, resamples, seed) for states in (found.kept, found.ablated))
    return [
        {
            "features": TOP,
            "n": n,
            "faithfulness": found.faithfulness()[row].item(),
            "faithfulness_low": kept[0][row].item(),
            "faithfulness_high": kept[1][row].item(),
            "completeness": found.completeness()[row].item(),
            "completeness_low": ablated[0][row].item(),
            "completeness_high": ablated[1][row].item(),
            "accuracy_kept": answered_right(found.kept[row]).mean().item(),
            "accuracy_ablated": answered_right(found.ablated[row]).mean().item(),
        }
        for row, n in enumerate(found.sizes)
    ]


def _random_rows(found: Sequence[Circuit], sizes: Sequence[int]) -> list[dict[str, object]]:
    if not found:
        return []
    faithful = torch.stack([one.faithfulness() for one in found])
    complete = torch.stack([one.completeness() for one in found])
    return [
        {
            "features": RANDOM,
            "n": n,
            "faithfulness": faithful[:, row].mean().item(),
            "faithfulness_low": faithful[:, row].min().item(),
            "faithfulness_high": faithful[:, row].max().item(),
            "completeness": complete[:, row].mean().item(),
            "completeness_low": complete[:, row].min().item(),
            "completeness_high": complete[:, row].max().item(),
            "accuracy_kept": sum(answered_right(one.kept[row]).mean().item() for one in found) / len(found),
            "accuracy_ablated": sum(answered_right(one.ablated[row]).mean().item() for one in found) / len(found),
        }
        for row, n in enumerate(found[0].sizes)
        if n in sizes
    ]


def ranking(attribution: Attribution, k: int = 100) -> dict[str, list[int]]:
    """Each checkpoint's k features with the largest |IE|, the largest first; features without effect are left out.

    Examples:
        >>> ranking(attribution, 10)["main"]  # doctest: +SKIP
        [405, 388, ...]
    """
    found = {}
    for revision, effects in zip(attribution.revisions, attribution.ie().abs(), strict=True):
        order = torch.argsort(effects, descending=True, stable=True)[:k]
        found[revision] = order[effects[order] > 0].tolist()
    return found


def _interval(states: Float[Tensor, "G P"], found: Circuit, resamples: int, seed: int) -> tuple[Tensor, Tensor]:
    values = torch.stack([*states, found.empty, found.full], 1)
    return bootstrap_interval(
        values,
        Bootstrap(resamples, seed),
        statistic=lambda means: (means[:, :-2] - means[:, -2:-1]) / (means[:, -1:] - means[:, -2:-1]),
    )
