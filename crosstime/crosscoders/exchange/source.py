"""A crosscoder in the files of another tool, opened: its tensors, its configuration, and the caller's corrections."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
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
from crosstime.crosscoders.exchange.yaml_settings import read_yaml
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.tensors import TensorError, check_names, listed, read_pickled_tensors, read_tensors
from interventions import Site

WRAPPERS = ("_orig_mod.", "module.")
"""What `torch.compile` and `DistributedDataParallel` put before the names of a module's tensors."""

_MOST_WRAPPERS = 8


@dataclass(frozen=True)
class Overrides:
    """Facts about a crosscoder that the caller gives; they take precedence over those of the file.

    Attributes:
        suite, revisions, site: what the crosscoder was trained on.
        scales: s_c, or a function that measures them, given the origin.
        ignored: keys of the configuration that are not known, and that the caller vouches for.
    """

    suite: str | None = None
    revisions: tuple[str, ...] | None = None
    site: Site | None = None
    scales: tuple[float, ...] | Callable[[Origin], Float[Tensor, " C"]] | None = None
    ignored: tuple[str, ...] = ()


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
            config = read_yaml(configuration) if configuration.suffix == ".yaml" else Settings.read(configuration)
        else:
            config = Settings(str(configuration), {})
        metadata: dict[str, str] = {}
        try:
            if path.suffix == ".safetensors":
                tensors, metadata = read_tensors(path)
            else:
                tensors = read_pickled_tensors(path, numbers=("k", "threshold"))
        except RunError as error:
            raise CrosscoderError(f"cannot load a crosscoder: {error}") from error
        return cls(path, without_wrappers(tensors), metadata, config, overrides)

    @property
    def has_revisions(self) -> bool:
        """Whether the caller names the revisions."""
        return self.overrides.revisions is not None

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

    def check_keys(self, known: Collection[str]) -> None:
        """Make sure that every key of the configuration is known; see `Settings.check_keys`."""
        self.config.check_keys(known, self.overrides.ignored)

    def scales(self, origin: Origin, stored: Any = None) -> Float[Tensor, " C"] | None:
        """The scales that the caller gives, else those of the file; None if there are none.

        Args:
            origin: what the crosscoder was trained on.
            stored: the value in the file.

        Raises:
            CrosscoderError: they are not C positive numbers.
        """
        return scales_of(self.path, self.overrides, origin, stored)

    def scales_of_training(self, origin: Origin, stored: Any, setting: str) -> Float[Tensor, " C"]:
        """The scales of a crosscoder that was trained on scaled activations, and is not the same without them.

        Args:
            origin: what the crosscoder was trained on.
            stored: the value in the file.
            setting: where the file should have it, for the message.

        Raises:
            CrosscoderError: there are none, or they are not C positive numbers.
        """
        scales = self.scales(origin, stored)
        if scales is None:
            raise CrosscoderError(
                f"{self.path} was trained on activations times s_c = sqrt(D) / E||x_c||, and does not keep the scales "
                f"s_c ({setting}): give them as scales=[...] (crosstime convert --scales), or estimate them from the "
                "checkpoints and a text with ct.estimate_scales (crosstime convert --scales-from SUITE --corpus TEXT)"
            )
        return scales

    def hook_site(self, *hooks: str | None) -> Site | None:
        """The site that the configuration names by a hook point; None if it names none.

        A hook point that is no site is refused also if the caller names a site: the crosscoder was trained on other
        activations than any site has.

        Args:
            hooks: the hook point as each place of the configuration has it.

        Raises:
            CrosscoderError: the hook point is not a site, or two places name different ones.
        """
        named = dict.fromkeys(hook for hook in hooks if hook)
        if len(named) > 1:
            raise CrosscoderError(f"{self.config.location} names several hook points: {listed(named)}")
        try:
            return next(map(site_of, named), None)
        except CrosscoderError as error:
            raise CrosscoderError(f"{self.config.location}: {error}") from error

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
                f"{self.path} does not say at which site its activations were read: give it, as site='resid.8'"
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
        """A BatchTopK with the k of the tensor ``k``, else of a setting.

        Raises:
            CrosscoderError: the threshold is negative, as it is before it is estimated in training.
        """
        refuse_unset(self.path, threshold)
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


def refuse_unset(path: Path, threshold: float) -> None:
    """Refuse a threshold of BatchTopK that is still the -1 of initialisation.

    Raises:
        CrosscoderError: the threshold is negative.
    """
    if threshold < 0:
        raise CrosscoderError(
            f"{path} has no threshold yet, but {threshold:g}: it was not trained long enough to be used token by token"
        )


def without_wrappers(tensors: Mapping[str, Shaped[Tensor, ...]]) -> dict[str, Shaped[Tensor, ...]]:
    """The tensors by their names without what `torch.compile` and data parallelism put before all of them.

    Examples:
        >>> list(without_wrappers({"module._orig_mod.b_enc": torch.ones(1), "module._orig_mod.W_enc": torch.ones(1)}))
        ['b_enc', 'W_enc']
    """
    names = dict(zip(tensors, unwrapped(tensors), strict=True))
    return {names[name]: tensor for name, tensor in tensors.items()}


def unwrapped(names: Iterable[str]) -> list[str]:
    """Names without the prefixes of `WRAPPERS` that all of them have."""
    names = list(names)
    for _ in range(_MOST_WRAPPERS):
        prefix = next((prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in names)), None)
        if prefix is None or not names:
            break
        names = [name.removeprefix(prefix) for name in names]
    return names


def scales_of(path: Path, overrides: Overrides, origin: Origin, stored: Any = None) -> Float[Tensor, " C"] | None:
    """The scales that the caller gives, else those that are stored in a file; None if there are none.

    Raises:
        CrosscoderError: they are not C positive numbers.
    """
    override = overrides.scales(origin) if callable(overrides.scales) else overrides.scales
    values = stored if override is None else override
    if values is None:
        return None
    n_checkpoints = len(origin.revisions)
    try:
        scales = torch.as_tensor(values, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        scales = torch.empty(0)
    if len(scales) != n_checkpoints or not (scales.isfinite() & (scales > 0)).all():
        raise CrosscoderError(
            f"{path}: {n_checkpoints} checkpoints need as many positive scales, not {reprlib.repr(values)}"
        )
    return scales
