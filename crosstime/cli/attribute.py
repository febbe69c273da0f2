"""``crosstime attribute SUITE CROSSCODER TASK...``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosstime.cli.options import (
    DataPath,
    Device,
    DType,
    EqualWeights,
    MaxTokens,
    PairLimit,
    RemoteHost,
    SamePrompts,
    Sandboxed,
    Seed,
    SuiteSource,
    TaskNames,
    TrustedCode,
)

if TYPE_CHECKING:
    from crosstime.crosscoders.crosscoder import CrossCoder
    from crosstime.suites.suite import Suite

CrosscoderPath = Annotated[
    str,
    typer.Argument(
        metavar="CROSSCODER",
        help="A crosscoder: a file or folder in any format, the folder of a run, or ORG/NAME on the Hub.",
    ),
]
EstimatorName = Annotated[
    str, typer.Option("--estimator", help="How effects are estimated: default, ctt-as-written or ctt-as-released.")
]
BaselineName = Annotated[
    str | None, typer.Option("--baseline", help="What features move to: zero, mean, resample or patch.")
]


def attribute(
    suite: SuiteSource,
    crosscoder: CrosscoderPath,
    names: TaskNames,
    path: DataPath = None,
    limit: PairLimit = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Features selected at each checkpoint and task, by |IE|.")
    ] = 10,
    estimator: EstimatorName = "default",
    baseline: BaselineName = None,
    same_prompts: SamePrompts = False,
    allow_equal_weights: EqualWeights = False,
    trust_remote_code: TrustedCode = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the tables.")] = Path("effects"),
    seed: Seed = 0,
    device: Device = None,
    dtype: DType = "float32",
    max_tokens: MaxTokens = None,
    remote: RemoteHost = None,
    sandboxed: Sandboxed = "auto",
) -> None:
    """Find which features of a crosscoder cause the answers to tasks, and at which checkpoints.

    Writes effects.csv to OUT: indirect effect, RelIE and RelDec with intervals, and classes of the selected features;
    completeness.csv, how far the effects add up to the change of the metric; and contexts.json, the prompts on which
    the selected features fire most, for crosstime report and crosstime annotate. Features are selected on one half of
    the prompts, and effects.csv has their effects on the other.
    """
    from crosstime.cli.options import (
        load_tasks,
        open_compute,
        refuse_few_pairs,
        refuse_file_as_folder,
        refuse_missing_source,
    )
    from crosstime.errors import errors_at

    # Read the options, without PyTorch
    refuse_file_as_folder(out)
    compute = open_compute(device, dtype, max_tokens, remote, sandboxed=sandboxed, folder=out)
    loaded_tasks = load_tasks(names, path, limit=limit, seed=seed)
    refuse_few_pairs(loaded_tasks, same_prompts=same_prompts)
    refuse_missing_source(suite)
    refuse_missing_path(crosscoder)

    # Attribute each task
    from dataclasses import replace

    import pandas as pd

    from crosstime.crosscoders.decompose import refuse_baseline
    from crosstime.effects.attribute import attribute as attribute_task
    from crosstime.effects.refuse_missing_gradients import refuse_missing_gradients
    from crosstime.features.contexts import contexts
    from interventions import Bootstrap, Estimator

    with errors_at("--estimator"):
        method = Estimator.named(estimator)
    if baseline is not None:
        for task in loaded_tasks:
            with errors_at("--baseline"):
                refuse_baseline(baseline, task)
        method = replace(method, baseline=baseline)
    checkpoints, loaded = open_pair(
        suite, crosscoder, allow_equal_weights=allow_equal_weights, trust_remote_code=trust_remote_code
    )
    with errors_at("--estimator"):
        refuse_missing_gradients(checkpoints, compute, method)
    attributions = [
        attribute_task(checkpoints, loaded, task, method, seed=seed, compute=compute) for task in loaded_tasks
    ]
    halves = [attribution.selection_and_test(halves=not same_prompts, seed=seed) for attribution in attributions]
    bootstrap = Bootstrap(seed=seed)
    tables = [held_out.table(selection.top(top), bootstrap=bootstrap) for selection, held_out in halves]
    effects = pd.concat(tables, ignore_index=True)
    completeness = pd.DataFrame(
        [
            {"task": attribution.task, "revision": revision, "completeness_error": error}
            for attribution in attributions
            for revision, error in attribution.completeness().items()
        ]
    )

    # The prompts on which they fire
    features = list(dict.fromkeys(effects.feature.tolist()))
    by_task = [
        contexts(attribution.decomposed, features, checkpoints.tokenizer, attribution=attribution)
        for attribution in attributions
    ]
    prompts = {feature: [context for task in by_task for context in task[feature]] for feature in features}

    # Write and print
    from rich.console import Console

    from crosstime.cli.output import print_paths, print_traffic
    from crosstime.cli.tables import effects_table
    from crosstime.machine.storage import write_table
    from crosstime.runs.stored_contexts import write_contexts

    write_table(out / "effects.csv", effects)
    write_table(out / "completeness.csv", completeness)
    write_contexts(out / "contexts.json", prompts)
    console = Console()
    for table in tables:
        console.print(effects_table(table))
    print_traffic(console, compute)
    print_paths(console, [out / name for name in ("effects.csv", "completeness.csv", "contexts.json")])


def refuse_missing_path(crosscoder: str) -> None:
    """Refuse a crosscoder that is neither a path nor in the form of a repository, before PyTorch is loaded for it.

    Raises:
        CrosscoderError: the sentence names it.
    """
    from crosstime.cli.options import refuse_missing_crosscoder
    from crosstime.suites.checkpoints import is_repository_id

    repository = crosscoder.partition("@")[0]
    if not ("/" in repository and is_repository_id(repository)):
        refuse_missing_crosscoder(crosscoder)


def open_pair(
    suite: str, crosscoder: str, *, allow_equal_weights: bool, trust_remote_code: bool
) -> tuple[Suite, CrossCoder]:
    """A crosscoder, and the checkpoints of a suite that it was trained on."""
    from crosstime.cli.options import open_suite
    from crosstime.crosscoders.open_crosscoder import as_crosscoder
    from crosstime.crosscoders.training_setting import trained_checkpoints
    from crosstime.errors import errors_at

    with errors_at("CROSSCODER"):
        loaded = as_crosscoder(crosscoder)
    opened = open_suite(
        suite,
        loaded.origin.revisions,
        allow_equal_weights=allow_equal_weights,
        trust_remote_code=trust_remote_code,
    )
    with errors_at("SUITE"):
        return trained_checkpoints(opened, loaded), loaded
