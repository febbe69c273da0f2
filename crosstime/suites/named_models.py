"""Models under names of the caller's: folders, repositories, adapters of peft, and models in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from crosstime.errors import SuiteError
from crosstime.suites.checkpoints import Checkpoint, is_repository_id
from interventions.adapter import CONFIG
from user_input.home import expanded


def named_models(models: Mapping[str, object]) -> tuple[Checkpoint, ...]:
    """The models as checkpoints, of which no step and no number of tokens is known.

    Args:
        models: folders, repositories ``ORG/NAME`` or ``ORG/NAME@REVISION``, and models in memory, by name.

    Raises:
        SuiteError: there are none, or one is of another kind; the sentence names it.
        InterventionError: a model in memory cannot be used.
    """
    if not isinstance(models, Mapping) or not models:
        raise SuiteError("name at least one model, as in Suite.of({'base': 'ORG/NAME', 'chat': 'ORG/NAME@main'})")
    checkpoints: list[Checkpoint] = []
    for name, source in models.items():
        if not isinstance(name, str) or not name.strip() or name != name.strip() or "," in name:
            raise SuiteError(f"the name of a model is a text without commas or outer blanks, not {name!r}")
        if isinstance(source, str | os.PathLike):
            checkpoints.append(_at(name, source))
            continue

        # A model in memory
        from interventions.given_model import KINDS, given_model

        in_memory = given_model(source)
        if in_memory is None:
            raise SuiteError(f"model {name!r} must be a folder, a repository, or {KINDS}, not {source!r}")
        kind = type(in_memory.model).__name__
        checkpoints.append(
            Checkpoint(name, None, None, f"{kind} in memory", None, in_memory.model, in_memory.tokenizer)
        )
    return tuple(checkpoints)


def _at(name: str, source: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a folder or a repository."""
    location = os.fspath(source)
    folder = expanded(location)
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", CONFIG)):
            inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
            advice = f"; its folder {inside[0]} is one" if inside else ""
            raise SuiteError(f"model {name!r}: {folder} has neither a config.json nor an adapter_config.json{advice}")
        return Checkpoint(name, None, None, str(folder), None)

    # A repository, with its revision behind the last @
    repository, at, revision = location.partition("@")
    if isinstance(source, Path) or not is_repository_id(repository) or not repository or (at and not revision):
        raise SuiteError(
            f"model {name!r}: there is no folder {location}, and it is not a Hub repository id (ORG/NAME or "
            "ORG/NAME@REVISION)"
        )
    return Checkpoint(name, None, None, repository, revision or "main")
