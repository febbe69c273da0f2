"""Read and write crosscoders in any of the formats, and detect the format of a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.exchange import (
    ckkissane,
    crosscode,
    ctt,
    dictionary_learning,
    llamascopium,
    native,
    saelens,
    science_of_finetuning,
    sparsify,
)
from crosstime.crosscoders.exchange.format import Format
from crosstime.crosscoders.exchange.format_names import FORMAT_NAMES, refuse_read_only, refuse_unknown_format
from crosstime.crosscoders.exchange.source import Overrides
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CrosscoderError
from crosstime.machine.part_names import is_sharded
from interventions import Site
from user_input.home import expanded
from user_input.nearest import similar_beside

_MODULES = (
    native,
    ctt,
    ckkissane,
    science_of_finetuning,
    saelens,
    llamascopium,
    dictionary_learning,
    sparsify,
    crosscode,
)
_BY_NAME = {module.FORMAT.name: module.FORMAT for module in _MODULES}
FORMATS: dict[str, Format] = {name: _BY_NAME[name] for name in FORMAT_NAMES}
"""Every format by its name, in the order in which `detect` tries them."""

SCALES_NOTE = "scales_are"
"""Key of `Origin.training` that says where scales come from that a file did not have."""


def read(
    path: str | Path,
    *,
    format: str | None = None,
    suite: str | None = None,
    revisions: Sequence[str] | None = None,
    site: Site | str | None = None,
    scales: Float[Tensor, " C"] | Sequence[float] | Callable[[Origin], Float[Tensor, " C"]] | None = None,
    ignore: Sequence[str] = (),
) -> CrossCoder:
    """Read a crosscoder, or a sparse autoencoder (C = 1), in any of `FORMATS`.

    Codes and reconstructions are those of the tool that wrote the file, up to rounding. Files of `torch.save` are read
    with ``weights_only``, so that no code in them is run.

    Args:
        path: a file or folder.
        format: a name in `FORMATS`; None detects it.
        suite, revisions, site: what the crosscoder was trained on. They take precedence over what the file says, and
            are needed if the format does not say it.
        scales: s_c, C numbers, for weights on the scale of training in a format that does not store the scales; or a
            function of the origin that measures them, as `crosstime.estimate_scales` does. The origin of the crosscoder
            notes under ``training`` that they are not of the file.
        ignore: keys of the configuration that are not known, and that do not change what the crosscoder computes.

    Raises:
        CrosscoderError: there is no such file or format; a tensor is missing, has the wrong shape, or is not finite;
            a pickle holds anything but tensors; the configuration has a key that is not known; the scales or the site
            are missing; or the dictionary is of a kind that `CrossCoder` cannot represent.

    Examples:
        >>> gemma = read("gemma-2-2b", revisions=["base", "chat"], scales=[0.276, 0.244])  # doctest: +SKIP
    """
    path = expanded(path)
    overrides = Overrides(
        suite,
        None if revisions is None else tuple(revisions),
        Site.parse(site) if isinstance(site, str) else site,
        scales if scales is None or callable(scales) else tuple(float(scale) for scale in scales),
        tuple(ignore),
    )
    crosscoder = _named(format or detect(path)).read(path, overrides)
    if scales is not None:
        training = crosscoder.origin.training | {SCALES_NOTE: "given when the file was read"}
        crosscoder.origin = replace(crosscoder.origin, training=training)
    return crosscoder


def write(crosscoder: CrossCoder, path: str | Path, *, format: str = "crosstime") -> None:
    """Write a crosscoder in one of `FORMATS`, atomically.

    Args:
        crosscoder: the crosscoder.
        path: a file for ``crosstime``; for all other formats, a folder that does not exist or is empty.
        format: a name in `FORMATS`.

    Raises:
        CrosscoderError: there is no such format; it cannot hold this crosscoder (because of its activation function,
            its number of checkpoints, or folded weights); or the folder is not empty.

    Examples:
        >>> write(crosscoder, "version_0", format="ctt")  # doctest: +SKIP
    """
    check_target(path, format)
    writer = _named(format).write
    assert writer is not None
    writer(crosscoder, expanded(path))


def check_target(path: str | Path, format: str) -> None:
    """Make sure that `write` has a place for its files.

    Raises:
        CrosscoderError: there is no such format, it is read only, it needs a folder of its own and the path holds
            something, or it is one file and the path is a folder.
    """
    refuse_read_only(format)
    chosen, path = _named(format), expanded(path)
    if chosen.is_folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CrosscoderError(f"{path} exists already: the format {chosen.name} needs a folder of its own")
    if not chosen.is_folder and path.is_dir():
        raise CrosscoderError(f"{path} is a folder, and the format {chosen.name} is one file: name a file in it")


def detect(path: str | Path) -> str:
    """Name of the format of a file or folder.

    Raises:
        CrosscoderError: the path does not exist, or is in none of `FORMATS`.
    """
    path = expanded(path)
    if not path.exists() and not is_sharded(path):
        raise CrosscoderError(f"there is no crosscoder at {path}: {similar_beside(path)}")
    for format in FORMATS.values():
        if format.holds(path):
            return format.name
    forms = "; ".join(f"{format.name}: {format.description}" for format in FORMATS.values())
    raise CrosscoderError(f"{path} is a crosscoder in no format that is known ({forms})")


def _named(name: str) -> Format:
    refuse_unknown_format(name)
    return FORMATS[name]
