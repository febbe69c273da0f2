"""Is a dip of a task caused by features that matter at this checkpoint only? A test with held-out prompts and controls.

Given a task, the checkpoint `at` of its dip, and a checkpoint `other` at which the task has recovered (or from which it
fell), `explain_dip` works as follows:

1. **Two halves.** Split the prompts at random. The first half selects the features, the second half tests them, so that
   the test is not biased by the selection.
2. **Candidates.** On the first half, take the `top` features with the largest |IE| at `at`
   (`crosstime.effects.attribute`). Of these, select the features with ``|IE_other| / (|IE_at| + |IE_other|) < absent``:
   they are *discontinued* where `other` is later, and have *emerged* where it is earlier.
3. **Harmful and helpful.** A candidate is harmful where IE_at < 0: the metric, wrong minus right, falls without it. It
   is helpful where IE_at > 0.
4. **Controls.** Draw sets of as many other features as there are harmful ones, `draws` times. *Matched* features are
   drawn one for each harmful feature, from the ten whose mean contribution to the activation (mean code times decoder
   norm) is nearest on a logarithmic scale; *random* features are drawn from all that fire on the task.
5. **Ablation.** On the second half, ablate the harmful features, the helpful ones, and both jointly at the two
   checkpoints, and the controls at `at`. The same groups are ablated on all prompts of the tasks in `others`.
6. **Test.** With d the change of the logit difference (right minus wrong) without the harmful features at `at`, and d_r
   that without matched draw r of R: ``p = (1 + #{d_r >= d}) / (1 + R)``. The dip is *explained* where the bootstrap
   interval of d over prompts is above zero and p is at most .05 (`Dip.explained`).

Source: CTT (arXiv 2509.05291), sections 4 and 5, for discontinued features and RelIE; the two halves and the controls
are ours. p counts the observed set as one of the draws, as in Phipson & Smyth 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, TaskInput, prepare_task
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.crosscoders.select_prompts import select_prompts
from crosstime.crosscoders.training_setting import trained_checkpoints
from crosstime.effects.attribute import attribute
from crosstime.effects.attribution import Attribution
from crosstime.effects.dip import BOTH, COLUMNS, HARMFUL, HELPFUL, MATCHED, RANDOM, Dip
from crosstime.effects.halves import halves, mean_effect
from crosstime.effects.relie import ABSENT, relative_pairwise
from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Ablation, Bootstrap, Decomposition, Model, Prompts, bootstrap_interval
from interventions import ablate as ablate_features
from interventions.metrics import answered_right
from user_input.nearest import nearest

NEIGHBOURS = 10
"""Number of features, nearest in their mean contribution, from which a matched control is drawn."""


@dataclass(frozen=True)
class DipTest:
    """Options of `explain_dip`: how the features of a dip are selected and tested.

    Attributes:
        top: number of features, by |IE| on the first half of the prompts, that are candidates.
        absent: share of the effect at the other checkpoint, below which a feature is absent there.
        prompts: largest number of prompts of the second half that are run; None runs all.
        draws: number of draws of each control.

    Raises:
        CrosscoderError: `top`, `prompts` or `draws` is below 1.

    Examples:
        >>> DipTest(prompts=200).draws
        100
    """

    top: int = 100
    absent: float = ABSENT
    prompts: int | None = None
    draws: int = 100

    def __post_init__(self) -> None:
        for name, value in (("top", self.top), ("draws", self.draws), ("prompts", self.prompts)):
            if value is not None and value < 1:
                raise CrosscoderError(f"A dip needs {name} of at least 1, not {value}.")


def explain_dip(
    suite: Suite,
    crosscoder: CrosscoderSource,
    task: TaskInput | Attribution,
    at: str,
    other: str,
    *,
    others: Sequence[TaskInput] = (),
    test: DipTest = DipTest(),
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
    compute: Compute = Compute(),
) -> Dip:
    """Test whether the features that matter at one checkpoint, and not at another, cause the dip of a task there.

    The steps are described at the head of this module.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, or its path or repository.
        task: a task in any form, its name, or its `Attribution`, which saves computing the effects again.
        at: revision of the dip.
        other: a later revision, at which the task has recovered, or an earlier one, from which it fell.
        others: further tasks on which the same features are ablated, on all prompts.
        test: how features are selected and controls are drawn.
        bootstrap: of the intervals over prompts; its seed is also that of the halves and of the controls.
        compute: where and how the checkpoints run.

    Returns:
        The harmful and helpful features, and a table of what their ablation changes.

    Raises:
        CrosscoderError: a checkpoint that the crosscoder does not have, the same checkpoint twice, or fewer than four
            prompts.

    Examples:
        >>> explain_dip(suite, crosscoder, task, "step64", "step256").sentence()  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), sections 4 and 5; the halves and controls are ours.
    """
    crosscoder = as_crosscoder(crosscoder)
    revisions = trained_checkpoints(suite, crosscoder).revisions
    for revision in (at, other):
        if revision not in revisions:
            raise CrosscoderError(f"The crosscoder has no checkpoint {revision!r}: {nearest(revision, revisions)}")
    if at == other:
        raise CrosscoderError(f"A dip is between two checkpoints, not {at} and itself.")
    at_index, other_index = revisions.index(at), revisions.index(other)

    # Find the effects, and split the prompts into two halves
    attribution = task if isinstance(task, Attribution) else attribute(suite, crosscoder, task, compute=compute)
    checkpoints, decomposed = prepare_task(suite, crosscoder, attribution.decomposed, compute)
    generator = torch.Generator().manual_seed(bootstrap.seed)
    selection, held_out = halves(decomposed, test.prompts, generator)

    # Select features on the first half
    ie, ie_other = (mean_effect(attribution.effects[c], selection) for c in (at_index, other_index))
    strongest = ie.abs().argsort(descending=True, stable=True)[: test.top]
    candidates = strongest[relative_pairwise(ie, ie_other)[strongest] < test.absent]
    harmful, helpful = candidates[ie[candidates] < 0].tolist(), candidates[ie[candidates] > 0].tolist()
    groups = {HARMFUL: harmful, HELPFUL: helpful, BOTH: harmful + helpful}
    groups = {name: features for name, features in groups.items() if features}

    # Draw the controls
    contribution = mean_contribution(decomposed, crosscoder, at_index)
    controls = draw_controls(contribution, harmful, harmful + helpful, test.draws, generator)

    # Ablate groups and controls on the second half, and the groups on all prompts of the other tasks
    prompt_sets = [_PromptSet(decomposed, held_out, controls)]
    for further_task in others:
        _, further = prepare_task(suite, crosscoder, further_task, compute)
        prompt_sets.append(_PromptSet(further, torch.arange(len(further.prompts)), {}))
    table = pd.DataFrame(columns=list(COLUMNS))
    if groups:
        table = _ablate_groups(checkpoints.select([at, other]), crosscoder, prompt_sets, groups, bootstrap, compute)

    return Dip(
        task=decomposed.task.name,
        at=at,
        other=other,
        given_up=at_index < other_index,
        harmful=tuple(harmful),
        helpful=tuple(helpful),
        table=table,
    )


@dataclass(frozen=True, eq=False)
class _PromptSet:
    """Prompts of a task on which groups are ablated, and the controls that are ablated at the dip's checkpoint."""

    decomposed: DecomposedTask
    rows: Int[Tensor, " R"]
    controls: Mapping[str, Sequence[Sequence[int]]]


def mean_contribution(decomposed: DecomposedTask, crosscoder: CrossCoder, checkpoint_index: int) -> Float[Tensor, " F"]:
    """Mean length of each feature's part in the activation, on the scale of training: mean code times decoder norm."""
    codes = decomposed.clean[checkpoint_index].codes
    return codes.mean().double() * crosscoder.decoder_norms()[checkpoint_index].double()


def draw_controls(
    contribution: Float[Tensor, " F"],
    features: Sequence[int],
    excluded: Sequence[int],
    draws: int,
    generator: torch.Generator,
) -> dict[str, list[list[int]]]:
    """Draw sets of as many features as `features`, matched and random, from those that fire and are not excluded.

    Args:
        contribution: mean contribution of every feature to the activation, see `mean_contribution`.
        features: the features that a control stands for.
        excluded: features that no control may contain.
        draws: number of sets of each kind.
        generator: of the draws.

    Returns:
        For ``matched control`` and ``random control`` the sets; empty where too few features fire.
    """
    available = contribution > 0
    available[list(excluded)] = False
    candidates = available.nonzero().squeeze(1)
    if not features or len(candidates) < len(features):
        return {}

    controls: dict[str, list[list[int]]] = {MATCHED: [], RANDOM: []}
    for _ in range(draws):
        # Matched: for each feature one of its nearest neighbours that is not in the set yet
        log_contribution = contribution.log().masked_fill(~available, torch.inf)
        matched: list[int] = []
        for feature in features:
            distance = (log_contribution - contribution[feature].clamp(min=1e-30).log()).abs()
            nearby = distance.topk(min(NEIGHBOURS, len(candidates) - len(matched)), largest=False).indices
            matched.append(int(nearby[torch.randint(len(nearby), (), generator=generator)]))
            log_contribution[matched[-1]] = torch.inf
        controls[MATCHED].append(matched)

        # Random: any features that fire
        order = torch.randperm(len(candidates), generator=generator)
        controls[RANDOM].append(candidates[order[: len(features)]].tolist())

    return controls


def _ablate_groups(
    checkpoints: Suite,
    crosscoder: CrossCoder,
    prompt_sets: Sequence[_PromptSet],
    groups: Mapping[str, Sequence[int]],
    bootstrap: Bootstrap,
    compute: Compute,
) -> pd.DataFrame:
    """Ablate groups of features at both checkpoints, and the controls at the first: the table of a dip."""
    checkpoint_indices = [crosscoder.origin.revisions.index(revision) for revision in checkpoints.revisions]

    with track("Explaining the dip", len(checkpoints) * len(prompt_sets)) as bar:

        def tables_at(index: int, model: Model) -> list[pd.DataFrame]:
            revision = checkpoints.revisions[index]
            tables = []
            for prompt_set in prompt_sets:
                task = prompt_set.decomposed.task.name
                bar.note(f"{task} at {revision}")
                controls = prompt_set.controls if index == 0 else {}
                sets = [*groups.values(), *(features for draws in controls.values() for features in draws)]
                prompts, clean = _select_prompts(prompt_set.decomposed, prompt_set.rows, checkpoint_indices[index])
                ablation = ablate_features(model, prompts, crosscoder.origin.site, clean, sets)
                axes: dict[str, Sequence[str | int]] = {
                    "task": [task],
                    "revision": [revision],
                    "prompts": [len(prompt_set.rows)],
                }
                tables.append(_table(axes, ablation, groups, controls, bootstrap))
                bar.advance()
            return tables

        tables_by_checkpoint = compute.each(checkpoints, tables_at)

    # Task by task, and of each task checkpoint by checkpoint
    tables = [table for tables_of_task in zip(*tables_by_checkpoint, strict=True) for table in tables_of_task]
    return pd.concat(tables, ignore_index=True)


def _select_prompts(
    decomposed: DecomposedTask, rows: Int[Tensor, " R"], checkpoint_index: int
) -> tuple[Prompts, Decomposition]:
    """A subset of a task's prompts, in the task's order, and its decomposition at a checkpoint."""
    at_checkpoint = replace(decomposed, clean=(decomposed.clean[checkpoint_index],), patched=None)
    subset = select_prompts(at_checkpoint, rows.sort().values.tolist())
    return subset.prompts, subset.clean[0]


def _table(
    axes: Mapping[str, Sequence[str | int]],
    ablation: Ablation,
    groups: Mapping[str, Sequence[int]],
    controls: Mapping[str, Sequence[Sequence[int]]],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Rows of one task and checkpoint. The ablation is of the groups first, and of the draws of all controls after."""
    # The metric is wrong minus right; the change of the table points towards the right answer
    change = -ablation.change.double()
    mean_change = change.mean(1)
    accuracy = answered_right(ablation.metric).mean(1)
    clean_accuracy = answered_right(ablation.clean).mean().double()

    # Which sets of the ablation belong to each row
    sets = {name: slice(index, index + 1) for index, name in enumerate(groups)}
    start = len(groups)
    for name, draws in controls.items():
        sets[name] = slice(start, start + len(draws))
        start += len(draws)

    # Bounds over prompts for the groups, over draws for the controls
    low, high = bootstrap_interval(change[: len(groups)].T, bootstrap)
    percentiles = [np.quantile(mean_change[sets[name]].numpy(), [0.025, 0.975]) for name in controls]
    low = torch.cat([low, torch.tensor([lower for lower, _ in percentiles], dtype=torch.float64)])
    high = torch.cat([high, torch.tensor([upper for _, upper in percentiles], dtype=torch.float64)])

    # The share of matched draws that change as much as the harmful features
    p = torch.full((len(sets),), torch.nan, dtype=torch.float64)
    if HARMFUL in groups and MATCHED in controls:
        harmful, matched = list(sets).index(HARMFUL), mean_change[sets[MATCHED]]
        p[harmful] = (1 + int((matched >= mean_change[harmful]).sum())) / (1 + len(matched))

    right = torch.stack([accuracy[rows].mean() for rows in sets.values()]).double()
    n_features = [len(features) for features in groups.values()] + [len(draws[0]) for draws in controls.values()]
    table = long_table(
        {**axes, "group": list(sets)},
        {
            "n": torch.tensor(n_features),
            "accuracy": right,
            "accuracy_change": right - clean_accuracy,
            "logit_difference_change": torch.stack([mean_change[rows].mean() for rows in sets.values()]),
            "low": low,
            "high": high,
            "p": p,
        },
    )
    return table[list(COLUMNS)]
