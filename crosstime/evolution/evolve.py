"""Features through time: all temporal tables of a crosscoder and its effects, at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.effects.attribute import Attribution
from crosstime.effects.relie import relative_pairs, select_top
from crosstime.errors import CrosscoderError
from crosstime.evolution.decoders import decoder_evolution
from crosstime.evolution.latent_scaling import latent_scaling
from crosstime.evolution.life_cycles import PRESENT, life_cycle_shares, life_cycle_support, life_cycles
from crosstime.evolution.onsets import onset_by_kind
from crosstime.evolution.specificity import specificity_test
from crosstime.features.feature_kinds import feature_kinds, language_shares
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import TextSample
from crosstime.suites.read_lines import TextSource
from crosstime.suites.suite import Suite

DECODER = "decoder norm"
Text = TextSource | Iterable[str]


def evolve(
    crosscoder: CrossCoder,
    effects: Sequence[Attribution] | Mapping[str, Float[Tensor, "C F"]] = (),
    *,
    features: Sequence[int] | None = None,
    top: int = 10,
    suite: Suite | None = None,
    corpus: Text | None = None,
    languages: Mapping[str, Text] | None = None,
    fraction: float = PRESENT,
    n_sequences: int = 128,
    sequence_length: int = 64,
    resamples: int = 1_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> dict[str, pd.DataFrame]:
    """When features emerge, how long they stay, how they turn, and how sure that is: every temporal table of a run.

    Args:
        crosscoder: of C checkpoints in order of training.
        effects: on each task, as `attribute` gives them, or the C x F indirect effects by the task's name; then what
            needs effects prompt by prompt (support, intervals, tests) is left out or NaN.
        features: which get rows in the tables of selected features, whatever their effects; default the union over
            tasks and checkpoints of the `top` with the largest |IE|.
        top: see `features`.
        suite, corpus: with both, text is read for latent scaling and for kinds of features.
        languages: with `suite`, text of each language, for language specificity.
        fraction: share of its maximum from which a feature counts as present, see `life_cycles.present`.
        n_sequences, sequence_length: how much text is read of each corpus.
        resamples, seed: of bootstrap and permutation tests.
        compute: how the checkpoints are run.

    Returns:
        Tables by name. Of all features: ``evolution``, ``rotation``, ``rotation_steps``, ``dimensionality``
        (`decoder_evolution`), ``life_cycle_shares`` (source, life_cycle, count, share, low, high), and with text
        ``kinds`` (`feature_kinds`), ``onsets`` (`onset_by_kind`) and ``languages`` (`language_shares`). Of the
        selected ones: ``life_cycles`` (task, feature, life_cycle, label, first, last, support,
        strongest: whether it was selected on this task, not on another alone), ``pairs`` (task,
        feature, revision, other, relie, reldec: the share of `other`, the later one), ``specificity`` (task and the
        columns of `specificity_test`), with text ``scaling`` (`latent_scaling`), and ``facts``, one row a feature with
        the most telling of all these.

    Raises:
        CrosscoderError: effects of other checkpoints or sizes, a feature that does not exist, text without a suite.

    Examples:
        >>> tables = evolve(crosscoder, [attribution], suite=suite, corpus="corpus.txt.gz")  # doctest: +SKIP
        >>> tables["life_cycles"].life_cycle.value_counts()  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291); EoC (arXiv 2509.17196); Minder et al. (arXiv 2504.02922); docs/features.md.
    """
    revisions = crosscoder.origin.revisions
    if suite is None and (corpus is not None or languages is not None):
        raise CrosscoderError("Text can be read only with the suite whose checkpoints read it.")
    attributions = {} if isinstance(effects, Mapping) else {one.task: one for one in effects}
    means = dict(effects) if isinstance(effects, Mapping) else {name: one.ie() for name, one in attributions.items()}
    for name, table in means.items():
        if table.shape != (len(revisions), crosscoder.n_features):
            raise CrosscoderError(
                f"Effects on {name} are of {tuple(table.shape)} checkpoints and features, but the crosscoder has "
                f"{(len(revisions), crosscoder.n_features)}."
            )
    chosen = _selected(crosscoder, means, features, top)
    tables = decoder_evolution(crosscoder, fraction=fraction)
    norms = crosscoder.decoder_norms().T

    shares = [life_cycle_shares(norms, fraction=fraction).assign(source=DECODER)]
    lives, pairs, tests = [], [], []
    sampling = {"fraction": fraction, "resamples": resamples, "seed": seed}
    for name, effect in means.items():
        values = effect.T[chosen].double()
        named = life_cycles(values, revisions, features=chosen, fraction=fraction).assign(task=name, support=np.nan)
        # The life of a feature that hardly matters on this task is noise, and is not counted.
        own = set(chosen if features is not None else select_top(effect, top))
        counted = torch.tensor([feature in own for feature in chosen], dtype=torch.bool)
        named["strongest"] = counted.numpy()
        per_prompt = None
        if name in attributions and chosen:
            per_prompt = torch.stack([one.per_prompt(chosen) for one in attributions[name].effects], -1)
            named["support"] = life_cycle_support(per_prompt, **sampling).numpy()
            if len(revisions) > 1 and len(per_prompt) > 1:
                test = specificity_test(per_prompt, revisions, features=chosen, permutations=resamples, seed=seed)
                tests.append(test.assign(task=name))
        lives.append(named)
        pairs.append(_pairs(name, values, norms[chosen], chosen, revisions))
        of_own = None if per_prompt is None else per_prompt[:, counted]
        shares.append(life_cycle_shares(values[counted], of_own, **sampling).assign(source=f"IE: {name}"))
    tables["life_cycle_shares"] = _joined(shares, "source", "life_cycle count share low high")
    tables["life_cycles"] = _joined(lives, "task", "feature life_cycle label first last support strongest")
    tables["pairs"] = _joined(pairs, "task", "feature revision other relie reldec")
    tables["specificity"] = _joined(tests, "task", "feature revision relie p q")

    def reading(text: Text) -> DecomposedText:
        return decompose_text(
            suite, crosscoder, text, sample=TextSample(n_sequences, sequence_length), compute=compute,
        )  # fmt: skip

    if corpus is not None:
        natural = reading(corpus)
        tables["scaling"] = latent_scaling(crosscoder, natural.decompositions, features=chosen, fraction=fraction)
        tables["kinds"] = feature_kinds(suite, crosscoder, natural, seed=seed, compute=compute)
        tables["onsets"] = onset_by_kind(
            tables["evolution"], tables["kinds"], revisions, resamples=resamples, seed=seed
        )
    if languages is not None:
        tables["languages"] = language_shares({name: reading(text).codes for name, text in languages.items()})
    tables["facts"] = _facts(tables, chosen)
    return tables


def _selected(
    crosscoder: CrossCoder, means: Mapping[str, Tensor], features: Sequence[int] | None, top: int
) -> list[int]:
    if features is None:
        return list(dict.fromkeys(feature for table in means.values() for feature in select_top(table, top)))
    for feature in features:
        if not 0 <= feature < crosscoder.n_features:
            raise CrosscoderError(
                f"There is no feature {feature}: the crosscoder has 0 to {crosscoder.n_features - 1}."
            )
    return list(dict.fromkeys(features))


def _pairs(
    task: str, effects: Tensor, norms: Tensor, features: Sequence[int], revisions: Sequence[str]
) -> pd.DataFrame:
    a, b = torch.triu_indices(len(revisions), len(revisions), offset=1)
    names = np.array(revisions, dtype=object)
    return pd.DataFrame(
        {
            "task": task,
            "feature": np.repeat(np.array(features, dtype=np.int64), len(a)),
            "revision": np.tile(names[a], len(features)),
            "other": np.tile(names[b], len(features)),
            "relie": relative_pairs(effects)[:, a, b].flatten().numpy(),
            "reldec": relative_pairs(norms)[:, a, b].flatten().numpy(),
        }
    )


def _joined(tables: Sequence[pd.DataFrame], first: str, others: str) -> pd.DataFrame:
    """One table of several with the columns in order; with the columns alone where there is none."""
    columns = [first, *others.split()]
    if not tables:
        return pd.DataFrame(columns=columns)
    plain = [table.astype(dict.fromkeys(table.select_dtypes("category"), object)) for table in tables]
    return pd.concat(plain, ignore_index=True)[columns]


def _facts(tables: Mapping[str, pd.DataFrame], features: Sequence[int]) -> pd.DataFrame:
    """What is most telling of each selected feature, one row each."""
    own = tables["evolution"].set_index("feature").loc[list(features)]
    facts = own[["onset", "peak", "persistence", "turning_point", "rotation", "dimensionality"]].copy()
    facts["life_cycle_dec"] = own.life_cycle
    for task, rows in tables["life_cycles"].groupby("task", sort=False):
        facts[f"life_cycle[{task}]"] = rows.set_index("feature").life_cycle
    if "kinds" in tables:
        facts["kind"] = tables["kinds"].set_index("feature").kind
    if "scaling" in tables:
        flagged = tables["scaling"][tables["scaling"].spurious].groupby("feature").revision.agg(", ".join)
        facts["spurious"] = flagged.reindex(facts.index).fillna("")
    if "languages" in tables:
        own = tables["languages"][tables["languages"].specific].set_index("feature").language
        facts["language"] = own.reindex(facts.index).fillna("")
    return facts.astype(dict.fromkeys(facts.select_dtypes("category"), object)).reset_index()
