"""Choose the features of a dictionary that are described, and write their texts and the first requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from crosstime.crosscoders.decompose import DecomposedText, decompose_text
from crosstime.errors import AnnotationError
from crosstime.features.contexts import corpus_contexts, silent_contexts
from crosstime.features.description_requests import fields, write_description_requests
from crosstime.features.replies import read_rows, write_rows
from crosstime.machine.storage import atomic_path, write_json, write_table
from crosstime.report.page.context import Context
from crosstime.runs.descriptions.options import DescribeOptions
from crosstime.runs.descriptions.sources import Source
from crosstime.runs.stages.evolve import FOLDER
from crosstime.suites.text_sample import TextSample

Contexts = dict[int, list[Context]]


def write_source(source: Source, options: DescribeOptions) -> None:
    """Write the folder of a source, complete or not at all: features, unseen and silent texts, and requests.

    Features that fire on no text of the sample are not described. The texts from which a feature is described and those
    by which the description is scored are every second one of the strongest, so that neither are stronger.

    Args:
        source: the dictionary.
        options: which features, and how many texts.
    """
    text = _text(source, options)
    table = _features(source, text, options.features, options.seed)
    features, tokenizer = table.feature.tolist(), source.inputs.suite.tokenizer
    firing = corpus_contexts(text, features, tokenizer, most=options.shown + options.unseen)
    halves = {feature: halved(contexts, options.shown, options.unseen) for feature, contexts in firing.items()}
    silent = silent_contexts(text, features, tokenizer, most=options.unseen, seed=options.seed)

    # All files at once
    source.folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(source.folder) as temporary:
        temporary.mkdir()
        write_json(temporary / source.RECORD, {"source": source.name, "key": source.stage_key})
        write_table(temporary / source.FEATURES, table)
        if not features:
            return
        rows = [
            {"id": f"f{f}", "feature": f, "unseen": list(map(fields, halves[f][1])), "silent": list(map(fields, texts))}
            for f, texts in silent.items()
        ]
        write_rows(temporary / source.CONTEXTS, rows)
        write_description_requests(temporary / source.DESCRIBE, {f: shown for f, (shown, _) in halves.items()})


def halved(contexts: Sequence[Context], shown: int, unseen: int) -> tuple[list[Context], list[Context]]:
    """Divide texts by turns into those that are shown and those that are not, at most as many as asked for.

    Examples:
        >>> texts = [Context("mine", ("a",), (float(peak),)) for peak in (5, 4, 3, 2)]
        >>> [[context.peak for context in half] for half in halved(texts, 3, 1)]
        [[5.0, 3.0, 2.0], [4.0]]
    """
    halves: tuple[list[Context], list[Context]] = ([], [])
    most = (shown, unseen)
    turn = 0
    for context in contexts:
        if len(halves[turn]) == most[turn]:
            turn = 1 - turn
        if len(halves[turn]) < most[turn]:
            halves[turn].append(context)
            turn = 1 - turn
    return halves


def read_contexts(path: Path) -> tuple[Contexts, Contexts]:
    """The unseen texts on which each feature fires, and those on which it does not, as `write_source` wrote them.

    Raises:
        AnnotationError: the file is missing, or a row does not have the fields that `write_source` writes.
    """
    unseen: Contexts = {}
    silent: Contexts = {}
    for place, row in read_rows(path):
        if type(row.get("feature")) is not int:
            raise AnnotationError(f"{place} has no texts of a feature: move the folder away to begin again")
        unseen[row["feature"]] = [_context(place, item) for item in _list(row.get("unseen"))]
        silent[row["feature"]] = [_context(place, item) for item in _list(row.get("silent"))]
    return unseen, silent


def _text(source: Source, options: DescribeOptions) -> DecomposedText:
    """The held-out text, decomposed."""
    inputs = source.inputs
    length = inputs.recipe.corpus.sequence_length
    sample = TextSample(max(1, options.tokens // length), length)
    corpus = inputs.corpus(held_out=True)
    return decompose_text(inputs.compared, source.results.crosscoder, corpus, sample=sample, compute=inputs.compute)


def _features(source: Source, text: DecomposedText, n: int, seed: int) -> pd.DataFrame:
    """The features to describe: feature, drawn, selected, onset, peak."""
    live = torch.unique(text.codes.feature)
    order = torch.randperm(len(live), generator=torch.Generator().manual_seed(seed))
    drawn = set(live[order[:n]].tolist())
    selected = set(source.results.table("effects").feature.tolist()) & set(live.tolist())
    features = sorted(drawn | selected)
    table = pd.DataFrame({"feature": pd.Series(features, dtype="int64")})
    table = table.assign(drawn=table.feature.isin(drawn), selected=table.feature.isin(selected))
    evolution = source.results.table(f"{FOLDER}/evolution")
    return table.merge(evolution[["feature", "onset", "peak"]], on="feature", how="left")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _context(place: str, item: Any) -> Context:
    """A text from its fields by delphi's names."""
    fields_of: Mapping[str, Any] = item if isinstance(item, dict) else {}
    tokens, activations = fields_of.get("str_tokens"), fields_of.get("activations")
    valid = (
        isinstance(tokens, list)
        and isinstance(activations, list)
        and len(tokens) == len(activations)
        and all(isinstance(token, str) for token in tokens)
        and all(value is None or type(value) in (int, float) for value in activations)
    )
    if not valid or not isinstance(tokens, list) or not isinstance(activations, list):
        raise AnnotationError(f"{place} has no texts of a feature: move the folder away to begin again")
    values = tuple(float("nan") if value is None else float(value) for value in activations)
    return Context(task="corpus", tokens=tuple(tokens), activations=values, source="corpus")
