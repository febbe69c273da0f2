"""Is a dip in accuracy explained by features that training gives up? A test with controls, on prompts kept aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crosstime.ablating import answered_right
from crosstime.attribution import Attribution, attribute
from crosstime.compute import Compute
from crosstime.crosscoder import CrossCoder
from crosstime.errors import CrosscoderError
from crosstime.progress import track
from crosstime.splicing import Spliced, fitting, splice
from crosstime.suite import Suite
from crosstime.temporal import ABSENT, relative_pairwise
from interventions import Effects, bootstrap_interval
from interventions import ablate as ablate_features
from tasks import Task, TokenizedTask
from tasks.errors import nearest

HARMFUL, HELPFUL, BOTH = "discontinued, harmful", "discontinued, helpful", "discontinued"
MATCHED, RANDOM = "matched control", "random control"
_NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class Dip:
    """What features that are given up between two checkpoints do to a task at the earlier one.

    Attributes:
        task: name of the task.
        early, late: the two checkpoints.
        harmful, helpful: features that matter at `early` and hardly at `late`, by the sign of what they do.
        table: one row for each task, group and checkpoint: task, group, n, revision, prompts, accuracy,
            accuracy_change, logit_difference_change (right minus wrong, towards the right answer), low, high, p. A
            control's row is the mean over its draws, low and high are percentiles of the draws, and p, in the row of
            a group, is the share of matched draws that do as much or more.
    """

    task: str
    early: str
    late: str
    harmful: tuple[int, ...]
    helpful: tuple[int, ...]
    table: pd.DataFrame

    @property
    def explained(self) -> bool:
        """Whether taking the harmful ones away at `early` helps: interval above zero, and p at most .05."""
        if not self.harmful:
            return False
        row = self.row(HARMFUL)
        return bool(row.low > 0 and row.p <= 0.05)

    def row(self, group: str, revision: str | None = None, task: str | None = None) -> pd.Series:
        """One row of the table; by default of the task and checkpoint of the dip.

        Raises:
            CrosscoderError: the table has no such row.
        """
        own = self.table[
            (self.table.group == group)
            & (self.table.revision == (revision or self.early))
            & (self.table.task == (task or self.task))
        ]
        if own.empty:
            raise CrosscoderError(f"The dip has no row for {group!r} at {revision or self.early}.")
        return own.iloc[0]

    def sentence(self) -> str:
        """The finding in a sentence or two, with its numbers."""
        if not self.harmful:
            return (
                f"No feature that does harm on {self.task} at {self.early} is given up by {self.late}: the dip is not "
                "explained by discontinued features."
            )
        row, control = self.row(HARMFUL), self.row(MATCHED)
        count = len(self.harmful)
        features = "feature" if count == 1 else "features"
        return (
            f"{'Explained' if self.explained else 'Not explained'}: without the {count} harmful {features} that "
            f"training gives up between {self.early} and {self.late}, the logit difference on {self.task} at "
            f"{self.early} moves by {row.logit_difference_change:+.2f} [{row.low:+.2f}, {row.high:+.2f}] towards the "
            f"right answer, and accuracy from {row.accuracy - row.accuracy_change:.2f} to {row.accuracy:.2f}; without "
            f"as many matched ones by {control.logit_difference_change:+.2f} [{control.low:+.2f}, {control.high:+.2f}] "
            f"(p = {row.p:.3g}, on {int(row.prompts)} prompts that were not used to choose the features)."
        )


def explain_dip(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | Spliced,
    early: str,
    late: str,
    *,
    others: Sequence[Task | TokenizedTask | Spliced] = (),
    attribution: Attribution | None = None,
    top: int = 100,
    absent: float = ABSENT,
    draws: int = 100,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
    progress: bool | None = None,
) -> Dip:
    """Ask whether features that are discontinued after a checkpoint are what a task suffers from there.

    1. The prompts are halved at random. On the first half the `top` features by |IE| at `early` are taken; those with
       RelIE ``|IE_late| / (|IE_early| + |IE_late|) < absent`` are *discontinued*, and *harmful* where IE_early < 0: the
       metric, wrong minus right, falls without them.
    2. On the second half the harmful ones, the helpful ones, and both are set to zero jointly at both checkpoints.
    3. The same is done with `draws` sets of as many other features as there are harmful ones: *matched* ones, each
       drawn from the ten whose mean part in the activation at `early` is nearest to a harmful one's, and plain random
       ones of those that fire.

    Args:
        suite, crosscoder, task: as for `attribute`.
        early: the checkpoint of the dip.
        late: a checkpoint after it.
        others: tasks on which the same features are ablated, on all prompts.
        attribution: of the task, if there is one already.
        top: features that are looked at.
        absent: see above.
        draws, resamples, seed: of the controls and of the bootstrap over prompts.
        compute: how the checkpoints are run.
        progress: show a bar; None shows it when a person watches.

    Raises:
        CrosscoderError: a checkpoint that the crosscoder does not have, fewer than four prompts, or no draws.

    Examples:
        >>> explain_dip(suite, crosscoder, task, "step64", "step256").sentence()  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), sections 4 and 5; the halves and controls are ours.
    """
    chosen = fitting(suite, crosscoder)
    for revision in (early, late):
        if revision not in chosen.revisions:
            raise CrosscoderError(
                f"The crosscoder has no checkpoint {revision!r}: {nearest(revision, chosen.revisions)}"
            )
    if draws < 1 or top < 1:
        raise CrosscoderError(f"A dip needs at least one draw and one feature to look at, not {draws} and {top}.")
    how = {"compute": compute, "progress": progress}
    if attribution is None:
        attribution = attribute(suite, crosscoder, task, **how)
    spliced = attribution.spliced
    n_prompts = len(spliced.prompts)
    if n_prompts < 4:
        raise CrosscoderError(f"Task {spliced.task.name} has {n_prompts} prompts; two halves need at least 4.")
    generator = torch.Generator().manual_seed(seed)
    choosing = torch.zeros(n_prompts, dtype=torch.bool)
    choosing[torch.randperm(n_prompts, generator=generator)[: n_prompts // 2]] = True

    at = {revision: chosen.revisions.index(revision) for revision in (early, late)}
    ie = {revision: _mean_effect(attribution.effects[c], choosing) for revision, c in at.items()}
    strongest = ie[early].abs().argsort(descending=True, stable=True)[:top]
    share = relative_pairwise(ie[early], ie[late])[strongest]
    given_up = strongest[share < absent]
    harmful = given_up[ie[early][given_up] < 0].tolist()
    helpful = given_up[ie[early][given_up] > 0].tolist()
    groups = {HARMFUL: harmful, HELPFUL: helpful, BOTH: harmful + helpful}
    controls = _controls(spliced, crosscoder, at[early], harmful, harmful + helpful, draws, generator)
    sets = [features for features in groups.values() if features]
    sets += [features for listed in controls.values() for features in listed]
    rows: list[dict[str, object]] = []
    measured = [(spliced, ~choosing)]
    for other in others:
        one = other if isinstance(other, Spliced) else splice(suite, crosscoder, other, **how)
        measured.append((one, torch.ones(len(one.prompts), dtype=torch.bool)))
    with track("Explaining the dip", len(measured) * len(at), shown=progress) as bar:
        for one, used in measured if sets else ():
            for revision, c in at.items():
                with compute.open(chosen, revision) as model:
                    found = ablate_features(
                        model, one.prompts, crosscoder.origin.site, one.clean[c], sets, max_tokens=compute.max_tokens
                    )
                bar.advance()
                # Towards the right answer is up.
                change = -found.change[:, used].double()
                accuracy = answered_right(found.metric[:, used]).mean(1)
                clean = answered_right(found.clean[used]).mean().item()
                described = {"task": one.task.name, "revision": revision, "prompts": int(used.sum())}
                rows += _rows(described, groups, controls, change, accuracy, clean, resamples, seed)
    columns = [
        "task", "group", "n", "revision", "prompts", "accuracy", "accuracy_change", "logit_difference_change", "low",
        "high", "p",
    ]  # fmt: skip
    return Dip(spliced.task.name, early, late, tuple(harmful), tuple(helpful), pd.DataFrame(rows, columns=columns))


def _mean_effect(effects: Effects, chosen: Bool[Tensor, " P"]) -> Float[Tensor, " F"]:
    """Indirect effect of every feature over some of the prompts."""
    kept = chosen[effects.prompt]
    sums = torch.zeros(effects.n_features, dtype=torch.float64)
    return sums.index_add(0, effects.feature[kept], effects.value[kept].double()) / int(chosen.sum())


def _controls(
    spliced: Spliced,
    crosscoder: CrossCoder,
    checkpoint: int,
    features: Sequence[int],
    excluded: Sequence[int],
    draws: int,
    generator: torch.Generator,
) -> dict[str, list[list[int]]]:
    """Sets of as many features as `features`, of those that fire and are not excluded; fewer if there are too few."""
    codes = spliced.clean[checkpoint].codes
    part = codes.mean().double() * crosscoder.decoder_norms()[checkpoint].double()
    free = part > 0
    free[list(excluded)] = False
    others = free.nonzero().squeeze(1)
    if not features or len(others) < len(features):
        return {}
    found: dict[str, list[list[int]]] = {MATCHED: [], RANDOM: []}
    for _ in range(draws):
        left = part.log().masked_fill(~free, torch.inf)
        drawn = []
        for feature in features:
            distance = (left - part[feature].clamp(min=1e-30).log()).abs()
            near = distance.topk(min(_NEIGHBOURS, len(others) - len(drawn)), largest=False).indices
            drawn.append(int(near[torch.randint(len(near), (), generator=generator)]))
            left[drawn[-1]] = torch.inf
        found[MATCHED].append(drawn)
        found[RANDOM].append(others[torch.randperm(len(others), generator=generator)[: len(features)]].tolist())
    return found


def _rows(
    described: dict[str, object],
    groups: dict[str, list[int]],
    controls: dict[str, list[list[int]]],
    change: Float[Tensor, "G P"],
    accuracy: Float[Tensor, " G"],
    clean: float,
    resamples: int,
    seed: int,
) -> list[dict[str, object]]:
    """The table's rows of one task and checkpoint: `change` has the groups first, then the controls."""
    filled = {name: features for name, features in groups.items() if features}
    low, high = bootstrap_interval(change[: len(filled)].T, resamples=resamples, seed=seed)
    means = change.mean(1)
    places = {name: place for place, name in enumerate(filled)}
    first = len(filled)
    drawn: dict[str, Tensor] = {}
    for name, listed in controls.items():
        drawn[name] = torch.arange(first, first + len(listed))
        first += len(listed)
    rows = []
    for name, features in filled.items():
        place = places[name]
        p = float("nan")
        if name == HARMFUL and MATCHED in drawn:
            others = means[drawn[MATCHED]]
            p = (1 + int((others >= means[place]).sum())) / (1 + len(others))
        rows.append(
            described
            | {
                "group": name,
                "n": len(features),
                "accuracy": accuracy[place].item(),
                "accuracy_change": accuracy[place].item() - clean,
                "logit_difference_change": means[place].item(),
                "low": low[place].item(),
                "high": high[place].item(),
                "p": p,
            }
        )
    for name, numbers in drawn.items():
        bounds = np.quantile(means[numbers].numpy(), [0.025, 0.975])
        rows.append(
            described
            | {
                "group": name,
                "n": len(controls[name][0]),
                "accuracy": accuracy[numbers].mean().item(),
                "accuracy_change": accuracy[numbers].mean().item() - clean,
                "logit_difference_change": means[numbers].mean().item(),
                "low": float(bounds[0]),
                "high": float(bounds[1]),
                "p": float("nan"),
            }
        )
    return rows
