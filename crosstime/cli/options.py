"""Arguments and options that several verbs share, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.errors import errors_at
from user_input.home import expanded
from user_input.nearest import similar_beside

if TYPE_CHECKING:
    from crosstime.suites.compute import Compute
    from crosstime.suites.suite import Suite
    from crosstime.suites.text_sample import TextSample
    from interventions import Site
    from tasks import Task

# What is read
SuiteSource = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="A folder of checkpoints, or a Hub repository; or models side by side, as base=PLACE,chat=PLACE, where a "
        "place is a folder, ORG/NAME or ORG/NAME@REVISION.",
        show_default=False,
    ),
]
Revisions = Annotated[
    str | None, typer.Option("--revisions", "-r", help="Checkpoints in order, separated by commas; default: all.")
]
EqualWeights = Annotated[
    bool, typer.Option("--allow-equal-weights", help="Accept checkpoints with the same weight files, and record which.")
]
TrustedCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the Python code that the checkpoints bring.")
]
TextStart = Annotated[
    str, typer.Option("--text-start", help="How documents begin: tokenizer (as it begins a text), none, bos or eos.")
]
TextSource = Annotated[
    str,
    typer.Argument(metavar="TEXT", help="A text file (.txt, .jsonl, also .gz), or a Hub data set written hf:ORG/NAME."),
]
SiteName = Annotated[str, typer.Option("--site", "-s", help="Where in the model, such as resid.3, attn.0, mlp.-1.")]
Sequences = Annotated[int, typer.Option("--sequences", help="Number of sequences of text.")]
Length = Annotated[int, typer.Option("--length", help="Tokens of a sequence.")]

Scales = Annotated[
    str | None, typer.Option("--scales", help="Scales of its checkpoints, separated by commas, if its file has none.")
]

# Tasks
TaskNames = Annotated[
    list[str], typer.Argument(metavar="TASK", help="Tasks by name (see crosstime tasks), or NAME=PATH of its data.")
]
DataPath = Annotated[Path | None, typer.Option("--path", "-p", help="Where the tasks' data are; default: the Hub.")]
PairLimit = Annotated[int | None, typer.Option("--limit", "-n", help="Upper bound of the pairs of a task.")]

SamePrompts = Annotated[
    bool,
    typer.Option(
        "--same-prompts", help="Select features on the prompts on which they are shown, instead of two halves."
    ),
]

# Where results go
SurveyFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the survey: tables, charts, cache.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of samples and of the bootstrap.")]

# Where checkpoints run
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 ...; default: the GPU, if any.")]
DType = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", help="Upper bound of the tokens of a forward pass, padding included."),
]
RemoteHost = Annotated[
    str | None,
    typer.Option("--remote", help="Run checkpoints on an NDIF server: its URL, or hosted; local simulates one."),
]
Sandboxed = Annotated[
    str, typer.Option("--sandboxed", help="Whether that server has no gradients: true, false, or auto, to find out.")
]


def open_suite(
    source: str,
    revisions: str | Sequence[str] | None,
    *,
    allow_equal_weights: bool = False,
    trust_remote_code: bool = False,
    text_start: str = "tokenizer",
    place: str = "SUITE",
) -> Suite:
    """Open a suite, with all checkpoints or with those that are named; or models side by side.

    Args:
        source: the suite as it was typed.
        revisions: as they were typed, or a list that does not come from the command line.
        allow_equal_weights, trust_remote_code, text_start: see `Suite.open`.
        place: the argument or option with which `source` was typed.

    Raises:
        SuiteError: there is no such suite or revision; the sentence names it, and the option.
    """
    from crosstime.suites.checkpoints import refuse_missing_suite
    from crosstime.suites.suite import Suite
    from crosstime.suites.text_start import check_text_start

    # Read the options
    with errors_at("--text-start"):
        check_text_start(text_start)
    names = comma_separated(revisions) if isinstance(revisions, str) else revisions
    named = place if not isinstance(revisions, str) else "--revisions"

    # Models side by side
    with errors_at(place):
        models = named_places(source)
    if models is not None:
        with errors_at(place):
            suite = Suite.of(
                models,
                allow_equal_weights=allow_equal_weights,
                trust_remote_code=trust_remote_code,
                text_start=text_start,
            )
        with errors_at(named):
            return suite if names is None else suite.select(names)

    # A folder is opened first without what else can be wrong, which costs no more than reading names
    opened = partial(
        Suite.open,
        source,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
        text_start=text_start,
    )
    with errors_at(place):
        refuse_missing_suite(source)
        if names is None or expanded(source).is_dir():
            suite = opened()
    with errors_at(named):
        return suite if names is None else opened(names)


def named_places(source: str) -> dict[str, str] | None:
    """The models of ``NAME=PLACE,NAME=PLACE`` by name; None for the place of a suite.

    Raises:
        SuiteError: a name is given twice, or a part is not of this form.

    Examples:
        >>> named_places("base=ORG/NAME,chat=chat")
        {'base': 'ORG/NAME', 'chat': 'chat'}
    """
    from crosstime.errors import SuiteError

    if "=" not in source or expanded(source).is_dir():
        return None
    models: dict[str, str] = {}
    for part in comma_separated(source):
        name, equals, place = (piece.strip() for piece in part.partition("="))
        if not (name and equals and place):
            raise SuiteError(f"models side by side are written NAME=PLACE,NAME=PLACE, not {source!r}")
        if name in models:
            raise SuiteError(f"model {name!r} is given twice in {source!r}")
        models[name] = place
    return models


def refuse_missing_source(source: str, place: str = "SUITE") -> None:
    """Refuse a suite that is not there before PyTorch is loaded for it.

    Raises:
        SuiteError: the sentence names it.
    """
    from crosstime.suites.checkpoints import refuse_missing_suite
    from crosstime.suites.named_models import named_models

    with errors_at(place):
        if (models := named_places(source)) is not None:
            named_models(models)
        else:
            refuse_missing_suite(source)


def open_compute(
    device: str | None,
    dtype: str,
    max_tokens: int | None,
    remote: str | None = None,
    *,
    sandboxed: str = "auto",
    folder: Path | None = None,
    feature_shards: int = 1,
) -> Compute:
    """Where and how checkpoints run.

    With a server, the ids of its jobs are kept in ``FOLDER/jobs.json``, so that the same command finds them again.
    """
    from crosstime.runs.jobs import JobFile
    from crosstime.runs.recipe.remote import RemoteRecipe
    from crosstime.suites.compute import Compute

    # Each option by itself
    with errors_at("--sandboxed"):
        RemoteRecipe(None, {"true": True, "false": False}.get(sandboxed, sandboxed))
    with errors_at("--remote"):
        table = RemoteRecipe(remote, {"true": True, "false": False}.get(sandboxed, sandboxed))
    with errors_at("--device"):
        Compute(device)
    with errors_at("--dtype"):
        Compute(dtype=dtype)
    with errors_at("--max-tokens"):
        Compute(max_tokens=max_tokens)
    with errors_at("--shards"):
        Compute(feature_shards=feature_shards)

    jobs = {} if folder is None else JobFile(folder / "jobs.json")
    return Compute(device, dtype, max_tokens, table.open(jobs), feature_shards)


def load_tasks(names: Sequence[str], path: Path | None, *, limit: int | None, seed: int) -> list[Task]:
    """The tasks that are named, each from its own path (``NAME=PATH``) or from that of all.

    Raises:
        TaskError: there is no such task or file, or two tasks have one name.
    """
    from collections import Counter

    from tasks import TaskError, load
    from tasks.files import must_exist

    # Load each task
    with errors_at("--path"):
        if path is not None:
            must_exist(path)
    loaded: list[Task] = []
    for name in names:
        with errors_at("TASK" if limit is None or limit > 0 else "--limit"):
            loaded.append(load(name, path, limit=limit, seed=seed))

    # Results are kept under their names
    for name, count in Counter(task.name for task in loaded).items():
        if count > 1:
            raise TaskError(
                f"TASK: {count} tasks have the name {name!r}, under which results are kept: give each its own name, "
                f"such as {name}-2=PATH"
            )
    return loaded


def refuse_few_pairs(tasks: Sequence[Task], *, same_prompts: bool) -> None:
    """Refuse tasks that have too few pairs for two halves, unless features are selected on the same prompts.

    Raises:
        CrosstimeError: the sentence names the task and ``--same-prompts``.
    """
    from crosstime.effects.least_prompts import refuse_few_prompts

    if not same_prompts:
        for task in tasks:
            with errors_at("TASK"):
                refuse_few_prompts(task.name, len(task.pairs), instead="--same-prompts")


def refuse_missing_text(*sources: str, place: str = "TEXT") -> None:
    """Refuse text that is not there, or of a kind that is not read, before PyTorch is loaded for it.

    Raises:
        CorpusError: the sentence names the file, and the argument or option with which it was typed.
    """
    from crosstime.suites.read_lines import read_lines

    for source in sources:
        with errors_at(place):
            read_lines(source)


def read_sample(n_sequences: int, length: int) -> TextSample:
    """The sample of ``--sequences`` and ``--length``.

    Raises:
        CorpusError: the sentence names the one that is too small.
    """
    from crosstime.suites.text_sample import TextSample

    with errors_at("--sequences" if n_sequences < 1 else "--length"):
        return TextSample(n_sequences, length)


def read_site(text: str) -> Site:
    """The site of ``--site``.

    Raises:
        SiteError: there is no such component, or it is not written so.
    """
    from interventions import Site

    with errors_at("--site"):
        return Site.parse(text)


def refuse_layer_or_length(suite: Suite, *, site: Site | None = None, length: int | None = None) -> None:
    """Refuse a layer that the models do not have, and sequences that are too long for them, before weights are read.

    Raises:
        SiteError: the layer does not exist; the message names ``--site`` and the valid layers.
        SuiteError: a configuration cannot be read, or ``--length`` is above the largest length of the models.
    """
    n_layers = suite.n_layers
    if site is not None:
        with errors_at("--site"):
            site.resolve(n_layers)
    if length is not None:
        from crosstime.suites.check_length import check_length

        with errors_at("--length"):
            check_length(suite, length)


def refuse_file_as_folder(folder: Path, place: str = "--out") -> None:
    """Refuse a folder for results that is a file, or in which one of the folders above is, before anything is computed.

    Raises:
        RunError: the sentence names it.
    """
    from crosstime.errors import RunError

    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise RunError(f"{place}: {path} is a file, so that no folder {folder} can be made")


def refuse_missing_crosscoder(path: str | Path, place: str = "CROSSCODER") -> None:
    """Refuse a crosscoder that is not there, before PyTorch is loaded for it.

    Raises:
        CrosscoderError: the sentence names the path, and the argument or option with which it was typed.
    """
    from crosstime.errors import CrosscoderError
    from crosstime.machine.part_names import index_of

    whole = expanded(path)
    if not whole.exists() and not index_of(whole).is_file():
        raise CrosscoderError(f"{place}: there is no crosscoder at {path}: {similar_beside(whole)}")


def read_scales(text: str | None) -> list[float] | None:
    """The numbers of ``--scales``; None if the option is not given.

    Raises:
        CrosscoderError: the text is not a list of numbers.

    Examples:
        >>> read_scales("0.25, 2")
        [0.25, 2.0]
    """
    from crosstime.errors import CrosscoderError

    try:
        scales = None if text is None else [float(scale) for scale in comma_separated(text)]
    except ValueError as error:
        raise CrosscoderError(f"--scales takes numbers separated by commas, not {text!r}") from error
    if scales is not None and (not scales or not all(0 < scale < float("inf") for scale in scales)):
        raise CrosscoderError(f"--scales takes positive numbers, not {text!r}")
    return scales


def comma_separated(text: str) -> list[str]:
    """The names of a list that is separated by commas.

    Examples:
        >>> comma_separated("step0, main")
        ['step0', 'main']
    """
    return [name.strip() for name in text.split(",") if name.strip()]
