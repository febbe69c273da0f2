"""What a task loses at each checkpoint when features are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task, fitting, refuse_foreign
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Ablation, Bootstrap, Model, bootstrap_interval
from interventions import ablate as ablate_features
from interventions.metrics import answered_right
from tasks import Task, TokenizedTask


def ablate(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | DecomposedTask,
    groups: Mapping[str, Sequence[int]] | Sequence[int],
    *,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Set features to zero, alone or in named sets, and score the task at every checkpoint.

    Args:
        suite, crosscoder, task: as for `attribute`.
        groups: features that are ablated one at a time, or named sets that are ablated jointly.
        resamples, seed: of the bootstrap over prompts.
        compute: how the checkpoints are run.

    Returns:
        One row for each group and checkpoint: task, features, revision, accuracy and logit_difference
        (right minus wrong) without the features, and accuracy_change, logit_difference_change against the
        whole model, the latter with low and high, the former with accuracy_change_low and accuracy_change_high.

    Raises:
        CrosscoderError: nothing to ablate, or a crosscoder that does not fit the suite.
        InterventionError: a feature that does not exist.

    Examples:
        >>> ablate(suite, crosscoder, task, attribution.top(10))  # doctest: +SKIP
        >>> ablate(suite, crosscoder, task, {"top-10": attribution.top(10)})  # doctest: +SKIP
    """
    sets = dict(groups) if isinstance(groups, Mapping) else {str(feature): [feature] for feature in groups}
    if not sets:
        raise CrosscoderError("There are no features to ablate.")
    chosen = fitting(suite, crosscoder)
    decomposed = task if isinstance(task, DecomposedTask) else decompose_task(suite, crosscoder, task, compute=compute)
    refuse_foreign(decomposed, crosscoder)
    with track(f"Ablations on {decomposed.task.name}", None) as bar:

        def ablation(c: int, model: Model) -> Ablation:
            bar.note(chosen.revisions[c])
            return ablate_features(
                model, decomposed.prompts, crosscoder.origin.site, decomposed.clean[c], list(sets.values()),
                progress=bar.part(c, len(chosen)),
            )  # fmt: skip

        results = compute.each(chosen, ablation)
    rows = []
    for revision, result in zip(chosen.revisions, results, strict=True):
        low, high = bootstrap_interval(-result.change.T, Bootstrap(resamples, seed))
        clean, without = answered_right(result.clean), answered_right(result.metric)
        gain_low, gain_high = bootstrap_interval((without - clean).T, Bootstrap(resamples, seed))
        for index, name in enumerate(sets):
            accuracy = without[index].mean().item()
            rows.append(
                {
                    "task": decomposed.task.name,
                    "features": name,
                    "revision": revision,
                    "accuracy": accuracy,
                    "accuracy_change": accuracy - clean.mean().item(),
                    "logit_difference": -result.metric[index].mean().item(),
                    "logit_difference_change": -result.change[index].mean().item(),
                    "low": low[index].item(),
                    "high": high[index].item(),
                    "accuracy_change_low": gain_low[index].item(),
                    "accuracy_change_high": gain_high[index].item(),
                }
            )
    return pd.DataFrame(rows)
