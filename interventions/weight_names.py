"""Names of weights in a checkpoint's files that do not match those of its model, and the sentence about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from user_input.first_names import first_names

_LAYER = re.compile(r"\.(\d+)\.")
_NAMED = 3
"""Names that a sentence gives of a longer list."""


@dataclass(frozen=True)
class WeightNames:
    """What differs between the weights of the files and those of the model.

    Attributes:
        missing: weights of the model that the files do not have.
        unexpected: weights of the files that the model has no place for.
        reshaped: weights of another shape, with the shape in the files and in the model.
        expected: all weights of the model.
        tied: weights that are another weight of the model, with its name.
        head: the unembedding's weight.
        n_layers: number of layers that the configuration gives.

    Examples:
        >>> names = frozenset({"h.0.w", "head.w"})
        >>> WeightNames(names, frozenset({"module.h.0.w", "module.head.w"}), {}, names).problem()
        "the names of its 2 weights begin with 'module.', as in 'module.h.0.w' for 'h.0.w'; rename them without it"
    """

    missing: frozenset[str]
    unexpected: frozenset[str]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    expected: frozenset[str]
    tied: Mapping[str, str] | None = None
    head: str | None = None
    n_layers: int | None = None

    def problem(self) -> str | None:
        """The sentence about what does not match, with the cause where one explains all of it; None if all match."""
        if not (self.missing or self.unexpected or self.reshaped):
            return None
        return self._prefix() or self._depth() or self._base_model() or self._list()

    @cached_property
    def _truly_missing(self) -> frozenset[str]:
        """Missing weights, without those that are tied to another one that is there or is missing itself."""
        return frozenset(name for name in self.missing if (self.tied or {}).get(name) in (None, name))

    def _prefix(self) -> str | None:
        """The sentence about names that differ by their first parts only."""
        if not self.unexpected or not self._truly_missing or self.reshaped:
            return None

        # Find the beginnings of one pair of names, and try them on all
        name = max(self._truly_missing, key=lambda key: (key.count("."), key))
        parts = name.split(".")
        for start in range(len(parts) - 1):
            rest = ".".join(parts[start:])
            own = name[: len(name) - len(rest)]
            for candidate in sorted(key for key in self.unexpected if key == rest or key.endswith(f".{rest}")):
                foreign = candidate[: len(candidate) - len(rest)]
                if foreign == own or not all(key.startswith(foreign) for key in self.unexpected):
                    continue
                renamed = {own + key[len(foreign) :] for key in self.unexpected}
                left = self._truly_missing - renamed
                # transformers renames the head of some architectures (embed_out of GPT-NeoX), and does not list names
                # that look like an old buffer (c_attn.bias of GPT-2)
                strays = renamed - self.expected
                if len(strays) <= 1 and 8 * len(left - {self.head}) <= len(renamed):
                    missing = left if left == {self.head} and not strays else frozenset()
                    return self._renaming(foreign, own, candidate, name, missing)
        return None

    def _renaming(self, foreign: str, own: str, example: str, name: str, rest: frozenset[str]) -> str:
        number = f"the names of its {len(self.unexpected)} weights"
        if not foreign:
            sentence = f"{number} lack the beginning {own!r}, as in {example!r} for {name!r}; rename them with it"
        else:
            change = f"to begin with {own!r}" if own else "without it"
            sentence = f"{number} begin with {foreign!r}, as in {example!r} for {name!r}; rename them {change}"
        return sentence + (f", and add {', '.join(sorted(rest))}, which is missing" if rest else "")

    def _depth(self) -> str | None:
        """The sentence about a file with more or fewer layers than the configuration gives."""
        if self.reshaped or self.n_layers is None or bool(self._truly_missing) == bool(self.unexpected):
            return None
        names = self._truly_missing or self.unexpected
        layers = {int(match[1]) if (match := _LAYER.search(f".{name}")) else -1 for name in names}
        if self.unexpected and min(layers) >= self.n_layers:
            count = max(layers) + 1
        elif self._truly_missing and min(layers) > 0 and layers == set(range(min(layers), self.n_layers)):
            count = min(layers)
            if len(names) != len([key for key in self.expected if self._layer(key) >= count]):
                return None
        else:
            return None
        return (
            f"its configuration has {self.n_layers} layers, but its files have weights for {count} "
            f"({_listed(names)}); one of them belongs to another model"
        )

    @staticmethod
    def _layer(name: str) -> int:
        match = _LAYER.search(f".{name}")
        return int(match[1]) if match else -1

    def _base_model(self) -> str | None:
        """The sentence about a base model without its head."""
        if self.reshaped or self.unexpected or self._truly_missing != {self.head}:
            return None
        return (
            f"it has no {self.head}: it is a base model without its language-model head, or its configuration lacks "
            "tie_word_embeddings = true"
        )

    def _list(self) -> str:
        """The sentence that names some of each kind."""
        parts = []
        if missing := self._truly_missing or self.missing:
            parts.append(f"{_count(missing)} of the model {_are(missing)} missing in its files ({_listed(missing)})")
        if self.reshaped:
            shapes = [f"{key}: {file} instead of {own}" for key, (file, own) in sorted(self.reshaped.items())]
            parts.append(f"{_count(self.reshaped)} {_are(self.reshaped)} of another shape ({_listed(shapes)})")
        if self.unexpected:
            place = "has" if len(self.unexpected) == 1 else "have"
            listed = _listed(self.unexpected)
            parts.append(f"{_count(self.unexpected)} of its files {place} no place in the model ({listed})")
        return f"its weights do not match its configuration: {'; '.join(parts)}"


def _count(names: Iterable[str]) -> str:
    number = len(list(names))
    return f"{number} weight{'' if number == 1 else 's'}"


def _are(names: Iterable[str]) -> str:
    return "is" if len(list(names)) == 1 else "are"


def _listed(names: Iterable[str]) -> str:
    return first_names(sorted(names), _NAMED)
