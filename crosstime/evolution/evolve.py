"""Features over training: all temporal tables of a crosscoder and its effects at once.

Given a crosscoder of C checkpoints, its effects on some tasks, and text, `evolve` works as follows. Steps 1 and 2 read
the weights alone, steps 3 to 6 the effects, steps 7 to 10 text.

1. **Decoders.** A feature is *present* at a checkpoint where the norm of its decoder direction is at least a fraction
   (3/7) of its maximum. Onset, peak, persistence, rotation and dimensionality of every feature follow from its decoder
   directions at the checkpoints where it is present (`decoder_evolution`).
2. **Life cycles by decoder norm.** The pattern of presence over the checkpoints has a name: emerging, discontinued,
   transient, and so on (`life_cycles`). Its frequency among all features is counted.
3. **Selection.** The features with the largest |IE| at any checkpoint, on any task, are selected (`select_top`); all
   later tables of single features list these.
4. **Life cycles by effect.** For each task, the selected features are named by presence of their effects. Resampled
   prompts say how certain a name is (`life_cycle_support`). Frequencies count, on each task, the features that were
   selected on this task, since the life cycle of a feature that hardly matters is noise.
5. **Pairs.** RelIE and RelDec of every pair of checkpoints (`relative_pairs`).
6. **Specificity.** A permutation test of RelIE, which exchanges the checkpoints within prompts (`specificity_test`).
7. **Scaling.** Whether a feature that is absent by its decoder norm is written by other features, or is part of the
   error, is measured on the activations of the text (`latent_scaling`).
8. **Presence.** Whether a feature is there at a checkpoint, however weak, is tested on the same activations
   (`presence_test`). The life cycles by this test are named and counted: they are the answer to "is it there?", whereas
   those by decoder norm say where a feature is strong.
9. **Absorption.** For each selected feature that ends by this test, it is asked whether a more specific feature writes
   it on (`absorption`).
10. **Kinds.** What a feature responds to (`feature_kinds`), which kinds come first (`onset_by_kind`), and in which
   language it fires (`language_shares`).
11. **Facts.** One row for each selected feature, with the most telling column of each table.

Source: CTT (arXiv 2509.05291) for RelIE and RelDec; EoC (arXiv 2509.17196) for onsets, persistence, rotation and kinds;
Elhage et al. 2022 for dimensionality; Minder et al. (arXiv 2504.02922) for latent scaling; docs/features.md has the
formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import TaskInput, Transform, decompose_text
from crosstime.crosscoders.open_crosscoder import CrosscoderSource, as_crosscoder
from crosstime.effects.attribute import attribute
from crosstime.effects.attribution import Attribution
from crosstime.effects.relie import relative_pairs
from crosstime.effects.select_top import select_top
from crosstime.errors import CrosscoderError
from crosstime.evolution.absorption import absorption
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.evolution.latent_scaling import latent_scaling
from crosstime.evolution.life_cycles import life_cycle_shares, life_cycle_support, life_cycles
from crosstime.evolution.onsets import onset_by_kind
from crosstime.evolution.presence import PRESENT
from crosstime.evolution.presence_lives import last_present_by_test, presence_lives, presence_shares
from crosstime.evolution.specificity_test import specificity_test
from crosstime.features.feature_kinds import feature_kinds
from crosstime.features.language_shares import language_shares
from crosstime.machine.long_table import long_table
from crosstime.report.columns import PRESENCE_TEST
from crosstime.suites.compute import Compute
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Bootstrap
from user_input.nearest import nearest

DECODER = "decoder norm"
"""Source of the life cycles that are named by decoder norms."""
Text = TextSource | Iterable[str]

_COLUMNS = {
    "life_cycle_shares": ("source", "life_cycle", "count", "share", "low", "high"),
    "life_cycles": ("task", "feature", "life_cycle", "label", "first", "last", "support", "strongest"),
    "pairs": ("task", "feature", "revision", "other", "relie", "reldec"),
    "specificity": ("task", "feature", "revision", "relie", "p", "q", "p_max"),
}


@dataclass(frozen=True)
class TextEvidence:
    """Text that shows what features respond to, for `evolve`.

    Attributes:
        corpus: text for latent scaling, the test of presence and kinds of features.
        languages: text of each language by its name, for language specificity.
        sample: how much of each text is read.
        kinds: whether kinds of features and their onsets are among the tables; for these, random and repeated
            sequences are read beside the corpus, three times its number of tokens.
        transform: applied to the activations of the corpus, see `decompose_text`; by default nothing.

    Examples:
        >>> TextEvidence("corpus.txt.gz", sample=TextSample(n_sequences=256)).languages is None
        True
    """

    corpus: Text | None = None
    languages: Mapping[str, Text] | None = None
    sample: TextSample = TextSample()
    kinds: bool = True
    transform: Transform | None = None


def evolve(
    suite: Suite | None,
    crosscoder: CrosscoderSource,
    effects: TaskInput | Sequence[Attribution | TaskInput] | Mapping[str, Float[Tensor, "C F"]] = (),
    *,
    features: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    top: int = 10,
    fraction: float = PRESENT,
    text: TextEvidence | None = None,
    bootstrap: Bootstrap = Bootstrap(resamples=1_000),
    compute: Compute = Compute(),
) -> dict[str, pd.DataFrame]:
    """Make every temporal table of a crosscoder: when features emerge, how long they stay, and how they turn.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder; None if neither text nor tasks are read.
        crosscoder: of C checkpoints in order of training, or of models side by side; or its path or repository.
        effects: on each task, as `attribute` returns them; or a task or tasks in any form, by name for instance, which
            are attributed first, with the defaults of `attribute`; or the indirect effects of F features at C
            checkpoints by the name of the task, in which case everything that needs single prompts (support, intervals,
            tests) is left out or NaN.
        features: features to list in the tables of selected features; by default the union over tasks and checkpoints
            of the `top` features with the largest |IE|. By the name of each task, the features that were selected on
            it: those of ``selection.top()``, where `effects` are ``held_out`` of
            ``selection, held_out = attribution.halves()``. Without that, the tests of features that are selected here
            are on the prompts that selected them, and so biased by the selection.
        top: see `features`.
        fraction: share of its maximum from which a feature counts as present, see `present`.
        text: text to read, for latent scaling, the test of presence, kinds of features and languages.
        bootstrap: of the intervals and the support; its resamples and seed are also those of the permutation tests, and
            its seed that of the random sequences of `feature_kinds`.
        compute: where and how the checkpoints run.

    Returns:
        Tables by name.
        Of all features: ``evolution``, ``rotation``, ``rotation_steps``, ``dimensionality`` (`decoder_evolution`),
        ``life_cycle_shares`` (source, life_cycle, count, share, low, high), and with text ``kinds`` (`feature_kinds`),
        ``onsets`` (`onset_by_kind`) and ``languages`` (`language_shares`).
        Of the selected features: ``life_cycles`` (task, feature, life_cycle, label, first, last, support, strongest:
        whether the feature was selected on this task), ``pairs`` (task, feature, revision, other, relie, reldec: the
        share of `other`, the later one), ``specificity`` (task and the columns of `specificity_test`), with text
        ``scaling`` (`latent_scaling`) and ``presence`` (`presence_lives`), and ``facts``, one row for each feature.
        The sources of ``life_cycle_shares`` are decoder norms (of all features) and, of the selected features, the test
        of presence and the effects on each task. With text, ``absorption`` (`absorption`) has those of the selected
        features that end by the test of presence.

        Of models side by side (`Suite.of`), patterns of sharing take the place of life cycles, ``rotation_steps``,
        ``absorption`` and ``onsets`` have no rows, and what an order gives is missing.

    Raises:
        CrosscoderError: effects of other checkpoints or sizes, a feature that does not exist, or text without a suite.
        CorpusError: a text is missing or too short.

    Examples:
        >>> text = TextEvidence(corpus="corpus.txt.gz")  # doctest: +SKIP
        >>> tables = evolve(suite, crosscoder, [attribution], text=text)  # doctest: +SKIP
        >>> tables["life_cycles"].life_cycle.value_counts()  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291); EoC (arXiv 2509.17196); Minder et al. (arXiv 2504.02922); docs/features.md.
    """
    crosscoder, text = as_crosscoder(crosscoder), text or TextEvidence()
    if suite is None and (text.corpus is not None or text.languages is not None):
        raise CrosscoderError("Text can be read only with the suite whose checkpoints read it.")
    task_effects = _effects_by_task(crosscoder, _attributed(suite, crosscoder, effects, compute))
    selected = _select(crosscoder, task_effects, features, top)
    revisions, norms = crosscoder.origin.revisions, crosscoder.decoder_norms().T
    ordered = crosscoder.origin.ordered

    # Decoders of all features
    tables = decoder_evolution(crosscoder, fraction=fraction)
    shares = [life_cycle_shares(norms, fraction=fraction, ordered=ordered).assign(source=DECODER)]

    # Effects of the selected features, task by task
    lives, pairs, tests = [], [], []
    for task, (mean_effects, attribution) in task_effects.items():
        ie = mean_effects.T[selected].double()
        per_prompt = attribution.per_prompt(selected) if attribution is not None and selected else None
        strongest = _selected_on(task, mean_effects, features, selected, top)
        is_strongest = torch.tensor([feature in strongest for feature in selected], dtype=torch.bool)

        table = life_cycles(ie, revisions, features=selected, fraction=fraction, ordered=ordered)
        table = table.assign(task=task, support=np.nan, strongest=is_strongest.numpy())
        if per_prompt is not None:
            support = life_cycle_support(per_prompt, fraction=fraction, bootstrap=bootstrap)
            table["support"] = support.numpy()
            if len(revisions) > 1 and len(per_prompt) > 1:
                test = specificity_test(
                    per_prompt,
                    revisions,
                    features=selected,
                    permutations=bootstrap.resamples,
                    seed=bootstrap.seed,
                )
                tests.append(test.assign(task=task))
        lives.append(table)
        pairs.append(_pairs_table(task, ie, norms[selected], selected, revisions))

        counted_prompts = None if per_prompt is None else per_prompt[:, is_strongest]
        counts = life_cycle_shares(
            ie[is_strongest], counted_prompts, fraction=fraction, bootstrap=bootstrap, ordered=ordered
        )
        shares.append(counts.assign(source=f"IE: {task}"))

    tables["life_cycle_shares"] = _concatenate("life_cycle_shares", shares)
    tables["life_cycles"] = _concatenate("life_cycles", lives)
    tables["pairs"] = _concatenate("pairs", pairs)
    tables["specificity"] = _concatenate("specificity", tests)

    # Text
    if suite is not None and text.corpus is not None:
        natural = decompose_text(
            suite, crosscoder, text.corpus, sample=text.sample, transform=text.transform, compute=compute
        )
        tables["scaling"] = latent_scaling(crosscoder, natural.decompositions, features=selected, fraction=fraction)
        tables["presence"] = presence_lives(crosscoder, natural, selected)
        by_test = presence_shares(tables["presence"], ordered=ordered).assign(source=PRESENCE_TEST)
        tables["life_cycle_shares"] = _concatenate("life_cycle_shares", [shares[0], by_test, *shares[1:]])
        ends = last_present_by_test(tables["presence"]) if ordered else {}
        tables["absorption"] = absorption(crosscoder, natural.decompositions, parents=ends, fraction=fraction)
        if text.kinds:
            tables["kinds"] = feature_kinds(suite, crosscoder, natural, seed=bootstrap.seed, compute=compute)
            onsets = tables["evolution"] if ordered else tables["evolution"].iloc[:0]
            tables["onsets"] = onset_by_kind(onsets, tables["kinds"], revisions, bootstrap=bootstrap)
    if suite is not None and text.languages is not None:
        codes = {
            language: decompose_text(suite, crosscoder, corpus, sample=text.sample, compute=compute).codes
            for language, corpus in text.languages.items()
        }
        tables["languages"] = language_shares(codes)

    tables["facts"] = _facts(tables, selected, ordered=ordered)
    return tables


def _attributed(
    suite: Suite | None,
    crosscoder: CrossCoder,
    effects: TaskInput | Sequence[Attribution | TaskInput] | Mapping[str, Float[Tensor, "C F"]],
    compute: Compute,
) -> Sequence[Attribution] | Mapping[str, Float[Tensor, "C F"]]:
    """The effects as they are, with an attribution in place of each task."""
    if isinstance(effects, Mapping):
        return effects
    attributions: list[Attribution] = []
    for effect in [effects] if isinstance(effects, TaskInput) else effects:
        if isinstance(effect, Attribution):
            attributions.append(effect)
        elif suite is None:
            raise CrosscoderError("A task can be attributed only with the suite whose checkpoints do it.")
        else:
            attributions.append(attribute(suite, crosscoder, effect, compute=compute))
    return attributions


def _effects_by_task(
    crosscoder: CrossCoder, effects: Sequence[Attribution] | Mapping[str, Float[Tensor, "C F"]]
) -> dict[str, tuple[Float[Tensor, "C F"], Attribution | None]]:
    """For each task its indirect effects, and the attribution that has them prompt by prompt, where there is one."""
    by_task: dict[str, tuple[Tensor, Attribution | None]]
    if isinstance(effects, Mapping):
        by_task = {task: (mean_effects, None) for task, mean_effects in effects.items()}
    else:
        by_task = {attribution.task: (attribution.ie(), attribution) for attribution in effects}
    expected = (len(crosscoder.origin.revisions), crosscoder.n_features)
    for task, (mean_effects, _) in by_task.items():
        if mean_effects.shape != expected:
            raise CrosscoderError(
                f"Effects on {task} are of {tuple(mean_effects.shape)} checkpoints and features, but the crosscoder "
                f"has {expected}."
            )
    return by_task


def _select(
    crosscoder: CrossCoder,
    task_effects: Mapping[str, tuple[Float[Tensor, "C F"], Attribution | None]],
    features: Sequence[int] | Mapping[str, Sequence[int]] | None,
    top: int,
) -> list[int]:
    """The given features, or those with the largest effects on any task; each once."""
    if isinstance(features, Mapping):
        for task in features:
            if task not in task_effects:
                raise CrosscoderError(
                    f"There are features that were selected on {task!r}, but no effects: {nearest(task, task_effects)}"
                )
        features = [feature for task in task_effects for feature in features.get(task, ())]
    if features is None:
        largest = [select_top(mean_effects, top) for mean_effects, _ in task_effects.values()]
        return list(dict.fromkeys(feature for task_features in largest for feature in task_features))
    for feature in features:
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )
    return list(dict.fromkeys(features))


def _selected_on(
    task: str,
    mean_effects: Float[Tensor, "C F"],
    features: Sequence[int] | Mapping[str, Sequence[int]] | None,
    selected: Sequence[int],
    top: int,
) -> set[int]:
    """The features that were selected on one task: all of them, where they are given without a task."""
    if features is None:
        return set(select_top(mean_effects, top))
    return set(features.get(task, ())) if isinstance(features, Mapping) else set(selected)


def _pairs_table(
    task: str,
    ie: Float[Tensor, "K C"],
    norms: Float[Tensor, "K C"],
    features: Sequence[int],
    revisions: Sequence[str],
) -> pd.DataFrame:
    """RelIE and RelDec of every pair of checkpoints, the earlier one first."""
    earlier, later = torch.triu_indices(len(revisions), len(revisions), offset=1).numpy()
    names = np.array(revisions)
    table = long_table(
        {"task": [task], "feature": np.array(features, dtype=np.int64), "pair": range(len(earlier))},
        {
            "revision": names[earlier],
            "other": names[later],
            "relie": relative_pairs(ie)[:, earlier, later],
            "reldec": relative_pairs(norms)[:, earlier, later],
        },
    )
    return table.drop(columns="pair")


def _concatenate(name: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of all tasks as one, with the columns in order; without rows where there are no tables."""
    columns = list(_COLUMNS[name])
    if not tables:
        return pd.DataFrame(columns=columns)
    # Categories of different tasks may differ.
    plain = [table.astype(dict.fromkeys(table.select_dtypes("category"), object)) for table in tables]
    return pd.concat(plain, ignore_index=True)[columns]


def _facts(tables: Mapping[str, pd.DataFrame], features: Sequence[int], *, ordered: bool) -> pd.DataFrame:
    """One row for each selected feature, with the most telling column of each table."""
    evolution = tables["evolution"].set_index("feature").loc[list(features)]
    of_training = ["onset", "peak", "persistence", "turning_point", "rotation", "dimensionality"]
    facts = evolution[of_training if ordered else ["peak", "dimensionality"]].copy()
    # Of models side by side it is told which of them have the feature
    name, column = ("life_cycle", "life_cycle") if ordered else ("sharing", "label")
    if "presence" in tables:
        facts[f"{name}_presence"] = tables["presence"].groupby("feature", sort=False)[column].first()
    facts[f"{name}_dec"] = evolution[column]

    for task, rows in tables["life_cycles"].groupby("task", sort=False):
        facts[f"{name}[{task}]"] = rows.set_index("feature")[column]
    if "kinds" in tables:
        facts["kind"] = tables["kinds"].set_index("feature").kind
    if "scaling" in tables:
        spurious = tables["scaling"][tables["scaling"].spurious].groupby("feature").revision.agg(", ".join)
        facts["spurious"] = spurious.reindex(facts.index).fillna("")
    if "languages" in tables:
        language = tables["languages"][tables["languages"].specific].set_index("feature").language
        facts["language"] = language.reindex(facts.index).fillna("")

    return facts.astype(dict.fromkeys(facts.select_dtypes("category"), object)).reset_index()
