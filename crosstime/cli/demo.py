"""``crosstime demo``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from crosstime.cli.run import DRY_RUN, FORCE, OVERRIDES, RUNS, execute


def demo(
    runs: Annotated[Path, RUNS] = Path("runs"),
    overrides: Annotated[list[str] | None, OVERRIDES] = None,
    force: Annotated[list[str] | None, FORCE] = None,
    dry_run: Annotated[bool, DRY_RUN] = False,
) -> None:
    """Train a tiny suite on a generated grammar, and find out when its features begin to matter.

    Needs no data and no network, and about two minutes on two cores. A small GPT-NeoX learns subject-verb
    agreement; on the way it agrees with the nearest noun. A crosscoder of three of its checkpoints shows which
    features do that, and which replace them.
    """
    from crosstime.runs.recipe.recipe import Recipe

    execute(Recipe.named("demo", overrides or ()), runs, force=force or [], dry_run=dry_run)
