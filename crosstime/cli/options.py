"""Arguments and options that several verbs share, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from user_input.home import expanded

if TYPE_CHECKING:
    from crosstime.suites.compute import Compute
    from crosstime.suites.suite import Suite
    from tasks import Task

# What is read
SuiteSource = Annotated[
    str,
    typer.Argument(
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
    str, typer.Argument(help="A text file (.txt, .jsonl, also .gz), or a Hub data set written hf:ORG/NAME.")
]
SiteName = Annotated[str, typer.Option("--site", "-s", help="Where in the model, such as resid.3, attn.0, mlp.-1.")]
Sequences = Annotated[int, typer.Option("--sequences", help="Number of sequences of text.")]
Length = Annotated[int, typer.Option("--length", help="Tokens of a sequence.")]

Scales = Annotated[
    str | None, typer.Option("--scales", help="Scales of its checkpoints, separated by commas, if its file has none.")
]

# Tasks
TaskNames = Annotated[
    list[str], typer.Argument(metavar="TASK...", help="Tasks by name (see crosstime tasks), or NAME=PATH of its data.")
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
) -> Suite:
    """Open a suite, with all checkpoints or with those that are named; or models side by side.

    Raises:
        SuiteError: there is no such suite or revision; the sentence names it.
    """
    from crosstime.suites.suite import Suite

    names = comma_separated(revisions) if isinstance(revisions, str) else revisions
    if (models := named_places(source)) is not None:
        suite = Suite.of(
            models,
            allow_equal_weights=allow_equal_weights,
            trust_remote_code=trust_remote_code,
            text_start=text_start,
        )
        return suite if names is None else suite.select(names)
    return Suite.open(
        source,
        names,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
        text_start=text_start,
    )


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


def refuse_missing_source(source: str) -> None:
    """Refuse a suite that is not there before PyTorch is loaded for it.

    Raises:
        SuiteError: the sentence names it.
    """
    from crosstime.suites.checkpoints import refuse_missing_suite
    from crosstime.suites.named_models import named_models

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

    table = RemoteRecipe(remote, {"true": True, "false": False}.get(sandboxed, sandboxed))
    jobs = {} if folder is None else JobFile(folder / "jobs.json")
    return Compute(device, dtype, max_tokens, table.open(jobs), feature_shards)


def load_tasks(names: Sequence[str], path: Path | None, *, limit: int | None, seed: int) -> list[Task]:
    """The tasks that are named, each from its own path (``NAME=PATH``) or from that of all.

    Raises:
        TaskError: there is no such task or file, or two tasks have one name.
    """
    from collections import Counter

    from tasks import TaskError, load

    loaded = [load(name, path, limit=limit, seed=seed) for name in names]
    for name, count in Counter(task.name for task in loaded).items():
        if count > 1:
            raise TaskError(
                f"{count} tasks have the name {name!r}, under which results are kept: give each a name of its own, "
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
            refuse_few_prompts(task.name, len(task.pairs), instead="--same-prompts")


def refuse_missing_text(*sources: str) -> None:
    """Refuse text that is not there, or of a kind that is not read, before PyTorch is loaded for it.

    Raises:
        CorpusError: the sentence names the file.
    """
    from crosstime.suites.read_lines import read_lines

    for source in sources:
        read_lines(source)


def refuse_missing_crosscoder(path: str | Path) -> None:
    """Refuse a crosscoder that is not there, before PyTorch is loaded for it.

    Raises:
        CrosscoderError: the sentence names the path.
    """
    from crosstime.errors import CrosscoderError
    from crosstime.machine.part_names import index_of

    whole = expanded(path)
    if not whole.exists() and not index_of(whole).is_file():
        raise CrosscoderError(f"there is no crosscoder at {path}")


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
        return None if text is None else [float(scale) for scale in comma_separated(text)]
    except ValueError as error:
        raise CrosscoderError(f"--scales takes numbers separated by commas, not {text!r}") from error


def comma_separated(text: str) -> list[str]:
    """The names of a list that is separated by commas.

    Examples:
        >>> comma_separated("step0, main")
        ['step0', 'main']
    """
    return [name.strip() for name in text.split(",") if name.strip()]
