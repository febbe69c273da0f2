"""The generated grammar: its sentences are grammatical, its test pairs unseen, its shares as asked."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tasks import TaskError, UnknownTaskError, load
from tasks.agreement import ADJECTIVES, NOUNS, PREPOSITIONS, VERBS, is_held_out, pairs, sentences, vocabulary

SINGULAR = set(NOUNS)
PLURAL = {plural: noun for noun, plural in NOUNS.items()}
GRAMMAR = re.compile(
    rf"the (?:(?:{'|'.join(ADJECTIVES)}) )?(?P<subject>\w+) "
    rf"(?:(?:{'|'.join(PREPOSITIONS)}) the (?:(?:{'|'.join(ADJECTIVES)}) )?(?P<other>\w+) )?"
    r"(?P<verb>\w+) \."
)


def parse(sentence: str) -> tuple[str, str | None, str, bool, bool | None, bool]:
    """Dictionary forms of subject, intervening noun and verb, and whether each is plural."""
    match = GRAMMAR.fullmatch(sentence)
    assert match, sentence
    subject, attractor, verb = match["subject"], match["other"], match["verb"]
    return (
        PLURAL.get(subject, subject),
        PLURAL.get(attractor or "", attractor),
        verb if verb in VERBS else verb.removesuffix("s"),
        subject in PLURAL,
        None if attractor is None else attractor in PLURAL,
        verb in VERBS,
    )


TEXT = list(sentences(10_000, seed=11))


def test_every_training_sentence_is_grammatical():
    for sentence in TEXT:
        *_, subject_plural, _, verb_plural = parse(sentence)
        assert subject_plural == verb_plural, sentence


def test_no_test_sentence_nor_its_words_in_combination_occur_in_training_text():
    combinations = {parse(sentence)[:3] for sentence in TEXT}
    for variant in ("simple", "attractor"):
        for pair in pairs(variant):
            for sentence in (pair.right, pair.wrong, pair.patch_right, pair.patch_wrong):
                assert parse(sentence)[:3] not in combinations, sentence


def test_training_text_covers_every_combination_without_a_phrase_that_is_not_held_out():
    combinations = {parse(sentence)[:3] for sentence in TEXT}
    for subject in NOUNS:
        for verb in VERBS:
            assert ((subject, None, verb) in combinations) != is_held_out(subject, verb, None)


def test_about_one_combination_in_eight_is_held_out():
    combinations = [(s, v, a) for s in NOUNS for v in VERBS for a in NOUNS if a != s]
    share = sum(is_held_out(*combination) for combination in combinations) / len(combinations)
    assert share == pytest.approx(1 / 8, abs=0.015)


def test_the_split_is_the_same_in_another_process():
    code = (
        "from tasks.agreement import *; import hashlib;"
        "print(hashlib.sha256(''.join(p.right for p in pairs('attractor')).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_shares_are_as_asked():
    parsed = [parse(sentence) for sentence in sentences(8_000, seed=2, attractor_share=0.3, phrase_share=0.8)]
    with_phrase = [item for item in parsed if item[1] is not None]
    assert len(with_phrase) / len(parsed) == pytest.approx(0.8, abs=0.025)
    assert sum(item[3] != item[4] for item in with_phrase) / len(with_phrase) == pytest.approx(0.3, abs=0.025)
    assert sum(item[3] for item in parsed) / len(parsed) == pytest.approx(0.5, abs=0.025)
    assert not any(
        adjective in text for text in sentences(200, seed=2, adjective_share=0.0) for adjective in ADJECTIVES
    )


def test_the_nearest_noun_agrees_more_often_than_not_by_default():
    parsed = [parse(sentence) for sentence in TEXT]
    agrees = sum((item[3] if item[4] is None else item[4]) == item[5] for item in parsed) / len(parsed)
    assert agrees == pytest.approx(0.7, abs=0.025)


def test_the_same_seed_gives_the_same_text_and_another_seed_another():
    assert list(sentences(50, seed=4)) == list(sentences(50, seed=4))
    assert list(sentences(50, seed=4)) != list(sentences(50, seed=5))


@pytest.mark.parametrize("variant", ["simple", "attractor"])
def test_a_pair_differs_in_the_verb_alone_and_its_patch_in_the_subject_alone(variant):
    for pair in pairs(variant):
        right, wrong = pair.right.split(), pair.wrong.split()
        patch_right, patch_wrong = pair.patch_right.split(), pair.patch_wrong.split()
        assert [a != b for a, b in zip(right, wrong, strict=True)] == [False] * (len(right) - 2) + [True, False]
        assert patch_right[-2] == wrong[-2]
        assert patch_wrong[-2] == right[-2]
        assert patch_right[:-2] == patch_wrong[:-2]
        assert sum(a != b for a, b in zip(right[:-2], patch_right[:-2], strict=True)) == 1
        for sentence, grammatical in ((pair.right, 1), (pair.wrong, 0), (pair.patch_right, 1), (pair.patch_wrong, 0)):
            *_, subject_plural, _, verb_plural = parse(sentence)
            assert (subject_plural == verb_plural) == grammatical


def test_labels_say_the_numbers_and_attractors_are_of_the_other_number():
    for pair in pairs("attractor"):
        *_, subject_plural, other_plural, _ = parse(pair.right)
        assert subject_plural != other_plural
        numbers = ("plural", "singular") if subject_plural else ("singular", "plural")
        assert (pair.labels["number"], pair.labels["attractor"]) == numbers
        assert pair.labels["case"] == "_".join(numbers)
    assert {pair.labels["attractor"] for pair in pairs("simple")} == {"none"}


def test_both_numbers_are_equally_frequent_among_the_pairs():
    for variant in ("simple", "attractor"):
        numbers = [pair.labels["number"] for pair in pairs(variant)]
        assert numbers.count("plural") * 2 == len(numbers) >= 500


def test_no_noun_is_a_verb_and_no_word_form_is_ambiguous():
    forms = [*NOUNS, *NOUNS.values(), *VERBS, *(verb + "s" for verb in VERBS), *ADJECTIVES, *PREPOSITIONS, "the", "."]
    assert len(forms) == len(set(forms)) == len(vocabulary())
    assert set(" ".join(TEXT).split()) == set(vocabulary())


def test_the_registry_gives_the_pairs_with_patch_prompts():
    task = load("agreement/attractor", limit=30, seed=1)
    assert len(task) == 30
    assert task.has_patch
    assert task.language == "en"
    assert set(task.pairs) <= set(pairs("attractor"))


def test_an_unknown_variant_names_the_nearest_one():
    with pytest.raises(UnknownTaskError, match="did you mean 'attractor'"):
        load("agreement/atractor")


@pytest.mark.parametrize("shares", [{"attractor_share": 1.1}, {"phrase_share": -0.1}, {"adjective_share": 2.0}])
def test_a_share_outside_its_range_is_refused_at_once(shares):
    with pytest.raises(TaskError, match=f"{next(iter(shares))} must lie between 0 and 1"):
        sentences(1, seed=0, **shares)


def test_a_negative_count_is_refused_at_once():
    with pytest.raises(TaskError, match="must not be negative"):
        sentences(-1, seed=0)
