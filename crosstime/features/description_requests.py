"""Descriptions of features by a language model that somebody else runs: requests out, descriptions and complexity in.

1. `write_description_requests` writes a request for each feature: instructions, and the contexts on which it fires.
2. Any tool sends them to any model, and collects the replies (`crosstime.features.replies` has the form).
3. `read_descriptions` makes the table of `read_annotations`, which `annotate` joins to any other and
   `onset_correlation` compares with onsets.

Do the same with the crosscoder of a null model (`ct.null_models`, kind ``random-weights``): what a model says about the
features of random networks shows how much its descriptions mean.

Sources: *Evolution of Concepts* (arXiv 2509.17196) for complexity from 1 to 5 by a language model; Paulo et al. 2024
(arXiv 2410.13928) and delphi, the code published with it, for highlighted contexts and names of fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crosstime.features.annotation import COLUMNS, LEAST_COMPLEX, MOST_COMPLEX
from crosstime.features.replies import read_replies, write_rows
from crosstime.report.page.context import Context
from user_input.parse_json import JsonError, parse_json

OPENING, CLOSING = "<<", ">>"
"""Signs around tokens on which a feature fires."""
THRESHOLD = 0.3
"""Share of the largest activation of a context from which a token is highlighted."""
INSTRUCTIONS = f"""\
You study features of a language model. A feature is active on some tokens of a text and zero on all others. You are
given texts in which the tokens with the strongest activation stand between {OPENING} and {CLOSING}, and the activation
of each of them on a scale from 1 to 10.

Find what these tokens, or the text before them, have in common. Describe it in one short sentence, as specific as the
texts allow, without mentioning the signs. Then rate how complex it is:
{LEAST_COMPLEX}: a single token or a fixed string
2: variants of a word, or a small set of tokens
3: a grammatical or lexical class, or a short pattern
4: a topic or a relation between several words
{MOST_COMPLEX}: an abstract idea that no list of words expresses

Answer with one JSON object and nothing else: {{"description": "...", "complexity": 3}}
"""
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


def write_description_requests(path: str | Path, contexts: Mapping[int, Sequence[Context]]) -> Path:
    """Write a request for each feature: ``{"id": "f17", "feature": 17, "messages": [...], "contexts": [...]}``.

    A context in the file has delphi's fields ``str_tokens`` and ``activations``, and the name of its task. Features
    that fire on no text have no request.

    Args:
        path: of the file, JSON Lines.
        contexts: for each feature the texts on which it fires most, see `crosstime.features.contexts`.

    Returns:
        The path.

    Raises:
        AnnotationError: no feature has a context, or the file exists already.

    Examples:
        >>> contexts = {3: [Context("mine", ("the", " cats"), (0.0, 2.0))]}
        >>> write_description_requests("requests.jsonl", contexts)  # doctest: +SKIP
    """
    rows = []
    for feature, feature_contexts in contexts.items():
        firing = [context for context in feature_contexts if context.peak > 0]
        if not firing:
            continue
        texts = [f"Text {number}: {_numbered(context)}" for number, context in enumerate(firing, start=1)]
        messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": "\n\n".join(texts)}]
        row = {"id": f"f{feature}", "feature": feature, "messages": messages}
        rows.append(row | {"contexts": [{"task": context.task} | fields(context) for context in firing]})
    return write_rows(path, rows)


def read_descriptions(path: str | Path, features: Sequence[int]) -> pd.DataFrame:
    """Read the replies to `write_description_requests` as annotations.

    The text of a reply has one JSON object with a ``description`` and, optionally, a ``complexity`` from 1 to 5; what
    stands around the object is ignored. A model does not always answer like that: a reply without such an object, and
    a complexity that is no such number, leave their cell empty and say so in the note.

    Args:
        path: of the replies.
        features: the features that were asked about.

    Returns:
        A row for each reply, in the order of `features`: feature, description, complexity (NaN where empty),
        interpretable (empty) and note.

    Raises:
        AnnotationError: a line is no reply, or answers no request or one that has a reply already.

    Examples:
        >>> notes = read_descriptions("replies.jsonl", tables["facts"].feature)  # doctest: +SKIP
    """
    return parse_descriptions(read_replies(path, [f"f{feature}" for feature in features]), features)


def parse_descriptions(replies: Mapping[str, str], features: Sequence[int]) -> pd.DataFrame:
    """The table of `read_descriptions`, from replies that have been read.

    Args:
        replies: the text of each reply by the id of its request, such as ``f17``.
        features: the features that were asked about.

    Examples:
        >>> parse_descriptions({"f3": '{"description": "plural nouns", "complexity": 2}'}, [3]).description.tolist()
        ['plural nouns']
    """
    rows = [
        {"feature": int(feature), "interpretable": ""} | _description(replies[f"f{feature}"])
        for feature in dict.fromkeys(features)
        if f"f{feature}" in replies
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"feature": "int64", "complexity": "float64"})


def fields(context: Context) -> dict[str, Any]:
    """Tokens and activations by delphi's names; an activation that is not finite is null.

    Examples:
        >>> fields(Context("mine", ("a", " b"), (0.0, 2.0)))
        {'str_tokens': ['a', ' b'], 'activations': [0.0, 2.0]}
    """
    activations = [float(value) if math.isfinite(value) else None for value in context.activations]
    return {"str_tokens": list(context.tokens), "activations": activations}


def is_highlighted(context: Context) -> list[bool]:
    """Whether each token's activation is at least `THRESHOLD` of the context's largest.

    Examples:
        >>> is_highlighted(Context("mine", ("a", " b", " c"), (0.1, 2.0, 0.7)))
        [False, True, True]
    """
    return [0 < THRESHOLD * context.peak <= value for value in context.activations]


def highlighted_text(tokens: Sequence[str], mask: Sequence[bool]) -> str:
    """The text of tokens, with signs around every run of tokens of the mask.

    Examples:
        >>> highlighted_text(("the", " c", "ats", " eat"), (False, True, True, False))
        'the<< cats>> eat'
    """
    text, inside = "", False
    for token, marked in zip(tokens, mask, strict=True):
        text += (OPENING if marked and not inside else CLOSING if inside and not marked else "") + token
        inside = marked
    return text + (CLOSING if inside else "")


def _numbered(context: Context) -> str:
    """The highlighted text of a context, and the activation of each highlighted token from 1 to 10."""
    mask = is_highlighted(context)
    strengths = [
        f"{token.strip()!r} {max(1, round(10 * min(1.0, value / context.peak)))}"
        for token, value, marked in zip(context.tokens, context.activations, mask, strict=True)
        if marked
    ]
    return f"{highlighted_text(context.tokens, mask)}\nActivations: {', '.join(strengths)}"


def _description(text: str) -> dict[str, Any]:
    """The cells of a reply."""
    empty = {"description": "", "complexity": None}
    match = _OBJECT.search(text)
    try:
        answer = parse_json(match.group()) if match else None
    except JsonError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("description"), str):
        return empty | {"note": "the reply has no JSON object with a description"}

    complexity = answer.get("complexity")
    row = empty | {"description": answer["description"].strip(), "note": ""}
    if complexity is None:
        return row
    if isinstance(complexity, bool) or not isinstance(complexity, (int, float)):
        return row | {"note": f"the complexity in the reply is no number from {LEAST_COMPLEX} to {MOST_COMPLEX}"}
    if not LEAST_COMPLEX <= complexity <= MOST_COMPLEX:
        return row | {"note": f"the complexity in the reply is no number from {LEAST_COMPLEX} to {MOST_COMPLEX}"}
    return row | {"complexity": float(complexity)}
