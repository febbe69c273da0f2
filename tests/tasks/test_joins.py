"""How prompt and answer join: missing and doubled blanks are warned of, with their number and an example."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest

from tasks import MinimalPair, Task, load, register
from tasks.joins import warn_of_doubled_blanks, warn_of_missing_blanks

NOUNS = ["cat", "dog", "boy", "girl", "friend"]


def write(folder: Path, name: str, rows: list[dict[str, str]]) -> Path:
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def rows(end: str, start: str) -> list[dict[str, str]]:
    """Five rows whose prompts end in `end`, and whose answers begin with `start`."""
    return [
        {
            "clean_prefix": f"The {noun}s{end}",
            "patch_prefix": f"The {noun}{end}",
            "clean_answer": f"{start}are",
            "patch_answer": f"{start}is",
        }
        for noun in NOUNS
    ]


@pytest.mark.parametrize(("end", "start"), [("", " "), (" ", "")])
def test_one_blank_is_not_warned_of_on_either_side(tmp_path: Path, end: str, start: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("pairs/good", write(tmp_path, "good", rows(end, start)))


def test_letters_that_join_are_counted_and_shown(tmp_path: Path):
    with pytest.warns(RuntimeWarning, match=r"all 5 pairs, prompt and answer join letter to letter, such as 'The cats"):
        load("pairs/missing", write(tmp_path, "missing", rows("", "")))
    mixed = [*rows("", " ")[:4], *rows("", "")[4:]]
    with pytest.warns(RuntimeWarning, match="1 of 5 pairs, .* such as 'The friendsare'"):
        load("pairs/mixed", write(tmp_path, "mixed", mixed))


def test_two_blanks_are_counted_and_shown(tmp_path: Path):
    with pytest.warns(RuntimeWarning, match="all 5 pairs, the answer follows two blanks, such as 'The cats  are'"):
        load("pairs/doubled", write(tmp_path, "doubled", rows(" ", " ")))


def test_two_blanks_are_warned_of_in_tasks_of_whole_sentences():
    pairs = [MinimalPair("The cats\t are", "The cats\t is"), MinimalPair("The  cats are", "The  cats is")]
    with pytest.warns(RuntimeWarning, match=re.escape("mine: in 1 of 2 pairs")):
        warn_of_doubled_blanks("mine", pairs)


def test_parts_of_words_are_not_warned_of_where_the_whole_sentence_says_so(tmp_path: Path):
    row = {
        "sentence_good": "les gardes déménagent",
        "clean_prefix": "les gardes démén",
        "patch_prefix": "le garde démén",
        "clean_answer": "agent",
        "patch_answer": "age",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("pairs/parts", write(tmp_path, "parts", [row]))


def test_scripts_without_blanks_and_marks_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_missing_blanks(
            "mine", [("猫は", "寝る", "走る"), ("He said: '", "yes", "no"), ("It costs 3", "0", "1")]
        )
        warn_of_missing_blanks("mine", [])
        warn_of_doubled_blanks("mine", [])


def test_the_warning_comes_for_a_family_of_another_package():
    class Spaced:
        name, pattern, description, source = "spaced", "spaced/<anything>", "two blanks", "by hand"
        languages, has_patch, path_help = ("en",), False, "not used"

        def load(self, rest: str, path: Path | None) -> Task:
            return Task(f"spaced/{rest}", "en", "by hand", (MinimalPair("she  runs", "she  run"),))

    register(Spaced(), replace=True)
    with pytest.warns(RuntimeWarning, match="in its only pair"):
        load("spaced/it")
