"""The result of `attribute`: indirect effects of a crosscoder's features on one task, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.crosscoders.select_prompts import select_prompts
from crosstime.display import Display
from crosstime.effects.halves import halves
from crosstime.effects.relie import ABSENT, SPECIFIC, classify, relative
from crosstime.effects.select_top import select_top
from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table
from interventions import Aggregation, Bootstrap, Effects, bootstrap_interval, interval, resampled_means

ERROR_TERM = -1
"""Number of the error term in the column of features."""


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Display):
    """Indirect effects of a crosscoder's features on one task, at each checkpoint.

    Attributes:
        task: name of the task.
        revisions: names of the C checkpoints.
        effects: indirect effects at each checkpoint.
        decoder_norms: norm of each feature's decoder direction at each checkpoint, on the scale of training.
        decomposed: the decomposed prompts, from which ablations and contexts are made without reading activations
            again.

    Examples:
        >>> attribution = ct.attribute(suite, crosscoder, "agreement/simple")  # doctest: +SKIP
        >>> attribution.table(attribution.top(10))  # doctest: +SKIP
    """

    task: str
    revisions: tuple[str, ...]
    effects: tuple[Effects, ...]
    decoder_norms: Float[Tensor, "C F"]
    decomposed: DecomposedTask

    def ie(self, aggregation: str | Aggregation | None = None) -> Float[Tensor, "C F"]:
        """Indirect effect of every feature at every checkpoint, aggregated as the estimator says or as given here.

        See `interventions.Aggregation`.
        """
        return torch.stack([effects.per_feature(aggregation) for effects in self.effects])

    def per_prompt(self, features: Sequence[int]) -> Float[Tensor, "P K C"]:
        """Indirect effect of each of K features on each prompt at every checkpoint; the mean over prompts is `ie`.

        Raises:
            FeatureError: a feature that does not exist.
        """
        return torch.stack([effects.per_prompt(features) for effects in self.effects], -1)

    def relie(self, *, undefined: float = float("nan")) -> Float[Tensor, "F C"]:
        """RelIE, one checkpoint against all: ``|IE_c| / sum_c' |IE_c'|``; `undefined` is the value of 0/0."""
        return relative(self.ie().T, undefined=undefined)

    def reldec(self) -> Float[Tensor, "F C"]:
        """RelDec, the same share of decoder norms."""
        return relative(self.decoder_norms.T)

    def select(self, rows: Sequence[int]) -> Attribution:
        """The effects on some of the prompts, and the decomposition of these, as if they were the whole task.

        Raises:
            CrosscoderError: no prompt is selected, or one that does not exist.
        """
        decomposed = select_prompts(self.decomposed, rows)
        return replace(self, effects=tuple(effects.select(rows) for effects in self.effects), decomposed=decomposed)

    def halves(self, *, seed: int = 0) -> tuple[Attribution, Attribution]:
        """Two random halves of the prompts: one to select features on, the other to test and to show them on.

        A feature that is selected because its effect is large has an effect on the same prompts that is too large, its
        share of noise included. On other prompts of the same task it has not. `explain_dip` and the stages of a run
        split in the same way, by the same seed.

        Args:
            seed: of the split.

        Returns:
            The effects on the prompts of the selection, and those on the prompts of the test, each in the task's order.

        Raises:
            CrosscoderError: there are fewer than four prompts.

        Examples:
            >>> selection, held_out = attribution.halves()  # doctest: +SKIP
            >>> held_out.table(selection.top(10))  # doctest: +SKIP
            >>> ct.ablate(suite, crosscoder, held_out.decomposed, selection.top(10))  # doctest: +SKIP
        """
        selection, held_out = halves(self.decomposed, None, torch.Generator().manual_seed(seed))
        return self.select(selection.sort().values.tolist()), self.select(held_out.tolist())

    def selection_and_test(self, *, halves: bool, seed: int = 0) -> tuple[Attribution, Attribution]:
        """The effects by which features are selected, and those that are shown: two `halves`, or twice all prompts."""
        return self.halves(seed=seed) if halves else (self, self)

    def top(self, k: int = 10, *, by: str = "magnitude") -> list[int]:
        """Union over checkpoints of the k features with the largest effects at each; see `select_top`."""
        return select_top(self.ie(), k, by=by)

    def table(
        self,
        features: Sequence[int] | None = None,
        *,
        bootstrap: Bootstrap = Bootstrap(),
        absent: float = ABSENT,
        specific: float = SPECIFIC,
        undefined: float = float("nan"),
    ) -> pd.DataFrame:
        """Make a table of effects with bootstrap intervals over prompts.

        Args:
            features: the features to list; by default those of `top`, which are then selected on the prompts on which
                they are shown; see `halves`.
            bootstrap: of the intervals. Checkpoints share their resamples, since they share their prompts.
            absent, specific: thresholds of the classes, see `crosstime.effects.relie.classify`.
            undefined: RelIE of a feature without any effect, 0/0; CTT's code writes .5.

        Returns:
            One row for each feature and checkpoint: task, feature, revision, ie, low, high, relie, relie_low,
            relie_high, reldec, decoder_norm, class_ie (by RelIE), class_dec (by RelDec).

        Raises:
            CrosscoderError: there are no features to list, or a feature does not exist.

        Examples:
            >>> attribution.table([3, 17], bootstrap=Bootstrap(resamples=1_000))  # doctest: +SKIP
        """
        selected = list(dict.fromkeys(self.top() if features is None else features))
        n_features = self.decoder_norms.shape[1]
        for feature in selected:
            if not 0 <= feature < n_features:
                raise CrosscoderError(f"There is no feature {feature}: the crosscoder has 0 to {n_features - 1}.")
        if not selected:
            raise CrosscoderError(f"No feature has an effect on {self.task}, so there is nothing to put in a table.")

        # Effects and RelIE with their intervals
        per_prompt = self.per_prompt(selected)
        resampled = resampled_means(per_prompt, bootstrap)
        ie = per_prompt.mean(0)
        low, high = interval(resampled, bootstrap)
        relie = relative(ie, undefined=undefined)
        relie_low, relie_high = interval(relative(resampled, undefined=undefined), bootstrap)

        # Classes of the features, by effects and by decoder norms
        reldec = self.reldec()[selected]
        class_ie = classify(relie, self.revisions, absent=absent, specific=specific)
        class_dec = classify(reldec, self.revisions, absent=absent, specific=specific)

        return long_table(
            {"task": [self.task], "feature": selected, "revision": self.revisions},
            {
                "ie": ie,
                "low": low,
                "high": high,
                "relie": relie,
                "relie_low": relie_low,
                "relie_high": relie_high,
                "reldec": reldec.double(),
                "decoder_norm": self.decoder_norms.T[selected].double(),
                "class_ie": np.array(class_ie)[:, None],
                "class_dec": np.array(class_dec)[:, None],
            },
        )

    def error_table(self, *, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
        """Make a table of the error term's effects: the part that the crosscoder's features leave unexplained.

        Args:
            bootstrap: of the intervals over prompts.

        Returns:
            One row for each checkpoint: task, feature (`ERROR_TERM`), revision, ie, low, high.
        """
        means = [effects.error.mean().double() for effects in self.effects]
        bounds = [bootstrap_interval(effects.error, bootstrap) for effects in self.effects]
        return long_table(
            {"task": [self.task], "feature": [ERROR_TERM], "revision": self.revisions},
            {
                "ie": torch.stack(means),
                "low": torch.stack([low for low, _ in bounds]),
                "high": torch.stack([high for _, high in bounds]),
            },
        )

    def completeness(self) -> dict[str, float]:
        """Relative completeness error at each checkpoint; see `Effects.completeness_error`."""
        return {
            revision: effects.completeness_error()
            for revision, effects in zip(self.revisions, self.effects, strict=True)
        }

    def headline(self) -> str:
        """The task, the checkpoints, and the largest completeness error."""
        return (
            f"effects of {self.decoder_norms.shape[1]:,} features on {len(self.decomposed.prompts):,} prompts of "
            f"{self.task} at {', '.join(self.revisions)}; completeness error at most "
            f"{max(self.completeness().values()):.2%}"
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """Tables of the features with the largest effects, and of the error term."""
        top = self.top()
        strongest = {"the strongest features": self.table(top)} if top else {}
        return strongest | {"the error term": self.error_table()}
