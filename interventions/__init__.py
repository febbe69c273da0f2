"""Causal experiments on one checkpoint of a language model: read, patch and ablate activations, measure effects.

Built on nnsight. This package knows models, prompts and dictionaries of features. It knows no files, no checkpoints
over time and no reports, and of this project's other packages it imports `user_input` alone.

Where to add things: an architecture in `architectures.py` (or `register` it), a metric in `metrics.py`, a baseline in
`baselines.py`, a quadrature rule in `quadrature.py`, a method of estimating effects in `effects.py` and `estimator.py`.
"""

from interventions.ablate import Ablation, ablate
from interventions.aggregation import Aggregation
from interventions.architectures import Architecture, register
from interventions.baselines import Baseline
from interventions.bootstrap import Bootstrap, bootstrap_interval, interval, resampled_means
from interventions.budget import MAX_TOKENS
from interventions.circuit import Circuit, circuit
from interventions.clamp import clamp
from interventions.codes import Codes
from interventions.cross_entropy import cross_entropy
from interventions.decomposition import Decomposition
from interventions.effects import Effects, indirect_effects
from interventions.errors import (
    ArchitectureError,
    CheckpointLoadError,
    FeatureError,
    InterventionError,
    KeyRefusedError,
    MemoryBudgetError,
    MixedModelsError,
    NoGradientsError,
    NoServerError,
    NotDeployedError,
    NotNdifError,
    RemoteError,
    RevisionUnknownError,
    ServerError,
    ServerMemoryError,
    ShapeError,
    SiteError,
    TimeLimitError,
)
from interventions.estimator import Estimator
from interventions.fetch import fetch
from interventions.log_likelihoods import log_likelihoods
from interventions.logit_lens import readout
from interventions.metrics import METRICS, Metric, metric_named
from interventions.model import Model
from interventions.patch import patch
from interventions.prompts import Prompts, Sequences
from interventions.reduce_predictions import reduce_predictions
from interventions.remote import Remote, Traffic
from interventions.score import score
from interventions.site import Site
from interventions.steer import Steered, steer
from interventions.transplant import transplant

__project__ = "crosstime"

__all__ = [
    "MAX_TOKENS",
    "METRICS",
    "Ablation",
    "Aggregation",
    "Architecture",
    "ArchitectureError",
    "Baseline",
    "Bootstrap",
    "CheckpointLoadError",
    "Circuit",
    "Codes",
    "Decomposition",
    "Effects",
    "Estimator",
    "FeatureError",
    "InterventionError",
    "KeyRefusedError",
    "MemoryBudgetError",
    "Metric",
    "MixedModelsError",
    "Model",
    "NoGradientsError",
    "NoServerError",
    "NotDeployedError",
    "NotNdifError",
    "Prompts",
    "Remote",
    "RemoteError",
    "RevisionUnknownError",
    "Sequences",
    "ServerError",
    "ServerMemoryError",
    "ShapeError",
    "Site",
    "SiteError",
    "Steered",
    "TimeLimitError",
    "Traffic",
    "ablate",
    "bootstrap_interval",
    "circuit",
    "clamp",
    "cross_entropy",
    "fetch",
    "indirect_effects",
    "interval",
    "log_likelihoods",
    "metric_named",
    "patch",
    "readout",
    "reduce_predictions",
    "register",
    "resampled_means",
    "score",
    "steer",
    "transplant",
]
