"""Carry features of one checkpoint into the forward pass of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from crosstime.crosscoders.decompose import TaskInput, prepare_task
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.effects.ablate import as_named_groups
from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, bootstrap_interval
from interventions import transplant as transplant_features
from interventions.metrics import answered_right
from user_input.nearest import nearest


def transplant(
    suite: Suite,
    crosscoder: CrosscoderSource,
    task: TaskInput,
    groups: Mapping[str, Sequence[int]] | Sequence[int],
    *,
    source: str,
    target: str,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Write features into checkpoint `target` as checkpoint `source` writes them, and score the task.

    ``x_target + sum_i f_i (W_dec[i, source] - W_dec[i, target]) / s_target``: on the scale of training, the part of
    each feature in the target's activation is replaced by its part in the source's activation. If an earlier checkpoint
    then answers as a later one does, it could read the feature before it produced the feature itself.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, or its path or repository.
        task: a task in any form, or its name; see `prepare_task`.
        groups: features that are carried one at a time, or named groups, each of which is carried jointly.
        source: revision whose decoder directions are used.
        target: revision whose blocks above the site run.
        bootstrap: of the intervals over prompts.
        compute: where and how the checkpoint runs.

    Returns:
        One row for each group: task, features (name of the group), source, target, accuracy, accuracy_change,
        logit_difference (right minus wrong), logit_difference_change with low and high.

    Raises:
        CrosscoderError: there is nothing to carry, or the crosscoder does not have a checkpoint.
        FeatureError: a feature that does not exist.

    Examples:
        >>> late = {"late": attribution.top(10)}  # doctest: +SKIP
        >>> transplant(suite, crosscoder, task, late, source="main", target="step512")  # doctest: +SKIP
    """
    crosscoder = as_crosscoder(crosscoder)
    revisions = crosscoder.origin.revisions
    for revision in (source, target):
        if revision not in revisions:
            raise CrosscoderError(f"The crosscoder has no checkpoint {revision!r}: {nearest(revision, revisions)}")
    named_groups = as_named_groups(groups)
    if not named_groups:
        raise CrosscoderError("There are no features to transplant.")
    checkpoints, decomposed = prepare_task(suite, crosscoder, task, compute)

    # Carry every group into the target
    source_index, target_index = revisions.index(source), revisions.index(target)
    scale = float(crosscoder.scales[source_index] / crosscoder.scales[target_index])
    with (
        track(f"Transplanting into {target}", len(named_groups)) as bar,
        compute.open(checkpoints, target) as model,
    ):
        results = []
        for features in named_groups.values():
            result = transplant_features(
                model,
                decomposed.prompts,
                crosscoder.origin.site,
                decomposed.clean[target_index],
                decomposed.clean[source_index],
                features,
                scale=scale,
            )
            results.append(result)
            bar.advance()

    # Score the prompts; a tie counts as half right
    accuracy = torch.stack([answered_right(result.metric).mean() for result in results]).double()
    clean_accuracy = torch.stack([answered_right(result.clean).mean() for result in results]).double()

    # The metric is wrong minus right, the table right minus wrong
    bounds = [bootstrap_interval(-result.change, bootstrap) for result in results]
    table = long_table(
        {"task": [decomposed.task.name], "source": [source], "target": [target], "features": list(named_groups)},
        {
            "accuracy": accuracy,
            "accuracy_change": accuracy - clean_accuracy,
            "logit_difference": torch.stack([-result.metric.mean() for result in results]).double(),
            "logit_difference_change": torch.stack([-result.change.mean() for result in results]).double(),
            "low": torch.stack([low for low, _ in bounds]),
            "high": torch.stack([high for _, high in bounds]),
        },
    )
    table.insert(1, "features", table.pop("features"))
    return table
