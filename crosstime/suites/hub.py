"""The revisions of a repository on the Hugging Face Hub, listed by the Hub or, offline, by its local cache."""

from __future__ import annotations

from pathlib import Path

from crosstime.errors import SuiteError
from crosstime.suites.hub_errors import hub_errors
from user_input.reason import reason


def branches(repository: str) -> tuple[str, ...]:
    """Names of a repository's branches, as the Hub lists them; offline, those of which the cache holds something.

    ``HF_HUB_OFFLINE=1`` takes the Hub's client offline: then it reads only the cache.

    Raises:
        SuiteError: the Hub cannot be reached or has no such repository; the message names what the cache holds of it.
            Or the client is offline, and the cache holds nothing.

    Examples:
        >>> branches("EleutherAI/pythia-1b")[:2]  # doctest: +SKIP
        ('step99000', 'step98000')
    """
    from huggingface_hub import constants, list_repo_refs

    # Offline, list the cache
    if constants.is_offline_mode():
        if in_cache := cached_branches(repository):
            return in_cache
        raise SuiteError(
            f"could not list the revisions of {repository!r}: there is no such folder, the Hub is offline "
            "(HF_HUB_OFFLINE), and nothing of it is in the local cache"
        )

    # Otherwise ask the Hub
    try:
        return tuple(branch.name for branch in list_repo_refs(repository).branches)
    except hub_errors() as error:
        in_cache = cached_branches(repository)
        hint = f" (the local cache holds {', '.join(in_cache)})" if in_cache else ""
        raise SuiteError(
            f"could not list the revisions of {repository!r}: there is no such folder, and the Hub answered "
            f"{reason(error)!r}; check the name and the connection, or name the revisions yourself{hint}"
        ) from error


def cached_branches(repository: str) -> tuple[str, ...]:
    """Branches of which the local cache of the Hub holds something, sorted; empty if it does not know the repository.

    The cache has a file ``models--ORG--NAME/refs/BRANCH`` for each branch that was requested.

    Examples:
        >>> cached_branches("nobody/nothing-at-all")
        ()
    """
    from huggingface_hub import constants

    refs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "refs"
    return tuple(sorted(ref.relative_to(refs).as_posix() for ref in refs.rglob("*") if ref.is_file()))
