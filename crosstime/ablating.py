"""What a task loses at each checkpoint when features are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from crosstime.compute import Compute
from crosstime.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.progress import track
from crosstime.splicing import Spliced, fitting, refuse_foreign, splice
from crosstime.suite import Suite
from interventions import Ablation, Model, Remote, bootstrap_interval
from interventions import ablate as ablate_features
from tasks import Task, TokenizedTask


def ablate(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | Spliced,
    groups: Mapping[str, Sequence[int]] | Sequence[int],
    *,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
    remote: Remote | str | bool | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Set features to zero, alone or in named sets, and score the task at every checkpoint.

    Args:
        suite, crosscoder, task: as for `attribute`.
        groups: features that are ablated one at a time, or named sets that are ablated jointly.
        resamples, seed: of the bootstrap over prompts.
        compute: how the checkpoints are run.
        remote: run the checkpoints on a server, or in a simulation of one; see `Compute`.
        progress: show a bar; None shows it when a person watches.

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
    compute = compute.at(remote)
    spliced = task if isinstance(task, Spliced) else splice(suite, crosscoder, task, compute=compute, progress=progress)
    refuse_foreign(spliced, crosscoder)
    with track(f"Ablations on {spliced.task.name}", None, shown=progress) as bar:

        def ablation(c: int, model: Model) -> Ablation:
            bar.note(chosen.revisions[c])
            return ablate_features(
                model, spliced.prompts, crosscoder.origin.site, spliced.clean[c], list(sets.values()),
                max_tokens=compute.max_tokens, progress=bar.part(c, len(chosen)),
            )  # fmt: skip

        results = compute.each(chosen, ablation)
    rows = []
    for revision, result in zip(chosen.revisions, results, strict=True):
        low, high = bootstrap_interval(-result.change.T, resamples=resamples, seed=seed)
        clean, without = answered_right(result.clean), answered_right(result.metric)
        gain_low, gain_high = bootstrap_interval((without - clean).T, resamples=resamples, seed=seed)
        for index, name in enumerate(sets):
            accuracy = without[index].mean().item()
            rows.append(
                {
                    "task": spliced.task.name,
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


def answered_right(metric: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """1 where the right answer has the higher logit, m = logit(wrong) - logit(right) < 0; 1/2 for a tie.

    Examples:
        >>> import torch
        >>> answered_right(torch.tensor([-1.0, 0.0, 2.0])).tolist()
        [1.0, 0.5, 0.0]
    """
    return (metric < 0).double() + (metric == 0).double() / 2
