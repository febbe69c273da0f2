"""Task files of every family."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from broken_input import edits, fuzzed, json_values, refuses_politely, replaced, write_file
from hypothesis import given
from hypothesis import strategies as st

import tasks

pytestmark = pytest.mark.fuzz

PAIR = {
    "clean_prefix": "The author", "patch_prefix": "The authors", "clean_answer": " laughs", "patch_answer": " laugh",
    "case": "singular",
}  # fmt: skip
BLIMP = {
    "sentence_good": "Susan revealed herself.", "sentence_bad": "Susan revealed itself.", "field": "morphology",
    "UID": "anaphor_gender_agreement", "pairID": "0", "one_prefix_method": True, "one_prefix_prefix": "Susan revealed",
    "one_prefix_word_good": "herself", "one_prefix_word_bad": "itself", "linguistics_term": "anaphor_agreement",
    "simple_LM_method": True, "two_prefix_method": False, "lexically_identical": False,
}  # fmt: skip
CLAMS = b"True\tthe author laughs .\nFalse\tthe author laugh .\nTrue\tthe pilot smiles .\nFalse\tthe pilot smile .\n"
MULTIBLIMP = (
    b"sen\twrong_sen\tphenomenon\tlang\n"
    b'"I said ""no"" ."\t"I says ""no"" ."\tSV-P\teng\nHe goes .\tHe go .\tSV-#\teng\n'
)
FILES = {
    "pairs/mine": ("mine.json", (json.dumps(PAIR) + "\n").encode() * 2),
    "blimp/anaphor_gender_agreement": ("anaphor_gender_agreement.jsonl", (json.dumps(BLIMP) + "\n").encode() * 2),
    "clams/en/simple_agrmt": ("simple_agrmt.txt", CLAMS),
    "multiblimp/eng/SV-#": ("eng.tsv", MULTIBLIMP),
}


@pytest.mark.parametrize("name", FILES)
def test_the_good_files_are_read(name: str, tmp_path: Path):
    assert len(tasks.load(name, write_file(tmp_path, *FILES[name]))) >= 1


@pytest.mark.parametrize("name", FILES)
@fuzzed
@given(data=st.data())
def test_edited_task_files(name: str, tmp_path: Path, data: st.DataObject):
    file, base = FILES[name]
    path = write_file(tmp_path, file, data.draw(edits(base)))
    refuses_politely(lambda: tasks.load(name, path))


@pytest.mark.parametrize(("name", "row"), [("pairs/mine", PAIR), ("blimp/anaphor_gender_agreement", BLIMP)])
@fuzzed
@given(data=st.data())
def test_rows_with_other_values(name: str, row: dict, tmp_path: Path, data: st.DataObject):
    rows = [row, data.draw(replaced(row)), data.draw(json_values)]
    path = write_file(tmp_path, FILES[name][0], "\n".join(map(json.dumps, rows)).encode())
    refuses_politely(lambda: tasks.load(name, path))


@fuzzed
@given(data=st.data())
def test_edited_gzipped_files(tmp_path: Path, data: st.DataObject):
    path = write_file(tmp_path, "simple_agrmt.txt.gz", data.draw(edits(gzip.compress(CLAMS))))
    refuses_politely(lambda: tasks.load("clams/en/simple_agrmt", path))


@fuzzed
@given(name=st.text(max_size=30) | st.from_regex(r"(blimp|clams|multiblimp|pairs|agreement|ctt|ioi)/.{0,20}"))
def test_names_of_tasks(name: str, tmp_path: Path):
    refuses_politely(lambda: tasks.load(name, tmp_path))
