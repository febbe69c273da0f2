from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.machine.tensors import read_tensors
from crosstime.suites.accuracy import accuracy
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap
from tasks import MinimalPair, Quotas, Task, TokenizedTask, load
from tasks.errors import EmptyTaskError, NoSharedPromptError

SHARED = Path(__file__).resolve().parents[4] / "shared"
plain = Compute.open


@pytest.fixture(scope="module")
def suite(learning_suite: Suite) -> Suite:
    return learning_suite


@pytest.fixture(scope="module")
def tokenized(suite: Suite) -> list[TokenizedTask]:
    return [load(f"agreement/{name}").tokenize(suite.tokenizer, limit=25) for name in ("simple", "attractor")]


@pytest.fixture(scope="module")
def table(suite: Suite, tokenized: list[TokenizedTask]) -> pd.DataFrame:
    return accuracy(suite, tokenized, bootstrap=Bootstrap(300, seed=7))


def right_minus_wrong(suite: Suite, revision: str, task: TokenizedTask) -> list[float]:
    """The logit difference of each prompt, run alone and without padding."""
    model = AutoModelForCausalLM.from_pretrained(suite[revision].source).eval()
    differences = []
    for prompt, right, wrong in zip(task.prompts, task.right, task.wrong, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        differences.append((logits[right] - logits[wrong]).item())
    return differences


def test_a_row_for_every_checkpoint_and_task_in_their_order(suite: Suite, table: pd.DataFrame):
    assert list(zip(table.revision, table.task, strict=True)) == [
        (revision, task) for revision in suite.revisions for task in ("agreement/simple", "agreement/attractor")
    ]
    assert list(table.columns) == [
        "revision",
        "step",
        "tokens",
        "task",
        "pairs",
        "n",
        "accuracy",
        "low",
        "high",
        "logit_difference",
        "difference_low",
        "difference_high",
    ]
    assert table.step.tolist() == [0, 0, 10, 10, 40, 40]
    assert table.tokens.tolist() == [0, 0, 2560, 2560, 10240, 10240]
    assert (table.n == 25).all()


def test_accuracy_and_logit_difference_are_those_of_the_bare_model(
    suite: Suite, tokenized: list[TokenizedTask], table: pd.DataFrame
):
    for task in tokenized:
        for revision in suite.revisions:
            row = table[(table.task == task.name) & (table.revision == revision)].iloc[0]
            difference = right_minus_wrong(suite, revision, task)
            assert row.accuracy == pytest.approx(sum(value > 0 for value in difference) / 25)
            assert row.logit_difference == pytest.approx(sum(difference) / 25, abs=1e-4)


def test_intervals_are_those_of_a_bootstrap_over_prompts(
    suite: Suite, tokenized: list[TokenizedTask], table: pd.DataFrame
):
    row = table[(table.task == "agreement/attractor") & (table.revision == "step10")].iloc[0]
    answered = np.array([value > 0 for value in right_minus_wrong(suite, "step10", tokenized[1])], dtype=float)
    generator = np.random.default_rng(7)
    means = [generator.multinomial(25, [1 / 25] * 25) @ answered / 25 for _ in range(300)]
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert 0 < row.low < row.accuracy < row.high < 1


def harness_log_likelihood(model, tokenizer, sentence: str) -> float:
    """As lm-evaluation-harness has it: the context is BOS, or else EOS, and the whole sentence its continuation."""
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    context, continuation = [prefix], tokenizer.encode(sentence, add_special_tokens=False)
    with torch.no_grad():
        rows = model(torch.tensor([(context + continuation)[:-1]])).logits[0].double().log_softmax(-1)
    return sum(rows[len(context) - 1 + i, token].item() for i, token in enumerate(continuation))


def harness_accuracy(folder: Path, tokenizer, pairs) -> tuple[list[bool], list[float]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    both = [[harness_log_likelihood(model, tokenizer, text) for text in (pair.right, pair.wrong)] for pair in pairs]
    return [int(np.argmax(likelihoods)) == 0 for likelihoods in both], [right - wrong for right, wrong in both]


def test_whole_sentences_score_as_the_harness_does(suite: Suite):
    task = load("agreement/attractor", limit=40)
    table = accuracy(suite, task, sentences=True, bootstrap=Bootstrap(20))
    for row in table.itertuples():
        right, difference = harness_accuracy(suite[row.revision].source, suite.tokenizer, task.pairs)
        assert row.sentence_n == 40
        assert row.sentence_accuracy == pytest.approx(sum(right) / 40)
        assert row.sentence_difference == pytest.approx(sum(difference) / 40, abs=1e-4)
        assert row.sentence_low <= row.sentence_accuracy <= row.sentence_high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("tiny-pythia", "blimp/irregular_plural_subject_verb_agreement_2"),
        ("tiny-olmo", "blimp/regular_plural_subject_verb_agreement_1"),
        ("tiny-bloom", "clams/fr/simple_agrmt"),
    ],
)
def test_every_pair_of_a_task_scores_as_the_harness_does_on_the_shared_suites(tmp_path, name: str, task: str):
    if not SHARED.is_dir():
        pytest.skip("the shared suites are not beside the checkout")
    suite = Suite.open(SHARED / "suites" / name, ["main"])
    read = load(task, SHARED / "data", limit=300)
    accuracy(suite, read, sentences=True, cache=tmp_path, bootstrap=Bootstrap(5))
    scores = read_tensors(next(tmp_path.glob("*.safetensors")))[0]
    right, difference = harness_accuracy(suite["main"].source, suite.tokenizer, read.pairs)
    assert (scores["right"] - scores["wrong"]).tolist() == pytest.approx(difference, abs=2e-3)
    clear = [abs(value) > 2e-3 for value in difference]
    assert sum(clear) > 0.98 * len(clear)
    assert [a for a, c in zip((scores["right"] > scores["wrong"]).tolist(), clear, strict=True) if c] == [
        a for a, c in zip(right, clear, strict=True) if c
    ]


def test_a_task_without_prompts_has_the_accuracy_of_its_sentences_alone(suite: Suite):
    pairs = load("agreement/simple", limit=12).pairs
    bare = Task("bare", "en", "by hand", pairs, shared_prefix=False)
    row = accuracy(suite, bare, sentences=True, bootstrap=Bootstrap(5)).iloc[0]
    assert (row.n, row.sentence_n) == (0, 12)
    assert np.isnan([row.accuracy, row.low, row.high, row.logit_difference]).all()
    assert 0 <= row.sentence_accuracy <= 1
    with pytest.raises(NoSharedPromptError):
        accuracy(suite, bare)


def test_sentences_of_a_task_with_quotas_are_those_of_the_pairs_that_are_kept(suite: Suite):
    pairs = load("agreement/simple", limit=30).pairs
    quotas = Quotas("number", {"singular": 3, "plural": 4}, seed=1)
    row = accuracy(
        suite, Task("few", "en", "by hand", pairs, quotas=quotas), sentences=True, bootstrap=Bootstrap(5)
    ).iloc[0]
    assert (row.n, row.sentence_n) == (7, 7)


def test_what_is_cached_is_not_run_again_and_gives_the_same_table(suite: Suite, tmp_path, monkeypatch):
    tasks = [load("agreement/simple", limit=10), load("agreement/attractor", limit=10)]

    def run(asked, **options):
        return accuracy(suite, asked, cache=tmp_path, bootstrap=Bootstrap(20), **options)

    opened = []
    monkeypatch.setattr(
        "crosstime.suites.accuracy.Compute.open",
        lambda self, suite, revision: opened.append(revision) or plain(self, suite, revision),
    )
    first = run(tasks, sentences=True)
    assert opened == list(suite.revisions)
    opened.clear()
    assert run(tasks, sentences=True).equals(first)
    assert opened == []
    next(tmp_path.glob("*.safetensors")).unlink()
    assert run(tasks, sentences=True).equals(first)
    assert len(opened) == 1
    opened.clear()
    run(tasks, sentences=False)
    assert opened == list(suite.revisions), "prompts alone are another question"


def test_an_interrupted_measurement_goes_on_where_it_was(suite: Suite, tmp_path, monkeypatch):
    task = load("agreement/simple", limit=10)
    opened = []

    def open_until(self, suite, revision):
        opened.append(revision)
        if len(opened) == 2:
            raise KeyboardInterrupt
        return plain(self, suite, revision)

    monkeypatch.setattr("crosstime.suites.accuracy.Compute.open", open_until)
    with pytest.raises(KeyboardInterrupt):
        accuracy(suite, task, cache=tmp_path, bootstrap=Bootstrap(5))
    accuracy(suite, task, cache=tmp_path, bootstrap=Bootstrap(5))
    assert opened == ["step0", "step10", "step10", "step40"]


def test_a_task_as_it_is_and_tokenized_score_the_same(suite: Suite):
    task = load("agreement/simple", limit=10)
    whole = accuracy(suite, task, bootstrap=Bootstrap(50))
    assert whole.equals(accuracy(suite, task.tokenize(suite.tokenizer), bootstrap=Bootstrap(50)))
    assert whole.equals(accuracy(suite, [task], bootstrap=Bootstrap(50)))


def test_a_checkpoint_of_unknown_age_has_no_step(suite: Suite, tmp_path):
    (tmp_path / "final").symlink_to(suite["step40"].source)
    table = accuracy(Suite.open(tmp_path), load("agreement/simple", limit=5), bootstrap=Bootstrap(10))
    assert table.step.isna().all()
    assert table.tokens.isna().all()


def test_a_task_of_which_nothing_is_left_is_named(suite: Suite):
    same = Task("mine", "en", "by hand", (MinimalPair("the cat sleeps", "the cat sleeps"),))
    with pytest.raises(EmptyTaskError, match="mine: no pair is left"):
        accuracy(suite, same)


@pytest.mark.parametrize("max_tokens", [16, 50, 512])
def test_identical_sentences_are_one_half_whatever_the_batch(suite: Suite, max_tokens: int):
    pairs = tuple(MinimalPair(pair.right, pair.right) for pair in load("agreement/attractor", limit=30).pairs)
    task = Task("same", "en", "here", pairs, shared_prefix=False)
    table = accuracy(suite, task, sentences=True, compute=Compute(max_tokens=max_tokens))
    assert table.sentence_accuracy.tolist() == [0.5] * len(suite)
    assert table.sentence_difference.tolist() == [0.0] * len(suite)


def test_no_pair_is_left_out_for_want_of_a_patch_prompt(suite: Suite):
    right, wrong = "the author laughs .", "the author laugh ."
    pairs = (
        MinimalPair(right, wrong, "the authors laugh .", "the authors laughs ."),
        # A patch prompt of another length, and one with the same answers
        MinimalPair(right, wrong, "the old authors laugh .", "the old authors laughs ."),
        MinimalPair(right, wrong, right, wrong),
        # No pair at all
        MinimalPair(right, right, right, wrong),
    )
    task = Task("mine", "en", "by hand", pairs)
    assert len(task.tokenize(suite.tokenizer)) == 1
    table = accuracy(suite, task)
    assert (table.n == 3).all()
    assert (table.pairs == "kept 3 of 4; skipped: 1 the two sentences are the same").all()
    without = replace(task, pairs=tuple(replace(pair, patch_right=None, patch_wrong=None) for pair in pairs))
    pd.testing.assert_frame_equal(accuracy(suite, without), table)


def test_the_table_says_how_many_pairs_of_a_task_have_no_prompt(suite: Suite):
    pair = MinimalPair("the author laughs .", "the author laugh .")
    task = Task("mine", "en", "by hand", (pair, pair), {"marked": 3}, shared_prefix=False)
    table = accuracy(suite, task, sentences=True)
    assert (table.pairs == "2 without prompts").all()
    assert table.n.tolist() == [0] * len(suite)
    assert table.sentence_n.tolist() == [2] * len(suite)
