"""Families made by rule rather than read: induction, ioi, the selections of the paper, and whole sentences."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from tasks import MinimalPair, Task, UnknownTaskError, ctt, induction, ioi, load
from tasks.errors import EmptyTaskError, TokenizerError
from tasks.whole_sentences import whole_sentences


def swap(text: str, first: str, second: str) -> str:
    """The text with two words exchanged wherever they stand, their full stop kept."""
    swapped = {first: second, second: first}
    return " ".join(
        swapped.get(word.rstrip(",."), word.rstrip(",.")) + word[len(word.rstrip(",.")) :] for word in text.split()
    )


def prefix(pair: MinimalPair) -> tuple[str, str, str]:
    """What two sentences of a pair share, in words, and the word of each that comes next."""
    right, wrong = pair.right.split(), pair.wrong.split()
    assert right[:-1] == wrong[:-1]
    return " ".join(right[:-1]), right[-1].rstrip("."), wrong[-1].rstrip(".")


@pytest.mark.parametrize("length", [4, 7, 64])
@pytest.mark.parametrize("seed", range(3))
def test_the_answer_of_induction_is_what_followed_the_last_word_before(length: int, seed: int):
    for pair in induction.pairs(length, 60, seed=seed):
        prompt, right, wrong = prefix(pair)
        words = prompt.split()
        first, again = words[:length], words[length:]
        position = int(pair.labels["position"])
        assert len(set(first)) == length
        assert set(first) <= set(induction.WORDS)
        assert again == first[:position]
        assert 1 <= len(again) < length
        assert right == first[first.index(again[-1]) + 1]
        assert wrong in first
        assert wrong not in (right, again[-1], first[0])


@pytest.mark.parametrize("length", [4, 7, 64])
def test_the_patch_of_induction_exchanges_the_two_answers_everywhere(length: int):
    for pair in induction.pairs(length, 60):
        prompt, right, wrong = prefix(pair)
        patched = prefix(MinimalPair(pair.patch_right, pair.patch_wrong))
        assert patched == (swap(prompt, right, wrong), wrong, right)


def test_induction_reaches_every_place_but_the_first():
    positions = Counter(int(pair.labels["position"]) for pair in induction.pairs(5, 400))
    assert sorted(positions) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "make", [lambda seed: induction.pairs(6, 30, seed=seed), lambda seed: ioi.pairs("abba", 30, seed=seed)]
)
def test_generated_pairs_are_the_same_for_a_seed_whatever_the_global_state(make):
    random.seed(1)
    first = list(make(3))
    random.seed(2)
    assert list(make(3)) == first
    assert list(make(4)) != first


@pytest.mark.parametrize("order", ioi.ORDERS)
def test_the_answer_of_ioi_is_the_person_who_is_named_once(order: str):
    for pair in ioi.pairs(order, 200, seed=5):
        prompt, right, wrong = prefix(pair)
        people = [word.rstrip(",") for word in prompt.split() if word.rstrip(",") in ioi.NAMES]
        assert Counter(people) == {right: 1, wrong: 2}
        assert people == ([right, wrong, wrong] if order == "abba" else [wrong, right, wrong])
        assert (pair.labels["order"], pair.labels["template"] in map(str, range(5))) == (order, True)


@pytest.mark.parametrize("order", ioi.ORDERS)
def test_the_patch_of_ioi_lets_the_other_person_give(order: str):
    for pair in ioi.pairs(order, 100):
        prompt, right, wrong = prefix(pair)
        patched, patch_right, patch_wrong = prefix(MinimalPair(pair.patch_right, pair.patch_wrong))
        assert (patch_right, patch_wrong) == (wrong, right)
        clean_words, patch_words = prompt.split(), patched.split()
        assert len(clean_words) == len(patch_words)
        changed = [pair for pair in zip(clean_words, patch_words, strict=True) if pair[0] != pair[1]]
        assert changed == [(wrong, right)]


def test_ioi_all_is_both_orders_in_turn():
    assert load("ioi/all").pairs == load("ioi/abba").pairs + load("ioi/baba").pairs
    assert len(load("ioi/all")) == 2 * ioi.COUNT


@pytest.mark.parametrize("name", ["induction/8", "ioi/all"])
def test_patch_prompts_have_as_many_tokens_and_swapped_answers(name: str, tokenizer):
    task = Task(name, "en", "here", load(name, limit=150).pairs)
    if tokenizer.unk_token_id is not None:
        known = {tokenizer.unk_token_id}.isdisjoint
        pairs = tuple(pair for pair in task.pairs if known(tokenizer(pair.right)["input_ids"]))
        if not pairs:
            pytest.skip("this tokenizer does not know the words")
        task = Task(name, "en", "here", pairs)
    tokenized = task.tokenize(tokenizer)
    assert task.has_patch
    for prompt, patch, right, wrong, pair in zip(
        tokenized.prompts, tokenized.patch, tokenized.right, tokenized.wrong, tokenized.pairs, strict=True
    ):
        assert len(patch) == len(prompt)
        assert patch != prompt
        ids = [tokenizer(text)["input_ids"] for text in (pair.patch_right, pair.patch_wrong)]
        assert [tuple(sentence[: len(patch)]) for sentence in ids] == [patch, patch]
        assert [sentence[len(patch)] for sentence in ids] == [wrong, right]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("induction/3", "4 to 64 words, not 3"),
        ("induction/65", "4 to 64 words, not 65"),
        ("induction/many", "'induction/many': the name has the form induction/<words"),
        ("induction/-8", "the name has the form"),
        ("inductoin/8", "did you mean 'induction'?"),
        ("ioi/abab", "no order 'abab': did you mean 'baba'? Allowed: abba, all, baba."),
        ("ctt/clams-en", "no selection 'clams-en': did you mean 'clams-en-fr'?"),
        ("ctt/multiblimp-deu", "did you mean 'multiblimp-"),
        ("ctt", "ctt/<blimp-sva"),
    ],
)
def test_a_name_that_does_not_exist_is_told_with_what_does(name: str, message: str):
    with pytest.raises(UnknownTaskError) as caught:
        load(name)
    assert message in str(caught.value)


def shared_tokenizer(data, suite):
    folder = data.parent / "suites" / suite / "main"
    if not folder.is_dir():
        pytest.skip(f"the shared suite {suite} is not beside the checkout")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def pythia(data):
    return shared_tokenizer(data, "tiny-pythia")


@pytest.fixture(scope="module")
def bloom(data):
    return shared_tokenizer(data, "tiny-bloom")


PAPER = {
    "ctt/multiblimp-eng": {"multiblimp/eng/SV-#": 100, "multiblimp/eng/SV-P": 290},
    "ctt/multiblimp-por": {"multiblimp/por/SV-#": 100, "multiblimp/por/SV-G": 100, "multiblimp/por/SV-P": 290},
    "ctt/clams-en-fr": {
        f"clams/{language}/{name}": most
        for language in ("en", "fr")
        for name, most in {
            "long_vp_coord": 300,
            "obj_rel_across_anim": 400,
            "obj_rel_within_anim": 400,
            "prep_anim": 400,
            "simple_agrmt": 80,
            "subj_rel": 400,
            "vp_coord": 400,
        }.items()
    },
}


@pytest.mark.long
@pytest.mark.parametrize("name", PAPER)
def test_a_selection_holds_of_each_part_what_the_paper_took_or_all_that_can_be_kept(name: str, data, pythia):
    task = load(name, data)
    assert task.rule == "ctt"
    assert {pair.labels["part"] for pair in task.pairs} == set(PAPER[name])
    counts = Counter(pair.labels["part"] for pair in task.tokenize(pythia).pairs)
    for part, most in PAPER[name].items():
        pairs = tuple(pair for pair in task.pairs if pair.labels["part"] == part)
        try:
            can_be_kept = len(Task(part, "und", "part", pairs, rule="ctt").tokenize(pythia, limit=most))
        except EmptyTaskError:
            can_be_kept = 0
        assert counts[part] == can_be_kept <= most, part


@pytest.mark.long
def test_a_tokenizer_that_knows_both_languages_keeps_pairs_of_both(data, bloom):
    counts = Counter(pair.labels["part"].split("/")[1] for pair in load("ctt/clams-en-fr", data).tokenize(bloom).pairs)
    assert set(counts) == {"en", "fr"}
    assert min(counts.values()) > 100


def test_blimp_of_the_paper_is_every_pair_of_four_paradigms(data):
    present = [name for name in ctt.BLIMP if list((data / "blimp").glob(f"{name}.*"))]
    if len(present) < len(ctt.BLIMP):
        pytest.skip("the shared data lack some of the four BLiMP paradigms")
    task = load("ctt/blimp-sva", data)
    assert Counter(pair.labels["part"] for pair in task.pairs) == {f"blimp/{name}": 1000 for name in ctt.BLIMP}
    assert (task.rule, task.quotas, task.language) == ("ctt", None, "en")


def test_a_selection_keeps_the_rule_ctt_and_the_same_pairs_each_time(data, pythia):
    task = load("ctt/multiblimp-eng", data)
    tokenized = task.tokenize(pythia)
    assert tokenized.pairs == load("ctt/multiblimp-eng", data).tokenize(pythia).pairs
    loose = task.tokenize(pythia, rule="first-difference")
    assert set(tokenized.skipped) - set(loose.skipped) <= {"answers differ in length", "answer longer than two tokens"}
    assert tokenized.skipped["answers differ in length"] > 0
    few = task.tokenize(pythia, limit=30)
    assert len(few) == 30


@pytest.mark.slow
def test_clams_sentences_of_the_paper_begin_with_a_capital(data):
    task = load("ctt/clams-en-fr", data)
    assert all(text[0].isupper() for pair in task.pairs for text in (pair.right, pair.wrong))
    assert task.language == "mul"


def test_whole_sentences_begin_with_bos_or_else_eos_and_go_on_as_the_tokenizer_says(tokenizer):
    task = Task("two", "en", "here", (MinimalPair("the author laughs .", "the author laugh ."),) * 2)
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        with pytest.raises(TokenizerError, match="neither a BOS nor an EOS"):
            whole_sentences(task, tokenizer)
        return
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    sentences = whole_sentences(task, tokenizer)
    for ids, text in ((sentences.right[0], task.pairs[0].right), (sentences.wrong[1], task.pairs[1].wrong)):
        assert ids == (start, *tokenizer.encode(text, add_special_tokens=False))
    assert (len(sentences), sentences.name, sentences.pairs) == (2, "two", task.pairs)


class Letters(SimpleNamespace):
    """A tokenizer of one id a letter."""

    def __call__(self, texts, add_special_tokens, verbose):
        assert not add_special_tokens
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


@pytest.mark.parametrize(("bos", "eos", "start"), [(1, 2, 1), (None, 2, 2), (0, 2, 0)])
def test_bos_comes_before_eos_even_when_its_id_is_zero(bos: int | None, eos: int, start: int):
    task = Task("one", "en", "here", (MinimalPair("ab", "ac"),))
    sentences = whole_sentences(task, Letters(bos_token_id=bos, eos_token_id=eos))
    assert (sentences.right, sentences.wrong) == (((start, 97, 98),), ((start, 97, 99),))


def test_a_sentence_that_begins_with_the_start_token_keeps_it_once():
    task = Task("one", "en", "here", (MinimalPair("ab", "bb"),))
    sentences = whole_sentences(task, Letters(bos_token_id=ord("a"), eos_token_id=None))
    assert (sentences.right, sentences.wrong) == (((97, 98),), ((97, 98, 98),))


def test_whole_sentences_need_a_start_token_and_a_pair():
    task = Task("one", "en", "here", (MinimalPair("ab", "ac"),))
    with pytest.raises(TokenizerError, match="Letters has neither a BOS nor an EOS token"):
        whole_sentences(task, Letters(bos_token_id=None, eos_token_id=None))
    with pytest.raises(EmptyTaskError, match="none: no pair is left"):
        whole_sentences(Task("none", "en", "here", ()), Letters(bos_token_id=1, eos_token_id=None))
