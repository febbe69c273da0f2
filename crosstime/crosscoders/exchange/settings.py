"""What a configuration of another tool says, key by key; a value of another kind than is needed is refused by name."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstime.errors import CrosscoderError, RunError
from crosstime.machine.storage import read_json
from user_input.parse_json import JsonError, parse_json


@dataclass(frozen=True)
class Settings:
    """A JSON object of another tool's making. A key that is absent, or null, says nothing.

    Attributes:
        place: the file, and where in it, for errors.
        values: the object.

    Examples:
        >>> settings = Settings("cfg.json", {"k": 100, "metadata": {"model_name": "gpt2"}})
        >>> settings.whole("k"), settings.text("name"), settings.table("metadata").text("model_name")
        (100, None, 'gpt2')
    """

    place: str
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Those of a JSON file.

        Raises:
            CrosscoderError: it is missing or damaged, or holds no object.
        """
        try:
            return cls._object(str(path), read_json(path))
        except RunError as error:
            raise CrosscoderError(str(error)) from error

    @classmethod
    def parse(cls, place: str, text: str) -> Settings:
        """Those of a JSON text that stands in another file.

        Raises:
            CrosscoderError: it is no JSON object.
        """
        try:
            return cls._object(place, parse_json(text))
        except JsonError as error:
            raise CrosscoderError(f"{place} is not valid JSON: {error}") from error

    def text(self, key: str) -> str | None:
        """A text."""
        return self._of(key, str, "a text")

    def whole(self, key: str) -> int | None:
        """A whole number."""
        value = self.values.get(key)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool):
            raise self._refused(key, "a whole number")
        return self._of(key, int, "a whole number")

    def truth(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._of(key, bool, "true or false")
        return default if value is None else value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts."""
        value = self._of(key, list, "a list of texts")
        if value is None:
            return None
        if not all(isinstance(item, str) for item in value):
            raise self._refused(key, "a list of texts")
        return tuple(value)

    def table(self, key: str) -> Settings:
        """An object in the object; an empty one where there is none."""
        return Settings(f"{self.place}, {key}", self._of(key, dict, "an object") or {})

    @classmethod
    def _object(cls, place: str, value: Any) -> Settings:
        if not isinstance(value, dict):
            raise CrosscoderError(f"{place} must hold a JSON object, not a {type(value).__name__}")
        return cls(place, value)

    def _of(self, key: str, kind: type, wanted: str) -> Any:
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self._refused(key, wanted)
        return value

    def _refused(self, key: str, wanted: str) -> CrosscoderError:
        return CrosscoderError(f"{self.place}: {key} must be {wanted}, not {reprlib.repr(self.values[key])}")
