"""A file that is broken is named with the line on which it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crosstime.errors import AnnotationError, CorpusError, RecipeError, RunError, SuiteError
from crosstime.features.replies import read_rows
from crosstime.machine.storage import read_json
from crosstime.runs.recipe.recipe import Recipe
from crosstime.suites.read_lines import read_lines
from crosstime.suites.suite import Suite
from interventions.adapter import find_adapter
from interventions.errors import CheckpointLoadError
from tasks import load
from tasks.errors import DataError

PAIR = {
    "clean_prefix": "the author", "patch_prefix": "the authors", "clean_answer": " laughs", "patch_answer": " laugh",
    "text": "the author laughs",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        # The whole file is read before the fault is noticed
        ('a = 1\n[b]\nc = [\n  "d"\n', "Unclosed array (at line 4, the end of the document; it begins in line 3)"),
        ('a = 1\n[b]\nc = [\n  "d",\n', "Invalid value (at line 4, the end of the document; it begins in line 3)"),
        ('a = 1\n\nb = """x\n\n\n', "Unterminated string (at line 3, the end of the document)"),
        ('a = 1\n\nb = """x\n\ny\n', "Unterminated string (at line 5, the end of the document; it begins in line 3)"),
        ('[a]\nb = "x', "Unterminated string (at line 2, the end of the document)"),
        ("a = {b = 1", "Unclosed inline table (at line 1, the end of the document)"),
        ("# c\n\na", "Expected '=' after a key in a key/value pair (at line 3, the end of the document)"),
        ("a = 1\r\nb = '''\r\nq", """Expected "'''" (at line 3, the end of the document; it begins in line 2)"""),
        # The fault is noticed where it is
        ("a = 1\n[b\nc = 2\n", "Expected ']' at the end of a table declaration (at line 2, column 3)"),
        # What Python says about numbers has no line
        ("a = 1\nb = " + "9" * 5_000 + "\nc = 2\n", "(in line 2)"),
        ("a = 1\nb = '\xff'\n", "line 2 is not UTF-8 text: invalid start byte"),
    ],
)
def test_a_recipe_that_is_not_toml_is_refused_with_the_line(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=re.escape(f"{path} is not a TOML file: ")) as refused:
        Recipe.load(path)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": 1', "Expecting ',' delimiter at line 1, column 8"),
        ('{\n "a": 1,\n "b"\n}', "Expecting ':' delimiter at line 4, column 1"),
        ('\n\n["a" "b"]', "Expecting ',' delimiter at line 3, column 6"),
        ('{"a":\n "\xff"}', "line 2 is not UTF-8 text: invalid start byte"),
    ],
)
def test_a_json_file_is_refused_with_the_line(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "suite.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=re.escape(f"{path} is not a valid JSON file: {sentence}")):
        read_json(path)
    with pytest.raises((RunError, SuiteError), match=re.escape(f"{path} is not a valid JSON file: {sentence}")):
        Suite.open(tmp_path)


def test_an_adapter_whose_configuration_is_broken_is_refused_with_the_line(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text('{"r": 8,}')
    with pytest.raises(CheckpointLoadError, match=r"Cannot read adapter_config\.json of adapter .* at line 1, column"):
        find_adapter(str(tmp_path), None)


def test_a_line_of_a_json_lines_file_is_named_once(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{json.dumps(PAIR)}\n\n{{"text": "b"\n')
    sentence = r"^mine\.jsonl:3: not JSON: Expecting ',' delimiter at column 13$"
    with pytest.raises(DataError, match=sentence):
        load("pairs/mine", path)
    with pytest.raises(CorpusError, match=sentence):
        list(read_lines(path))
    with pytest.raises(AnnotationError, match=sentence):
        read_rows(path)
