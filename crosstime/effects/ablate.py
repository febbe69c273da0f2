"""What a task loses at each checkpoint when features are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from crosstime.crosscoders.decompose import TaskInput, prepare_task
from crosstime.crosscoders.open_crosscoder import DictionarySource, as_crosscoder
from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Ablation, Bootstrap, Model, bootstrap_interval
from interventions import ablate as ablate_features
from interventions.metrics import answered_right


def ablate(
    suite: Suite,
    crosscoder: DictionarySource,
    task: TaskInput,
    groups: Mapping[str, Sequence[int]] | Sequence[int],
    *,
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Set features to zero, one at a time or as named groups, and score the task at every checkpoint.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, its path or repository, or another `Dictionary`, such as those of
            `baseline_dictionaries`.
        task: a task in any form, or its name; see `prepare_task`.
        groups: features that are ablated one at a time, or named groups, each of which is ablated jointly.
        bootstrap: of the intervals over prompts.
        compute: where and how the checkpoints run.

    Returns:
        One row for each checkpoint and group: task, features (name of the group), revision, accuracy and
        logit_difference (right minus wrong) without the features, and their changes against the whole model:
        accuracy_change with accuracy_change_low and accuracy_change_high, logit_difference_change with low and high.

    Raises:
        CrosscoderError: there is nothing to ablate, or the crosscoder does not fit the suite.
        InterventionError: an empty group, or a feature that does not exist.

    Examples:
        >>> ablate(suite, crosscoder, task, attribution.top(10))  # doctest: +SKIP
        >>> ablate(suite, crosscoder, task, {"top-10": attribution.top(10)})  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 5.
    """
    crosscoder = as_crosscoder(crosscoder)
    named_groups = as_named_groups(groups)
    if not named_groups:
        raise CrosscoderError("There are no features to ablate.")
    checkpoints, decomposed = prepare_task(suite, crosscoder, task, compute)

    # Ablate every group at every checkpoint
    with track(f"Ablations on {decomposed.task.name}", None) as bar:

        def ablation_at(checkpoint_index: int, model: Model) -> Ablation:
            bar.note(checkpoints.revisions[checkpoint_index])
            return ablate_features(
                model,
                decomposed.prompts,
                crosscoder.origin.site,
                decomposed.clean[checkpoint_index],
                list(named_groups.values()),
                progress=bar.part(checkpoint_index, len(checkpoints)),
            )

        ablations = compute.each(checkpoints, ablation_at)

    # Summarize prompts, checkpoint by checkpoint
    tables = [
        _table(decomposed.task.name, revision, list(named_groups), ablation, bootstrap)
        for revision, ablation in zip(checkpoints.revisions, ablations, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    table.insert(1, "features", table.pop("features"))
    return table


def as_named_groups(groups: Mapping[str, Sequence[int]] | Sequence[int]) -> dict[str, Sequence[int]]:
    """Named groups as they are; single features as groups of one that are named by their number.

    Examples:
        >>> as_named_groups([3, 17])
        {'3': [3], '17': [17]}
    """
    return dict(groups) if isinstance(groups, Mapping) else {str(feature): [feature] for feature in groups}


def _table(task: str, revision: str, names: Sequence[str], ablation: Ablation, bootstrap: Bootstrap) -> pd.DataFrame:
    """One row for each group, at one checkpoint."""
    right, clean_right = answered_right(ablation.metric), answered_right(ablation.clean)
    accuracy = right.mean(1).double()
    accuracy_low, accuracy_high = bootstrap_interval((right - clean_right).T, bootstrap)
    # The metric is wrong minus right, the table right minus wrong.
    low, high = bootstrap_interval(-ablation.change.T, bootstrap)
    return long_table(
        {"task": [task], "revision": [revision], "features": names},
        {
            "accuracy": accuracy,
            "accuracy_change": accuracy - clean_right.mean().double(),
            "logit_difference": -ablation.metric.mean(1).double(),
            "logit_difference_change": -ablation.change.mean(1).double(),
            "low": low,
            "high": high,
            "accuracy_change_low": accuracy_low,
            "accuracy_change_high": accuracy_high,
        },
    )
