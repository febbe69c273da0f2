"""Carry features of one checkpoint into another's forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task, fitting, refuse_foreign
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, bootstrap_interval
from interventions import transplant as transplant_features
from interventions.metrics import answered_right
from tasks import Task, TokenizedTask
from user_input.nearest import nearest


def transplant(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | DecomposedTask,
    groups: Mapping[str, Sequence[int]] | Sequence[int],
    *,
    source: str,
    target: str,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Put features as checkpoint `source` writes them into checkpoint `target`, and score the task.

    ``x_target + sum_i f_i (W_dec[i, source] - W_dec[i, target]) / s_target``: on the scale of training, each
    feature's part in the target's activation is replaced by the part that it has in the source. If an earlier
    checkpoint then answers as the later one does, it could read the feature before it made it.

    Args:
        suite, crosscoder, task: as for `attribute`.
        groups: features that are carried one at a time, or named sets that are carried jointly.
        source: the checkpoint whose decoder directions are used.
        target: the checkpoint whose upper blocks run.
        resamples, seed: of the bootstrap over prompts.
        compute: how the checkpoint is run.

    Returns:
        One row a group: task, features, source, target, accuracy, accuracy_change, logit_difference (right minus
        wrong), logit_difference_change with low and high.

    Raises:
        CrosscoderError: nothing to carry, or a checkpoint that the crosscoder does not have.
        FeatureError: a feature that does not exist.

    Examples:
        >>> late = {"late": attribution.top(10)}  # doctest: +SKIP
        >>> transplant(suite, crosscoder, task, late, source="main", target="step512")  # doctest: +SKIP
    """
    chosen = fitting(suite, crosscoder)
    for revision in (source, target):
        if revision not in chosen.revisions:
            raise CrosscoderError(
                f"The crosscoder has no checkpoint {revision!r}: {nearest(revision, chosen.revisions)}"
            )
    sets = dict(groups) if isinstance(groups, Mapping) else {str(feature): [feature] for feature in groups}
    if not sets:
        raise CrosscoderError("There are no features to transplant.")
    decomposed = task if isinstance(task, DecomposedTask) else decompose_task(suite, crosscoder, task, compute=compute)
    refuse_foreign(decomposed, crosscoder)
    a, b = chosen.revisions.index(source), chosen.revisions.index(target)
    scale = (crosscoder.scales[a] / crosscoder.scales[b]).item()
    rows = []
    with (
        track(f"Transplanting into {target}", len(sets)) as bar,
        compute.open(chosen, target) as model,
    ):
        for name, features in sets.items():
            result = transplant_features(
                model, decomposed.prompts, crosscoder.origin.site, decomposed.clean[b], decomposed.clean[a], features,
                scale=scale,
            )  # fmt: skip
            low, high = bootstrap_interval(-result.change, Bootstrap(resamples, seed))
            accuracy, clean = (answered_right(metric).mean().item() for metric in (result.metric, result.clean))
            rows.append(
                {
                    "task": decomposed.task.name,
                    "features": name,
                    "source": source,
                    "target": target,
                    "accuracy": accuracy,
                    "accuracy_change": accuracy - clean,
                    "logit_difference": -result.metric.mean().item(),
                    "logit_difference_change": -result.change.mean().item(),
                    "low": low.item(),
                    "high": high.item(),
                }
            )
            bar.advance()
    return pd.DataFrame(rows)
