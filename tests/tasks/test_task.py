"""The plain values: pairs are checked, samples are reproducible."""

from __future__ import annotations

import pytest

from tasks import MinimalPair, Task, TaskError, TokenizedTask

PAIRS = tuple(MinimalPair(f"a {i}", f"b {i}") for i in range(50))


def test_one_patch_sentence_alone_is_refused_with_its_place():
    with pytest.raises(TaskError, match=r"^f.json:3: "):
        MinimalPair("a b", "a c", patch_right="d c", where="f.json:3")


def test_sample_draws_without_replacement_and_keeps_the_order():
    task = Task("t", "en", "here", PAIRS, {"why": 2})
    sampled = task.sample(20, seed=1)
    indices = [PAIRS.index(pair) for pair in sampled.pairs]
    assert indices == sorted(set(indices))
    assert len(indices) == 20
    assert (sampled.name, sampled.skipped) == ("t", {"why": 2})


def test_sample_is_decided_by_its_seed():
    task = Task("t", "en", "here", PAIRS)
    assert task.sample(20, seed=1) == task.sample(20, seed=1)
    assert task.sample(20, seed=1) != task.sample(20, seed=2)


def test_sample_of_more_than_there_is_gives_everything():
    task = Task("t", "en", "here", PAIRS)
    assert task.sample(51, seed=1) is task.sample(None) is task


@pytest.mark.parametrize("limit", [0, -3])
def test_sample_below_one_is_refused(limit):
    with pytest.raises(TaskError, match="limit must be at least 1"):
        Task("t", "en", "here", PAIRS).sample(limit, seed=0)


def test_a_task_has_patch_prompts_only_if_every_pair_has():
    patched = MinimalPair("a b", "a c", "d c", "d b")
    assert Task("t", "en", "here", (patched, patched)).has_patch
    assert not Task("t", "en", "here", (patched, PAIRS[0])).has_patch
    assert not Task("t", "en", "here", ()).has_patch


def test_pairs_can_be_put_into_sets_and_differ_by_their_labels():
    singular, plural = (MinimalPair("a", "b", labels={"number": number}) for number in ("one", "two"))
    assert len({singular, plural, MinimalPair("a", "b", labels={"number": "one"})}) == 2


def test_a_task_of_many_pairs_is_printed_in_a_line():
    task = Task("t", "en", "here", PAIRS, {"why": 2})
    assert repr(task) == "Task: t (en), 50 pairs, such as 'a 0' and 'b 0'"
    assert repr(Task("t", "en", "here", ())) == "Task: t (en), 0 pairs"
    tokenized = TokenizedTask("t", ((1,),), (2,), (3,), None, PAIRS[:1], {"too long": 4})
    assert repr(tokenized) == "TokenizedTask: t, kept 1 of 5; skipped: 4 too long"
