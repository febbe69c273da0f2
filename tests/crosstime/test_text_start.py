"""Start tokens: packed text and prompts begin alike, and effects leave the start of a prompt as it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from bare_models import scores_of
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import crosstime as ct
from crosstime.crosscoders.decompose import decompose_task, decompose_text
from crosstime.errors import CorpusError, CrosscoderError, StoreError, SuiteError
from crosstime.suites.corpus import sequences
from crosstime.suites.text_sample import TextSample
from crosstime.suites.text_start import start_tokens
from crosstime.suites.train_tokenizer import train_tokenizer
from interventions import Model, Prompts, Site, ablate, circuit, indirect_effects, steer
from interventions.baselines import Baseline
from interventions.errors import ShapeError
from interventions.estimator import Estimator
from tasks.agreement import sentences

TEXT = list(sentences(300, seed=2))
DATA = ct.DataConfig(batch_size=32, sequence_length=12, buffer_tokens=400)
SITE = Site(0)


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer with BOS <s> and EOS </s>, which wraps every text in a template."""
    tokenizer = train_tokenizer(list(sentences(1500, seed=0)), 512)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"})
    if template is not None:
        special = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two checkpoints of a small Llama with random weights, whose tokenizer begins texts with <s>."""
    folder, tokenizer = tmp_path_factory.mktemp("llama"), tokenizer_with("<s> $A")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    for step in (1, 2):
        torch.manual_seed(step)
        model = LlamaForCausalLM(config)
        for weight in model.parameters():
            weight.data.mul_(3)
        model.save_pretrained(folder / f"step{step}")
        tokenizer.save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture(scope="module")
def suite(folder: Path) -> ct.Suite:
    return ct.Suite.open(folder)


@pytest.fixture(scope="module")
def without(folder: Path) -> ct.Suite:
    return ct.Suite.open(folder, text_start="none")


def trained_on(suite: ct.Suite, corpus: list[str] | ct.ActivationStore = TEXT) -> ct.CrossCoder:
    config = ct.L1Config(n_features=24, steps=20, lr=1e-2, l1=0.1)
    return ct.train(suite, SITE, corpus, config, data=DATA).crosscoder


@pytest.fixture(scope="module")
def crosscoder(suite: ct.Suite) -> ct.CrossCoder:
    return trained_on(suite)


def packed_by_hand(tokenizer: PreTrainedTokenizerFast, start: list[int], length: int) -> list[list[int]]:
    """Rows that are filled token by token; each begins with the start tokens, and so does each document in it."""
    eos = tokenizer.eos_token_id
    rows: list[list[int]] = []
    row: list[int] = []
    for text in TEXT:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        document = [*start, *ids] if start == [eos] else [*start, *ids, eos]
        for position, token in enumerate(document):
            if not row and document[position : position + len(start)] != start:
                row += start
            row.append(token)
            if len(row) == length:
                rows.append(row)
                row = []
    return rows


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>", "<s> <s> $A", "$A </s>"])
def test_the_start_of_a_text_is_what_the_tokenizer_puts_before_it(template: str | None):
    tokenizer = tokenizer_with(template)
    n_start = (template or "").split("$A")[0].count("<s>")
    assert start_tokens(tokenizer) == (tokenizer.bos_token_id,) * n_start
    assert start_tokens(tokenizer, "none") == ()
    assert start_tokens(tokenizer, "bos") == (tokenizer.bos_token_id,)
    assert start_tokens(tokenizer, "eos") == (tokenizer.eos_token_id,)


def test_a_start_that_does_not_exist_is_refused(folder: Path):
    with pytest.raises(SuiteError, match=r"there is no text_start .bso.: .*bos"):
        ct.Suite.open(folder, text_start="bso")
    tokenizer = tokenizer_with(None)
    tokenizer.bos_token = None
    with pytest.raises(SuiteError, match="the tokenizer has no BOS token"):
        start_tokens(tokenizer, "bos")
    with pytest.raises(CorpusError, match="at least 1 token after 2 of the start, not 2"):
        sequences(TEXT, tokenizer, 2, start=(5, 5))


@pytest.mark.parametrize("length", [3, 7, 12, 40])
@pytest.mark.parametrize("which", ["none", "bos", "eos", "two"])
def test_packed_rows_and_documents_begin_with_the_start(length: int, which: str):
    tokenizer = tokenizer_with(None)
    start = [tokenizer.bos_token_id, 7] if which == "two" else list(start_tokens(tokenizer, which))
    packed = [row.tolist() for row in sequences(TEXT, tokenizer, length, start=start)]
    assert packed == packed_by_hand(tokenizer, start, length)
    assert all(row[: len(start)] == start for row in packed)


def test_training_harvest_and_evaluation_read_the_same_rows(suite: ct.Suite, without: ct.Suite, tmp_path: Path):
    bos = suite.tokenizer.bos_token_id
    for checkpoints, start in ((suite, [bos]), (without, [])):
        store = ct.harvest(checkpoints, SITE, TEXT, tmp_path / str(len(start)), sequence_length=12)
        rows = [row for shard in range(len(store.manifest["shards"])) for row in store.tokens(shard).tolist()]
        assert rows == packed_by_hand(checkpoints.tokenizer, start, 12)
        assert store.start_tokens == tuple(start)
        for corpus in (TEXT, store):
            crosscoder = trained_on(checkpoints, corpus)
            assert crosscoder.origin.text_start == tuple(start)
            text = decompose_text(suite, crosscoder, TEXT, sample=TextSample(6, 12)).text
            assert [list(ids) for ids in text.ids] == packed_by_hand(checkpoints.tokenizer, start, 12)[:6]
    with pytest.raises(StoreError, match="text_start was None and is now"):
        ct.harvest(suite, SITE, TEXT, tmp_path / "0", sequence_length=12)


def test_what_a_crosscoder_was_trained_on_decides_how_it_is_evaluated(
    suite: ct.Suite, without: ct.Suite, crosscoder: ct.CrossCoder, tmp_path: Path
):
    sample = TextSample(6, 12)
    other = trained_on(without)
    assert ct.evaluate(suite, other, TEXT, sample=sample).equals(ct.evaluate(without, other, TEXT, sample=sample))
    crosscoder.save(tmp_path / "crosscoder.safetensors")
    again = ct.CrossCoder.load(tmp_path / "crosscoder.safetensors")
    assert again.origin.text_start == (suite.tokenizer.bos_token_id,)
    with pytest.raises(CrosscoderError, match="began with <s>, but text_start 'none' gives no start token"):
        ct.evaluate(without, again, TEXT, sample=sample)


def scores_by_hand(suite: ct.Suite, revision: str, prompts: Prompts, x: torch.Tensor) -> torch.Tensor:
    """logit(wrong) - logit(right) of each prompt, with the rows of x after block 0."""
    answered = list(zip(prompts.ids, prompts.right, prompts.wrong, strict=True))
    return torch.from_numpy(scores_of(suite, revision, answered, x)).float()


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample", "patch"])
def test_effects_leave_the_start_of_a_prompt_as_it_is(suite: ct.Suite, crosscoder: ct.CrossCoder, baseline: str):
    task = ct.tasks.load("agreement/simple", limit=6)
    decomposed = decompose_task(suite, crosscoder, task)
    prompts, clean = decomposed.prompts, decomposed.clean[1]
    is_start = prompts.position_of_token == 0
    assert [ids[0] for ids in prompts.ids] == [suite.tokenizer.bos_token_id] * len(prompts)
    assert torch.equal(clean.fixed, is_start)
    model = Model.open(suite["step2"].source)

    # Codes of the other tokens by one product, and none at the start
    x = torch.stack([of_checkpoint.x for of_checkpoint in decomposed.clean])
    with torch.no_grad():
        pre = torch.einsum("ctd,cdf->tf", x * crosscoder.scales[:, None, None], crosscoder.W_enc) + crosscoder.b_enc
    codes = pre.relu() * ~is_start[:, None]
    assert torch.allclose(clean.codes.dense(), codes, atol=1e-5)

    # Move the strongest feature by hand, everywhere but at the start
    state = decomposed.baseline(baseline, 1, seed=3)
    feature = int(codes.sum(0).argmax())
    moved = state.codes.dense()[:, feature]
    if baseline == "mean":
        assert torch.allclose(moved, codes[~is_start, feature].mean().expand_as(moved), atol=1e-5)
    if baseline == "resample":
        assert (moved[~is_start] > 0).any()
    change = (moved - codes[:, feature]) * ~is_start
    by_hand = scores_by_hand(suite, "step2", prompts, clean.x + change[:, None] * clean.directions[feature])
    ablation = ablate(model, prompts, SITE, clean, [feature], baseline=state)
    assert torch.allclose(ablation.metric[0], by_hand, atol=1e-4)
    assert not torch.allclose(ablation.metric[0], ablation.clean, atol=1e-4)

    # No estimator gives the start an effect, and the sum of all effects is the whole change
    for method in ("ig", "atp", "exact"):
        effects = indirect_effects(model, prompts, SITE, clean, Estimator(method=method, baseline=state))
        end = torch.where(is_start[:, None], clean.x, state.x)
        assert torch.allclose(effects.baseline, scores_by_hand(suite, "step2", prompts, end), atol=1e-4)
        if method != "exact":
            assert not (effects.position == 0).any()
        if method == "ig":
            assert effects.completeness_error() < 0.02


def test_a_donor_never_gives_its_start(suite: ct.Suite, crosscoder: ct.CrossCoder):
    ids = [(suite.tokenizer.bos_token_id, 9), (suite.tokenizer.bos_token_id, 9, 10, 11, 12)]
    prompts = Prompts(ids, (5, 5), (6, 6))
    x = torch.randn(2, prompts.n_tokens, 16, generator=torch.Generator().manual_seed(0))
    clean = crosscoder.decompose(x, prompts.position_of_token == 0)[1]
    donor = Baseline.resample(clean, prompts)
    # The long prompt takes the one token of the short one wherever that has no counterpart, and the start from no one
    assert torch.equal(donor.x[3:], clean.x[[1, 1, 1, 1]])
    assert torch.equal(Baseline.of(donor, clean, prompts).x[2], clean.x[2])


def test_steering_and_circuits_leave_the_start_as_it_is(suite: ct.Suite, crosscoder: ct.CrossCoder):
    decomposed = decompose_task(suite, crosscoder, ct.tasks.load("agreement/simple", limit=4))
    prompts, clean, model = decomposed.prompts, decomposed.clean[0], Model.open(suite["step1"].source)
    later = (prompts.position_of_token > 0).float()[:, None]
    steered = steer(model, prompts, SITE, clean, {3: 4.0})
    by_hand = scores_by_hand(suite, "step1", prompts, clean.x + later * 4 * clean.directions[3])
    assert torch.allclose(steered.metric, by_hand, atol=1e-4)
    top = circuit(model, prompts, SITE, clean, [3, 5], sizes=(1, 2), keep_error=False)
    empty = torch.where(later > 0, clean.bias, clean.x)
    assert torch.allclose(top.empty, scores_by_hand(suite, "step1", prompts, empty), atol=1e-4)


def test_prompts_that_begin_otherwise_than_the_training_are_warned_of(suite: ct.Suite, without: ct.Suite):
    other, task = trained_on(without), ct.tasks.load("agreement/simple", limit=4)
    with pytest.warns(RuntimeWarning, match="prompts begin with <s>, but the documents .* began with no start token"):
        decompose_task(suite, other, task)


def test_prompts_without_a_start_token_keep_all_their_tokens(learning_suite: ct.Suite, learning_crosscoder):
    assert learning_suite.start_tokens == ()
    for prepend in (None, "eos"):
        task = replace(ct.tasks.load("agreement/simple", limit=4), prepend=prepend)
        assert decompose_task(learning_suite, learning_crosscoder, task).clean[0].fixed is None


def test_a_feature_on_a_fixed_token_is_refused(crosscoder: ct.CrossCoder):
    (clean, _) = crosscoder.decompose(torch.randn(2, 5, 16))
    with pytest.raises(ShapeError, match="no feature may fire on them"):
        replace(clean, fixed=torch.ones(5, dtype=torch.bool))
    assert list(islice(iter(clean.to("cpu").codes.token), 1))
