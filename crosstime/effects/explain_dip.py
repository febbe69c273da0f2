"""Do features that matter at one checkpoint only explain that it does a task badly? A test with controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task, fitting
from crosstime.effects.attribute import Attribution, attribute
from crosstime.effects.relie import ABSENT, relative_pairwise
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.progress import track
from crosstime.shown import Shown
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Ablation, Bootstrap, Decomposition, Effects, Prompts, bootstrap_interval
from interventions import ablate as ablate_features
from interventions.metrics import answered_right
from tasks import Task, TokenizedTask
from user_input.nearest import nearest

HARMFUL, HELPFUL, BOTH = "harmful", "helpful", "harmful and helpful"
MATCHED, RANDOM = "matched control", "random control"
COLUMNS = (
    "task", "group", "n", "revision", "prompts", "accuracy", "accuracy_change", "logit_difference_change", "low",
    "high", "p",
)  # fmt: skip
_NEIGHBOURS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Dip(Shown):
    """What features that matter at one of two checkpoints do to a task there.

    Attributes:
        task: name of the task.
        at: the checkpoint of the dip.
        other: the one that it is compared with.
        given_up: whether `other` is the later one, so that the features are *discontinued*; else they have *emerged*.
        harmful, helpful: features that matter at `at` and hardly at `other`, by the sign of what they do.
        table: one row for each task, group and checkpoint: task, group, n, revision, prompts, accuracy,
            accuracy_change, logit_difference_change (right minus wrong, towards the right answer), low, high, p. A
            control's row is the mean over its draws, low and high are percentiles of the draws, and p, in the row of
            the harmful ones, is the share of matched draws that do as much or more.
    """

    task: str
    at: str
    other: str
    given_up: bool
    harmful: tuple[int, ...]
    helpful: tuple[int, ...]
    table: pd.DataFrame

    @property
    def explained(self) -> bool:
        """Whether taking the harmful ones away at `at` helps: interval above zero, and p at most .05."""
        if not self.harmful:
            return False
        row = self.row(HARMFUL)
        return bool(row.low > 0 and row.p <= 0.05)

    def headline(self) -> str:
        """The finding, as `sentence` says it."""
        return self.sentence()

    def tables(self) -> dict[str, pd.DataFrame]:
        """What the model does without the features."""
        return {"without these features": self.table}

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; `of` makes it again."""
        fields = {name: getattr(self, name) for name in ("task", "at", "other", "given_up", "harmful", "helpful")}
        return fields | {"table": self.table.to_dict("records")}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Dip:
        """What `to_dict` wrote.

        Raises:
            RunError: a value is missing, or of another kind.
        """
        try:
            table = pd.DataFrame(values["table"], columns=list(COLUMNS))
            table = table.astype(dict.fromkeys(COLUMNS[5:], float) | dict.fromkeys(("n", "prompts"), "int64"))
            features = (tuple(int(feature) for feature in values[name]) for name in ("harmful", "helpful"))
            return cls(values["task"], values["at"], values["other"], bool(values["given_up"]), *features, table)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"A dip was not written whole: {type(error).__name__}: {error}.") from error

    def row(self, group: str, revision: str | None = None, task: str | None = None) -> pd.Series:
        """One row of the table; by default of the task and checkpoint of the dip.

        Raises:
            CrosscoderError: the table has no such row.
        """
        own = self.table[
            (self.table.group == group)
            & (self.table.revision == (revision or self.at))
            & (self.table.task == (task or self.task))
        ]
        if own.empty:
            raise CrosscoderError(f"The dip has no row for {group!r} at {revision or self.at}.")
        return own.iloc[0]

    def sentence(self) -> str:
        """The finding in a sentence or two, with its numbers."""
        kind, what = ("discontinued", "dip") if self.given_up else ("emerging", "fall")
        if not self.harmful:
            gone = f"is given up by {self.other}" if self.given_up else f"was absent at {self.other}"
            return (
                f"No feature that does harm on {self.task} at {self.at} {gone}: the {what} is not explained by {kind} "
                "features."
            )
        row = self.row(HARMFUL)
        features = f"the {len(self.harmful)} harmful {'feature' if len(self.harmful) == 1 else 'features'}"
        since = "gives up" if self.given_up else "brings"
        first, last = (self.at, self.other) if self.given_up else (self.other, self.at)
        verdict = "explained" if self.explained else "not explained"
        return (
            f"The {what} on {self.task} at {self.at} is {verdict} by {kind} features: without {features} that training "
            f"{since} between {first} and {last}, the logit difference moves by {row.logit_difference_change:+.2f} "
            f"[{row.low:+.2f}, {row.high:+.2f}] towards the right answer, and accuracy goes from "
            f"{row.accuracy - row.accuracy_change:.2f} to {row.accuracy:.2f}; {self._controlled(row)}, on "
            f"{int(row.prompts)} prompts that were not used to choose the features."
        )

    def _controlled(self, row: pd.Series) -> str:
        if row.p != row.p:
            return "too few other features fire for a control"
        control = self.row(MATCHED)
        return (
            f"without as many matched ones it moves by {control.logit_difference_change:+.2f} "
            f"[{control.low:+.2f}, {control.high:+.2f}] (p = {row.p:.3g})"
        )


def explain_dip(
    suite: Suite,
    crosscoder: CrossCoder,
    task: Task | TokenizedTask | DecomposedTask,
    at: str,
    other: str,
    *,
    others: Sequence[Task | TokenizedTask | DecomposedTask] = (),
    attribution: Attribution | None = None,
    top: int = 100,
    absent: float = ABSENT,
    prompts: int | None = None,
    draws: int = 100,
    resamples: int = 2_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> Dip:
    """Ask whether features that matter at one checkpoint and not at another are what a task suffers from there.

    1. The prompts are halved at random. On the first half the `top` features by |IE| at `at` are taken; of these,
       those with RelIE ``|IE_other| / (|IE_at| + |IE_other|) < absent`` are *discontinued* where `other` comes later,
       and have *emerged* where it comes earlier. They are *harmful* where IE_at < 0: the metric, wrong minus right,
       falls without them.
    2. On the second half the harmful ones, the helpful ones, and both are set to zero jointly at both checkpoints.
    3. At `at` the same is done with `draws` sets of as many other features as there are harmful ones: *matched* ones,
       each drawn from the ten whose mean part in the activation is nearest to a harmful one's, and plain random ones of
       those that fire.

    Args:
        suite, crosscoder, task: as for `attribute`.
        at: the checkpoint of the dip.
        other: a later checkpoint, at which the task has recovered, or an earlier one, from which it fell.
        others: tasks on which the same features are ablated, on all prompts.
        attribution: of the task, if there is one already.
        top: features that are looked at.
        absent: see above.
        prompts: how many of the second half are run at most; default all.
        draws, resamples, seed: of the controls and of the bootstrap over prompts.
        compute: how the checkpoints are run.

    Raises:
        CrosscoderError: a checkpoint that the crosscoder does not have, the same one twice, fewer than four prompts,
            or a number below one.

    Examples:
        >>> explain_dip(suite, crosscoder, task, "step64", "step256").sentence()  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), sections 4 and 5; the halves and controls are ours.
    """
    chosen = fitting(suite, crosscoder)
    for revision in (at, other):
        if revision not in chosen.revisions:
            raise CrosscoderError(
                f"The crosscoder has no checkpoint {revision!r}: {nearest(revision, chosen.revisions)}"
            )
    if at == other:
        raise CrosscoderError(f"A dip is between two checkpoints, not {at} and itself.")
    for name, value in (("top", top), ("draws", draws), ("prompts", prompts)):
        if value is not None and value < 1:
            raise CrosscoderError(f"A dip needs {name} of at least 1, not {value}.")
    if attribution is None:
        attribution = attribute(suite, crosscoder, task, compute=compute)
    decomposed = attribution.decomposed
    n_prompts = len(decomposed.prompts)
    if n_prompts < 4:
        raise CrosscoderError(f"Task {decomposed.task.name} has {n_prompts} prompts; two halves need at least 4.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_prompts, generator=generator)
    choosing, testing = order[: n_prompts // 2], order[n_prompts // 2 :][:prompts].sort().values

    c_at, c_other = chosen.revisions.index(at), chosen.revisions.index(other)
    ie, ie_other = (_mean_effect(attribution.effects[c], choosing, n_prompts) for c in (c_at, c_other))
    strongest = ie.abs().argsort(descending=True, stable=True)[:top]
    specific = strongest[relative_pairwise(ie, ie_other)[strongest] < absent]
    harmful, helpful = specific[ie[specific] < 0].tolist(), specific[ie[specific] > 0].tolist()
    groups = {HARMFUL: harmful, HELPFUL: helpful, BOTH: harmful + helpful}
    groups = {name: features for name, features in groups.items() if features}
    controls = _controls(decomposed, crosscoder, c_at, harmful, harmful + helpful, draws, generator)
    measured = [(decomposed, testing)]
    for each in others:
        one = each if isinstance(each, DecomposedTask) else decompose_task(suite, crosscoder, each, compute=compute)
        measured.append((one, torch.arange(len(one.prompts))))
    found: dict[tuple[int, int], list[dict[str, object]]] = {}
    with track("Explaining the dip", 2 * len(measured) if groups else 0) as bar:
        for c in (c_at, c_other) if groups else ():
            with compute.open(chosen, chosen.revisions[c]) as model:
                for place, (one, used) in enumerate(measured):
                    bar.note(f"{one.task.name} at {chosen.revisions[c]}")
                    beside = controls if one is decomposed and c == c_at else {}
                    sets = [*groups.values(), *(features for listed in beside.values() for features in listed)]
                    some, clean = _some(one, used, c)
                    ablated = ablate_features(model, some, crosscoder.origin.site, clean, sets)
                    described = {"task": one.task.name, "revision": chosen.revisions[c], "prompts": len(used)}
                    rows = _rows(ablated, groups, beside, resamples, seed)
                    found[place, c] = [described | row for row in rows]
                    bar.advance()
    rows = [row for place in range(len(measured)) for c in (c_at, c_other) for row in found.get((place, c), ())]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Dip(decomposed.task.name, at, other, c_at < c_other, tuple(harmful), tuple(helpful), table)


def _mean_effect(effects: Effects, rows: Int[Tensor, " R"], n_prompts: int) -> Float[Tensor, " F"]:
    """Indirect effect of every feature over some of the prompts."""
    chosen = torch.zeros(n_prompts, dtype=torch.bool)
    chosen[rows] = True
    kept = chosen[effects.prompt]
    sums = torch.zeros(effects.n_features, dtype=torch.float64)
    return sums.index_add(0, effects.feature[kept], effects.value[kept].double()) / len(rows)


def _some(decomposed: DecomposedTask, rows: Int[Tensor, " R"], checkpoint: int) -> tuple[Prompts, Decomposition]:
    """Some of a task's prompts, and their decomposition at a checkpoint."""
    prompts, whole = decomposed.prompts, decomposed.clean[checkpoint]
    kept = torch.zeros(len(prompts), dtype=torch.bool)
    kept[rows] = True
    tokens = kept[prompts.sequence_of_token].nonzero().squeeze(1)
    numbers = kept.nonzero().squeeze(1).tolist()
    ids, right, wrong = ([each[row] for row in numbers] for each in (prompts.ids, prompts.right, prompts.wrong))
    return Prompts(ids, right, wrong), replace(whole, x=whole.x[tokens], codes=whole.codes.rows(tokens))


def _controls(
    decomposed: DecomposedTask,
    crosscoder: CrossCoder,
    checkpoint: int,
    features: Sequence[int],
    excluded: Sequence[int],
    draws: int,
    generator: torch.Generator,
) -> dict[str, list[list[int]]]:
    """Sets of as many features as `features`, of those that fire and are not excluded; fewer if there are too few."""
    codes = decomposed.clean[checkpoint].codes
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
    found: Ablation,
    groups: Mapping[str, Sequence[int]],
    controls: Mapping[str, Sequence[Sequence[int]]],
    resamples: int,
    seed: int,
) -> list[dict[str, object]]:
    """The table's rows of one task and checkpoint; ablated were the groups first, then the controls."""
    # Towards the right answer is up.
    change = -found.change.double()
    means, accuracy = change.mean(1), answered_right(found.metric).mean(1)
    clean = answered_right(found.clean).mean().item()
    low, high = bootstrap_interval(change[: len(groups)].T, Bootstrap(resamples, seed))

    def row(
        name: str, n: int, places: slice, bounds: tuple[float, float], p: float = float("nan")
    ) -> dict[str, object]:
        right = accuracy[places].mean().item()
        return {
            "group": name, "n": n, "accuracy": right, "accuracy_change": right - clean,
            "logit_difference_change": means[places].mean().item(), "low": bounds[0], "high": bounds[1], "p": p,
        }  # fmt: skip

    drawn, first = {}, len(groups)
    for name, listed in controls.items():
        drawn[name] = slice(first, first + len(listed))
        first += len(listed)
    rows = []
    for place, (name, features) in enumerate(groups.items()):
        p = float("nan")
        if name == HARMFUL and MATCHED in drawn:
            others = means[drawn[MATCHED]]
            p = (1 + int((others >= means[place]).sum())) / (1 + len(others))
        bounds = low[place].item(), high[place].item()
        rows.append(row(name, len(features), slice(place, place + 1), bounds, p))
    for name, places in drawn.items():
        least, most = np.quantile(means[places].numpy(), [0.025, 0.975])
        rows.append(row(name, len(controls[name][0]), places, (float(least), float(most))))
    return rows
