"""What is read back from a run's folder: manifest, crosscoder, effects, tables, texts, suite index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from broken_input import edits, fuzzed, refuses_politely, replaced, tensors_like, write_file
from hypothesis import given
from hypothesis import strategies as st

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.effects.effects_file import read_effects, write_effects
from crosstime.errors import SuiteError
from crosstime.features.annotation import read_annotations
from crosstime.features.description_requests import read_descriptions
from crosstime.features.description_scores import read_scores
from crosstime.machine.checksum import checksum_of
from crosstime.machine.storage import read_table
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.runs.folder import read_selection
from crosstime.runs.jobs import JobFile
from crosstime.runs.ledger import Ledger
from crosstime.runs.manifest import damaged, read_manifest
from crosstime.runs.status import status
from crosstime.suites.read_lines import read_lines
from crosstime.suites.suite import Suite
from interventions import Effects, Site

pytestmark = pytest.mark.fuzz

MANIFEST = {
    "recipe": {"name": "mine", "suite": {"source": "tiny"}}, "versions": {"torch": "2"}, "forced": {"train": 1},
    "stages": {
        "train": {"key": "0123456789abcdef", "seconds": 1.5, "files": {"c.safetensors": "00", "a/b.csv": "11"}},
        "report": {"key": "0123456789abcdef", "seconds": 1.5, "files": {"report.html": "00"}},
    },
}  # fmt: skip
TEXTS = [("a.txt", b"one\ntwo\n"), ("a.jsonl", b'{"text": "one"}\n{"text": "two"}\n')]
SHEET = b"""feature,description,complexity,interpretable,note
3,a plural,2,yes,
5,"commas, and ""quotes""\",4.0,partly,x
f7,,,,
"""
REPLIES = b"""{"id": "f3", "text": "{\\"description\\": \\"a plural\\", \\"complexity\\": 2}"}
{"id": "f5", "text": "I cannot say."}
"""
ANSWERS = b"""{"id": "f3-detection-0", "text": "[1, 0]"}
{"id": "f3-fuzzing-0", "text": "The answer is [1, 1, 0]."}
"""
KEY = [
    {"id": "f3-detection-0", "feature": 3, "kind": "detection", "examples": [{"activating": True}] * 2},
    {"id": "f3-fuzzing-0", "feature": 3, "kind": "fuzzing", "examples": [{"activating": False}] * 3},
]
JOBS = {"0123abcd": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "4567cdef": "job-2"}
INDEX = {
    "name": "mine", "tokens_per_step": 64,
    "revisions": [{"revision": "step0", "step": 0, "tokens": 0}, {"revision": "step4", "step": 4, "tokens": 256}],
}  # fmt: skip


@pytest.fixture(scope="module")
def crosscoder_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "c.safetensors"
    CrossCoder(Origin("tiny", ("a", "b"), Site(1), 4, {"kind": "l1"}), 6).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def effects_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "e.safetensors"
    places, numbers = torch.zeros(3, dtype=torch.long), torch.zeros(3)
    whole = torch.zeros(2)
    write_effects(
        path, [Effects(places, places, places, numbers, whole, whole, whole, torch.ones(2, dtype=torch.long), 6, "ig")]
    )
    return path.read_bytes()


@fuzzed
@given(data=st.data())
def test_manifests_with_other_values(tmp_path: Path, data: st.DataObject):
    write_file(tmp_path, "manifest.json", json.dumps(data.draw(replaced(MANIFEST))).encode())

    def use() -> None:
        status(tmp_path)
        ledger = Ledger(tmp_path)
        for name in ("train", "report"):
            ledger.is_done(name, {"a": 1}, ["report.html"])
            ledger.force(name)
            ledger.key(name)

    refuses_politely(use)


@fuzzed
@given(data=st.data())
def test_edited_manifests(tmp_path: Path, data: st.DataObject):
    write_file(tmp_path, "manifest.json", data.draw(edits(json.dumps(MANIFEST).encode())))
    refuses_politely(lambda: (read_manifest(tmp_path), status(tmp_path)))


@fuzzed
@given(data=st.data())
def test_edited_crosscoder_files(tmp_path: Path, crosscoder_bytes: bytes, data: st.DataObject):
    path = write_file(tmp_path, "c.safetensors", data.draw(edits(crosscoder_bytes)))
    refuses_politely(lambda: CrossCoder.load(path))


@fuzzed
@given(data=st.data())
def test_crosscoder_files_with_other_facts(tmp_path: Path, crosscoder_bytes: bytes, data: st.DataObject):
    tensors, facts = read_tensors(write_file(tmp_path, "good.safetensors", crosscoder_bytes))
    parsed = {name: json.loads(text) if text.startswith(("{", "[")) else text for name, text in sorted(facts.items())}
    changed = data.draw(replaced(parsed).filter(lambda value: isinstance(value, dict)))
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in changed.items()
        if "\x00" not in name
    }
    name = data.draw(st.sampled_from(sorted(tensors)))
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    if data.draw(st.booleans()):
        tensors[name] = torch.zeros(shape, dtype=data.draw(st.sampled_from([torch.float32, torch.int64, torch.bool])))
    write_tensors(tmp_path / "c.safetensors", tensors, texts)
    refuses_politely(lambda: CrossCoder.load(tmp_path / "c.safetensors"))


@fuzzed
@given(data=st.data())
def test_edited_effects_files(tmp_path: Path, effects_bytes: bytes, data: st.DataObject):
    path = write_file(tmp_path, "e.safetensors", data.draw(edits(effects_bytes)))
    refuses_politely(lambda: read_effects(path))


@fuzzed
@given(data=st.data())
def test_effects_files_with_other_tensors_and_facts(tmp_path: Path, effects_bytes: bytes, data: st.DataObject):
    tensors, facts = read_tensors(write_file(tmp_path, "good.safetensors", effects_bytes))
    if data.draw(st.booleans()):
        tensors = data.draw(tensors_like(tensors))
    else:
        name = data.draw(st.sampled_from(sorted(facts)))
        facts[name] = data.draw(st.text(st.characters(codec="utf-8"), max_size=9) | st.integers().map(str))
    write_tensors(tmp_path / "e.safetensors", tensors, facts)

    def use() -> None:
        for effects in read_effects(tmp_path / "e.safetensors"):
            if effects.n_features > 1_000_000:  # allowed, but a gigabyte in this test is not
                continue
            assert effects.per_feature().shape == (effects.n_features,)
            assert effects.per_prompt([0]).shape == (len(effects.clean), 1)
            effects.completeness_error()

    refuses_politely(use)


@fuzzed
@given(data=st.data())
def test_replies_of_a_language_model(tmp_path: Path, data: st.DataObject):
    path = write_file(tmp_path, "replies.jsonl", data.draw(edits(REPLIES)))
    refuses_politely(lambda: read_descriptions(path, [3, 5, 7]))
    key = write_file(tmp_path, "key.jsonl", "".join(json.dumps(row) + "\n" for row in KEY).encode())
    answers = write_file(tmp_path, "answers.jsonl", data.draw(edits(ANSWERS)))
    refuses_politely(lambda: read_scores(answers, key))
    rows = [data.draw(replaced(KEY[0])), KEY[1]]
    other = write_file(tmp_path, "other.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    refuses_politely(lambda: read_scores(write_file(tmp_path, "good.jsonl", ANSWERS), other))


@fuzzed
@given(data=st.data())
def test_annotation_sheets(tmp_path: Path, data: st.DataObject):
    path = write_file(tmp_path, "annotations.csv", data.draw(edits(SHEET)))

    def use() -> None:
        assert set(read_annotations(path, [3, 5, 7]).feature) <= {3, 5, 7}

    refuses_politely(use)


@fuzzed
@given(data=st.data())
def test_files_of_job_ids(tmp_path: Path, data: st.DataObject):
    content = data.draw(edits(json.dumps(JOBS).encode()) | replaced(JOBS).map(lambda value: json.dumps(value).encode()))
    path = write_file(tmp_path, "jobs.json", content)

    def use() -> None:
        jobs = JobFile(path)
        jobs["new"] = "job-3"
        assert JobFile(path)["new"] == "job-3"

    refuses_politely(use)


@fuzzed
@given(data=st.data())
def test_choices_of_checkpoints(tmp_path: Path, data: st.DataObject):
    choice = {"revisions": ["step0", "step4"], "total": 1.5}
    path = write_file(tmp_path, "selection.json", json.dumps(data.draw(replaced(choice))).encode())
    refuses_politely(lambda: read_selection(path))


@fuzzed
@given(data=st.data())
def test_edited_tables(tmp_path: Path, data: st.DataObject):
    path = write_file(tmp_path, "t.csv", data.draw(edits(b'task,feature,ie\na,1,0.5\n"b ""c""",2,\n')))
    refuses_politely(lambda: read_table(path, dtypes={"task": str}))


@fuzzed
@given(data=st.data())
def test_edited_texts(tmp_path: Path, data: st.DataObject):
    name, base = data.draw(st.sampled_from(TEXTS))
    path = write_file(tmp_path, name, data.draw(edits(base)))
    refuses_politely(lambda: list(read_lines(path)))


@fuzzed
@given(data=st.data())
def test_suite_indices_with_other_values(tmp_path: Path, data: st.DataObject):
    for name in ("step0", "step4"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_text('{"model_type": "gpt_neox"}')
    write_file(tmp_path, "suite.json", json.dumps(data.draw(replaced(INDEX))).encode())
    refuses_politely(lambda: Suite.open(tmp_path))


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "../../x", "a\\b", "x\0"])
def test_an_index_cannot_name_a_checkpoint_outside_its_suite(tmp_path: Path, name: str):
    (tmp_path / "config.json").write_text("{}")
    write_file(tmp_path, "suite.json", json.dumps({"revisions": [{"revision": name}]}).encode())
    with pytest.raises(SuiteError, match="does not name a folder next to the file"):
        Suite.open(tmp_path)


@pytest.mark.parametrize("name", ["../outside.csv", "/etc/hostname", "a/../../outside.csv", "x\0"])
def test_a_manifest_cannot_vouch_for_a_file_outside_its_run(tmp_path: Path, name: str):
    (tmp_path / "outside.csv").write_text("a\n")
    seal = checksum_of(tmp_path / "outside.csv")
    assert damaged(tmp_path, {"files": {"outside.csv": seal}}) == []
    assert damaged(tmp_path / "run", {"files": {name: seal}}) == [name]


@fuzzed
@given(data=st.data())
def test_edited_model_configurations(tmp_path: Path, data: st.DataObject):
    (tmp_path / "step0").mkdir(exist_ok=True)
    base = b'{"model_type": "gpt_neox", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 300}'
    write_file(tmp_path / "step0", "config.json", data.draw(edits(base)))
    refuses_politely(lambda: Suite.open(tmp_path).d_model)
