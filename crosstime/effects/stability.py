"""Would the strongest features be the same under another choice that an experimenter could have made?

Given the effects of a crosscoder's features on a task, `effect_stability` compares the k features with the largest |IE|
at each checkpoint (`top_k_agreement`) with those under other choices:

1. **Prompts.** *resampled*: on prompts that are drawn with replacement, against all prompts. *halves*: on one random
   half of the prompts, against the other half. Resampled prompts repeat those that they are compared with, so that
   their agreement is an upper bound; halves share no prompt, but have half as many.
2. **Templates.** The prompts with one value of a label of the task's pairs, such as ``template=3``, against all others.
3. **Metric, baseline, estimator, dtype.** The effects are computed again, on at most `prompts` prompts, with one option
   changed, and compared with the effects as configured on the same prompts.

Intervals are percentiles over resampled prompts (of halves: over random splits), with the same resamples on both sides
where the prompts are the same.

Sources: arXiv 2505.20254 and 2510.00845 for the instability of features and of effects; the comparisons are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from crosstime.crosscoders.decompose import TaskInput
from crosstime.crosscoders.dictionary import Dictionary
from crosstime.crosscoders.open_crosscoder import DictionarySource, as_crosscoder
from crosstime.crosscoders.training_setting import trained_checkpoints
from crosstime.effects.attribute import attribute
from crosstime.effects.attribution import Attribution
from crosstime.effects.least_prompts import LEAST_PROMPTS
from crosstime.effects.refuse_missing_gradients import refuse_missing_gradients
from crosstime.effects.stability_options import (
    BASELINE,
    DTYPE,
    ESTIMATOR,
    METRIC,
    PROMPTS,
    REPEATED,
    TEMPLATES,
    Stability,
)
from crosstime.effects.top_k_agreement import top_k_agreement
from crosstime.errors import CrosscoderError
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, Estimator, interval
from interventions.bootstrap import resample_counts
from interventions.metrics import metric_named
from interventions.option_names import BASELINES, METRIC_NAMES

RESAMPLED, HALVES = "resampled", "halves"
"""The two comparisons over prompts."""
COLUMNS = (
    "task",
    "comparison",
    "variant",
    "revision",
    "k",
    *(f"{name}{end}" for name in ("jaccard", "kendall") for end in ("", "_low", "_high")),
    "n_prompts",
)
"""Columns of `effect_stability`."""
MOST_VALUES = 12
"""Values of a label up to which it names templates; one of more values names single prompts."""


def effect_stability(
    suite: Suite,
    crosscoder: DictionarySource,
    task: TaskInput | Attribution,
    estimator: Estimator = Estimator(),
    *,
    stability: Stability = Stability(),
    bootstrap: Bootstrap = Bootstrap(resamples=200),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Measure whether the features with the largest effects are the same under other prompts and options.

    The comparisons are described at the head of this module.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, its path or repository, or another `Dictionary`.
        task: a task in any form, its name, or its `Attribution` by this estimator, which saves computing the effects
            again.
        estimator: the effects as configured; of each other option, one is changed at a time.
        stability: what is compared, k, and the number of prompts.
        bootstrap: of the intervals over prompts; its seed is also that of the splits, of the prompts on which effects
            are computed again, and of the baseline ``resample``.
        compute: where and how the checkpoints run.

    Returns:
        One row for each comparison, variant and checkpoint: task, comparison, variant, revision, k, jaccard and
        kendall, each with _low and _high, and n_prompts. Of ``resampled`` and ``halves``, the values are means over
        resamples and splits; of all others, those on the prompts as they are. A task without labels has no rows of
        templates, and one without patch prompts none of the baseline ``patch``.

    Raises:
        CrosscoderError: fewer than four prompts, a crosscoder that does not fit the suite, another dtype on a server,
            or other estimators on a server without gradients.
        CrosstimeError: an effect is NaN.

    Examples:
        >>> table = effect_stability(suite, crosscoder, attribution)  # doctest: +SKIP
        >>> table.groupby(["comparison", "variant"]).jaccard.min()  # doctest: +SKIP

    Source: arXiv 2505.20254 and 2510.00845 for the question; the comparisons are ours.
    """
    crosscoder = as_crosscoder(crosscoder)
    if DTYPE in stability.comparisons and compute.hosted:
        raise CrosscoderError("A server has one dtype, so that effects cannot be compared over dtypes there.")
    refuse_missing_gradients(trained_checkpoints(suite, crosscoder), compute, estimator, stability.comparisons)
    attribution = (
        task
        if isinstance(task, Attribution)
        else attribute(suite, crosscoder, task, estimator, seed=bootstrap.seed, compute=compute)
    )
    n_prompts = len(attribution.decomposed.prompts)
    if n_prompts < LEAST_PROMPTS:
        raise CrosscoderError(
            f"Task {attribution.task} has {n_prompts} prompts; the stability of effects needs at least {LEAST_PROMPTS}."
        )

    # Other prompts and templates, from the effects as they are
    samples: list[_Sample] = []
    if PROMPTS in stability.comparisons:
        samples += [_resampled(attribution, bootstrap), _halves(attribution, bootstrap)]
    if TEMPLATES in stability.comparisons:
        samples += _templates(attribution, bootstrap)

    # Other options, on some prompts
    variants = [name for name in stability.comparisons if name in REPEATED]
    if variants:
        generator = torch.Generator().manual_seed(bootstrap.seed)
        rows = torch.randperm(n_prompts, generator=generator)[: stability.prompts].sort().values.tolist()
        experiment = _Experiment(suite, crosscoder, estimator, bootstrap, compute)
        samples += _variants(experiment, attribution, rows, variants)

    tables = [_table(attribution, sample, stability.k, bootstrap) for sample in samples]
    columns = list(COLUMNS)
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


@dataclass(frozen=True, eq=False)
class _Experiment:
    """With what the effects are computed again."""

    suite: Suite
    crosscoder: Dictionary
    estimator: Estimator
    bootstrap: Bootstrap
    compute: Compute


@dataclass(frozen=True, eq=False)
class _Sample:
    """Two attributions that are compared, and the weights of their prompts in each resample.

    Attributes:
        comparison, variant: names in the table.
        first, second: the effects.
        first_weights, second_weights: one row for each resample; a row adds up to 1.
        own_value: whether the effects of all prompts are compared for the value itself, rather than the mean over
            resamples.
    """

    comparison: str
    variant: str
    first: Attribution
    second: Attribution
    first_weights: Float[np.ndarray, "R P"]
    second_weights: Float[np.ndarray, "R Q"]
    own_value: bool = True


def _draws(n_prompts: int, bootstrap: Bootstrap, *, stream: int = 0) -> Float[np.ndarray, "R P"]:
    """Weights of the prompts in resamples with replacement; another stream gives independent ones."""
    return resample_counts(n_prompts, bootstrap, stream=stream) / n_prompts


def _resampled(attribution: Attribution, bootstrap: Bootstrap) -> _Sample:
    """Resampled prompts against all prompts."""
    n_prompts = len(attribution.decomposed.prompts)
    everything = np.full((bootstrap.resamples, n_prompts), 1 / n_prompts)
    draws = _draws(n_prompts, bootstrap)
    return _Sample(PROMPTS, RESAMPLED, attribution, attribution, everything, draws, own_value=False)


def _halves(attribution: Attribution, bootstrap: Bootstrap) -> _Sample:
    """One half of the prompts against the other, for random splits."""
    n_prompts = len(attribution.decomposed.prompts)
    generator = np.random.default_rng([bootstrap.seed, 1])
    order = np.argsort(generator.random((bootstrap.resamples, n_prompts)), axis=1)
    first = (order < n_prompts // 2).astype(float)
    second = 1 - first
    first, second = first / first.sum(1, keepdims=True), second / second.sum(1, keepdims=True)
    return _Sample(PROMPTS, HALVES, attribution, attribution, first, second, own_value=False)


def _templates(attribution: Attribution, bootstrap: Bootstrap) -> Iterator[_Sample]:
    """The prompts with one value of a label, against all others."""
    pairs = attribution.decomposed.task.pairs
    splits: set[frozenset[tuple[int, ...]]] = set()
    for label in sorted({label for pair in pairs for label in pair.labels}):
        values = [pair.labels.get(label) for pair in pairs]
        distinct = sorted({value for value in values if value is not None})
        if not 2 <= len(distinct) <= MOST_VALUES:
            continue
        for value in distinct:
            own = [row for row, other in enumerate(values) if other == value]
            others = [row for row, other in enumerate(values) if other != value]
            # The second of two values, and a label that says the same as another, split the prompts as before
            split = frozenset((tuple(own), tuple(others)))
            if min(len(own), len(others)) < LEAST_PROMPTS or split in splits:
                continue
            splits.add(split)
            yield _Sample(
                TEMPLATES,
                f"{label}={value}",
                attribution.select(others),
                attribution.select(own),
                _draws(len(others), bootstrap),
                _draws(len(own), bootstrap, stream=1),
            )


def _variants(
    experiment: _Experiment, attribution: Attribution, rows: Sequence[int], comparisons: Sequence[str]
) -> Iterator[_Sample]:
    """The effects with one option changed, against those as configured, on the same prompts."""
    bootstrap = experiment.bootstrap
    estimator = replace(experiment.estimator, method=attribution.effects[0].method)
    subset = attribution.select(rows)

    def effects(changed: Estimator, dtype: str | None = None) -> Attribution:
        compute = experiment.compute
        # In another dtype the activations are others too
        task = subset.decomposed if dtype is None else subset.decomposed.task
        if dtype is not None:
            compute = Compute(
                compute.device, dtype, compute.max_tokens, compute.remote, resident_gb=compute.resident_gb
            )
        return attribute(experiment.suite, experiment.crosscoder, task, changed, seed=bootstrap.seed, compute=compute)

    # A baseline that is made of all prompts is another one on some of them
    whole = len(rows) == len(attribution.decomposed.prompts)
    reference = subset if whole or estimator.baseline in ("zero", "patch") else effects(estimator)
    draws = _draws(len(rows), bootstrap)
    for comparison in comparisons:
        if comparison == DTYPE:
            dtype = "bfloat16" if experiment.compute.dtype == "float32" else "float32"
            yield _Sample(DTYPE, dtype, reference, effects(estimator, dtype), draws, draws)
            continue
        has_patch = subset.decomposed.patched is not None
        for variant, changed in _estimators(estimator, comparison, has_patch=has_patch).items():
            yield _Sample(comparison, variant, reference, effects(changed), draws, draws)


def _estimators(estimator: Estimator, comparison: str, *, has_patch: bool) -> dict[str, Estimator]:
    """The estimators with one option changed, by what is changed.

    Args:
        estimator: the effects as configured, with a method.
        comparison: metric, baseline or estimator.
        has_patch: whether the task has patch prompts.
    """
    if comparison == METRIC:
        own_metric = metric_named(estimator.metric).name
        return {name: replace(estimator, metric=name) for name in METRIC_NAMES if name != own_metric}
    if comparison == BASELINE:
        names = [name for name in BASELINES if name != estimator.baseline and (has_patch or name != "patch")]
        return {name: replace(estimator, baseline=name) for name in names}
    if comparison != ESTIMATOR:
        raise CrosscoderError(f"{comparison} is no option of an estimator.")
    changed = {
        "atp": replace(estimator, method="atp"),
        "ig, gauss-legendre, 6 nodes": replace(estimator, method="ig", quadrature="gauss-legendre", steps=6),
        "ig, left, 10 nodes": replace(estimator, method="ig", quadrature="left", steps=10),
    }
    # One gradient at the clean state is the same, whatever the quadrature
    own = changed["atp"] if estimator.method == "atp" else estimator
    return {name: other for name, other in changed.items() if other != own}


def _table(attribution: Attribution, sample: _Sample, k: int, bootstrap: Bootstrap) -> pd.DataFrame:
    """One row for each checkpoint."""
    rows = []
    for c, revision in enumerate(attribution.revisions):
        # Effects of every feature that has one, prompt by prompt
        first, second = sample.first.effects[c], sample.second.effects[c]
        features = torch.unique(torch.cat([first.feature, second.feature])).tolist()
        per_prompt = [effects.per_prompt(features).numpy() for effects in (first, second)]

        # Agreement on each resample, and on the prompts as they are
        resampled = [
            weights @ values
            for weights, values in zip((sample.first_weights, sample.second_weights), per_prompt, strict=True)
        ]
        agreement = np.array([top_k_agreement(a, b, k) for a, b in zip(*resampled, strict=True)])
        values = (
            np.array(top_k_agreement(per_prompt[0].mean(0), per_prompt[1].mean(0), k))
            if sample.own_value
            else np.array([_nan_mean(column) for column in agreement.T])
        )
        row: dict[str, object] = {
            "task": attribution.task,
            "comparison": sample.comparison,
            "variant": sample.variant,
            "revision": revision,
            "k": k,
            "n_prompts": sample.second_weights.shape[1],
        }
        lows, highs = interval(torch.from_numpy(agreement), bootstrap)
        for name, value, low, high in zip(("jaccard", "kendall"), values, lows, highs, strict=True):
            row |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)


def _nan_mean(values: Float[np.ndarray, " R"]) -> float:
    """Mean of the numbers that are known; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
