"""What a crosscoder adds to simpler dictionaries: all of them on the same axes.

Given a crosscoder, baselines of the same checkpoints and site, and a task, `baselines` works as follows:

1. **Two halves.** Split the prompts at random. The first half ranks the features, the second half tests them.
2. **Effects.** Estimate the indirect effect of every feature of every dictionary, and of its error term, as all of them
   move to one state: the mean over the task's tokens, which is the same activation for every dictionary.
3. **Ranking.** At each checkpoint, rank the features of each dictionary by |IE| on the first half.
4. **Curves.** On the second half, keep the top n features alone at their own activations, and everything else, the
   error term included, at the mean: `faithfulness`. Set the top n features alone to the mean: `completeness`.
   ``effect share(n) = sum of |IE| of the top n / (sum of |IE| of all features + |IE| of the error term)``.
5. **Areas.** CPR and CMD of each faithfulness curve (`crosstime.effects.circuit_areas`), and the differences between
   the crosscoder and the baseline, on the same resamples of the prompts.

Sources: Mueller et al. 2025, MIB (arXiv 2504.13151), in which features of sparse autoencoders are no better than
neurons; Marks et al. 2024 (arXiv 2403.19647), section 3.2, for the curves. The two halves are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstime.crosscoders.baselines.decompose_by import decompose_by
from crosstime.crosscoders.decompose import DecomposedTask, TaskInput, prepare_task
from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.open_crosscoder import DictionarySource, as_crosscoder
from crosstime.crosscoders.select_prompts import select_prompts
from crosstime.effects.circuit_areas import areas
from crosstime.effects.halves import halves, mean_effect
from crosstime.errors import CrosscoderError
from crosstime.machine.long_table import long_table
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import (
    Bootstrap,
    Circuit,
    Effects,
    Estimator,
    Model,
    circuit,
    indirect_effects,
    interval,
    resampled_means,
)
from interventions.baselines import Baseline
from interventions.circuit import SIZES
from interventions.metrics import answered_right

CROSSCODER = "crosscoder"
"""Name of the crosscoder among the dictionaries."""
SHARES = ("faithfulness", "completeness")
AREAS = ("cpr", "cmd")
COLUMNS = (
    "task",
    "revision",
    "dictionary",
    "size",
    "l0",
    "n",
    "effect_share",
    *(f"{share}{end}" for share in SHARES for end in ("", "_low", "_high")),
    "accuracy_kept",
    "accuracy_ablated",
    *(f"{area}{end}" for area in AREAS for end in ("", "_low", "_high")),
    *(f"{area}_difference{end}" for area in AREAS for end in ("", "_low", "_high")),
)
"""Columns of the table of `baselines`."""


def baselines(
    suite: Suite,
    crosscoder: DictionarySource,
    task: TaskInput,
    dictionaries: Mapping[str, Dictionary],
    *,
    sizes: Sequence[int] = SIZES,
    estimator: Estimator = Estimator(baseline="mean"),
    bootstrap: Bootstrap = Bootstrap(resamples=2_000),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Compare a crosscoder with other dictionaries: how few features carry how much of a task, at each checkpoint.

    The steps are described at the head of this module.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the crosscoder, or its path or repository.
        task: a task in any form, of at least four prompts.
        dictionaries: by name, as `baseline_dictionaries` returns them.
        sizes: the n, in ascending order; the largest is the upper end of the areas. A dictionary with fewer features
            stays at its last value.
        estimator: of the effects by which features are ranked; its baseline is the state of features that are not
            kept. Effects are summed over positions, whatever its aggregation.
        bootstrap: of the intervals over prompts; its seed is also that of the halves.
        compute: where and how the checkpoints run.

    Returns:
        One row for each checkpoint, dictionary (``crosscoder`` first) and n: task, revision, dictionary, size (its
        features), l0 (how many of them fire on a token), n, effect_share; faithfulness and completeness with _low
        and _high; accuracy_kept (with the n features alone), accuracy_ablated (without them); cpr and cmd with _low and
        _high; and cpr_difference and cmd_difference, crosscoder minus dictionary, with _low and _high. The areas are
        those of the whole curve, the same for all n. A dictionary without any effect at a checkpoint has no row there.

    Raises:
        CrosscoderError: a dictionary does not fit the crosscoder or is named ``crosscoder``, there is none, the sizes
            are not ascending, the baseline is not given by name, or there are fewer than four prompts.
        EmptyTaskError: no pair is left after tokenization.

    Examples:
        >>> dictionaries = baseline_dictionaries(suite, crosscoder, "held-out.txt.gz")  # doctest: +SKIP
        >>> table = baselines(suite, crosscoder, task, dictionaries)  # doctest: +SKIP
        >>> table.drop_duplicates(["revision", "dictionary"])[["revision", "dictionary", "cpr"]]  # doctest: +SKIP
    """
    crosscoder = as_crosscoder(crosscoder)
    sizes = _checked(crosscoder, dictionaries, sizes)
    if isinstance(estimator.baseline, Baseline):
        raise CrosscoderError("The baseline of a comparison is given by name, because every dictionary has its own.")
    checkpoints, decomposed = prepare_task(suite, crosscoder, task, compute, baseline=estimator.baseline)

    # Split the prompts, and measure every dictionary on them at each checkpoint, which is opened once
    selection, held_out = halves(decomposed, None, torch.Generator().manual_seed(bootstrap.seed))
    measurement = _Measurement(decomposed, selection, held_out, sizes, estimator, bootstrap)
    every = {CROSSCODER: crosscoder, **dictionaries}
    with track(f"Baselines on {decomposed.task.name}", len(checkpoints) * len(every)) as bar:

        def curves_at(index: int, model: Model) -> dict[str, _Curve]:
            curves: dict[str, _Curve] = {}
            for name, dictionary in every.items():
                bar.note(f"{name} at {checkpoints.revisions[index]}")
                curve = measurement.curve(model, index, dictionary)
                if curve is not None:
                    curves[name] = curve
                bar.advance()
            return curves

        curves_by_checkpoint = compute.each(checkpoints, curves_at)

    # Summarize them, checkpoint by checkpoint
    tables = []
    for revision, curves in zip(checkpoints.revisions, curves_by_checkpoint, strict=True):
        for name, curve in curves.items():
            axes = {"task": decomposed.task.name, "revision": revision, "dictionary": name}
            tables.append(_table(axes, curve, sizes, curves.get(CROSSCODER), bootstrap))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


@dataclass(frozen=True, eq=False)
class _Curve:
    """The curve of one dictionary at one checkpoint.

    Attributes:
        n_features: F.
        l0: features that fire on a token of the task.
        circuit: the metric of the held-out prompts with and without n features, for those n that the dictionary has.
        rows: the row of the circuit that stands for each n that is asked for.
        effect_shares: share of these n features in all effects.
        areas: CPR and CMD of the means, and of each resample of the prompts.
    """

    n_features: int
    l0: float
    circuit: Circuit
    rows: Sequence[int]
    effect_shares: Float[Tensor, " N"]
    areas: Float[Tensor, " 2"]
    resampled_areas: Float[Tensor, "R 2"]


def _checked(crosscoder: Dictionary, dictionaries: Mapping[str, Dictionary], sizes: Sequence[int]) -> list[int]:
    """The sizes, after everything that can be refused before a model runs."""
    if not dictionaries or CROSSCODER in dictionaries:
        raise CrosscoderError(f"A comparison needs at least one dictionary, none of them named {CROSSCODER!r}.")
    for name, dictionary in dictionaries.items():
        own, origin = dictionary.origin, crosscoder.origin
        if (own.revisions, own.site, own.d_model) != (origin.revisions, origin.site, origin.d_model):
            raise CrosscoderError(
                f"Dictionary {name!r} is for {', '.join(own.revisions)} at {own.site}, width {own.d_model}, and the "
                f"crosscoder for {', '.join(origin.revisions)} at {origin.site}, width {origin.d_model}."
            )
    if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        raise CrosscoderError(f"The sizes must be ascending whole numbers of at least 1, not {list(sizes)}.")
    return list(sizes)


@dataclass(frozen=True, eq=False)
class _Measurement:
    """How every dictionary is measured on a task.

    Attributes:
        decomposed: the task, in the crosscoder's features.
        selection, held_out: the prompts that rank the features, and those that test them.
        sizes: the n.
        estimator, bootstrap: see `baselines`.
    """

    decomposed: DecomposedTask
    selection: Int[Tensor, " R"]
    held_out: Int[Tensor, " S"]
    sizes: Sequence[int]
    estimator: Estimator
    bootstrap: Bootstrap

    def curve(self, model: Model, index: int, dictionary: Dictionary) -> _Curve | None:
        """The curve of a dictionary at one checkpoint; None if none of its features has an effect there.

        The task is decomposed again at each checkpoint, so that the codes of one dictionary are in memory at a time.
        """
        own, site = decompose_by(dictionary, self.decomposed), dictionary.origin.site
        clean, seed, baseline = own.clean[index], self.bootstrap.seed, str(self.estimator.baseline)

        # Rank the features with an effect on one half of the prompts
        state = own.baseline(baseline, index, seed=seed)
        effects = indirect_effects(model, own.prompts, site, clean, replace(self.estimator, baseline=state))
        size = mean_effect(effects, self.selection).abs()
        order = torch.argsort(size, descending=True, stable=True)[: self.sizes[-1]]
        ranked = order[size[order] > 0].tolist()
        if not ranked:
            return None

        # Restore and ablate them on the other half; all features stand for a size that the dictionary does not have
        half = select_prompts(own, self.held_out.tolist())
        available = [min(n, len(ranked)) for n in self.sizes]
        measured = circuit(
            model,
            half.prompts,
            site,
            half.clean[index],
            ranked,
            sizes=list(dict.fromkeys(available)),
            baseline=half.baseline(baseline, index, seed=seed),
            keep_error=False,
        )
        exact, resampled = _areas(measured, self.sizes[-1], self.bootstrap)
        return _Curve(
            n_features=dictionary.n_features,
            l0=clean.codes.l0,
            circuit=measured,
            rows=[measured.sizes.index(n) for n in available],
            effect_shares=_effect_shares(effects, ranked, available, self.held_out),
            areas=exact,
            resampled_areas=resampled,
        )


def _effect_shares(
    effects: Effects, ranked: Sequence[int], sizes: Sequence[int], rows: Int[Tensor, " S"]
) -> Float[Tensor, " N"]:
    """Share of the first n ranked features in the sum of |IE| over all features and the error term."""
    size = mean_effect(effects, rows).abs()
    total = size.sum() + effects.error[rows].double().mean().abs()
    return size[list(ranked)].cumsum(0)[torch.tensor(sizes) - 1] / total


def _areas(result: Circuit, largest: int, bootstrap: Bootstrap) -> tuple[Float[Tensor, " 2"], Float[Tensor, "R 2"]]:
    """CPR and CMD of the means over prompts, and of each resample; all dictionaries share the resamples."""
    states = torch.stack([*result.kept, result.empty, result.full], 1)

    def of_means(means: Float[Tensor, "R G"]) -> Float[Tensor, "R 2"]:
        return areas(result.sizes, _shares(means), largest)

    return of_means(states.double().mean(0, keepdim=True))[0], of_means(resampled_means(states, bootstrap))


def _shares(means: Float[Tensor, "R H"]) -> Float[Tensor, "R G"]:
    """``(m(state) - m(none)) / (m(all) - m(none))`` of G states, whose last two columns are none and all."""
    none, whole = means[:, -2:-1], means[:, -1:]
    return (means[:, :-2] - none) / (whole - none)


def _table(
    axes: Mapping[str, str], curve: _Curve, sizes: Sequence[int], crosscoder: _Curve | None, bootstrap: Bootstrap
) -> pd.DataFrame:
    """Rows of one dictionary at one checkpoint, whose names are `axes`."""
    # Shares of the metric, with intervals over prompts
    result, rows = curve.circuit, list(curve.rows)
    values: dict[str, Tensor] = {"effect_share": curve.effect_shares}
    for column, states in zip(SHARES, (result.kept, result.ablated), strict=True):
        columns = torch.stack([*states, result.empty, result.full], 1)
        low, high = interval(_shares(resampled_means(columns, bootstrap)), bootstrap)
        values[column] = _shares(columns.double().mean(0, keepdim=True))[0][rows]
        values[f"{column}_low"], values[f"{column}_high"] = low[rows], high[rows]
    values["accuracy_kept"] = answered_right(result.kept).mean(1).double()[rows]
    values["accuracy_ablated"] = answered_right(result.ablated).mean(1).double()[rows]

    # Areas, and how much larger those of the crosscoder are
    values |= _with_interval(AREAS, curve.areas, curve.resampled_areas, bootstrap)
    names = [f"{area}_difference" for area in AREAS]
    missing = torch.full((1, 2), torch.nan, dtype=torch.float64)
    difference = missing[0] if crosscoder is None else crosscoder.areas - curve.areas
    resampled = missing if crosscoder is None else crosscoder.resampled_areas - curve.resampled_areas
    values |= _with_interval(names, difference, resampled, bootstrap)

    labels = {column: [name] for column, name in axes.items()}
    table = long_table({**labels, "size": [curve.n_features], "l0": [curve.l0], "n": sizes}, values)
    return table[list(COLUMNS)]


def _with_interval(
    names: Sequence[str], values: Float[Tensor, " 2"], resampled: Float[Tensor, "R 2"], bootstrap: Bootstrap
) -> dict[str, Tensor]:
    """Columns of two numbers and their bounds."""
    low, high = interval(resampled, bootstrap)
    columns: dict[str, Tensor] = {}
    for index, name in enumerate(names):
        columns |= {name: values[index], f"{name}_low": low[index], f"{name}_high": high[index]}
    return columns
