"""The trainer of a configuration."""

from __future__ import annotations

from pkgutil import resolve_name

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.machine.processes import ALONE, Processes
from crosstime.training.trainer import Trainer
from crosstime.training.trainer_config import TrainerConfig


def trainer_of(
    config: TrainerConfig, crosscoder: CrossCoder, *, processes: Processes = ALONE, precision: str = "float32"
) -> Trainer:
    """A trainer of the configuration's kind; see `Trainer` for the arguments.

    A configuration names the class of its trainer and does not import it, so that recipes are read without PyTorch.

    Raises:
        CrosscoderError: the crosscoder is of another kind or was folded, or the precision is not known.

    Examples:
        >>> from crosstime.crosscoders.origin import Origin
        >>> from crosstime.training.l1_config import L1Config
        >>> from interventions import Site
        >>> config = L1Config(n_features=16, steps=10)
        >>> type(trainer_of(config, config.crosscoder(Origin("tiny", ("a", "b"), Site(0), 8)))).__name__
        'L1Trainer'
    """
    trainer: Trainer = resolve_name(config.trainer_class)(crosscoder, config, processes=processes, precision=precision)
    return trainer
