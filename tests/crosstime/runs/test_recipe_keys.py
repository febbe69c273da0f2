"""Every key of every table of a recipe: a wrong type, a value out of range and a misspelt key are named.

The keys are read from the dataclasses, so that a new one fails here until it is in `OUT_OF_RANGE` or in `ANY_VALUE`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recipe_text import RECIPE_TEXT

from crosstime.errors import RecipeError
from crosstime.runs.recipe.build import _hint
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe, recipe_of_kind
from crosstime.runs.recipe.recipe import Recipe
from crosstime.training.kinds import KINDS


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a recipe: its table as dotted names, its name, the type of its values, and the kind of crosscoder."""

    table: str
    name: str
    hint: Any
    kind: str | None = None

    @property
    def path(self) -> str:
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def where(self) -> str:
        """The table as sentences write it."""
        return self.table.replace(".0", "[0]")

    @property
    def id(self) -> str:
        return f"{self.path}-{self.kind}" if self.kind else self.path

    def overrides(self, value: str) -> list[str]:
        kind = [] if self.kind is None else [f"crosscoder.kind={self.kind}"]
        return [*kind, f"{self.path}={value}"]


def keys_of(cls: type, table: str = "", kind: str | None = None) -> Iterator[Key]:
    for field in dataclasses.fields(cls):
        hint = _hint(cls, field.name)
        path = f"{table}.{field.name}" if table else field.name
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is list else None
        if not field.init or path == "compute.remote":  # which is the table [remote] in a recipe
            continue
        if hint is CrosscoderRecipe:
            for name in KINDS:
                yield from keys_of(recipe_of_kind({"kind": name})[0], path, name)
        elif dataclasses.is_dataclass(hint):
            yield from keys_of(hint, path, kind)
        elif dataclasses.is_dataclass(inner):
            yield from keys_of(inner, f"{path}.0", kind)
        else:
            yield Key(table, field.name, hint, kind)


KEYS = list(keys_of(Recipe))
EVERY_KEY = pytest.mark.parametrize("key", KEYS, ids=[key.id for key in KEYS])

OUT_OF_RANGE = {
    # Value, and what the sentence says is allowed
    "name": ('"a/b"', "letters, digits, '-', '_' and '.'"),
    "seed": ("-1", "at least 0"),
    "suite.source": ('""', "'source'"),
    "suite.models": ('{x = "y"}', "not both"),
    "suite.revisions": ("[]", "a list of checkpoints"),
    "suite.name": ('""', "a text"),
    "suite.tokenizer": ('""', "a folder or a repository"),
    "suite.tokens_per_step": ("0", "at least 1"),
    "suite.tiny.architecture": ("gpt_nex", "did you mean 'gpt_neox'?"),
    "suite.tiny.d_model": ("20", "a multiple of 2 * n_heads (2 * 4)"),
    "suite.tiny.n_layers": ("0", "at least 1"),
    "suite.tiny.n_heads": ("5", "d_model (64) must be a multiple"),
    "suite.tiny.vocab_size": ("256", "above 256"),
    "suite.tiny.sequence_length": ("48", "batch_tokens (1024) must be a multiple"),
    "suite.tiny.batch_tokens": ("33", "a multiple of sequence_length (32)"),
    "suite.tiny.steps": ("400", "checkpoints must lie between 0 and steps"),
    "suite.tiny.checkpoints": ("[4, 2]", "increasing steps"),
    "suite.tiny.lr": ("0.0", "positive"),
    "suite.tiny.warmup": ("-1", "not be negative"),
    "suite.tiny.weight_decay": ("-0.5", "not be negative"),
    "compare.site": ("redis", "A site is written COMPONENT.LAYER"),
    "compare.revisions": ("[]", "a list of checkpoints"),
    "corpus.source": ("[]", "text files, a Hub data set"),
    "corpus.held_out": ('""', "text files, a Hub data set"),
    "corpus.sentences": ("0", "at least 1"),
    "corpus.sequence_length": ("1", "at least 2"),
    "corpus.phrase_share": ("1.5", "between 0 and 1"),
    "corpus.attractor_share": ("-0.5", "between 0 and 1"),
    "corpus.text_start": ("bso", "did you mean 'bos'?"),
    "rows.matrices": ('["W_X"]', "W_"),
    "rows.top": ("0", "at least 1"),
    "rows.strongest": ("0", "at least 1"),
    "tasks.0.name": ('""', "the name of a task"),
    "tasks.0.path": ('""', "a folder or file"),
    "tasks.0.limit": ("0", "at least 1"),
    "tasks.0.rule": ("cct", "did you mean 'ctt'?"),
    "tasks.0.prepend": ("bso", "did you mean 'bos'?"),
    "select.k": ("1", "at least 2"),
    "select.weight": ("1.5", "between 0 and 1"),
    "select.measure": ("cosin", "did you mean 'cosine'?"),
    "select.sequences": ("0", "at least 1"),
    "ngrams.sequences": ("-1", "at least 0"),
    "ngrams.counted": ("0", "at least 1"),
    "crosscoder.n_features": ("0", "positive"),
    "crosscoder.steps": ("0", "positive"),
    "crosscoder.lr": ("-1.0", "positive"),
    "crosscoder.lr_warmup": ("1.5", "from 0 to 1, or a whole number"),
    "crosscoder.lr_decay": ("1.5", "between 0 and 1"),
    "crosscoder.clip": ("-0.5", "a norm, or 0"),
    "crosscoder.n_shared": ("-1", "between 0 and n_features"),
    "crosscoder.decoder_norm": ("0.0", "positive"),
    "crosscoder.frozen": ("decodr", "did you mean 'decoder'?"),
    "crosscoder.l1": ("-0.5", "not be negative"),
    "crosscoder.l1_warmup": ("1.5", "between 0 and 1"),
    "crosscoder.source": ('""', "file, folder or repository"),
    "crosscoder.seeds": ("[3, -1]", "at least 0"),
    "crosscoder.batch_size": ("0", "at least 1"),
    "crosscoder.buffer_tokens": ("0", "at least 1"),
    "crosscoder.buffer_dtype": ("float23", "did you mean 'float32'?"),
    "crosscoder.save_every": ("0", "at least 1"),
    "crosscoder.validation": ("1.0", "at least 0 and below 1"),
    "crosscoder.max_activation_norm_multiple": ("0.5", "above 1"),
    "crosscoder.scale_by": ("medain", "did you mean 'median'?"),
    "crosscoder.precision": ("float23", "did you mean 'float32'?"),
    "crosscoder.loggers": ('["wandbb"]', "did you mean 'wandb'?"),
    "crosscoder.k": ("99999", "between 1 and n_features"),
    "crosscoder.k_start": ("99999", "between k"),
    "crosscoder.k_steps": ("0", "positive"),
    "crosscoder.auxk": ("-0.5", "not be negative"),
    "crosscoder.dead_after": ("0", "positive"),
    "crosscoder.threshold_memory": ("1.0", "at least 0 and below 1"),
    "crosscoder.sparsity": ("-0.5", "not be negative"),
    "crosscoder.sparsity_warmup": ("1.5", "between 0 and 1"),
    "crosscoder.steepness": ("0.0", "positive"),
    "crosscoder.threshold": ("0.0", "positive"),
    "crosscoder.bandwidth": ("0.0", "positive"),
    "crosscoder.lr_end": ("1.5", "between 0 and 1"),
    "crosscoder.penalty": ("tanh-quat", "did you mean 'tanh-quad'?"),
    "crosscoder.frequency_scale": ("0.0", "positive"),
    "crosscoder.threshold_lr_factor": ("-0.5", "not be negative"),
    "effects.method": ("igg", "did you mean 'ig'?"),
    "effects.baseline": ("pach", "did you mean 'patch'?"),
    "effects.metric": ("logit_diference", "did you mean 'logit_difference'?"),
    "effects.quadrature": ("midpont", "did you mean 'midpoint'?"),
    "effects.steps": ("0", "at least 1"),
    "effects.tolerance": ("0.0", "positive"),
    "effects.aggregation.name": ("ctt-release", "did you mean 'ctt-released'?"),
    "effects.aggregation.threshold": ("-0.5", "not be negative"),
    "effects.aggregation.batch_size": ("0", "at least 1"),
    "effects.aggregation.columns": ("0", "at least 1"),
    "effects.top": ("0", "at least 1"),
    "effects.resamples": ("0", "at least 1"),
    "effects.undefined": ("1.5", "from 0 to 1"),
    "evolve.languages": ('{x = "y"}', "at least two"),
    "evolve.sequences": ("0", "at least 1"),
    "evolve.resamples": ("0", "at least 1"),
    "dip.task": ("simple", "all three or none"),
    "dip.at": ("main", "all three or none"),
    "dip.other": ("main", "all three or none"),
    "dip.top": ("0", "at least 1"),
    "dip.prompts": ("0", "at least 1"),
    "dip.draws": ("0", "at least 1"),
    "stability.comparisons": ('["metrics"]', "did you mean 'metric'?"),
    "stability.k": ("0", "at least 1"),
    "stability.prompts": ("3", "at least 4"),
    "stability.resamples": ("0", "at least 1"),
    "baselines.names": ('["neuron"]', "did you mean 'neurons'?"),
    "baselines.sizes": ("[3, 2]", "ascending whole numbers of at least 1"),
    "baselines.prompts": ("3", "at least 4"),
    "baselines.sae": ('""', "'train', 'crosscoder' or the file"),
    "baselines.checkpoint": ("mian", "did you mean 'main'?"),
    "null.kinds": ('["random-weight"]', "did you mean 'random-weights'?"),
    "null.seeds": ("0", "at least 1"),
    "null.checkpoint": ("mian", "did you mean 'main'?"),
    "null.level": ("1.0", "between 0 and 1"),
    "compute.device": ("cuad", "did you mean 'cuda'?"),
    "compute.dtype": ("float23", "did you mean 'float32'?"),
    "compute.max_tokens": ("0", "at least 1"),
    "compute.feature_shards": ("0", "at least 1"),
    "compute.resident_gb": ("-0.5", "not negative"),
    "remote.host": ("hostd", "'hosted'"),
    "remote.sandboxed": ("maybe", "'auto', true or false"),
    "remote.wire": ("float23", "did you mean 'float32'?"),
}  # fmt: skip
ANY_VALUE = {"title", "description", "suite.tiny.seed", "crosscoder.seed"}
"""Keys of which every text, or every whole number, is allowed; so is every truth value."""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE_TEXT, encoding="utf-8")
    return path


def refused(path: Path, *overrides: str) -> str:
    """The sentence with which a recipe is refused, which names its file."""
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, overrides)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def values_of_wrong_type(hint: Any) -> Iterator[tuple[str, str]]:
    """TOML values that a type does not allow, as the file and as the sentence writes them."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    kinds = {typing.get_origin(option) or option for option in options}
    values = {
        "3": ("3", {int, float}),
        "2.5": ("2.5", {float}),
        '"text"': ("'text'", {str}),
        "true": ("True", {bool}),
        "[[3]]": ("[[3]]", {list, tuple}),
        "{x = 3}": ("{'x': 3}", {dict}),
    }
    return ((value, shown) for value, (shown, fitting) in values.items() if not kinds & fitting)


@EVERY_KEY
def test_a_wrong_type_names_file_key_and_value(recipe_file: Path, key: Key):
    checked = 0
    for value, shown in values_of_wrong_type(key.hint):
        sentence = refused(recipe_file, *key.overrides(value))
        assert sentence.startswith(f"{key.where}.{key.name} must be " if key.where else f"{key.name} must be ")
        assert sentence.endswith(f", not {shown}.")
        checked += 1
    assert checked >= 3


@EVERY_KEY
def test_a_value_out_of_range_names_file_table_key_value_and_what_is_allowed(recipe_file: Path, key: Key):
    if key.path in ANY_VALUE or key.hint is bool:
        assert key.path not in OUT_OF_RANGE
        return
    assert key.path in OUT_OF_RANGE, f"{key.path} is new: say which values are allowed"
    value, allowed = OUT_OF_RANGE[key.path]
    sentence = refused(recipe_file, *key.overrides(value))
    assert key.name in sentence
    assert f"[{key.where}]" in sentence or sentence.startswith(key.path) or not key.table
    assert allowed in sentence
    if value not in ('""', '{x = "y"}'):
        assert value.strip('[]"').split(", ")[-1].removesuffix(".0") in sentence


@EVERY_KEY
def test_a_misspelt_key_is_refused_with_the_right_one(recipe_file: Path, key: Key):
    table = dataclasses.replace(key, name=f"{key.name}z", hint=None)
    sentence = refused(recipe_file, *table.overrides("3"))
    assert sentence.startswith(f"[{key.where}] has no key" if key.where else "the top level has no key")
    assert f"{key.name + 'z'!r}" in sentence
    assert f"did you mean {key.name!r}?" in sentence


def test_no_value_is_listed_for_a_key_that_is_gone():
    assert set(OUT_OF_RANGE) | ANY_VALUE <= {key.path for key in KEYS}


def test_the_kind_of_crosscoder_is_named_with_the_nearest(recipe_file: Path):
    assert "[crosscoder] There is no kind of crosscoder 'topkk': did you mean 'topk'?" in refused(
        recipe_file, "crosscoder.kind=topkk"
    )
    assert "[crosscoder] kind must be a text, not 3" in refused(recipe_file, "crosscoder.kind=3")


@pytest.mark.parametrize(("parent", "shown"), [("demmo", "'demmo': did you mean 'demo'?"), ("3", "3: ")])
def test_a_recipe_that_is_extended_is_named(recipe_file: Path, parent: str, shown: str):
    recipe_file.write_text(f"extends = {parent if parent.isdigit() else repr(parent)}\n{RECIPE_TEXT}", encoding="utf-8")
    assert refused(recipe_file).startswith(f"extends: There is no recipe {shown}")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("compute.feature_shards=3", "compute.feature_shards: 16,384 features cannot be divided evenly among 3"),
        ("compute.remote=local", "[compute] has no key 'remote': a server has a table of its own, [remote]"),
        ("tasks.7.limit=3", "a list of 2 has no item '7'"),
    ],
)
def test_values_that_do_not_fit_others_are_named(recipe_file: Path, override: str, part: str):
    assert part in refused(recipe_file, override)
