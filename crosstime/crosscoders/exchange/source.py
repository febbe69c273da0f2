"""A crosscoder in the files of another tool, opened: its tensors, its configuration, and the caller's corrections."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from crosstime.crosscoders.activation_functions import BatchTopK
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange.hooks import site_of
from crosstime.crosscoders.exchange.settings import Settings
from crosstime.crosscoders.exchange.weights import Weights
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.tensors import TensorError, check_names, listed, read_pickled_tensors, read_tensors
from interventions import Site


@dataclass(frozen=True)
class Overrides:
    """Facts about a crosscoder that the caller gives; they take precedence over those of the file.

    Attributes:
        suite, revisions, site: what the crosscoder was trained on.
        scales: s_c.
    """

    suite: str | None = None
    revisions: tuple[str, ...] | None = None
    site: Site | None = None
    scales: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """An opened file of weights, and the configuration in the JSON file next to it.

    Attributes:
        path: the file of weights, which errors name.
        tensors: its tensors by name.
        metadata: the strings stored with the tensors.
        config: the configuration.
        overrides: facts that the caller gives.
    """

    path: Path
    tensors: Mapping[str, Shaped[Tensor, ...]]
    metadata: Mapping[str, str]
    config: Settings
    overrides: Overrides

    @classmethod
    def open(cls, path: Path, configuration: Path, overrides: Overrides, *, needs_configuration: bool = True) -> Source:
        """Read both files.

        Args:
            path: safetensors, or a file of `torch.save`, as its suffix says.
            configuration: the JSON file.
            overrides: facts that the caller gives.
            needs_configuration: whether a missing configuration is an error; otherwise nothing in it is set.

        Raises:
            CrosscoderError: a file is missing or damaged, or could run code when it is read.
        """
        if needs_configuration or configuration.is_file():
            config = Settings.read(configuration)
        else:
            config = Settings(str(configuration), {})
        metadata: dict[str, str] = {}
        try:
            if path.suffix == ".safetensors":
                tensors, metadata = read_tensors(path)
            else:
                tensors = read_pickled_tensors(path)
        except RunError as error:
            raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
        return cls(path, tensors, metadata, config, overrides)

    def take(self, *names: str, optional: tuple[str, ...] = ()) -> list[Shaped[Tensor, ...]]:
        """The tensors of these names, after making sure that there are no others, and that their numbers are real.

        Raises:
            TensorError: names the tensors that are missing, unknown or complex.
        """
        check_names(self.tensors, names, optional)
        if complex_names := [name for name, tensor in self.tensors.items() if tensor.is_complex()]:
            raise TensorError(f"it has complex numbers in {listed(complex_names)}")
        return [self.tensors[name] for name in names]

    def number(self, name: str) -> float | None:
        """The number in a tensor of one element; None if there is no such tensor.

        Raises:
            TensorError: the tensor has several elements, or one that is not finite.
        """
        if name not in self.tensors:
            return None
        tensor = self.tensors[name].double()
        if tensor.numel() != 1 or not tensor.isfinite().all():
            raise TensorError(f"{name} has shape {tuple(tensor.shape)}, and must be one finite number")
        return float(tensor)

    def scales(self, n_checkpoints: int, stored: Any = None) -> Float[Tensor, " C"] | None:
        """The scales that the caller gives, else those of the file; None means ones.

        Args:
            n_checkpoints: C.
            stored: the value in the file.

        Raises:
            CrosscoderError: they are not C positive numbers.
        """
        return scales_of(self.path, self.overrides, n_checkpoints, stored)

    def hook_site(self, key: str, *tables: Settings) -> Site | None:
        """The site that the first of these tables names by a hook point, unless the caller names the site.

        Raises:
            CrosscoderError: the hook point is not a site.
        """
        if self.overrides.site is not None:
            return None
        hooks = [table.string(key) for table in tables]
        hook = next((hook for hook in hooks if hook), None)
        return None if hook is None else site_of(hook)

    def origin(
        self,
        weights: Weights,
        *,
        suite: str | None,
        revisions: tuple[str, ...] | None,
        site: Site | None,
        training: dict[str, Any],
    ) -> Origin:
        """What the crosscoder was trained on, from the caller, else from the file; revisions are else numbered.

        Args:
            weights: the weights, which have the sizes.
            suite, revisions, site, training: what the file says; None if it does not.

        Raises:
            CrosscoderError: the site is unknown, or the number of revisions is not that of the checkpoints.
        """
        overrides = self.overrides
        if (site := overrides.site or site) is None:
            raise CrosscoderError(
                f"{self.path} does not say at which site its activations were read: give site='resid.8'"
            )
        numbered = tuple(f"checkpoint{c}" for c in range(weights.n_checkpoints))
        revisions = overrides.revisions or revisions or numbered
        if len(revisions) != weights.n_checkpoints:
            raise CrosscoderError(
                f"{self.path} has {weights.n_checkpoints} checkpoints, but {len(revisions)} revisions are named: "
                f"{', '.join(revisions)}"
            )
        return Origin(overrides.suite or suite or self.path.stem, revisions, site, weights.d_model, training)

    def training(self, crosstime_facts: Settings) -> dict[str, Any]:
        """The facts of the training, from what `crosstime` wrote into the file, else the whole configuration."""
        return crosstime_facts.table("training").values if "training" in crosstime_facts.values else self.config.values

    def batch_topk(self, n_features: int, threshold: float, *, k_setting: str) -> BatchTopK:
        """A BatchTopK with the k of the tensor ``k``, else of a setting."""
        k = self.number("k") or self.config.integer(k_setting) or 1
        activation = BatchTopK(n_features, k=int(min(max(1, k), n_features)))
        activation.threshold.fill_(threshold)
        return activation


def reader(
    locate: Callable[[Path], tuple[Path, Path]],
    build: Callable[[Source], CrossCoder],
    *,
    needs_configuration: bool = True,
) -> Callable[[Path, Overrides], CrossCoder]:
    """The `Format.read` of a format with a file of weights and a configuration.

    Args:
        locate: finds both files, given one of them or their folder.
        build: makes the crosscoder. A `TensorError` that it raises becomes a `CrosscoderError` that names the file.
        needs_configuration: see `Source.open`.
    """

    def read(path: Path, overrides: Overrides) -> CrossCoder:
        source = Source.open(*locate(path), overrides, needs_configuration=needs_configuration)
        try:
            return build(source)
        except TensorError as error:
            raise CrosscoderError(f"{source.path}: {error}") from error

    return read


def scales_of(path: Path, overrides: Overrides, n_checkpoints: int, stored: Any = None) -> Float[Tensor, " C"] | None:
    """The scales that the caller gives, else those that are stored in a file; None means ones.

    Raises:
        CrosscoderError: they are not C positive numbers.
    """
    values = stored if overrides.scales is None else overrides.scales
    if values is None:
        return None
    try:
        scales = torch.as_tensor(values, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        scales = torch.empty(0)
    if len(scales) != n_checkpoints or not (scales.isfinite() & (scales > 0)).all():
        raise CrosscoderError(
            f"{path}: {n_checkpoints} checkpoints need as many positive scales, not {reprlib.repr(values)}"
        )
    return scales
