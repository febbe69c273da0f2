"""Public names of crosstime, in the order of an experiment; `crosstime/__init__.py` loads them lazily."""

# Suites of checkpoints, and tasks
from .suites.suite import Suite as Suite
from .suites.compute import Compute as Compute
from .suites.text_sample import TextSample as TextSample
from .namespaces import tasks as tasks
from .suites.accuracy import accuracy as accuracy
from .suites.similarity import similarity as similarity
from .suites.select import select as select
from .suites.tiny_config import TinyConfig as TinyConfig
from .suites.train_tiny_suite import train_tiny_suite as train_tiny_suite

# Crosscoders
from .namespaces import Site as Site
from .training.train import train as train
from .training.train_several import train_several as train_several
from .training.l1_config import L1Config as L1Config
from .training.topk_config import TopKConfig as TopKConfig
from .training.topk_config import BatchTopKConfig as BatchTopKConfig
from .training.jumprelu_config import JumpReLUConfig as JumpReLUConfig
from .training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig as PerCheckpointJumpReLUConfig
from .activations.data_config import DataConfig as DataConfig
from .training.checkpoint_options import Checkpointing as Checkpointing
from .training.loggers import Logging as Logging
from .activations.harvest import harvest as harvest
from .activations.estimate_scales import estimate_scales as estimate_scales
from .activations.store import ActivationStore as ActivationStore
from .activations.row_source import RowSource as RowSource
from .activations.row_source import Rows as Rows
from .activations.parameter_rows import parameter_rows as parameter_rows
from .training.train_rows import train_rows as train_rows
from .training.evaluate_rows import evaluate_rows as evaluate_rows
from .features.top_rows import top_rows as top_rows
from .crosscoders.crosscoder import CrossCoder as CrossCoder
from .crosscoders.open_crosscoder import open_crosscoder as open_crosscoder
from .crosscoders.evaluate import evaluate as evaluate
from .training.train_chain import train_chain as train_chain
from .namespaces import exchange as exchange

# Effects
from .crosscoders.decompose import decompose_task as decompose_task
from .crosscoders.decompose import decompose_text as decompose_text
from .effects.attribute import attribute as attribute
from .effects.attribution import Attribution as Attribution
from .effects.ablate import ablate as ablate
from .effects.faithfulness import faithfulness as faithfulness
from .effects.transplant import transplant as transplant
from .effects.explain_dip import explain_dip as explain_dip
from .effects.stability import effect_stability as effect_stability
from .effects.stability_options import Stability as Stability
from .crosscoders.baselines.baseline_dictionaries import baseline_dictionaries as baseline_dictionaries
from .effects.baselines import baselines as baselines
from .effects.circuit_areas import circuit_areas as circuit_areas
from .namespaces import interventions as interventions

# Features
from .features.annotation import export_annotation_sheet as export_annotation_sheet
from .features.annotation import read_annotations as read_annotations

# Features over time
from .evolution.absorption import absorption as absorption
from .evolution.evolve import evolve as evolve
from .evolution.replication import pairwise_mcc as pairwise_mcc
from .evolution.replication import replication as replication
from .evolution.replicated_claims import replicated_claims as replicated_claims
from .evolution.seed_agreement import seed_agreement as seed_agreement

# Whole experiments
from .runs.recipe.recipe import Recipe as Recipe
from .runs.run import run as run
from .runs.null_models import null_models as null_models
from .runs.descriptions.describe import describe as describe
from .machine.progress import show_progress as show_progress

# Errors
from . import errors as errors
from .errors import CrosstimeError as CrosstimeError

__version__: str
