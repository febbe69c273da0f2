"""Public names of crosstime, in the order of an experiment; `crosstime/__init__.py` loads them lazily."""

# Suites of checkpoints, and tasks
# Errors
from . import errors as errors

# Crosscoders
from .activations.data_config import DataConfig as DataConfig
from .activations.harvest import harvest as harvest
from .activations.store import ActivationStore as ActivationStore
from .crosscoders.crosscoder import CrossCoder as CrossCoder
from .crosscoders.decompose import decompose_task as decompose_task
from .crosscoders.decompose import decompose_text as decompose_text
from .crosscoders.evaluate import evaluate as evaluate
from .effects.ablate import ablate as ablate
from .effects.attribute import Attribution as Attribution
from .effects.attribute import attribute as attribute
from .effects.explain_dip import explain_dip as explain_dip
from .effects.faithfulness import faithfulness as faithfulness
from .effects.transplant import transplant as transplant
from .errors import CrosstimeError as CrosstimeError

# Features over time
from .evolution.evolve import evolve as evolve
from .machine.progress import show_progress as show_progress
from .namespaces import Site as Site
from .namespaces import exchange as exchange

# Effects
from .namespaces import interventions as interventions
from .namespaces import tasks as tasks

# Whole experiments
from .runs.recipe.recipe import Recipe as Recipe
from .runs.run import run as run
from .suites.accuracy import accuracy as accuracy
from .suites.compute import Compute as Compute
from .suites.corpus import TextSample as TextSample
from .suites.select import select as select
from .suites.similarity import similarity as similarity
from .suites.suite import Suite as Suite
from .suites.tiny_config import TinyConfig as TinyConfig
from .suites.train_tiny_suite import train_tiny_suite as train_tiny_suite
from .training.jumprelu import JumpReLUConfig as JumpReLUConfig
from .training.l1 import L1Config as L1Config
from .training.loggers import Logging as Logging
from .training.resume import Checkpointing as Checkpointing
from .training.topk import BatchTopKConfig as BatchTopKConfig
from .training.topk import TopKConfig as TopKConfig
from .training.train import train as train

__version__: str
