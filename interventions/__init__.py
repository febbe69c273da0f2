"""Causal experiments on one checkpoint of a language model: read, patch and ablate activations, measure effects.

Built on nnsight. This package knows models, prompts and dictionaries of features. It knows no files, no checkpoints
over time and no reports, and of this project's other packages it imports `user_input` alone.

Where to add things: an architecture in `architectures.py` (or `register` it), a metric in `metrics.py`, a baseline in
`baselines.py`, a quadrature rule in `quadrature.py`, a method of estimating effects in `effects.py` and `estimator.py`.

The public names are those of ``__init__.pyi``. They load when they are first used, so that errors and options can be
imported without PyTorch.
"""

import lazy_loader

__project__ = "crosstime"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
