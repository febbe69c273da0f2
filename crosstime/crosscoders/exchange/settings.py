"""The configuration that another tool wrote as JSON, read key by key with a check of each value's type."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.storage import read_json
from crosstime.machine.tensors import listed
from user_input.parse_json import JsonError, parse_json

Value = TypeVar("Value")


@dataclass(frozen=True)
class Settings:
    """A JSON object that another tool wrote. A key that is absent, or whose value is null, is not set.

    Attributes:
        location: the file, and where in it, for errors.
        values: the object.
        prefix: the keys of the objects around it, each with a dot after it.

    Examples:
        >>> settings = Settings("cfg.json", {"k": 100, "metadata": {"model_name": "gpt2"}})
        >>> settings.integer("k"), settings.string("name"), settings.table("metadata").string("model_name")
        (100, None, 'gpt2')
    """

    location: str
    values: dict[str, Any]
    prefix: str = ""

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a JSON file.

        Raises:
            CrosscoderError: the file is missing or damaged, or does not hold an object.
        """
        try:
            value = read_json(path)
        except RunError as error:
            raise CrosscoderError(str(error)) from error
        return cls._from_value(str(path), value)

    @classmethod
    def parse(cls, location: str, text: str) -> Settings:
        """Read a JSON text that is stored in another file.

        Raises:
            CrosscoderError: the text is not a JSON object.
        """
        try:
            value = parse_json(text)
        except JsonError as error:
            raise CrosscoderError(f"{location} is not valid JSON: {error}") from error
        return cls._from_value(location, value)

    def string(self, key: str) -> str | None:
        """A string; None if the key is not set."""
        return self._get(key, str, "a string")

    def integer(self, key: str) -> int | None:
        """An integer, also written as a float like 8.0; None if the key is not set."""
        value = self.values.get(key)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool):
            raise self._wrong_type(key, "an integer")
        return self._get(key, int, "an integer")

    def boolean(self, key: str, *, default: bool) -> bool:
        """True or false; the default if the key is not set."""
        value = self._get(key, bool, "true or false")
        return default if value is None else value

    def strings(self, key: str) -> tuple[str, ...] | None:
        """A list of strings; None if the key is not set."""
        value = self._get(key, list, "a list of strings")
        if value is None:
            return None
        if not all(isinstance(item, str) for item in value):
            raise self._wrong_type(key, "a list of strings")
        return tuple(value)

    def table(self, key: str) -> Settings:
        """A nested object; an empty one if the key is not set."""
        values: dict[str, Any] = self._get(key, dict, "an object") or {}
        return Settings(f"{self.location}, {key}", values, f"{self.prefix}{key}.")

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Make sure that the sizes that are set are those of the weights.

        Raises:
            CrosscoderError: names the size that is another one.

        Examples:
            >>> Settings("cfg.json", {"d_in": 64}).check_sizes({"d_in": 64, "dict_size": 512})
        """
        for key, size in sizes.items():
            if self.integer(key) not in (None, size):
                raise CrosscoderError(f"{self.location} says {key} {self.values[key]}, but the weights have {size}")

    def check_keys(self, known: Collection[str], ignored: Collection[str] = ()) -> None:
        """Make sure that every key that is set is known, as one that is read or one that changes no code.

        A key that nobody looks at can change what the crosscoder computes, as the model's own preparation does.

        Args:
            known: the keys.
            ignored: keys that the caller vouches for; one of a nested object is written with those around it,
                ``metadata.note``.

        Raises:
            CrosscoderError: names the keys that are not known.

        Examples:
            >>> Settings("cfg.json", {"k": 3, "note": "mine"}).check_keys(["k"], ignored=["note"])
        """
        unknown = [
            f"{self.prefix}{key}" for key, value in self.values.items() if value is not None and key not in known
        ]
        unknown = [key for key in unknown if key not in ignored]
        if unknown:
            ignore = "".join(f" --ignore {key}" for key in unknown[:8])
            raise CrosscoderError(
                f"{self.location} has settings that are not known here, and that may change what the crosscoder "
                f"computes: {listed(unknown)}; if they do not, read it with ignore={reprlib.repr(unknown)} "
                f"(crosstime convert{ignore})"
            )

    @classmethod
    def _from_value(cls, location: str, value: Any) -> Settings:
        if not isinstance(value, dict):
            raise CrosscoderError(f"{location} must hold a JSON object, not a {type(value).__name__}")
        return cls(location, value)

    def _get(self, key: str, expected: type[Value], description: str) -> Value | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, expected):
            raise self._wrong_type(key, description)
        return value

    def _wrong_type(self, key: str, description: str) -> CrosscoderError:
        return CrosscoderError(f"{self.location}: {key} must be {description}, not {reprlib.repr(self.values[key])}")
