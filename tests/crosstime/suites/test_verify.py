"""All checkpoints of a suite are checked before the first is run: present, complete, alike, and not the same twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_folders import TEXT, to_bin, tokenizer, write_checkpoint, write_suite
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from crosstime.activations.harvest import harvest
from crosstime.errors import SuiteError
from crosstime.suites.accuracy import accuracy
from crosstime.suites.compute import Compute
from crosstime.suites.ngram_divergence import ngram_divergence
from crosstime.suites.similarity import similarity
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from interventions import Site
from tasks import load

SAMPLE = TextSample(4, 8)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return write_suite(tmp_path_factory.mktemp("verify") / "mine", ["step0", "step64", "step256"])


@pytest.fixture(scope="module")
def shared_shards(tmp_path_factory) -> Path:
    return write_suite(tmp_path_factory.mktemp("verify") / "sharded", ["step0", "step64", "step128"], shard_size="12KB")


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shared, tmp_path / "mine")


@pytest.fixture
def shards(shared_shards: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shared_shards, tmp_path / "sharded")


@pytest.fixture
def never_opened(monkeypatch) -> None:
    def refuse(*arguments, **options):
        raise AssertionError("a model was opened")

    monkeypatch.setattr("interventions.model.Model.open", refuse)


def copy_weights(source: Path, target: Path) -> None:
    for file in source.glob("model*"):
        shutil.copy2(file, target / file.name)


VERBS: dict[str, Callable[[Suite, Path], object]] = {
    "accuracy": lambda suite, out: accuracy(suite, load("agreement/simple", limit=4), cache=out),
    "similarity": lambda suite, out: similarity(suite, Site(1), TEXT, SAMPLE),
    "ngrams": lambda suite, out: ngram_divergence(suite, TEXT, sample=SAMPLE),
    "train": lambda suite, out: train(suite, Site(1), TEXT, L1Config(n_features=8, steps=1)),
    "harvest": lambda suite, out: harvest(suite, Site(1), TEXT, out / "store", sequence_length=8),
    "each": lambda suite, out: Compute().each(suite, lambda index, model: None),
    "open": lambda suite, out: Compute().open(suite, "step0"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_weights_under_two_names_are_refused_by_all_that_runs_models(
    folder: Path, tmp_path: Path, never_opened, verb: str
):
    shutil.copytree(folder / "step64", folder / "step128")
    with pytest.raises(SuiteError) as caught:
        VERBS[verb](Suite.open(folder), tmp_path / "out")
    message = str(caught.value)
    same = "revisions 'step64' and 'step128' have the same weights, byte for byte (model.safetensors)"
    assert message.startswith(f"in suite 'mine', {same}; at most one of them is what its name says")
    assert "allow_equal_weights" in message
    assert "'step0'" not in message
    assert "'step256'" not in message
    assert not (tmp_path / "out").exists()


def test_a_single_shard_of_another_checkpoint_is_refused_by_its_name(shards: Path):
    files = sorted(path.name for path in (shards / "step64").glob("*.safetensors"))
    assert len(files) > 3
    Suite.open(shards).verify()
    for file in files:
        suite = shutil.copytree(shards, shards.parent / file)
        shutil.copy(shards / "step64" / file, suite / "step128" / file)
        with pytest.raises(SuiteError, match=f"'step64' and 'step128' share 1 of {len(files)} weight files.*{file}"):
            Suite.open(suite).verify()


@pytest.mark.parametrize("sharded", [False, True])
def test_files_of_torch_are_compared_too(folder: Path, sharded: bool):
    for checkpoint in folder.iterdir():
        to_bin(checkpoint, sharded=sharded)
    Suite.open(folder).verify()
    file = "pytorch_model-00002-of-00002.bin" if sharded else "pytorch_model.bin"
    shutil.copy(folder / "step0" / file, folder / "step256" / file)
    share = "share 1 of 2 weight files" if sharded else "have the same weights"
    with pytest.raises(SuiteError, match=rf"'step0' and 'step256' {share}, byte for byte \({file}\)"):
        Suite.open(folder).verify()


def test_a_shard_that_training_does_not_change_is_no_evidence(tmp_path: Path):
    for seed, revision in enumerate(["step0", "step1"]):
        write_checkpoint(tmp_path / revision, seed)
        tensors = load_file(tmp_path / revision / "model.safetensors")
        layer = "gpt_neox.layers.0.attention"
        constant = {f"{layer}.bias": torch.ones(1, 1, 4, 4).tril(), f"{layer}.masked_bias": torch.ones(16)}
        constant[f"{layer}.rotary_emb.inv_freq"] = 1 / torch.arange(1.0, 5)
        (tmp_path / revision / "model.safetensors").unlink()
        save_file(tensors, tmp_path / revision / "model-1.safetensors", {"format": "pt"})
        save_file(constant, tmp_path / revision / "model-2.safetensors", {"format": "pt"})
        places = dict.fromkeys(tensors, "model-1.safetensors") | dict.fromkeys(constant, "model-2.safetensors")
        index = {"metadata": {}, "weight_map": places}
        (tmp_path / revision / "model.safetensors.index.json").write_text(json.dumps(index))
    Suite.open(tmp_path).verify()


def test_the_option_allows_equal_weights_and_they_can_be_listed(folder: Path):
    shutil.copytree(folder / "step64", folder / "main")
    with pytest.raises(SuiteError, match="'main' is often the last step under another name: leave one of the two out"):
        Suite.open(folder).verify()
    suite = Suite.open(folder, allow_equal_weights=True)
    suite.verify(distinct=True)
    suite.select(["main", "step64"]).verify(distinct=True)
    assert [group.as_fact() for group in suite.equal_weights()] == [
        {"revisions": ["step64", "main"], "files": ["model.safetensors"], "complete": True}
    ]
    assert Suite.open(folder).select(["step0", "main"]).equal_weights() == ()


def test_two_names_of_one_step_are_warned_about_and_never_compared(folder: Path):
    shutil.copytree(folder / "step256", folder / "main")
    steps = {"step0": 0, "step64": 64, "step256": 256, "main": 256}
    index = {"revisions": [{"revision": revision, "step": step} for revision, step in steps.items()]}
    (folder / "suite.json").write_text(json.dumps(index))
    suite = Suite.open(folder)
    same = "'step256' and 'main' have the same weights"
    with pytest.warns(RuntimeWarning, match=rf"{same}.*; all of them stand for step 256\.$"):
        suite.verify()
    with pytest.raises(SuiteError, match=same):
        train(suite, Site(1), TEXT, L1Config(n_features=8, steps=1))


def test_many_equal_checkpoints_are_one_short_sentence(folder: Path):
    for step in range(1000, 1040):
        shutil.copytree(folder / "step256", folder / f"step{step}")
    with pytest.raises(SuiteError, match=r"'step256', 'step1000', .* and 33 more have the same weights") as caught:
        Suite.open(folder).verify()
    assert len(str(caught.value)) < 500


def break_half(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_zip(checkpoint: Path) -> None:
    to_bin(checkpoint)
    path = checkpoint / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-100])


def link_to_nothing(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors").symlink_to("gone")


def edit_config(checkpoint: Path, **values: object) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | values))


def remove_a_shard(checkpoint: Path) -> None:
    to_bin(checkpoint, sharded=True)
    (checkpoint / "pytorch_model-00002-of-00002.bin").unlink()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"
BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda checkpoint: (checkpoint / "model.safetensors").unlink(), "there are no weights: it has none"),
    "half a file": (break_half, r"model\.safetensors is incomplete: it has [\d,]+ of [\d,]+ bytes"),
    "half a header": (
        lambda checkpoint: (checkpoint / "model.safetensors").write_bytes(b"\xf0" + bytes(9)),
        r"model\.safetensors is incomplete: it ends within its header",
    ),
    "empty": (lambda checkpoint: (checkpoint / "model.safetensors").write_bytes(b""), r"model\.safetensors is empty"),
    "a pointer": (lambda checkpoint: (checkpoint / "model.safetensors").write_text(POINTER), "git lfs pull"),
    "a dead link": (link_to_nothing, r"model\.safetensors is a link that leads nowhere"),
    "a named file": (
        lambda checkpoint: edit_config(checkpoint, transformers_weights="other.safetensors"),
        r"there are no weights: it has none of other\.safetensors",
    ),
    "a file elsewhere": (
        lambda checkpoint: edit_config(checkpoint, transformers_weights="../step0/model.safetensors"),
        r"config\.json names '\.\./step0/model\.safetensors' as weights, which is no file beside it",
    ),
    "no name": (lambda checkpoint: edit_config(checkpoint, transformers_weights=[1]), r"config\.json names '\[1\]'"),
    "half a zip": (break_zip, r"pytorch_model\.bin is incomplete: its end is missing"),
    "no shard": (remove_a_shard, r"1 of the 2 files that pytorch_model\.bin\.index\.json lists are missing: .*00002"),
    "no config": (lambda checkpoint: (checkpoint / "config.json").write_text("{"), "cannot read the configuration"),
    "no type": (
        lambda checkpoint: (checkpoint / "config.json").write_text('{"model_type": "nonsense"}'),
        r"model type `nonsense` but Transformers does not recognize this architecture",
    ),
    "narrower": (lambda checkpoint: write_checkpoint(checkpoint, hidden_size=8), "d_model differs .*16 at 'step0', 8"),
    "deeper": (lambda checkpoint: write_checkpoint(checkpoint, num_hidden_layers=3), "of layers differs .*2 .*3"),
    "no tokenizer": (
        lambda checkpoint: [path.unlink() for path in checkpoint.glob("tokenizer*")],
        "cannot read the tokenizer of revision 'step256'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_revision_that_cannot_be_used_is_refused_before_the_first_is_run(folder: Path, never_opened, breakage: str):
    damage, sentence = BREAKAGES[breakage]
    damage(folder / "step256")
    with pytest.raises(SuiteError, match=sentence) as caught:
        similarity(Suite.open(folder), Site(1), TEXT, SAMPLE)
    assert "step256" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "See the original errors" not in str(caught.value)


def test_the_file_that_a_configuration_names_is_the_one_that_counts(folder: Path):
    shutil.copy(folder / "step0" / "model.safetensors", folder / "step256" / "other.safetensors")
    Suite.open(folder).verify()
    edit_config(folder / "step256", transformers_weights="other.safetensors")
    with pytest.raises(SuiteError, match=r"'step0' and 'step256' have the same weights, byte for byte"):
        Suite.open(folder).verify()


def test_another_type_of_model_is_refused_by_both_names(folder: Path):
    config = GPT2Config(vocab_size=len(tokenizer()), n_embd=16, n_layer=2, n_head=2)
    shutil.rmtree(folder / "step64")
    GPT2LMHeadModel(config).save_pretrained(folder / "step64")
    tokenizer().save_pretrained(folder / "step64")
    with pytest.raises(SuiteError, match=r"type of model differs .*: gpt_neox at 'step0', gpt2 at 'step64'"):
        Suite.open(folder).verify()


def test_all_revisions_that_cannot_be_used_are_named_at_once(folder: Path):
    break_half(folder / "step0")
    (folder / "step256" / "model.safetensors").unlink()
    with pytest.raises(SuiteError) as caught:
        Suite.open(folder).verify()
    message = str(caught.value)
    assert message.startswith("2 of the 3 revisions of suite 'mine' cannot be used: cannot use the weights of revision")
    assert "'step0'" in message
    assert "'step256'" in message


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"metadata": {}, "weight_map": {"a": 1}}',
        '{"metadata": {}, "weight_map": {"a": "../step0/model.safetensors"}}',
        "{",
        "",
    ],
)
def test_a_damaged_index_of_shards_is_one_sentence(shards: Path, content: str):  # fmt: skip
    (shards / "step64" / "model.safetensors.index.json").write_text(content)
    with pytest.raises(SuiteError, match=r"weights of revision 'step64' from .*model\.safetensors\.index\.json"):
        Suite.open(shards).verify()


def test_a_suite_is_verified_once_and_its_parts_share_what_was_read(folder: Path, monkeypatch):
    suite = Suite.open(folder)
    suite.verify()

    def refuse(checkpoints):
        raise AssertionError("weights were read again")

    monkeypatch.setattr("crosstime.suites.checkpoint_files.read_weights", refuse)
    suite.verify()
    part = suite.select(["step256", "step0"])
    part.verify(distinct=True)
    assert len(part.fingerprint) == 16
