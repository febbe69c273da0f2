"""The tokenization rule: what the prompt is, what the answers are, and what is left out and why."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import (
    EmptyTaskError,
    MinimalPair,
    NoSharedPromptError,
    Task,
    TaskError,
    TokenizedTask,
    TokenizerError,
    load,
)
from tasks.answer_tokens import (
    BLANK,
    LENGTHS,
    NO_PROMPT,
    PATCH_ANSWERS,
    PATCH_LENGTH,
    PREFIX,
    SAME,
    SAME_TOKENS,
    TOO_LONG,
    UNKNOWN,
)

_WORDS = """
the author authors author's laugh laughs is are haven't hasn't reference
references reference. references. garçon garc\u0327on est sont étrange étranges
كتبَ كتبَتْ ذهب ذهبت צוחק צוחקים है हैं अच्छा अच्छी ﷺ 猫 狗 👩‍🔬 👩 . !
"""
WORDS = tuple(_WORDS.split())
BLANKS = (" ", "  ", "\u00a0", "\n")

words = st.sampled_from(WORDS) | st.text(min_size=1, max_size=6)
prefixes = st.lists(st.tuples(words, st.sampled_from(BLANKS)), max_size=5).map(
    lambda items: "".join(word + blank for word, blank in items)
)
tails = st.sampled_from(("", ".", " .", " the author"))


def task_of(right: str, wrong: str, *patch: str) -> Task:
    pair = MinimalPair(right, wrong, *patch)
    return Task("one", "und", "here", (pair,))


def reason(task: Task, tokenizer, rule: str = "first-difference") -> str | None:
    """The reason why a task's only pair is left out, None if it is kept."""
    try:
        tokenized = task.tokenize(tokenizer, rule=rule)
    except EmptyTaskError as error:
        return re.search(r"\(1 (.*)\)$", str(error))[1]
    assert tokenized.skipped == {}
    return None


class FakeTokenizer:
    """Gives the tokens it is told to: single characters by default, others by a table."""

    is_fast = True
    unk_token_id = None

    def __init__(self, split):
        self.split = split
        self.ids: dict[str, int] = {}

    def __call__(self, texts, **_):
        columns: dict[str, list] = {"input_ids": [], "offset_mapping": [], "special_tokens_mask": []}
        for text in texts:
            spans = [match.span() for match in re.finditer(self.split, text)]
            ids = [self.ids.setdefault(text[a:b], len(self.ids)) for a, b in spans]
            for column, value in zip(columns.values(), (ids, spans, [0] * len(ids)), strict=True):
                column.append(value)
        return columns


WHOLE_WORDS = r"\s*\S+"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(prefix=prefixes, right=words, wrong=words, tail=tails, rule=st.sampled_from(("first-difference", "ctt")))
def test_prompt_and_answer_begin_the_tokenization_of_each_whole_sentence(tokenizer, prefix, right, wrong, tail, rule):
    right, wrong = prefix + right + tail, prefix + wrong + tail
    try:
        tokenized = task_of(right, wrong).tokenize(tokenizer, rule=rule)
    except EmptyTaskError:
        return
    prompt = list(tokenized.prompts[0])
    for sentence, answer in ((right, tokenized.right[0]), (wrong, tokenized.wrong[0])):
        assert tokenizer(sentence)["input_ids"][: len(prompt) + 1] == [*prompt, answer]
    assert len(prompt) >= 1
    assert tokenized.right[0] != tokenized.wrong[0]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    prefix=prefixes.filter(bool),
    right=st.sampled_from(WORDS),
    wrong=st.sampled_from(WORDS),
    tail=st.sampled_from((" .", " the author")),
)
def test_prefix_answers_are_those_whose_bytes_are_used_up(trained, prefix, right, wrong, tail):
    """An independent count in bytes: every token of a byte-level vocabulary says how many it stands for."""
    tokenizer = trained["byte-level"]
    stem = (right.rstrip(".!"), wrong.rstrip(".!"))
    if stem[0] == stem[1] or "" in stem:
        return
    sentences = [prefix + word + tail for word in (right, wrong)]
    tokens = [tokenizer.tokenize(sentence) for sentence in sentences]
    shared = next(i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b)
    start = sum(len(token) for token in tokens[0][:shared])
    used_up = [start >= len((prefix + word).encode()) for word in stem]
    outcome = reason(task_of(*sentences), tokenizer)
    assert (outcome == PREFIX) == any(used_up)


def test_the_whole_sentence_is_tokenized_not_its_pieces():
    """``in`` + ``put`` are two tokens apart and one together: the answer is the token of the whole."""
    tokenizer = FakeTokenizer(r" input| in|\s*[^\s]")
    tokenized = task_of("a input", "a inset").tokenize(tokenizer)
    ids = tokenizer.ids
    assert tokenized.prompts == ((ids["a"],),)
    assert (tokenized.right, tokenized.wrong) == ((ids[" input"],), (ids[" in"],))


def test_identical_sentences_are_left_out(tokenizer):
    assert reason(task_of("the author laughs .", "the author laughs ."), tokenizer) == SAME


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a reference b", "a references b"),
        ("a references b", "a reference b"),
        ("a reference.", "a references."),
        ("a reference", "a references"),
        ("a cafe b", "a cafe\u0301 b"),
        ("ذهب كتب .", "ذهب كتبت ."),
        ("a cat", "a cat sat"),
    ],
)
def test_an_answer_that_begins_the_other_is_left_out(right, wrong):
    stems = r"\s*(reference|cafe|كتب|[^\s])"
    assert reason(task_of(right, wrong), FakeTokenizer(stems)) == PREFIX


@pytest.mark.parametrize(("right", "wrong"), [("a reference.", "a references."), ("a cat.", "a cat!")])
def test_words_that_are_single_tokens_are_kept_whatever_follows(right, wrong):
    assert reason(task_of(right, wrong), FakeTokenizer(r"\s*\w+|\S")) is None


def test_byte_pieces_that_share_a_character_are_kept(trained):
    """The two signs differ in their last byte: the answers are pieces of one character."""
    tokenizer = trained["byte-level"]
    tokenized = task_of("the 猫 .", "the 猬 .").tokenize(tokenizer)
    assert tokenizer.convert_ids_to_tokens(tokenized.right[0]) != tokenizer.convert_ids_to_tokens(tokenized.wrong[0])
    assert len(tokenized.prompts[0]) == len(tokenizer.tokenize("the 猫")) - 1


def test_sentences_that_part_at_a_blank_are_left_out():
    for wrong in ("a b  c", "a b\tc"):
        assert reason(task_of("a b c", wrong), FakeTokenizer(r"\S|\s+")) == BLANK


def test_a_first_word_has_no_prompt_unless_a_marker_comes_before(trained):
    task = task_of("authors laugh .", "bakers laugh .")
    assert reason(task, trained["byte-level"]) == NO_PROMPT
    marked = trained["untrimmed byte-level with markers"]
    assert task.tokenize(marked).prompts == ((marked.convert_tokens_to_ids("<s>"),),)


def test_a_closing_marker_is_no_answer(trained):
    assert reason(task_of("the author", "the author s"), trained["untrimmed byte-level with markers"]) == PREFIX


def test_answers_that_the_tokenizer_does_not_know_are_left_out(trained):
    assert reason(task_of("the author laughs .", "the author qqq ."), trained["words"]) == UNKNOWN
    assert reason(task_of("the author zzz .", "the author qqq ."), trained["words"]) == SAME_TOKENS


def test_answers_alike_to_the_tokenizer_are_left_out_even_if_a_later_word_differs(trained):
    assert reason(task_of("the author zzz old", "the author qqq young"), trained["words"]) == SAME_TOKENS


def test_ctt_rule_leaves_out_answers_of_unequal_or_great_length():
    letters = FakeTokenizer(r"\s*\S")
    assert reason(task_of("a bc d", "a be d"), letters, "ctt") is None
    assert reason(task_of("a bc d", "a bef d"), letters, "ctt") == LENGTHS
    assert reason(task_of("a bcd d", "a bef d"), letters, "ctt") == TOO_LONG
    for wrong in ("a bef d", "a bxx d"):
        assert reason(task_of("a bcd d", wrong), letters) is None


def test_ctt_rule_does_not_count_punctuation_into_the_answer():
    assert reason(task_of("a bc.", "a be."), FakeTokenizer(r"\s*\S"), "ctt") is None


def test_patch_prompts_are_aligned_and_swap_the_answers():
    tokenizer = FakeTokenizer(WHOLE_WORDS)
    tokenized = task_of("the cat runs .", "the cat run .", "the cats run .", "the cats runs .").tokenize(tokenizer)
    ids = tokenizer.ids
    assert tokenized.prompts == ((ids["the"], ids[" cat"]),)
    assert tokenized.patch == ((ids["the"], ids[" cats"]),)
    assert (tokenized.right, tokenized.wrong) == ((ids[" runs"],), (ids[" run"],))


def test_patch_prompts_of_another_length_are_left_out():
    task = task_of("the cat runs", "the cat run", "the old cats run", "the old cats runs")
    assert reason(task, FakeTokenizer(WHOLE_WORDS)) == PATCH_LENGTH


@pytest.mark.parametrize(
    "patch",
    [
        ("the cats runs", "the cats run"),
        ("the cats sing", "the cats runs"),
        ("the cats run", "the cats run"),
    ],
    ids=["not swapped", "another answer", "no answer"],
)
def test_patch_prompts_with_other_answers_are_left_out(patch):
    assert reason(task_of("the cat runs", "the cat run", *patch), FakeTokenizer(WHOLE_WORDS)) == PATCH_ANSWERS


def test_what_is_skipped_is_counted_with_the_readers_own_reasons():
    good = MinimalPair("the cat runs", "the cat run")
    same = MinimalPair("the cat runs", "the cat runs")
    task = Task("t", "en", "here", (same, good, same, good), {"no verb": 3, SAME: 1})
    tokenized = task.tokenize(FakeTokenizer(WHOLE_WORDS))
    assert tokenized.pairs == (good, good)
    assert tokenized.skipped == {"no verb": 3, SAME: 3}
    assert tokenized.summary() == f"kept 2 of 8; skipped: 3 no verb; 3 {SAME}"


def test_summary_writes_thousands_with_a_comma_and_nothing_about_no_skips():
    full = TokenizedTask("t", ((1,),) * 1200, (2,) * 1200, (3,) * 1200, None, (MinimalPair("a", "b"),) * 1200)
    assert full.summary() == "kept 1,200 of 1,200"


def test_an_empty_task_names_every_reason():
    pairs = (MinimalPair("a b", "a b"), MinimalPair("a b", "c b"), MinimalPair("c b", "a b"))
    with pytest.raises(EmptyTaskError, match=rf"^t: .*2 {NO_PROMPT}.*1 {SAME}"):
        Task("t", "en", "here", pairs).tokenize(FakeTokenizer(WHOLE_WORDS))


def test_limit_keeps_that_many_of_the_keepable_pairs_in_their_order(trained):
    task = load("agreement/attractor", limit=200)
    tokenizer = trained["words"]
    whole = task.tokenize(tokenizer)
    assert len(whole) == 200
    sample = task.tokenize(tokenizer, limit=40, seed=3)
    indices = [task.pairs.index(pair) for pair in sample.pairs]
    assert len(indices) == 40
    assert indices == sorted(indices)
    assert sample == task.tokenize(tokenizer, limit=40, seed=3)
    assert sample.pairs != task.tokenize(tokenizer, limit=40, seed=4).pairs
    assert sample.prompts == tuple(whole.prompts[index] for index in indices)


def test_limit_is_filled_from_behind_the_skipped_pairs():
    same, good = MinimalPair("a b", "a b"), [MinimalPair(f"a {i}", f"a {i}x") for i in range(10)]
    task = Task("t", "en", "here", (*[same] * 90, *good))
    assert len(task.tokenize(FakeTokenizer(WHOLE_WORDS), limit=10)) == 10


def test_chunks_of_the_batch_do_not_mix_pairs(trained, monkeypatch):
    task = load("agreement/attractor", limit=50)
    whole = task.tokenize(trained["byte-level"])
    monkeypatch.setattr("tasks.tokenize.CHUNK", 7)
    assert task.tokenize(trained["byte-level"]) == whole


def test_a_task_without_a_shared_prompt_refuses():
    task = Task("blimp/x", "en", "here", (MinimalPair("a b", "c b"),), shared_prefix=False)
    with pytest.raises(NoSharedPromptError, match=r"blimp/x.*whole sentences"):
        task.tokenize(FakeTokenizer(WHOLE_WORDS))


def test_a_tokenizer_without_offsets_is_named():
    with pytest.raises(TokenizerError, match=r"SimpleNamespace.*offsets.*fast"):
        task_of("a b", "a c").tokenize(SimpleNamespace(is_fast=False))


def test_an_unknown_rule_names_the_nearest_one():
    with pytest.raises(TaskError, match="did you mean 'first-difference'"):
        task_of("a b", "a c").tokenize(FakeTokenizer(WHOLE_WORDS), rule="first_difference")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(TaskError, match="limit must be at least 1"):
        task_of("a b", "a c").tokenize(FakeTokenizer(WHOLE_WORDS), limit=limit)
