"""Causal experiments on language models across their pretraining.

The verbs, in the order of an experiment: open a `Suite` of checkpoints, `tasks.load` a task, see the
`accuracy`, `train` a crosscoder, `evaluate` it, `attribute` the task to its features, `ablate` them; or
`run` a recipe that does all of it. Names load when they are first used, so that importing is quick.

Example:
    >>> import crosstime as ct
    >>> suite = ct.Suite.open("suites/tiny-pythia")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ActivationStore": "crosstime.store",
    "Attribution": "crosstime.attribution",
    "BatchTopKConfig": "crosstime.topk_trainer",
    "Compute": "crosstime.compute",
    "CrossCoder": "crosstime.crosscoder",
    "CrosstimeError": "crosstime.errors",
    "JumpReLUConfig": "crosstime.jumprelu_trainer",
    "L1Config": "crosstime.l1_trainer",
    "Ngrams": "crosstime.ngrams",
    "Recipe": "crosstime.recipe",
    "Site": "interventions",
    "Spliced": "crosstime.splicing",
    "Suite": "crosstime.suite",
    "TinyConfig": "crosstime.tiny",
    "TopKConfig": "crosstime.topk_trainer",
    "ablate": "crosstime.ablating",
    "accuracy": "crosstime.scoring",
    "annotate": "crosstime.annotation",
    "annotator_agreement": "crosstime.annotation",
    "attribute": "crosstime.attribution",
    "change_correlations": "crosstime.correlation",
    "classify": "crosstime.temporal",
    "cohens_kappa": "crosstime.kappa",
    "decoder_cosines": "crosstime.rotating",
    "decoder_evolution": "crosstime.evolution",
    "evaluate": "crosstime.evaluation",
    "evaluate_seeds": "crosstime.evaluation",
    "evolve": "crosstime.evolving",
    "explain_dip": "crosstime.dips",
    "export_annotation_sheet": "crosstime.annotation",
    "faithfulness": "crosstime.sufficiency",
    "feature_dimensionality": "crosstime.dimensionality",
    "feature_kinds": "crosstime.feature_scores",
    "find_dips": "crosstime.dipping",
    "harvest": "crosstime.harvesting",
    "language_shares": "crosstime.feature_scores",
    "latent_scaling": "crosstime.scaling",
    "life_cycle_shares": "crosstime.lifecycle",
    "life_cycles": "crosstime.lifecycle",
    "logit_effects": "crosstime.logit_lens",
    "match_features": "crosstime.matching",
    "ngram_divergence": "crosstime.ngrams",
    "onset_by_kind": "crosstime.onsets",
    "onset_correlation": "crosstime.onsets",
    "over_seeds": "crosstime.evaluation",
    "pearson": "crosstime.onsets",
    "plant": "crosstime.synthetic",
    "ranking": "crosstime.sufficiency",
    "read_annotations": "crosstime.annotation",
    "read_text": "crosstime.reading",
    "recovery": "crosstime.recovering",
    "relative": "crosstime.temporal",
    "relative_pairs": "crosstime.temporal",
    "relative_pairwise": "crosstime.temporal",
    "rotation": "crosstime.rotating",
    "run": "crosstime.running",
    "seed_agreement": "crosstime.matching",
    "select": "crosstime.choosing",
    "select_top": "crosstime.temporal",
    "similarity": "crosstime.representation",
    "specificity_test": "crosstime.permutation",
    "splice": "crosstime.splicing",
    "sufficiency_curves": "crosstime.sufficiency",
    "train": "crosstime.training",
    "train_planted": "crosstime.synthetic",
    "train_tiny_suite": "crosstime.tiny",
    "transplant": "crosstime.transplanting",
}
_MODULES = {
    "errors": "crosstime.errors",
    "exchange": "crosstime.exchange",
    "interventions": "interventions",
    "tasks": "tasks",
}

__all__ = sorted([*_HOME, *_MODULES])

if TYPE_CHECKING:
    import interventions as interventions
    import tasks as tasks
    from crosstime import exchange as exchange
    from crosstime.ablating import ablate as ablate
    from crosstime.annotation import annotate as annotate
    from crosstime.annotation import annotator_agreement as annotator_agreement
    from crosstime.annotation import export_annotation_sheet as export_annotation_sheet
    from crosstime.annotation import read_annotations as read_annotations
    from crosstime.attribution import Attribution as Attribution
    from crosstime.attribution import attribute as attribute
    from crosstime.choosing import select as select
    from crosstime.compute import Compute as Compute
    from crosstime.correlation import change_correlations as change_correlations
    from crosstime.crosscoder import CrossCoder as CrossCoder
    from crosstime.dimensionality import feature_dimensionality as feature_dimensionality
    from crosstime.dipping import find_dips as find_dips
    from crosstime.dips import explain_dip as explain_dip
    from crosstime.errors import CrosstimeError as CrosstimeError
    from crosstime.evaluation import evaluate as evaluate
    from crosstime.evaluation import evaluate_seeds as evaluate_seeds
    from crosstime.evaluation import over_seeds as over_seeds
    from crosstime.evolution import decoder_evolution as decoder_evolution
    from crosstime.evolving import evolve as evolve
    from crosstime.feature_scores import feature_kinds as feature_kinds
    from crosstime.feature_scores import language_shares as language_shares
    from crosstime.harvesting import harvest as harvest
    from crosstime.jumprelu_trainer import JumpReLUConfig as JumpReLUConfig
    from crosstime.kappa import cohens_kappa as cohens_kappa
    from crosstime.l1_trainer import L1Config as L1Config
    from crosstime.lifecycle import life_cycle_shares as life_cycle_shares
    from crosstime.lifecycle import life_cycles as life_cycles
    from crosstime.logit_lens import logit_effects as logit_effects
    from crosstime.matching import match_features as match_features
    from crosstime.matching import seed_agreement as seed_agreement
    from crosstime.ngrams import Ngrams as Ngrams
    from crosstime.ngrams import ngram_divergence as ngram_divergence
    from crosstime.onsets import onset_by_kind as onset_by_kind
    from crosstime.onsets import onset_correlation as onset_correlation
    from crosstime.onsets import pearson as pearson
    from crosstime.permutation import specificity_test as specificity_test
    from crosstime.reading import read_text as read_text
    from crosstime.recipe import Recipe as Recipe
    from crosstime.recovering import recovery as recovery
    from crosstime.representation import similarity as similarity
    from crosstime.rotating import decoder_cosines as decoder_cosines
    from crosstime.rotating import rotation as rotation
    from crosstime.running import run as run
    from crosstime.scaling import latent_scaling as latent_scaling
    from crosstime.scoring import accuracy as accuracy
    from crosstime.splicing import Spliced as Spliced
    from crosstime.splicing import splice as splice
    from crosstime.store import ActivationStore as ActivationStore
    from crosstime.sufficiency import faithfulness as faithfulness
    from crosstime.sufficiency import ranking as ranking
    from crosstime.sufficiency import sufficiency_curves as sufficiency_curves
    from crosstime.suite import Suite as Suite
    from crosstime.synthetic import plant as plant
    from crosstime.synthetic import train_planted as train_planted
    from crosstime.temporal import classify as classify
    from crosstime.temporal import relative as relative
    from crosstime.temporal import relative_pairs as relative_pairs
    from crosstime.temporal import relative_pairwise as relative_pairwise
    from crosstime.temporal import select_top as select_top
    from crosstime.tiny import TinyConfig as TinyConfig
    from crosstime.tiny import train_tiny_suite as train_tiny_suite
    from crosstime.topk_trainer import BatchTopKConfig as BatchTopKConfig
    from crosstime.topk_trainer import TopKConfig as TopKConfig
    from crosstime.training import train as train
    from crosstime.transplanting import transplant as transplant
    from interventions import Site as Site


def _refuse_shadowed() -> None:
    """`tasks` and `interventions` are common names: make sure that Python finds ours."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("tasks", "interventions"):
        spec = find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if found != ours / name / "__init__.py":
            raise ImportError(
                f"crosstime needs its own package {name!r} at {ours / name}, but Python finds "
                f"{found or 'none'}, which hides it; rename that file, or run from another folder."
            )


_refuse_shadowed()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'crosstime' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
