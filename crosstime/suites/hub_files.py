"""The files of a repository at one commit: as the Hub lists them, or as its local cache has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstime.machine.file_digests import entry_path, recall, remember
from crosstime.suites.hub_errors import hub_errors
from crosstime.suites.weight_format import UnusableWeightsError
from user_input.reason import reason

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
OFFLINE = "the Hub is offline (HF_HUB_OFFLINE)"


@dataclass(frozen=True)
class HubFiles:
    """What is known about the files of a repository at one commit.

    Attributes:
        repository: id of the repository.
        commit: the commit that the revision stands at.
        listed: size and digest by name, as the Hub lists them; None if only the cache is known.
        unreachable: why the Hub cannot be asked; empty if it answers.
    """

    repository: str
    commit: str
    listed: dict[str, tuple[int | None, str | None]] | None
    unreachable: str

    def __contains__(self, name: str) -> bool:
        return name in self.listed if self.listed is not None else self.path(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes of a file on the Hub."""
        return (self.listed or {}).get(name, (None, None))[0]

    def digest(self, name: str) -> str | None:
        """The SHA-256 of a file that Git LFS keeps, ``git-`` and the blob's id of another; None if it is not known."""
        listed = (self.listed or {}).get(name, (None, None))[1]
        path = self.path(name)
        if listed is not None or path is None:
            return listed
        # The cache names its files by what the Hub calls their content, unless it has no symbolic links
        blob = path.resolve()
        if blob.parent.name != "blobs":
            return None
        if _SHA256.fullmatch(blob.name):
            return blob.name
        return f"git-{blob.name}" if _COMMIT.fullmatch(blob.name) else None

    def path(self, name: str) -> Path | None:
        """Where the cache has a file; None if it has not."""
        path = _cache_of(self.repository) / "snapshots" / self.commit / name
        return path if path.is_file() else None

    def read(self, name: str) -> Path:
        """The path of a small file, which is downloaded if it is not here.

        Raises:
            UnusableWeightsError: it cannot be downloaded.
        """
        from huggingface_hub import hf_hub_download

        if (path := self.path(name)) is not None:
            return path
        if self.unreachable:
            raise UnusableWeightsError(f"{name} is not in the local cache of the Hub, and {self.unreachable}")
        try:
            return Path(hf_hub_download(self.repository, name, revision=self.commit))
        except hub_errors() as error:
            raise UnusableWeightsError(f"{name} cannot be downloaded: {reason(error)}") from error


def hub_files(repository: str, revision: str) -> HubFiles:
    """The files of a revision, as the Hub lists them; if it cannot be reached, as far as this machine knows them.

    What the Hub lists for a commit never changes, and is remembered in the user's cache.

    Raises:
        UnusableWeightsError: the repository or revision does not exist, or nothing is known about it.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    # Ask the Hub
    unreachable = OFFLINE
    if not constants.is_offline_mode():
        try:
            facts = HfApi().model_info(repository, revision=revision, files_metadata=True)
            listed = {
                sibling.rfilename: (
                    sibling.size,
                    sibling.lfs.sha256 if sibling.lfs else f"git-{sibling.blob_id}" if sibling.blob_id else None,
                )
                for sibling in facts.siblings or ()
            }
            if facts.sha:
                remember(_entry_of(repository, facts.sha), {"files": listed})
                return HubFiles(repository, facts.sha, listed, "")
            unreachable = "the Hub names no commit of it"
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
            raise UnusableWeightsError(reason(error)) from error
        except hub_errors(ValueError, LookupError, TypeError) as error:
            # The last three come from an answer that is not the Hub's, as that of a proxy
            unreachable = f"the Hub cannot be reached: {reason(error)}"

    # Look on this machine
    commit = _cached_commit(repository, revision)
    if commit is None:
        raise UnusableWeightsError(f"the local cache of the Hub has nothing of it, and {unreachable}")
    return HubFiles(repository, commit, _remembered(repository, commit), unreachable)


def _cache_of(repository: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _cached_commit(repository: str, revision: str) -> str | None:
    """The commit at which the cache has a revision."""
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        commit = (_cache_of(repository) / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _entry_of(repository: str, commit: str) -> Path:
    from huggingface_hub import constants

    return entry_path("hub", constants.ENDPOINT, repository, commit)


def _remembered(repository: str, commit: str) -> dict[str, tuple[int | None, str | None]] | None:
    """What the Hub listed for this commit when it was last asked."""
    files: Any = (recall(_entry_of(repository, commit)) or {}).get("files")
    if not isinstance(files, dict):
        return None
    listed: dict[str, tuple[int | None, str | None]] = {}
    for name, facts in files.items():
        match facts:
            case [int() | None as size, str() | None as digest]:
                listed[name] = size, digest
            case _:
                return None
    return listed
