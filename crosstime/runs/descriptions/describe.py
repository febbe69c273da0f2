"""Describe the features of a run by a language model, beside those of its null models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from crosstime.display import Display
from crosstime.errors import RunError
from crosstime.evolution.null_names import RANDOM
from crosstime.features.description_requests import parse_descriptions
from crosstime.features.endpoint import Endpoint
from crosstime.features.request_cost import TokenPrices
from crosstime.features.send_requests import send_requests
from crosstime.machine.lock import exclusive, lock_holder
from crosstime.machine.storage import read_table, write_json, write_table
from crosstime.runs.descriptions.options import FOLDER, OPTIONS, DescribeOptions, recorded_options
from crosstime.runs.descriptions.progress import remaining_cost
from crosstime.runs.descriptions.request_files import RequestFiles
from crosstime.runs.descriptions.score_requests import keep_score_requests
from crosstime.runs.descriptions.sentences import FEATURES, SOURCES, description_sentences, description_tables
from crosstime.runs.descriptions.sources import Source, sources
from crosstime.runs.descriptions.tables import feature_table, source_table
from crosstime.runs.descriptions.write_source import write_source
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.manifest import LOCK
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recorded_recipe import recorded_recipe, refuse_unfinished
from crosstime.runs.run import run
from interventions import Bootstrap
from user_input.home import expanded


@dataclass(frozen=True, eq=False, repr=False)
class Descriptions(Display):
    """The state of the descriptions of a run: what is waited for or, at the end, the results.

    Attributes:
        folder: of the descriptions, in that of the run.
        waiting: files of requests without a reply to each, with the file in which the replies belong; empty if all is
            done.
        complexity: one row for each feature, of the run and of its null models; see ``docs/results.md``. It is empty
            before all features are described.
        sources: one row for the run and for each training of a null model.
        sentences: the findings.
    """

    folder: Path
    waiting: Mapping[Path, Path]
    complexity: pd.DataFrame
    sources: pd.DataFrame
    sentences: Sequence[str]

    def headline(self) -> str:
        """What is next, or the findings."""
        steps = [f"Send the requests of {asked}, replies in {replies}." for asked, replies in self.waiting.items()]
        return " ".join([*steps, *self.sentences])

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by their titles."""
        return {"the run and its null models": self.sources, "features": self.complexity}


def describe(
    folder: str | Path,
    changes: Mapping[str, int] | None = None,
    *,
    endpoint: Endpoint | None = None,
    prices: TokenPrices | None = None,
    dry_run: bool = False,
    announce: Callable[[str], None] = lambda line: None,
) -> Descriptions:
    """Have a language model describe features of a finished run and of its null models, and score the descriptions.

    Each call does what is possible, and returns what is next:

    1. Features are drawn, texts on which they fire are found, and requests for descriptions and complexity are written.
    2. Once each request has a reply, requests are written that score the descriptions by detection and fuzzing.
    3. Once these have replies as well, tables and findings are written, and the report again.

    With an endpoint, requests are sent and all steps are done. Without one, any tool can send them: replies belong in
    the file that ``waiting`` names. The features of all null models that the run has get the same requests.

    Args:
        folder: the folder of the run.
        changes: values of `DescribeOptions` that differ from the defaults, by their names. They are recorded, and a
            later call may leave them out.
        endpoint: the model that is asked.
        prices: of a million tokens, for the estimate.
        dry_run: write requests and announce the estimate, but send nothing.
        announce: called with a line for each step.

    Returns:
        The files of requests that wait for replies or, once there are none, the tables and the findings.

    Raises:
        RunError: the folder holds no finished run, or a process works in it.
        AnnotationError: an option that is not allowed or differs from what was recorded, or replies that answer other
            requests.
        EndpointError: the endpoint refuses a request, or does not answer it.

    Examples:
        >>> ct.describe("runs/demo", {"features": 50}).waiting  # doctest: +SKIP
        >>> ct.describe("runs/demo", endpoint=Endpoint("http://127.0.0.1:8000/v1", "my-model"))  # doctest: +SKIP
    """
    path = expanded(folder)
    root = path / FOLDER
    options = recorded_options(root, changes or {})
    refuse_unfinished(path, ("report",))
    if (holder := lock_holder(path / LOCK)) is not None:
        raise RunError(f"a run is going on in {path} ({holder}): wait until it ends")
    recipe = replace(recorded_recipe(path, advice="run the recipe again with this version"), name=path.resolve().name)
    if recipe.rows.matrices:
        raise RunError(
            f"run {path} is one on rows of parameters, which has no texts on which features fire: describe its "
            "features with crosstime annotate"
        )

    with exclusive(root / ".lock", work="a command that describes features", instead="describe another run"):
        described = sources(Inputs(recipe, RunFolder(path)))
        _write_requests(described, options, root, announce)
        _announce_cost(described, options, prices, announce)
        if not dry_run:
            _take_steps(described, options, endpoint, announce)
        if (sentence := _missing_null(recipe, path)) is not None:
            announce(sentence)
        complete = not any(source.first_files.unanswered for source in described)
        changed = complete and _write_tables(described, recipe, root)
    if changed:
        # The report shows them
        run(recipe, path.resolve().parent, announce=announce)
    return _result(path, described, complete=complete)


def _write_requests(
    described: Sequence[Source], options: DescribeOptions, root: Path, announce: Callable[[str], None]
) -> None:
    """Write the requests of sources that have none; those of null models that were made later come on their own."""
    if not any(source.folder.exists() for source in described):
        write_json(root / OPTIONS, asdict(options))
    for source in described:
        if not source.folder.exists():
            write_source(source, options)
            n = len(read_table(source.folder / source.FEATURES))
            announce(f"{source.name}: wrote requests about {n} features")
        source.refuse_other_dictionary()


def _announce_cost(
    described: Sequence[Source],
    options: DescribeOptions,
    prices: TokenPrices | None,
    announce: Callable[[str], None],
) -> None:
    """Say what is left to send, with the scores of descriptions that are not there yet."""
    cost = remaining_cost(described, prices, options.seed)
    if cost.requests:
        announce(f"left to send, scores included: {cost}")


def _take_steps(
    described: Sequence[Source],
    options: DescribeOptions,
    endpoint: Endpoint | None,
    announce: Callable[[str], None],
) -> None:
    """Send requests, and write those that follow from the replies."""
    for source in described:
        if endpoint is not None and source.first_files.requests_path.exists():
            _send(source, source.first_files, endpoint, announce)
    for source in described:
        if source.first_files.unanswered or not source.first_files.requests_path.exists():
            continue
        features = read_table(source.folder / source.FEATURES).feature.tolist()
        notes = parse_descriptions(source.first_files.replies, features)
        if not keep_score_requests(source, notes, options.seed):
            announce(f"{source.name}: no feature has a description and texts to score it by")
        elif endpoint is not None:
            _send(source, source.second_files, endpoint, announce)


def _write_tables(described: Sequence[Source], recipe: Recipe, root: Path) -> bool:
    """Write the tables; whether they are other than before."""
    before = [(root / f"{name}.csv").read_bytes() if (root / f"{name}.csv").exists() else b"" for name in _TABLES]
    features = pd.concat([feature_table(source) for source in described], ignore_index=True)
    bootstrap = Bootstrap(resamples=2_000, seed=recipe.seed)
    revisions = described[0].inputs.compared.revisions
    write_table(root / f"{FEATURES}.csv", features)
    write_table(root / f"{SOURCES}.csv", source_table(features, revisions, bootstrap=bootstrap))
    return before != [(root / f"{name}.csv").read_bytes() for name in _TABLES]


def _result(path: Path, described: Sequence[Source], *, complete: bool) -> Descriptions:
    """The state of the descriptions."""
    waiting = {}
    for source in described:
        for files in (source.first_files, source.second_files):
            if files.unanswered:
                waiting[files.requests_path] = files.replies_path
    tables = description_tables(path) if complete else {}
    return Descriptions(
        folder=path / FOLDER,
        waiting=waiting,
        complexity=tables.get(FEATURES, pd.DataFrame()),
        sources=tables.get(SOURCES, pd.DataFrame()),
        sentences=description_sentences(path) if complete else [],
    )


_TABLES = (FEATURES, SOURCES)


def _missing_null(recipe: Recipe, path: Path) -> str | None:
    """What a run without the null model of random weights lacks, and how to make it."""
    if RANDOM in recipe.null.kinds:
        return None
    kinds = " ".join(f"--kind {kind}" for kind in [*recipe.null.kinds, RANDOM])
    return (
        f"the run has no null model of random weights to compare with: 'crosstime null {path} {kinds}' makes it, and "
        "this command then describes its features as well"
    )


def _send(source: Source, files: RequestFiles, endpoint: Endpoint, announce: Callable[[str], None]) -> None:
    """Send the requests of a source that have no reply, with its name before each announcement."""
    send_requests(
        files.requests_path, files.replies_path, endpoint, announce=lambda line: announce(f"{source.name}: {line}")
    )
