"""From nested tables, as TOML gives them, to dataclasses: strictly, so that a mistyped key is an error."""

from __future__ import annotations

import builtins
import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from crosstime.errors import CrosstimeError, RecipeError
from crosstime.runs.recipe.crosscoder import CrosscoderRecipe, recipe_of_kind, refuse_keys_of_other_kinds
from crosstime.runs.recipe.effects import EffectsRecipe, with_named_estimator
from crosstime.runs.recipe.overlay import copy_table, override
from interventions.errors import InterventionError
from user_input.nearest import nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Built = TypeVar("Built", bound=DataclassInstance)
else:
    Built = TypeVar("Built")
_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_INT64 = range(-(2**63), 2**63)


def build(cls: type[Built], table: object, where: str, key: str = "") -> Built:
    """Build a dataclass from a table, and the dataclasses of its fields from the tables in it.

    Args:
        cls: the dataclass; `CrosscoderRecipe` stands for the class of the table's ``kind``.
        table: plain values.
        where: name or file of the recipe, for errors.
        key: name of the table in the recipe; empty for the whole recipe.

    Raises:
        RecipeError: a key is unknown or missing, or a value is not allowed; the sentence names the key.

    Examples:
        >>> from crosstime.runs.recipe.suite import CompareRecipe
        >>> build(CompareRecipe, {"site": "resid.1"}, "example").site
        'resid.1'
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where}: {key or 'the file'} must be a table, not {_shown(table)}.")
    if cls is CrosscoderRecipe:
        return typing.cast(Built, _build_crosscoder(table, where, key))
    if cls is EffectsRecipe:
        try:
            table = with_named_estimator(table)
        except RecipeError as error:
            raise RecipeError(f"{where}: [{key}] {error}") from error

    # Refuse unknown and missing keys
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in table:
        if name not in fields:
            level = f"[{key}]" if key else "the top level"
            raise RecipeError(f"{where}: {level} has no key {name!r}: {nearest(name, fields, most=40)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise RecipeError(f"{where}: {f'[{key}] needs' if key else 'needs'} a key {name!r}.")

    # Check the types of values, then let the dataclass check what they mean
    values = {
        name: _value(_hint(cls, name), value, where, f"{key}.{name}" if key else name) for name, value in table.items()
    }
    try:
        return cls(**values)
    except (CrosstimeError, InterventionError) as error:
        raise RecipeError(f"{where}: {f'[{key}] ' if key else ''}{error}") from error


def crosscoder_table(table: Mapping[str, Any], overrides: Sequence[str] = ()) -> CrosscoderRecipe:
    """Build the ``[crosscoder]`` table of a recipe by itself, for training without a recipe.

    Args:
        table: its keys, `kind` among them.
        overrides: ``key=value`` with a TOML value (a bare word is a string), applied last.

    Raises:
        RecipeError: there is no such kind or key, or a value is not allowed; the sentence names the key.

    Examples:
        >>> crosscoder_table({"kind": "topk", "k": 8}, ["lr=1e-3"]).lr
        0.001
    """
    keys = copy_table(table)
    for assignment in overrides:
        override(keys, assignment)
    if "source" in keys:
        raise RecipeError(
            "crosscoder: source names a crosscoder that is trained already, so there is nothing to train."
        )
    return _build_crosscoder(keys, "crosscoder", "crosscoder")


def _build_crosscoder(table: Mapping[str, Any], where: str, key: str) -> CrosscoderRecipe:
    """Build the table of a crosscoder as the class of its kind."""
    try:
        cls, keys = recipe_of_kind(table)
        refuse_keys_of_other_kinds(cls, keys)
    except CrosstimeError as error:
        raise RecipeError(f"{where}: [{key}] {error}") from error
    return build(cls, keys, where, key)


class _NoPlainValue:
    """Stands for a class that a module imports for type checkers only: no value of a recipe is one."""


class _NamesOfModule(dict[str, Any]):
    """The names by which a module annotates fields."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _NoPlainValue)


def _hint(cls: type, name: str) -> Any:
    """The type of a field; a class in it that only Python code can give, such as a `Baseline`, is not imported."""
    owner = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
    field = types.SimpleNamespace(__annotations__={name: owner.__annotations__[name]})
    return typing.get_type_hints(field, {}, _NamesOfModule(vars(sys.modules[owner.__module__])))[name]


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    """A value of a type that a field is annotated with."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where, key)

    # Unions and containers
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not type(None)]
        fitting = [option for option in options if isinstance(value, typing.get_origin(option) or option)]
        if not fitting and len(options) > 1 and not any(map(dataclasses.is_dataclass, options)):
            # A whole number serves as a number
            left_out = (_NoPlainValue, int) if float in options else (_NoPlainValue,)
            kinds = " or ".join(_kind(option) for option in options if option not in left_out)
            raise RecipeError(f"{where}: {key} must be {kinds}, not {_shown(value)}.")
        return _value((fitting or options)[0], value, where, key)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise RecipeError(f"{where}: {key} must be a list, not {_shown(value)}.")
        return origin(_value(arguments[0], item, where, f"{key}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: {key} must be a table, not {_shown(value)}.")
        return {name: _value(arguments[1], item, where, f"{key}.{name}") for name, item in value.items()}

    # Plain values; Python counts truth values as whole numbers, a recipe does not
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise RecipeError(f"{where}: {key} must be {_KINDS[hint]}, not {_shown(value)}.")
    if hint is float and not math.isfinite(value):
        raise RecipeError(f"{where}: {key} must be a finite number, not {value}.")
    if hint is int and value not in _INT64:
        raise RecipeError(f"{where}: {key} must fit in 64 bits; got {_shown(value)}.")
    return value


def _kind(hint: Any) -> str:
    """What a value of a type is called."""
    origin = typing.get_origin(hint)
    return "a list" if origin in (list, tuple) else "a table" if origin is dict else _KINDS[hint]


def _shown(value: object) -> str:
    """A value as the file writes it; Python refuses to write out a number of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return "a number without end"
