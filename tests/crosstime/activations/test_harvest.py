"""A harvest writes what the models compute, and ends with the same store however often it was interrupted."""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
from collections import namedtuple
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.activations import harvest as harvesting
from crosstime.activations.harvest import harvest
from crosstime.activations.store import ActivationStore
from crosstime.errors import CorpusError, RunError, StoreError
from crosstime.machine import storage
from crosstime.machine.checksum import checksum_of
from crosstime.suites.corpus import sequences
from crosstime.suites.suite import Suite
from interventions import Site
from tasks.agreement import sentences

TEXT = list(sentences(120, seed=3))
LENGTH, SEQUENCES, SEQUENCES_PER_SHARD = 8, 23, 10
OPTIONS = {
    "tokens": SEQUENCES * (LENGTH - 1),
    "sequence_length": LENGTH,
    "shard_tokens": SEQUENCES_PER_SHARD * (LENGTH - 1),
    "dtype": "float32",
}


class Stop(Exception):
    """Stands for a crash of the machine."""


@pytest.fixture(scope="module")
def store(brief_suite: Suite, tmp_path_factory) -> ActivationStore:
    return harvest(brief_suite, Site(0), TEXT, tmp_path_factory.mktemp("harvest") / "store", **OPTIONS)


@pytest.fixture(scope="module")
def rows(brief_suite: Suite) -> torch.Tensor:
    return torch.stack(list(islice(sequences(TEXT, brief_suite.tokenizer, LENGTH), SEQUENCES)))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: checksum_of(path) for path in sorted(folder.iterdir())}


def copied(store: ActivationStore, folder: Path) -> Path:
    shutil.copytree(store.folder, folder)
    return folder


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)


def test_rows_are_the_models_activations_without_first_tokens(store, brief_suite: Suite, rows: torch.Tensor):
    shards = [store.rows(n, 0, store.shard_tokens(n)) for n in range(3)]
    activations = torch.cat(shards)
    assert [len(shard) for shard in shards] == [70, 70, 21]
    for c, checkpoint in enumerate(brief_suite):
        model = AutoModelForCausalLM.from_pretrained(checkpoint.source).eval()
        with torch.no_grad():
            hidden = model(rows, output_hidden_states=True).hidden_states[1][:, 1:]
        torch.testing.assert_close(activations[:, c], hidden.flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_token_ids_are_those_of_the_text_in_order(store, rows: torch.Tensor):
    assert torch.equal(torch.cat([store.tokens(n) for n in range(3)]).long(), rows)


def test_scales_are_over_all_tokens(store):
    x = torch.cat([store.rows(n, 0, store.shard_tokens(n)) for n in range(3)]).double()
    torch.testing.assert_close(store.scales.double(), 4 / x.norm(dim=-1).mean(0), rtol=1e-5, atol=0)


def test_half_precision_is_the_rounded_activation(store, brief_suite: Suite, tmp_path: Path, opened):
    half = harvest(brief_suite, Site(0), TEXT, tmp_path / "half", **OPTIONS | {"dtype": "bfloat16"})
    assert torch.equal(half.rows(1, 3, 9), store.rows(1, 3, 9).bfloat16())
    assert half.manifest["shards"][0]["activations"]["step0"]["bytes"] < 70 * 16 * 4


def test_the_whole_text_is_stored_without_a_number_of_tokens(brief_suite: Suite, tmp_path: Path, opened):
    text = TEXT[:30]
    store = harvest(brief_suite, Site(0), text, tmp_path / "all", **OPTIONS | {"tokens": None})
    assert store.n_tokens == 7 * len(list(sequences(text, brief_suite.tokenizer, LENGTH)))


def test_each_checkpoint_is_opened_once(brief_suite: Suite, tmp_path: Path, opened: list[str]):
    harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    assert opened == ["step0", "step6"]


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 5, 8, 11, 14, 17, 19])
@pytest.mark.parametrize("after", [False, True])
def test_an_interruption_at_any_write_leaves_no_trace(
    store, brief_suite: Suite, tmp_path: Path, monkeypatch, opened, writes: int, after: bool
):
    writes_left = [writes]
    replace_file = storage._replace

    def failing(temporary: Path, target: Path) -> None:
        writes_left[0] -= 1
        if writes_left[0] < 0 and not after:
            # A killed process leaves its temporary file.
            shutil.copy(temporary, temporary.with_name(f".tmp-dead-{target.name}"))
            # safetensors has temporary files of its own.
            (temporary.parent / ".tmpor1wjK").touch()
            raise Stop
        replace_file(temporary, target)
        if writes_left[0] < 0:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(storage, "_replace", failing)
        with pytest.raises(Stop):
            harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    if writes >= 2:
        with pytest.raises(StoreError, match="is unfinished: run the same harvest again"):
            ActivationStore.open(tmp_path / "store")
    harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    assert contents(tmp_path / "store") == contents(store.folder)


def kill_at_write(n: int) -> None:
    """Make this process kill itself when it is about to rename its n-th file."""
    replace_file, n_writes = storage._replace, itertools.count()

    def kill_or_replace(temporary: Path, target: Path) -> None:
        if next(n_writes) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        replace_file(temporary, target)

    storage._replace = kill_or_replace


def test_killed_harvests_end_with_the_same_store(store, brief_suite: Suite, tmp_path: Path, opened):
    random_writes = random.Random(0)
    for _ in range(8):
        write = random_writes.randrange(6)
        child = os.fork()
        if child == 0:
            try:
                kill_at_write(write)
                harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    assert contents(tmp_path / "store") == contents(store.folder)


def test_intact_files_are_not_computed_again(store, brief_suite: Suite, tmp_path: Path, opened: list[str]):
    folder = copied(store, tmp_path / "store")
    (folder / "shard-00001-1.safetensors").unlink()
    harvest(brief_suite, Site(0), TEXT, folder, **OPTIONS)
    assert opened == ["step6"]
    assert contents(folder) == contents(store.folder)


@pytest.mark.parametrize("name", ["shard-00001-0.safetensors", "shard-00001-tokens.safetensors"])
def test_a_corrupt_shard_is_named_and_a_new_harvest_restores_it(
    store, brief_suite: Suite, tmp_path: Path, name: str, opened
):
    folder = copied(store, tmp_path / "store")
    flipped(folder / name)
    damaged = ActivationStore.open(folder)
    with pytest.raises(StoreError, match=rf"{name} is damaged: its checksum is not the one in manifest\.json"):
        damaged.verify()
    harvest(brief_suite, Site(0), TEXT, folder, **OPTIONS)
    assert contents(folder) == contents(store.folder)


@pytest.mark.parametrize(("damage", "message"), [("cut", "has 100 bytes and not"), ("gone", "is missing")])
def test_a_shard_that_is_cut_or_gone_is_named_when_the_store_is_opened(
    store, tmp_path: Path, damage: str, message: str
):
    path = copied(store, tmp_path / "store") / "shard-00002-1.safetensors"
    path.write_bytes(path.read_bytes()[:100]) if damage == "cut" else path.unlink()
    with pytest.raises(StoreError, match=rf"shard-00002-1\.safetensors {message}"):
        ActivationStore.open(tmp_path / "store")


def test_other_settings_are_rejected_and_the_differences_listed(store, brief_suite: Suite, tmp_path: Path):
    folder = copied(store, tmp_path / "store")
    with pytest.raises(StoreError, match=r"site was 'resid\.0' and is now 'mlp\.1'; dtype was 'float32' and is now"):
        harvest(brief_suite, Site(1, "mlp"), TEXT, folder, **OPTIONS | {"dtype": "float16"})
    with pytest.raises(StoreError, match="revisions was"):
        harvest(brief_suite.select(["step6"]), Site(0), TEXT, folder, **OPTIONS)


def test_another_text_is_rejected(store, brief_suite: Suite, tmp_path: Path):
    folder = copied(store, tmp_path / "store")
    with pytest.raises(StoreError, match="was made from another text"):
        harvest(brief_suite, Site(0), TEXT[1:], folder, **OPTIONS)
    assert contents(folder) == contents(store.folder)


def test_a_folder_with_other_things_is_left_alone(brief_suite: Suite, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not an activation store: choose another folder"):
        harvest(brief_suite, Site(0), TEXT, tmp_path, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_full_disk_leaves_whole_shards_only_and_the_harvest_resumes(
    store, brief_suite: Suite, tmp_path: Path, opened
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_200, hard))  # a shard's activations have 4,480 bytes
    try:
        with pytest.raises(RunError, match=r"cannot write .*shard-00000-0\.safetensors: .*; nothing of it is left"):
            harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    names = {path.name for path in (tmp_path / "store").iterdir()}
    assert names == {"manifest.json", *(f"shard-0000{n}-tokens.safetensors" for n in range(3))}
    harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    assert contents(tmp_path / "store") == contents(store.folder)


def test_a_disk_that_is_too_small_is_reported_before_any_model_is_run(
    brief_suite: Suite, tmp_path: Path, monkeypatch, opened
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(harvesting.shutil, "disk_usage", lambda folder: usage(10**6, 10**6, 20_607))
    with pytest.raises(StoreError, match=r"needs 0\.0 GB more, but its disk has 0\.0 GB free"):
        harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)
    # 161 tokens x 2 checkpoints x 16 numbers x 4 bytes fit exactly.
    monkeypatch.setattr(harvesting.shutil, "disk_usage", lambda folder: usage(10**6, 10**6, 20_608))
    harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS)


def test_numbers_too_large_for_float16_are_rejected(brief_suite: Suite, tmp_path: Path, monkeypatch, opened):
    def huge(model, sequences, sites, **options):
        return {site: torch.full((sequences.n_tokens, 16), 1e5) for site in sites}

    monkeypatch.setattr(harvesting, "fetch", huge)
    with pytest.raises(StoreError, match=r"at resid\.0 are too large for float16; use bfloat16"):
        harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS | {"dtype": "float16"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 1}, "sequences need at least 2 tokens, not 1"),
        ({"dtype": "float61"}, "there is no dtype 'float61': did you mean 'float16'"),
        ({"tokens": 6}, "at least one sequence of 7 tokens"),
        ({"shard_tokens": 0}, "shards of at least one token"),
    ],
)
def test_invalid_settings_are_rejected_with_one_sentence(brief_suite: Suite, tmp_path: Path, options, message: str):
    with pytest.raises(StoreError, match=message):
        harvest(brief_suite, Site(0), TEXT, tmp_path / "store", **OPTIONS | options)
    assert not (tmp_path / "store").exists()


def test_a_text_too_short_leaves_nothing_behind(brief_suite: Suite, tmp_path: Path):
    with pytest.raises(CorpusError, match="too few for one sequence of 8"):
        harvest(brief_suite, Site(0), ["the cat"], tmp_path / "store", **OPTIONS)
    assert not (tmp_path / "store").exists()
