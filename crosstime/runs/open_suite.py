"""Open the checkpoints that a recipe names; an error names the key of ``[suite]`` that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crosstime.errors import SuiteError, errors_at
from crosstime.runs.recipe.shipped_recipes import shipped_recipes
from crosstime.runs.recipe.suite import SuiteRecipe
from crosstime.suites.checkpoints import refuse_missing_suite
from crosstime.suites.suite import Suite
from user_input.home import expanded


def open_suite(table: SuiteRecipe, run: str, *, trained_here: str | None, text_start: str) -> Suite:
    """The suite of a recipe, with every checkpoint at which accuracy is measured.

    Args:
        table: ``[suite]``.
        run: name of the run, which a suite without a name takes.
        trained_here: folder of a suite that the run itself trains; None for one that exists.
        text_start: how documents of text begin.

    Raises:
        SuiteError: there is no such suite or revision.
    """
    if table.models:
        return _open_models(table, run, text_start)

    def opened(revisions: Sequence[str] | None = None, tokens_per_step: int | None = None) -> Suite:
        return Suite.open(
            trained_here or table.source,
            revisions,
            name=table.name or (run if trained_here else None),
            tokenizer=table.tokenizer,
            tokens_per_step=tokens_per_step,
            allow_equal_weights=table.allow_equal_weights,
            trust_remote_code=table.trust_remote_code,
            text_start=text_start,
        )

    # A folder is opened first without what else can be wrong, which costs no more than reading names
    here = expanded(trained_here or table.source).is_dir()
    with errors_at("suite.source"):
        refuse_missing_suite(trained_here or table.source)
        if here or table.revisions is None:
            suite = opened()
    with errors_at("suite.revisions"):
        if table.revisions is not None:
            suite = opened(table.revisions)
    with errors_at("suite.tokens_per_step"):
        return suite if table.tokens_per_step is None else opened(table.revisions, table.tokens_per_step)


def _refuse_missing_run(models: Mapping[str, str]) -> None:
    """Refuse a folder of a suite that another shipped recipe trains, with the command that does."""
    for name, source in models.items():
        folder, parts = expanded(source), Path(source).parts
        if "suite" not in parts[1:] or folder.is_dir():
            continue
        run = parts[parts.index("suite", 1) - 1]
        if run in shipped_recipes():
            runs = Path(*parts[: parts.index("suite", 1) - 1])
            command = f"crosstime run {run} --runs {runs}"
            raise SuiteError(f"model {name!r}: there is no folder {source}; the recipe {run} makes it: {command}")


def _open_models(table: SuiteRecipe, run: str, text_start: str) -> Suite:
    """Models side by side."""
    with errors_at("suite.models"):
        _refuse_missing_run(table.models)
        suite = Suite.of(
            table.models,
            name=table.name or run,
            tokenizer=table.tokenizer,
            allow_equal_weights=table.allow_equal_weights,
            trust_remote_code=table.trust_remote_code,
            text_start=text_start,
        )
    with errors_at("suite.revisions"):
        return suite if table.revisions is None else suite.select(table.revisions)
