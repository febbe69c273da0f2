"""``crosstime demo``"""

from __future__ import annotations

from pathlib import Path

from crosstime.cli.run import DryRun, Forced, Overrides, RunsFolder, execute, open_recipe


def demo(
    runs: RunsFolder = Path("runs"),
    overrides: Overrides = None,
    force: Forced = None,
    dry_run: DryRun = False,
) -> None:
    """Train a tiny suite on a generated grammar, and find out when its features become causal.

    Needs no data and no network, and takes about two minutes on two cores. A small GPT-NeoX learns subject-verb
    agreement; on the way it agrees with the nearest noun. A crosscoder of three of its checkpoints shows which
    features do that, and which ones replace them.
    """
    execute(open_recipe("demo", overrides or []), runs, force=force or [], dry_run=dry_run)
