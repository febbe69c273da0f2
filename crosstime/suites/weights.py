"""The weight files of checkpoints: those that transformers would load, each with a digest of every byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from crosstime.errors import RunError, SuiteError
from crosstime.machine.file_digests import file_digests
from crosstime.machine.storage import read_json
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.config_and_tokenizer import adapter_of, base_of
from crosstime.suites.hub_files import HubFiles, hub_files
from crosstime.suites.model_digest import digest_of, state_of
from crosstime.suites.weight_format import UnusableWeightsError, check_weight_file
from interventions.adapter import CONFIG, Adapter
from interventions.adapter import WEIGHTS as ADAPTERS
from user_input.first_names import first_names
from user_input.home import expanded
from user_input.reason import reason

CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What transformers looks for, in this order; it loads the first, or the shards that the first lists."""
_REQUESTS = 8
"""Repositories that are asked for their files at the same time."""


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        name: its path in the folder or repository.
        digest: SHA-256 of its bytes in hexadecimal; of a file that a repository keeps without Git LFS ``git-`` and the
            id of its blob; of one about which only the commit is known ``commit-`` and the commit.
        path: where it is on this machine; None if it is on the Hub only.
    """

    name: str
    digest: str
    path: Path | None


@dataclass(frozen=True)
class Weights:
    """The weights of one checkpoint.

    Attributes:
        files: the files, in the order of their names.
        commit: the commit of the Hub repository that they belong to; None for a folder.
        unreachable: why files that are not here cannot be downloaded; empty if they can.
        base: the files of the model that the files are an adapter of, and the configuration of the adapter; none for a
            whole model.
    """

    files: tuple[WeightFile, ...]
    commit: str | None
    unreachable: str = ""
    base: tuple[WeightFile, ...] = ()

    @property
    def here(self) -> bool:
        """Whether all files are on this machine."""
        return all(file.path for file in (*self.files, *self.base))


@dataclass(frozen=True)
class _Listing:
    """Names of weight files, where they are, and their digests as far as the Hub knows them."""

    files: dict[str, tuple[Path | None, str | None]]
    commit: str | None
    unreachable: str = ""

    def weights(self, digests: Mapping[Path, str]) -> Weights:
        """The weights, with the digests that were computed here where the Hub gives none."""
        files = []
        for name, (path, digest) in sorted(self.files.items()):
            here = None if path is None else digests.get(path)
            files.append(WeightFile(name, digest or here or f"commit-{self.commit}", path))
        return Weights(tuple(files), self.commit, self.unreachable)


def read_weights(checkpoints: Sequence[tuple[Checkpoint, object]]) -> list[Weights | SuiteError]:
    """Digests of the weight files of several checkpoints, or for each the error why it has none.

    Files on this machine are checked for completeness and hashed, see `crosstime.machine.file_digests`. Files on the
    Hub keep the SHA-256 of Git LFS, which the Hub lists for a commit and the local cache has as names of files, so
    that nothing is downloaded but indices of shards.

    Args:
        checkpoints: each with the name of its weight file, for a configuration that has ``transformers_weights``.
    """
    # List the files; those of the base models of adapters stand behind all others
    adapters: dict[int, Adapter] = {}
    for index, (checkpoint, _) in enumerate(checkpoints):
        if (adapter := adapter_of(checkpoint)) is not None:
            adapters[index] = adapter
    count = len(checkpoints)
    bases = [base_of(checkpoints[index][0], adapter) for index, adapter in adapters.items()]
    checkpoints = [*checkpoints, *((base, None) for base in bases)]
    pool = ThreadPoolExecutor(max(1, min(_REQUESTS, len(checkpoints))))
    try:
        listings = list(pool.map(lambda item: _list(*item), checkpoints))
    finally:
        pool.shutdown(cancel_futures=True)

    # Hash those whose digest is not known
    unknown = [
        path
        for listing in listings
        if isinstance(listing, _Listing)
        for path, digest in listing.files.values()
        if digest is None and path is not None
    ]
    try:
        digests = file_digests(unknown)
    except OSError as error:
        raise SuiteError(f"cannot read the weights {error.filename}: {error.strerror}") from error

    # Join both
    weights = [listing if isinstance(listing, SuiteError) else listing.weights(digests) for listing in listings]
    for index, base_weights in zip(adapters, weights[count:], strict=True):
        own = weights[index]
        if isinstance(own, Weights) and isinstance(base_weights, Weights):
            path = adapters[index].config
            config = WeightFile(CONFIG, hashlib.sha256(path.read_bytes()).hexdigest(), path)
            weights[index] = replace(own, base=(config, *base_weights.files))
        elif isinstance(own, Weights):
            weights[index] = base_weights
    return weights[:count]


def folder_state(checkpoint: Checkpoint) -> tuple[tuple[str | int, ...], ...]:
    """What changes when a file in the folder of a checkpoint is written or replaced; empty for one on the Hub.

    For a model in memory it is what changes when a weight is.
    """
    if checkpoint.model is not None:
        return state_of(checkpoint.model)
    if checkpoint.hub_revision is not None:
        return ()
    states: list[tuple[str | int, ...]] = []
    for path in sorted(expanded(checkpoint.source).glob("*")):
        try:
            status = path.stat()
        except OSError:
            # A link that leads nowhere, which is refused where it is read
            states.append((path.name,))
        else:
            states.append((path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(states)


def has_weights(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has weights, whole or not; one on the Hub is taken to have them."""
    if checkpoint.model is not None:
        return True
    folder = expanded(checkpoint.source)
    return checkpoint.hub_revision is not None or any((folder / name).exists() for name in (*CANDIDATES, *ADAPTERS))


def _list(checkpoint: Checkpoint, explicit: object) -> _Listing | SuiteError:
    """The weight files of a checkpoint, checked as far as they are on this machine."""
    revision, where = checkpoint.revision, checkpoint.source
    if checkpoint.model is not None:
        return _Listing({"(in memory)": (None, digest_of(checkpoint.model))}, None)
    if checkpoint.hub_revision is not None:
        where = f"{where}@{checkpoint.hub_revision} on the Hub"
    try:
        if checkpoint.hub_revision is None:
            return _list_folder(expanded(checkpoint.source), explicit)
        return _list_repository(hub_files(checkpoint.source, checkpoint.hub_revision), explicit)
    except (UnusableWeightsError, RunError) as error:
        return SuiteError(f"cannot use the weights of revision {revision!r} from {where}: {reason(error)}")
    except OSError as error:
        return SuiteError(f"cannot read the weights of revision {revision!r} from {where}: {reason(error)}")


def _list_folder(folder: Path, explicit: object) -> _Listing:
    names = _weight_names(lambda name: _is_file(folder / name), lambda name: folder / name, explicit)
    for name in names:
        check_weight_file(folder / name, name)
    return _Listing({name: (folder / name, None) for name in names}, None)


def _list_repository(files: HubFiles, explicit: object) -> _Listing:
    # A cache that holds only configuration and tokenizer still tells the commit
    candidates = CANDIDATES if explicit is None else (_inside(explicit, "config.json"),)
    if files.listed is None and not any(name in files for name in (*candidates, *ADAPTERS)):
        return _Listing({candidates[0]: (None, None)}, files.commit, files.unreachable)

    try:
        names = _weight_names(lambda name: name in files, files.read, explicit)
    except UnusableWeightsError as error:
        if files.listed is not None:
            raise
        raise UnusableWeightsError(f"{error} in the local cache of the Hub, and {files.unreachable}") from error
    listed: dict[str, tuple[Path | None, str | None]] = {}
    for name in names:
        path = files.path(name)
        if path is not None:
            check_weight_file(path, name, files.size(name))
        listed[name] = path, files.digest(name)
    return _Listing(listed, files.commit, files.unreachable)


def _weight_names(has: Callable[[str], bool], locate: Callable[[str], Path], explicit: object) -> list[str]:
    """The names of the files that transformers loads.

    Args:
        has: whether there is a file of this name.
        locate: gives the path of an index on this machine.
        explicit: the file that the configuration names.

    Raises:
        UnusableWeightsError: there are none, or shards are missing.
    """
    # Find the file, or the index of shards
    candidates = CANDIDATES if explicit is None else (_inside(explicit, "config.json"),)
    first = next((name for name in candidates if has(name)), None)
    names: list[str] = []
    if first is not None:
        names = _shards(locate(first), first) if first.endswith(".index.json") else [first]
        if missing := [name for name in names if not has(name)]:
            raise UnusableWeightsError(
                f"{len(missing)} of the {len(names)} files that {first} lists are missing: {first_names(missing, 3)}"
            )

    # Add an adapter, which peft lays over them
    adapters = [name for name in ADAPTERS if has(name)][:1] if has(CONFIG) else []
    if not names and not adapters:
        raise UnusableWeightsError(f"there are no weights: it has none of {', '.join(candidates)}")
    return names + adapters


def _is_file(path: Path) -> bool:
    """Whether there is a file; a link that leads nowhere is an error, since transformers would pass it over."""
    if path.is_symlink() and not path.exists():
        raise UnusableWeightsError(f"{path.name} is a link that leads nowhere")
    return path.is_file()


def _shards(path: Path, name: str) -> list[str]:
    """The files that an index lists."""
    index = read_json(path)
    if not isinstance(index, dict):
        raise UnusableWeightsError(f"{name} must hold an object, not {type(index).__name__}")
    shards, metadata = index.get("weight_map"), index.get("metadata")
    if not isinstance(metadata, dict):
        raise UnusableWeightsError(f'{name} must hold an object "metadata"')
    if not isinstance(shards, dict) or not shards or not all(isinstance(file, str) for file in shards.values()):
        raise UnusableWeightsError(f'{name} must hold "weight_map", an object of file names')
    return [_inside(file, name) for file in sorted(set(shards.values()))]


def _inside(file: object, where: str) -> str:
    """A file name that was read from another file, unless it leads out of the folder."""
    if not isinstance(file, str) or not file or "\0" in file or Path(file).is_absolute() or ".." in Path(file).parts:
        raise UnusableWeightsError(f"{where} names {str(file)[:100]!r} as weights, which is no file beside it")
    return file
