"""Fetch, patch and splice activations of causal language models, and measure what features cause.

Built on nnsight. Knows models and dictionaries of features; knows nothing of task files, checkpoints
over time, or reports.
"""

from interventions.ablation import Ablation, ablate
from interventions.activations import cross_entropy, fetch, score
from interventions.architectures import Architecture, register
from interventions.baselines import Baseline
from interventions.bootstrap import Bootstrap, bootstrap_interval, interval, resampled_means
from interventions.budget import MAX_TOKENS
from interventions.circuits import Circuit, circuit
from interventions.codes import Codes, Decomposition
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
from interventions.logit_lens import readout
from interventions.metrics import METRICS, Metric, metric_named
from interventions.model import Model
from interventions.patching import patch
from interventions.predictions import log_likelihoods, reduce_predictions
from interventions.prompts import Prompts, Sequences
from interventions.remote import Remote, Traffic
from interventions.site import Site
from interventions.steering import Steered, clamp, steer, transplant

__project__ = "crosstime"

__all__ = [
    "MAX_TOKENS",
    "METRICS",
    "Ablation",
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
