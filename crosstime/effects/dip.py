"""The result of `explain_dip`: what features that matter at one of two checkpoints do to a task there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crosstime.display import Display
from crosstime.errors import CrosscoderError, RunError

HARMFUL, HELPFUL, BOTH = "harmful", "helpful", "harmful and helpful"
MATCHED, RANDOM = "matched control", "random control"
COLUMNS = (
    "task",
    "group",
    "n",
    "revision",
    "prompts",
    "accuracy",
    "accuracy_change",
    "logit_difference_change",
    "low",
    "high",
    "p",
)
"""Columns of `Dip.table`."""


@dataclass(frozen=True, eq=False, repr=False)
class Dip(Display):
    """The effect of the features that matter at one of two checkpoints on a task there.

    Attributes:
        task: name of the task.
        at: the checkpoint of the dip.
        other: the checkpoint that it is compared with.
        given_up: whether `other` is the later one, so that the features are *discontinued*; otherwise they have
            *emerged*.
        harmful, helpful: features that matter at `at` and hardly at `other`, by the sign of their effect.
        table: one row for each task, group and checkpoint: task, group, n (features), revision, prompts, accuracy,
            accuracy_change, logit_difference_change (right minus wrong, so that up is towards the right answer), low,
            high, p. The row of a control holds the mean over its draws, with the 2.5th and the 97.5th percentile of the
            draws as low and high. p, in the row of the harmful features, is the share of matched draws whose change is
            at least as large.
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
        """Whether ablating the harmful features at `at` helps: the interval is above zero, and p is at most .05."""
        if not self.harmful:
            return False
        row = self.row(HARMFUL)
        return bool(row.low > 0 and row.p <= 0.05)

    def headline(self) -> str:
        """The finding, as `sentence` words it."""
        return self.sentence()

    def tables(self) -> dict[str, pd.DataFrame]:
        """The table of ablations."""
        return {"without these features": self.table}

    def to_dict(self) -> dict[str, Any]:
        """The dip as plain values for JSON; `of` is the inverse."""
        fields = {name: getattr(self, name) for name in ("task", "at", "other", "given_up", "harmful", "helpful")}
        return fields | {"table": self.table.to_dict("records")}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Dip:
        """The dip that `to_dict` turned into plain values.

        Raises:
            RunError: a value is missing, or of another type.
        """
        try:
            table = pd.DataFrame(values["table"], columns=list(COLUMNS))
            table = table.astype(dict.fromkeys(COLUMNS[5:], float) | dict.fromkeys(("n", "prompts"), "int64"))
            return cls(
                task=values["task"],
                at=values["at"],
                other=values["other"],
                given_up=bool(values["given_up"]),
                harmful=tuple(int(feature) for feature in values["harmful"]),
                helpful=tuple(int(feature) for feature in values["helpful"]),
                table=table,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"The record of a dip is damaged: {type(error).__name__}: {error}.") from error

    def row(self, group: str, revision: str | None = None, task: str | None = None) -> pd.Series:
        """One row of the table, by default that of the task and checkpoint of the dip.

        Raises:
            CrosscoderError: the table has no such row.
        """
        rows = self.table[
            (self.table.group == group)
            & (self.table.revision == (revision or self.at))
            & (self.table.task == (task or self.task))
        ]
        if rows.empty:
            raise CrosscoderError(f"The dip has no row for {group!r} at {revision or self.at}.")
        return rows.iloc[0]

    def sentence(self) -> str:
        """The finding in a sentence or two, with its numbers."""
        kind, event = ("discontinued", "dip") if self.given_up else ("emerging", "fall")
        if not self.harmful:
            absence = f"is given up by {self.other}" if self.given_up else f"was absent at {self.other}"
            return (
                f"No feature that does harm on {self.task} at {self.at} {absence}: the {event} is not explained by "
                f"{kind} features."
            )

        # Words and numbers of the finding
        row = self.row(HARMFUL)
        verdict = "explained" if self.explained else "not explained"
        features = f"the {len(self.harmful)} harmful {'feature' if len(self.harmful) == 1 else 'features'}"
        verb = "gives up" if self.given_up else "brings"
        first, last = (self.at, self.other) if self.given_up else (self.other, self.at)

        return (
            f"The {event} on {self.task} at {self.at} is {verdict} by {kind} features: without {features} that "
            f"training {verb} between {first} and {last}, the logit difference moves by "
            f"{row.logit_difference_change:+.2f} [{row.low:+.2f}, {row.high:+.2f}] towards the right "
            f"answer, and accuracy goes from {row.accuracy - row.accuracy_change:.2f} to {row.accuracy:.2f}; "
            f"{self._comparison(row)}, on {int(row.prompts)} prompts that were not used to choose the features."
        )

    def _comparison(self, row: pd.Series) -> str:
        """The clause that compares the harmful features with the matched control."""
        if row.p != row.p:
            return "too few other features fire for a control"
        control = self.row(MATCHED)
        return (
            f"without as many matched ones it moves by {control.logit_difference_change:+.2f} "
            f"[{control.low:+.2f}, {control.high:+.2f}] (p = {row.p:.3g})"
        )
