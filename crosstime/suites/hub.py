"""Which revisions a repository on the Hugging Face Hub has: asked of the Hub, or offline of its local cache."""

from __future__ import annotations

from pathlib import Path

from crosstime.errors import SuiteError
from user_input.first_line import first_line


def branches(repository: str) -> tuple[str, ...]:
    """Names of a repository's branches: as the Hub lists them, or offline, those of which the cache holds something.

    Offline is what ``HF_HUB_OFFLINE=1`` makes of the Hub's client: then nothing but the cache is there.

    Raises:
        SuiteError: the Hub cannot be reached or has no such repository; names what the cache holds of it. Or it is
            offline, and the cache holds nothing.

    Examples:
        >>> branches("EleutherAI/pythia-1b")[:2]  # doctest: +SKIP
        ('step99000', 'step98000')
    """
    from httpx import HTTPError
    from huggingface_hub import constants, list_repo_refs
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.is_offline_mode():
        if held := cached(repository):
            return held
        raise SuiteError(
            f"could not list the revisions of {repository!r}: there is no such folder, the Hub is offline "
            "(HF_HUB_OFFLINE), and nothing of it is in the local cache"
        )
    try:
        return tuple(branch.name for branch in list_repo_refs(repository).branches)
    except (OSError, HfHubHTTPError, HFValidationError, HTTPError) as error:
        held = cached(repository)
        kept = f" (the local cache holds {', '.join(held)})" if held else ""
        raise SuiteError(
            f"could not list the revisions of {repository!r}: there is no such folder, and the Hub answered "
            f"{first_line(error)!r}; check the name and the connection, or name the revisions yourself{kept}"
        ) from error


def cached(repository: str) -> tuple[str, ...]:
    """Branches of which the local cache of the Hub holds something, sorted; none where it knows no such repository.

    The cache keeps a file ``models--ORG--NAME/refs/BRANCH`` for each branch that was asked for.

    Examples:
        >>> cached("nobody/nothing-at-all")
        ()
    """
    from huggingface_hub import constants

    refs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "refs"
    return tuple(sorted(ref.relative_to(refs).as_posix() for ref in refs.rglob("*") if ref.is_file()))
