from __future__ import annotations

import json
from pathlib import Path

import pytest

from crosstime.errors import RunError
from crosstime.machine.checksum import checksum_of
from crosstime.runs.ledger import Ledger
from crosstime.runs.manifest import MANIFEST, PARTIAL, damaged


class Kitchen:
    """Two stages, the second of which depends on the first; notes what was done."""

    def __init__(self, folder: Path, **inputs) -> None:
        self.ledger, self.inputs, self.done = Ledger(folder), {"bread": 1, "jam": 1, **inputs}, []

    def write(self, name: str) -> None:
        self.done.append(name)
        (self.ledger.folder / f"{name}.txt").write_text(f"{name} {self.inputs}\n" * 20)

    def run(self) -> list[str]:
        self.ledger.stage("bread", self.inputs["bread"], ["bread.txt"], lambda parts: self.write("bread"))
        below = {"bread": self.ledger.key("bread"), "jam": self.inputs["jam"]}
        self.ledger.stage("toast", below, ["toast.txt"], lambda parts: self.write("toast"))
        return self.done


def test_a_stage_is_done_once(tmp_path):
    assert Kitchen(tmp_path).run() == ["bread", "toast"]
    assert Kitchen(tmp_path).run() == []


def test_stage_tells_whether_it_was_done(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.stage("one", 1, ["a"], lambda parts: (tmp_path / "a").write_text("a"))
    assert not ledger.stage("one", 1, ["a"], lambda parts: pytest.fail("done again"))


@pytest.mark.parametrize(
    ("inputs", "done"),
    [({"bread": 2}, ["bread", "toast"]), ({"jam": 2}, ["toast"]), ({"jam": {"a": [1, 2.5]}}, ["toast"]), ({}, [])],
)
def test_changed_inputs_redo_their_stage_and_what_depends_on_it(tmp_path, inputs: dict, done: list[str]):
    Kitchen(tmp_path).run()
    assert Kitchen(tmp_path, **inputs).run() == done
    assert Kitchen(tmp_path, **inputs).run() == []


def test_the_order_of_keys_in_the_inputs_does_not_matter(tmp_path):
    Kitchen(tmp_path, jam={"a": 1, "b": 2}).run()
    assert Kitchen(tmp_path, jam={"b": 2, "a": 1}).run() == []


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "longer":
        path.write_bytes(content + b"\n")
    else:
        content[7] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "longer", "bit flipped"])
@pytest.mark.parametrize("name", ["bread", "toast"])
def test_a_spoiled_file_is_made_again(tmp_path, name: str, how: str):
    Kitchen(tmp_path).run()
    whole = (tmp_path / f"{name}.txt").read_bytes()
    spoil(tmp_path / f"{name}.txt", how)
    assert Kitchen(tmp_path).run() == [name]
    assert (tmp_path / f"{name}.txt").read_bytes() == whole
    assert Kitchen(tmp_path).run() == []


def test_a_stage_that_fails_is_done_again(tmp_path):
    kitchen = Kitchen(tmp_path)
    kitchen.run()
    changed = Kitchen(tmp_path, jam=2)

    def burn(parts) -> None:
        (tmp_path / "toast.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        changed.ledger.stage("toast", {"jam": 2}, ["toast.txt"], burn)
    assert Kitchen(tmp_path).run() == ["toast"]


def test_a_file_that_was_promised_and_not_written_is_named(tmp_path):
    files = ["a.txt", "b.txt", "c.txt"]
    with pytest.raises(RunError, match=r"stage 'one' did not write b\.txt, c\.txt"):
        Ledger(tmp_path).stage("one", 1, files, lambda parts: (tmp_path / "a.txt").write_text("a"))
    with pytest.raises(RunError, match=r"stage 'one' of .* has not been done yet"):
        Ledger(tmp_path).key("one")


def test_the_manifest_holds_keys_times_and_checksums(tmp_path):
    Kitchen(tmp_path).run()
    stages = json.loads((tmp_path / MANIFEST).read_text())["stages"]
    assert list(stages) == ["bread", "toast"]
    assert stages["toast"]["files"] == {"toast.txt": checksum_of(tmp_path / "toast.txt")}
    assert stages["toast"]["key"] == Ledger(tmp_path).key("toast")
    assert stages["toast"]["seconds"] >= 0


def test_the_manifest_is_whole_after_every_stage(tmp_path):
    ledger = Ledger(tmp_path)
    for number in range(3):
        ledger.stage(f"stage {number}", number, [], lambda parts: None)
        assert len(json.loads((tmp_path / MANIFEST).read_text())["stages"]) == number + 1
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_facts_are_kept_beside_the_stages(tmp_path):
    kitchen = Kitchen(tmp_path)
    kitchen.ledger.note(recipe={"name": "toast"})
    kitchen.run()
    kitchen.ledger.note(seconds=3)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert (manifest["recipe"], manifest["seconds"]) == ({"name": "toast"}, 3)
    assert len(manifest["stages"]) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stages": []}', "\xff"])
def test_a_damaged_manifest_is_named_and_left_alone(tmp_path, content: str):
    (tmp_path / MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=r"manifest\.json"):
        Ledger(tmp_path)
    assert (tmp_path / MANIFEST).read_text(encoding="latin-1") == content


@pytest.mark.parametrize("entry", ["done", {"key": 3}, {"files": []}])
def test_a_damaged_entry_of_a_stage_redoes_it(tmp_path, entry):
    Kitchen(tmp_path).run()
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    key = manifest["stages"]["toast"]["key"]
    damaged = entry | {"key": key} if isinstance(entry, dict) and "files" in entry else entry
    manifest["stages"]["toast"] = damaged
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert Kitchen(tmp_path).run() == ["toast"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make the run folder .*file/run"):
        Ledger(tmp_path / "file" / "run")


def test_a_checksum_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert checksum_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_forced_stage_is_done_again_with_all_that_depends_on_it(tmp_path):
    Kitchen(tmp_path).run()
    Ledger(tmp_path).force("toast")
    assert Kitchen(tmp_path).run() == ["toast"]
    Ledger(tmp_path).force("bread")
    assert Kitchen(tmp_path).run() == ["bread", "toast"]
    assert Kitchen(tmp_path).run() == []


def stopped(ledger: Ledger, inputs: int, parts_done: list[str]) -> None:
    """A stage of three parts that stops before the third, unless the first two were there."""

    def work(parts) -> None:
        for name in "abc":
            if name == "c" and len(parts_done) == 2:
                raise KeyboardInterrupt
            parts.file(name, lambda path, name=name: (parts_done.append(name), path.write_text(name)))
        (ledger.folder / "all").write_text("abc")

    (ledger.folder / PARTIAL).mkdir(exist_ok=True)
    for name in ("toast", "other"):
        (ledger.folder / PARTIAL / f"{name}-0").mkdir(exist_ok=True)
    ledger.parts("toast", inputs).folder.mkdir(exist_ok=True)
    ledger.stage("toast", inputs, ["all"], work)


def test_a_stage_that_was_stopped_resumes_from_its_parts(tmp_path):
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        stopped(Ledger(tmp_path), 1, done)
    assert done == ["a", "b"]
    done.append("stopped")
    stopped(Ledger(tmp_path), 1, done)
    assert done == ["a", "b", "stopped", "c"]
    assert not (tmp_path / PARTIAL).exists()


def test_a_spoiled_part_is_made_again(tmp_path):
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        stopped(Ledger(tmp_path), 1, done)
    (part,) = (tmp_path / PARTIAL).glob("toast-*/a")
    part.write_text("A")
    done.append("stopped")
    stopped(Ledger(tmp_path), 1, done)
    assert done == ["a", "b", "stopped", "a", "c"]


def test_parts_of_other_inputs_are_removed_and_those_of_other_stages_are_not(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stopped(Ledger(tmp_path), 1, [])
    names = {path.name for path in (tmp_path / PARTIAL).iterdir()}
    assert "toast-0" not in names
    assert "other-0" in names


def test_what_a_killed_run_was_writing_is_swept_away(tmp_path):
    Kitchen(tmp_path).run()
    (tmp_path / "deep" / ".tmp-1234-suite").mkdir(parents=True)
    (tmp_path / ".tmp-1234-a.csv").write_text("half")
    (tmp_path / ".old-1234-a.csv").write_text("old")
    Ledger(tmp_path).sweep()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bread.txt", "deep", MANIFEST, "toast.txt"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.txt", "a/../../outside.txt", "nul\0"])
def test_a_name_in_the_manifest_that_leads_out_of_the_folder_is_damage(tmp_path, name: str):
    (tmp_path / "run").mkdir()
    (tmp_path / "outside.txt").write_text("x")
    entry = {"files": {name: checksum_of(tmp_path / "outside.txt")}}
    assert damaged(tmp_path / "run", entry) == [name]
