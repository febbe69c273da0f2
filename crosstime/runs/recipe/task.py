"""The tables of a recipe about tasks: ``[[tasks]]``."""

from __future__ import annotations

from dataclasses import dataclass

from crosstime.errors import RecipeError
from crosstime.runs.recipe.limits import at_least, not_empty, one_of
from tasks.answer_tokens import RULES
from tasks.start_token import STARTS


@dataclass(frozen=True)
class TaskRecipe:
    """A task.

    Attributes:
        name: as `crosstime tasks` lists it, such as ``blimp/regular_plural_subject_verb_agreement_1``.
        path: folder or file of its data; default: the task's own source.
        limit: upper bound of the number of pairs, which are drawn at random.
        rule: how answers are found in the tokens: ``first-difference`` or ``ctt``; default: the task's own.
        prepend: token that begins every prompt: ``bos``, ``eos`` or ``bos-or-eos``; default: as the tokenizer does.
    """

    name: str
    path: str | None = None
    limit: int | None = None
    rule: str | None = None
    prepend: str | None = None

    def __post_init__(self) -> None:
        if "=" in self.name:
            name, _, path = self.name.partition("=")
            raise RecipeError(
                f"name must be a task's name alone, not {self.name!r}: write name = {name!r}, path = {path!r}"
            )
        not_empty(self, name="the name of a task", path="a folder or file")
        at_least(self, limit=1)
        one_of(self, rule=RULES, prepend=STARTS)
