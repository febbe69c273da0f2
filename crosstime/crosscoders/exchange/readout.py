"""The crosscoders of weight matrices that were released with *Learning to Read Out* (hematteo/learning-to-read-out).

``NAME.safetensors`` lies next to ``NAME.config.json``. The tensors are those of llamascopium's crosscoder: ``W_E``
C D F, ``b_E`` C F, ``W_D`` C F D, ``b_D`` C D and ``activation_function.log_jumprelu_threshold`` F; features are gated
at each checkpoint by ``pre_i ||W_D[c, i]||``. The configuration names the steps of the checkpoints, and how the rows w
of each matrix were prepared (``training.input_preprocess``)::

    none           w
    center         w - mean w
    center_scale   (w - mean w) / sqrt(E||w - mean w||² / D)

Means and scales are over all rows of the matrix, those beyond the tokenizer's vocabulary included. The files do not
keep them, so that they are measured on the checkpoints, and multiplied into scales and biases.

The facts are from ``wu_adapter.py``, ``inference.py`` and ``checkpoints.py`` in ``src/readout/crosscoder`` there.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.activation_functions import PerCheckpointJumpReLU
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.format import jsonable
from crosstime.crosscoders.exchange.llamascopium import NAMES, THRESHOLD
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.source import Overrides, Source
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.crosscoders.origin import ORDERED, ROWS, Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.tensors import TensorError, check_tensor
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Model, weight_rows
from interventions.matrix_names import parse_matrix, site_of_matrix
from user_input.home import expanded
from user_input.nearest import nearest

PREPARATIONS = ("none", "center", "center_scale")
_SUFFIX = ".config.json"
_WINDOW = 4.0
"""Width of the window in which their training gave thresholds a gradient; it changes no code."""


def read_readout(
    path: str | Path, suite: Suite, matrix: str = "W_U", *, prepared: str | None = None, compute: Compute = Compute()
) -> CrossCoder:
    """Read a crosscoder of weight matrices as *Learning to Read Out* released them, for the matrices as they are.

    Codes are those of the release on the rows that `crosstime.parameter_rows` reads, up to rounding; the result can be
    saved, and named by ``crosscoder.source`` of a recipe with ``[rows]``. JumpReLU crosscoders are read; the BatchTopK
    and gated ones, with which they are compared, have other tensors, and are refused.

    Args:
        path: the file NAME.safetensors; NAME.config.json is next to it.
        suite: a suite with the checkpoints of its steps; their matrices are read to measure means and scales.
        matrix: the matrix that it was trained on, ``W_U`` or ``W_E``.
        prepared: how rows were prepared: none, center or center_scale; None for what the configuration says.
        compute: where the checkpoints are opened; one is in memory at a time.

    Raises:
        CrosscoderError: a file is missing or damaged, the suite lacks a step, or the configuration does not say how
            rows were prepared.
        InterventionError: there is no such matrix.
        SuiteError: a checkpoint cannot be used.

    Examples:
        >>> suite = Suite.open("EleutherAI/pythia-160m")  # doctest: +SKIP
        >>> crosscoder = read_readout("seed0.safetensors", suite)  # doctest: +SKIP
        >>> crosscoder.save("readout.safetensors")  # doctest: +SKIP
    """
    # Read both files
    weights_path = expanded(path)
    parse_matrix(matrix)
    if weights_path.suffix != ".safetensors":
        raise CrosscoderError(f"{weights_path} is no .safetensors file, which the release consists of")
    configuration = weights_path.with_suffix(_SUFFIX)
    source = Source.open(weights_path, configuration, Overrides())
    steps, preparation = _steps(source.config), _preparation(source.config, prepared)
    try:
        W_enc, b_enc, W_dec, b_dec, log_threshold = source.take(*NAMES.values(), THRESHOLD)
        check_tensor(NAMES["b_enc"], b_enc, (len(steps), None))
        check_tensor(NAMES["W_dec"], W_dec, (len(steps), None, None))
        weights = Weights.checked(W_enc, b_enc.float().sum(0), W_dec.transpose(0, 1), b_dec, names=NAMES)
        threshold = check_tensor(THRESHOLD, log_threshold, (weights.n_features,)).float()
        if not threshold.isfinite().all():
            raise TensorError(f"{THRESHOLD} has values that are not finite")
    except TensorError as error:
        raise CrosscoderError(f"{weights_path}: {error}") from error

    # Measure what the rows were shifted and divided by
    checkpoints = _checkpoints(suite, steps, weights_path)
    if checkpoints.d_model != weights.d_model:
        raise CrosscoderError(
            f"{weights_path} is for rows of width {weights.d_model}, but those of suite {suite.name!r} have "
            f"{checkpoints.d_model}"
        )
    mean, factor = _measured(checkpoints, matrix, preparation, compute)

    # W g (w - mean) + b = W (g w) + (b - W g mean); (f W + b) / g + mean = (f W + b + g mean) / g
    shift = mean * factor.unsqueeze(-1)
    b_enc = weights.b_enc - torch.einsum("cd,cdf->f", shift, weights.W_enc)
    weights = Weights(weights.W_enc, b_enc, weights.W_dec, weights.b_dec + shift)
    activation = PerCheckpointJumpReLU(weights.n_features, bandwidth=_WINDOW)
    with torch.no_grad():
        activation.log_threshold.copy_(threshold)
    training = jsonable(source.config.values) | {ROWS: matrix} | ({} if suite.ordered else {ORDERED: False})
    site = site_of_matrix(matrix).resolve(checkpoints.n_layers)
    origin = Origin(suite.name, checkpoints.revisions, site, weights.d_model, training)
    return weights.crosscoder(origin, factor, activation)


def _steps(config: Settings) -> list[int]:
    """The steps of the checkpoints, in order."""
    steps = config.values.get("steps")
    if not isinstance(steps, list) or not steps or not all(type(step) is int for step in steps):
        raise CrosscoderError(f"{config.location} has no steps, a list of whole numbers that names the checkpoints")
    return steps


def _preparation(config: Settings, preparation_option: str | None) -> str:
    """How rows were prepared, from the caller or from the configuration."""
    stored = config.table("training").string("input_preprocess") or config.string("preprocess_mode")
    preparation = preparation_option or stored
    if preparation is None:
        raise CrosscoderError(
            f"{config.location} does not say how rows were prepared (training.input_preprocess): give it, as "
            f"prepared='center_scale'; {', '.join(PREPARATIONS)} are known"
        )
    if preparation not in PREPARATIONS:
        raise CrosscoderError(f"there is no preparation {preparation!r} of rows: {nearest(preparation, PREPARATIONS)}")
    return preparation


def _checkpoints(suite: Suite, steps: list[int], path: Path) -> Suite:
    """The checkpoints of some steps."""
    by_step = {checkpoint.step: checkpoint.revision for checkpoint in suite}
    missing = [step for step in steps if step not in by_step]
    if missing:
        raise CrosscoderError(
            f"{path} is of {len(steps)} steps, of which suite {suite.name!r} lacks {', '.join(map(str, missing[:5]))}"
            f"{' and others' if missing[5:] else ''}"
        )
    return suite.select([by_step[step] for step in steps])


def _measured(
    checkpoints: Suite, matrix: str, preparation: str, compute: Compute
) -> tuple[Float[Tensor, "C D"], Float[Tensor, " C"]]:
    """What was subtracted from the rows of each checkpoint, and what they were multiplied by then."""
    if preparation == "none":
        return torch.zeros(len(checkpoints), checkpoints.d_model), torch.ones(len(checkpoints))
    if compute.remote is not None:
        raise CrosscoderError("Rows of parameters are read on this machine: leave Compute.remote out.")

    def measure(index: int, model: Model) -> tuple[Tensor, float]:
        rows = weight_rows(model, matrix).double()
        mean = rows.mean(0)
        square = (rows - mean).square().sum(-1).mean() / rows.shape[1]
        return mean.float(), 1.0 if preparation == "center" else square.clamp(min=1e-8).rsqrt().item()

    means, factors = zip(*compute.each(checkpoints, measure), strict=True)
    return torch.stack(means), torch.tensor(factors)
