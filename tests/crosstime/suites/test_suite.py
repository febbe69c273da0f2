from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

from crosstime.errors import SuiteError
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.fingerprint import tokenizer_hash
from crosstime.suites.suite import Suite
from crosstime.suites.train_tokenizer import train_tokenizer

SUITES = Path(__file__).parents[4] / "shared" / "suites"
needs_suites = pytest.mark.skipif(not SUITES.is_dir(), reason=f"the shared suites are not at {SUITES}")
TEXT = ["the cat sleeps .", "the dogs sleep near the cat ."] * 5


def write_checkpoint(folder: Path, *, text=TEXT, seed=0, d_model=16, n_layers=2, **tokenizer_options) -> None:
    tokenizer = train_tokenizer(text, 300)
    for name, value in tokenizer_options.items():
        setattr(tokenizer, name, value)
    config = GPTNeoXConfig(
        hidden_size=d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=len(tokenizer),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory) -> Path:
    """Three checkpoints without a suite.json, and things beside them that are none."""
    folder = tmp_path_factory.mktemp("made") / "mine"
    for seed, name in enumerate(["step10", "main", "step2"]):
        write_checkpoint(folder / name, seed=seed)
    (folder / "logs").mkdir()
    (folder / "notes.txt").write_text("notes")
    shutil.copytree(folder / "step2", folder / ".tmp-step3")
    return folder


@pytest.fixture
def suite_folder(shared_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(shared_folder, tmp_path / "mine")


def test_a_folder_is_read_in_training_order_with_main_last(shared_folder: Path):
    suite = Suite.open(shared_folder)
    assert suite.name == "mine"
    assert suite.revisions == ("step2", "step10", "main")
    assert len(suite) == 3
    assert list(suite) == [
        Checkpoint("step2", 2, None, str(shared_folder / "step2"), None),
        Checkpoint("step10", 10, None, str(shared_folder / "step10"), None),
        Checkpoint("main", None, None, str(shared_folder / "main"), None),
    ]
    assert Suite.open(str(shared_folder)) == suite


def test_given_revisions_keep_the_callers_order(shared_folder: Path):
    suite = Suite.open(shared_folder, ["main", "step2"], name="two", tokens={"main": 99}, tokens_per_step=4)
    assert suite.name == "two"
    assert [(checkpoint.revision, checkpoint.tokens) for checkpoint in suite] == [("main", 99), ("step2", 8)]


def test_select_and_indexing_return_the_same_checkpoints(shared_folder: Path):
    suite = Suite.open(shared_folder)
    selected = suite.select(["main", "step2"])
    assert selected.revisions == ("main", "step2")
    assert selected["main"] is suite["main"]
    assert selected.name == suite.name


def test_the_index_gives_order_names_steps_and_tokens(suite_folder: Path):
    index = {
        "name": "indexed",
        "revisions": [{"revision": "step10", "tokens": 7}, {"revision": "main", "step": 12, "tokens": 9}],
    }
    (suite_folder / "suite.json").write_text(json.dumps(index))
    suite = Suite.open(suite_folder)
    assert suite.name == "indexed"
    assert [(checkpoint.revision, checkpoint.step, checkpoint.tokens) for checkpoint in suite] == [
        ("step10", 10, 7),
        ("main", 12, 9),
    ]
    counted = Suite.open(suite_folder, tokens_per_step=100, tokens={"main": 5})
    assert [checkpoint.tokens for checkpoint in counted] == [1000, 5]


@pytest.mark.parametrize("content", ["[]", '{"revisions": [1]}', '{"revisions": [{"step": 1}]}', "{}"])
def test_a_malformed_index_is_refused(suite_folder: Path, content: str):
    (suite_folder / "suite.json").write_text(content)
    with pytest.raises(SuiteError, match=r'suite\.json must hold "revisions"'):
        Suite.open(suite_folder)


def test_an_index_naming_a_missing_checkpoint_is_refused(suite_folder: Path):
    (suite_folder / "suite.json").write_text('{"revisions": [{"revision": "step99"}]}')
    with pytest.raises(SuiteError, match=r"lists revision 'step99', but .*step99 has no config\.json"):
        Suite.open(suite_folder)


def test_opening_loads_neither_weights_nor_tokenizer(suite_folder: Path):
    for file in [*suite_folder.glob("*/*.safetensors"), *suite_folder.glob("*/tokenizer*")]:
        file.unlink()
    suite = Suite.open(suite_folder)
    assert (suite.d_model, suite.n_layers) == (16, 2)
    with pytest.raises(SuiteError, match=r"cannot read the tokenizer of revision 'step2' .* tokenizer="):
        _ = suite.tokenizer


def test_missing_folders_and_folders_without_checkpoints_are_refused(shared_folder: Path, tmp_path: Path):
    with pytest.raises(SuiteError, match=r"there is no folder .*gone"):
        Suite.open(tmp_path / "gone")
    with pytest.raises(SuiteError, match=r"there is no folder \./gone"):
        Suite.open("./gone")
    with pytest.raises(SuiteError, match=r"no checkpoint in .*none of its sub-folders has a config\.json"):
        Suite.open(tmp_path)
    with pytest.raises(SuiteError, match="is a single checkpoint"):
        Suite.open(shared_folder / "main")


def test_unknown_revisions_are_answered_with_the_nearest_and_the_list(shared_folder: Path):
    suite = Suite.open(shared_folder)
    message = r"no revision 'step11' in .*mine.*: did you mean 'step10'\? Allowed: main, step10, step2\."
    with pytest.raises(SuiteError, match=message):
        Suite.open(shared_folder, ["step2", "step11"])
    with pytest.raises(SuiteError, match=message):
        suite.select(["step11"])
    with pytest.raises(SuiteError, match=message):
        suite.config("step11")


def test_revisions_given_twice_or_not_at_all_are_refused(shared_folder: Path):
    with pytest.raises(SuiteError, match="'main' is given twice"):
        Suite.open(shared_folder, ["main", "step2", "main"])
    with pytest.raises(SuiteError, match="'main' is given twice"):
        Suite.open("org/name", ["main", "main"])
    with pytest.raises(SuiteError, match="must not be an empty list"):
        Suite.open(shared_folder, [])
    with pytest.raises(SuiteError, match="at least one checkpoint"):
        Suite.open(shared_folder).select([])
    with pytest.raises(SuiteError, match="must be a list of names, not the single string 'main'"):
        Suite.open(shared_folder, "main")


def test_the_tokenizer_is_the_checkpoints_own_padded_on_the_left(shared_folder: Path):
    suite = Suite.open(shared_folder)
    tokenizer = suite.tokenizer
    assert suite.tokenizer is tokenizer
    text = "the dogs sleep ."
    assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(shared_folder / "main")(text)["input_ids"]
    padded = tokenizer(["the", text], padding=True)["input_ids"]
    assert padded[0][0] == tokenizer.pad_token_id
    assert padded[1] == tokenizer(text)["input_ids"]


def test_a_missing_pad_token_becomes_eos(suite_folder: Path):
    for name in ("step2", "step10", "main"):
        path = suite_folder / name / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        del settings["pad_token"]
        path.write_text(json.dumps(settings))
    tokenizer = Suite.open(suite_folder).tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"


def test_tokenizers_that_differ_are_refused_with_both_names(suite_folder: Path):
    train_tokenizer(["completely other words"] * 5, 300).save_pretrained(suite_folder / "main")
    suite = Suite.open(suite_folder)
    with pytest.raises(SuiteError, match=r"tokenizers of revisions 'step2' and 'main' .* differ"):
        _ = suite.tokenizer
    assert suite.select(["step2", "step10"]).tokenizer is not None


def test_a_tokenizer_given_by_name_is_taken_as_it_is(suite_folder: Path, tmp_path: Path):
    tokenizer = train_tokenizer(["completely other words"] * 5, 300)
    tokenizer.save_pretrained(tmp_path / "other")
    suite = Suite.open(suite_folder, tokenizer=tmp_path / "other")
    assert suite.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert suite.select(["main"]).tokenizer.get_vocab() == tokenizer.get_vocab()


def test_the_tokenizer_hash_ignores_padding_and_sees_merges_and_end_tokens():
    first, again, different = (train_tokenizer(text, 300) for text in (TEXT, TEXT, TEXT[:1]))
    first(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_hash(first) == tokenizer_hash(again)
    assert tokenizer_hash(first) != tokenizer_hash(different)
    again.eos_token = "."
    assert tokenizer_hash(first) != tokenizer_hash(again)


@pytest.mark.parametrize(
    ("change", "attribute", "message"),
    [
        ({"d_model": 32}, "d_model", r"d_model differs .*16 at 'step2', 32 at 'main'"),
        ({"n_layers": 3}, "n_layers", r"number of layers differs .*2 at 'step2', 3 at 'main'"),
    ],
)
def test_shapes_that_differ_are_refused_with_both_names(suite_folder: Path, change, attribute, message):
    write_checkpoint(suite_folder / "main", **change)
    with pytest.raises(SuiteError, match=message):
        getattr(Suite.open(suite_folder), attribute)


def test_a_broken_configuration_is_one_sentence(suite_folder: Path):
    (suite_folder / "main" / "config.json").write_text('{"model_type": "gpt_neo')
    suite = Suite.open(suite_folder)
    with pytest.raises(SuiteError, match="cannot read the configuration of revision 'main' from") as caught:
        suite.config("main")
    assert "\n" not in str(caught.value)


def test_the_fingerprint_follows_content_not_place(shared_folder: Path, tmp_path: Path):
    suite = Suite.open(shared_folder)
    copy = shutil.copytree(shared_folder, tmp_path / "copy")
    assert Suite.open(copy).fingerprint == suite.fingerprint
    assert len(suite.fingerprint) == 16
    assert suite.select(["main", "step2"]).fingerprint != suite.select(["step2", "main"]).fingerprint
    assert suite.select(["main"]).fingerprint != suite.fingerprint
    weights = load_file(copy / "main" / "model.safetensors")
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, copy / "main" / "model.safetensors")
    assert Suite.open(copy).fingerprint != suite.fingerprint


def test_named_hub_revisions_ask_nothing_until_a_checkpoint_is_opened(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments, **options):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("huggingface_hub.list_repo_refs", refuse)
    suite = Suite.open("EleutherAI/pythia-1b", ["step512", "main"])
    assert suite.name == "pythia-1b"
    assert list(suite) == [
        Checkpoint("step512", 512, 1_073_741_824, "EleutherAI/pythia-1b", "step512"),
        Checkpoint("main", 143_000, 299_892_736_000, "EleutherAI/pythia-1b", "main"),
    ]


def test_a_checkpoint_of_another_repository_can_join():
    suite = Suite.open("bigscience/bloom-1b1-intermediate", ["global_step1000", "bigscience/bloom-1b1@main"])
    last = suite["bigscience/bloom-1b1@main"]
    assert (last.source, last.hub_revision, last.tokens) == ("bigscience/bloom-1b1", "main", 341 * 10**9)
    with_counts = Suite.open("a/b", ["c/d@main", "main"], tokens={"c/d@main": 5})
    assert [checkpoint.tokens for checkpoint in with_counts] == [5, None]


def test_hub_branches_are_listed_in_training_order(monkeypatch: pytest.MonkeyPatch):
    names = ["main", "step1000", "float16", "step64", "warm"]
    refs = SimpleNamespace(branches=[SimpleNamespace(name=name) for name in names])
    monkeypatch.setattr("huggingface_hub.list_repo_refs", lambda repository: refs)
    with pytest.warns(RuntimeWarning, match="1 of 5 branches of 'EleutherAI/pythia-70m' are left out, .*: float16;"):
        suite = Suite.open("EleutherAI/pythia-70m", tokens={"warm": 3})
    assert suite.revisions == ("warm", "step64", "step1000", "main")


def listing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    refs = SimpleNamespace(branches=[SimpleNamespace(name=name) for name in names])
    monkeypatch.setattr("huggingface_hub.list_repo_refs", lambda repository: refs)


def test_a_hub_model_with_stages_opens_with_all_of_them(monkeypatch: pytest.MonkeyPatch):
    first = [f"stage1-step{step}" for step in range(1000, 1_413_000, 1000)]
    second = [f"stage2-step{step}" for step in range(1000, 47_685, 1000)] + ["stage2-step47684"]
    third = [f"stage3-step{step}" for step in range(1000, 11_922, 1000)] + ["stage3-step11921"]
    listing(monkeypatch, *sorted(first + second + third), "main")
    suite = Suite.open("allenai/Olmo-3-1025-7B")
    assert suite.revisions == (*first, *second, *third, "main")
    assert (suite["stage2-step47684"].step, suite["stage2-step47684"].tokens) == (47_684, None)


def test_branches_that_are_left_out_are_counted_and_the_first_named(monkeypatch: pytest.MonkeyPatch):
    odd = [f"lc-4k-to-32k-step-{step}" for step in range(4000, 44_001, 4000)] + ["it-SFT"]
    listing(monkeypatch, "main", "stage1-step-40000", *odd, "stage2-step-3480000")
    with pytest.warns(
        RuntimeWarning, match=r"12 of 15 branches .* are left out, .*: lc-4k-to-32k-step-4000, .* and 2 m"
    ):
        suite = Suite.open("HuggingFaceTB/SmolLM3-3B-checkpoints")
    assert suite.revisions == ("stage1-step-40000", "stage2-step-3480000", "main")


def test_a_repository_whose_branches_say_no_step_is_refused(monkeypatch: pytest.MonkeyPatch):
    listing(monkeypatch, "main", "ckpt_000", "ckpt_001")
    with pytest.raises(
        SuiteError, match=r"none of the 2 branches of 'LLM360/Amber' besides main .*: ckpt_000, ckpt_001;"
    ):
        Suite.open("LLM360/Amber")
    assert Suite.open("LLM360/Amber", ["ckpt_000", "main"]).revisions == ("ckpt_000", "main")
    assert Suite.open("LLM360/Amber", tokens={"ckpt_001": 5}, revisions=["ckpt_001"])["ckpt_001"].tokens == 5
    listing(monkeypatch, "main")
    assert Suite.open("openai/gpt2").revisions == ("main",)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["checkpoint-500", "checkpoint-1000", "checkpoint-10000"], [500, 1000, 10_000]),
        (["step_9", "step_10", "step_1375"], [9, 10, 1375]),
        (["stage1-step-40", "stage2-step-8", "main"], [40, 8, None]),
    ],
)
def test_folders_keep_their_steps_and_tokens_per_step_applies(
    tmp_path: Path, names: list[str], steps: list[int | None]
):
    for name in names:
        write_checkpoint(tmp_path / name)
    assert [(point.revision, point.step) for point in Suite.open(tmp_path)] == list(zip(names, steps, strict=True))
    with warnings.catch_warnings():
        # The tokens of a second stage start again.
        warnings.simplefilter("ignore")
        suite = Suite.open(tmp_path, tokens_per_step=100)
    assert [point.tokens for point in suite] == [step and step * 100 for step in steps]


def test_tokens_per_step_without_any_step_is_refused(tmp_path: Path):
    for name in ("epoch1", "epoch2"):
        write_checkpoint(tmp_path / name)
    with pytest.raises(SuiteError, match=r"tokens_per_step has no step to count: .* \(epoch1, epoch2\)"):
        Suite.open(tmp_path, tokens_per_step=100)
    assert [point.tokens for point in Suite.open(tmp_path, tokens={"epoch1": 5})] == [5, None]


def test_counts_that_start_again_at_a_stage_are_said(tmp_path: Path):
    names = ["stage1-step900-tokens4B", "stage2-ingredient1-step100-tokens3B", "stage2-ingredient1-step1000-tokens3B"]
    for name in (*names, "main"):
        write_checkpoint(tmp_path / name)
    with pytest.warns(
        RuntimeWarning, match="tokens of 'stage2-ingredient1-step100-tokens3B' of .* count from the start"
    ):
        suite = Suite.open(tmp_path)
    assert suite.revisions == (*names, "main")
    assert [point.step for point in suite] == [900, 100, 1000, None]
    total = {names[1]: 7 * 10**9, names[2]: 8 * 10**9}
    assert [point.tokens for point in Suite.open(tmp_path, tokens=total)] == [4 * 10**9, 7 * 10**9, 8 * 10**9, None]


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def unreachable(repository):
        raise ConnectionError("no route to host\ndetails")

    monkeypatch.setattr("huggingface_hub.list_repo_refs", unreachable)
    with pytest.raises(
        SuiteError, match=r"could not list the revisions of 'a/b'.*'no route to host details'; check the name"
    ):
        Suite.open("a/b")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    suite = Suite.open("nobody/nothing-at-all", ["step1"])
    message = "cannot read the configuration of revision 'step1' from nobody/nothing-at-all@step1 on the Hub"
    with pytest.raises(SuiteError, match=message):
        suite.config("step1")


@needs_suites
@pytest.mark.parametrize(
    ("name", "first", "last_tokens"),
    [("pythia", "step0", 6_144_000), ("olmo", "step0-tokens0M", 6_144_000), ("bloom", "global_step0", 7_168_000)],
)
def test_shared_suites_open_with_one_tokenizer_and_one_shape(name: str, first: str, last_tokens: int):
    suite = Suite.open(SUITES / f"tiny-{name}")
    assert (suite.revisions[0], suite.revisions[-1]) == (first, "main")
    assert (suite["main"].tokens, len(suite)) == (last_tokens, 7)
    assert (suite.d_model, suite.n_layers, len(suite.tokenizer)) == (128, 4, 4096)
