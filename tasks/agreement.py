"""A generated grammar of subject-verb agreement: training text and held-out minimal pairs.

A sentence is ``the [adjective] subject [preposition the [adjective] noun] verb .``, in lower case, with words separated
by spaces. In training text the noun next to the verb mostly has the number of the subject, so that a model first learns
to agree with the nearest noun and only later with the subject.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

from tasks.errors import TaskError, UnknownTaskError
from tasks.minimal_pair import MinimalPair
from tasks.task import Task
from user_input.nearest import nearest

_REGULAR_NOUNS = """
author baker doctor farmer guard lawyer pilot poet sailor singer teacher king uncle girl horse eagle
"""
_VERBS = """
laugh smile sing sleep wait work dance listen arrive agree swim shout win wander hide pray
"""
NOUNS = {noun: noun + "s" for noun in _REGULAR_NOUNS.split()} | {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "mouse": "mice",
    "goose": "geese",
    "wolf": "wolves",
    "spy": "spies",
}
"""The plural of every noun."""
VERBS = tuple(_VERBS.split())
"""Plural verbs; the singular ends in ``s``."""
PREPOSITIONS = ("near", "behind", "beside", "with", "above", "below")
ADJECTIVES = ("old", "young", "tall", "quiet", "happy", "famous")
NUMBERS = ("singular", "plural")
VARIANTS = ("simple", "attractor")
HELD_OUT_SHARE = 1 / 8
"""Share of the word combinations that occur only in test pairs."""


def vocabulary() -> tuple[str, ...]:
    """Every word of the grammar, sorted, as the vocabulary of a word-level tokenizer.

    Examples:
        >>> {"the", "men", "laughs", "."} <= set(vocabulary())
        True
    """
    words = {"the", ".", *PREPOSITIONS, *ADJECTIVES, *NOUNS, *NOUNS.values()}
    return tuple(sorted(words.union(VERBS, (verb + "s" for verb in VERBS))))


@cache
def is_held_out(subject: str, verb: str, attractor: str | None) -> bool:
    """Whether a combination of words belongs to the test pairs and never occurs in training text.

    The words are in their dictionary form (``"child"``, ``"laugh"``), so a combination is held out in both numbers,
    with every preposition and adjective, and together with its patch prompt. About one combination in eight is held
    out, by a fixed hash: the split is the same for every seed, process and machine.

    Args:
        subject: the singular of the subject.
        verb: the plural of the verb.
        attractor: the singular of the noun in the intervening phrase, or None in a sentence without one.
    """
    digest = hashlib.sha256(f"agreement {subject} {verb} {attractor or '-'}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def sentences(
    count: int,
    *,
    seed: int,
    attractor_share: float = 0.5,
    phrase_share: float = 0.6,
    adjective_share: float = 0.25,
) -> Iterator[str]:
    """Yield `count` grammatical sentences of training text that contain no held-out combination.

    The noun next to the verb has the number of the subject in ``1 - phrase_share * attractor_share`` of the sentences
    (0.7 by default), so that agreement with the nearest noun helps at first and is never enough.

    Args:
        count: Number of sentences.
        seed: The same seed gives the same text.
        attractor_share: Of the sentences with an intervening phrase, the share in which the number of its noun differs
            from that of the subject.
        phrase_share: Share of sentences with a phrase between subject and verb.
        adjective_share: Share of nouns with an adjective.

    Raises:
        TaskError: A negative count, or a share outside 0..1.

    Examples:
        >>> len(list(sentences(3, seed=0)))
        3
    """
    if count < 0:
        raise TaskError(f"agreement: count must not be negative, got {count}")
    shares = {
        "attractor_share": attractor_share,
        "phrase_share": phrase_share,
        "adjective_share": adjective_share,
    }
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise TaskError(f"agreement: {name} must lie between 0 and 1, got {share}")
    return _sentences(count, random.Random(seed), attractor_share, phrase_share, adjective_share)


def _sentences(
    count: int, generator: random.Random, attractor_share: float, phrase_share: float, adjective_share: float
) -> Iterator[str]:
    nouns = tuple(NOUNS)
    for _ in range(count):
        # Draw the structure
        plural = generator.random() < 0.5
        has_phrase = generator.random() < phrase_share
        differs = generator.random() < attractor_share

        # Draw words until their combination is not held out; the structure is kept, so that the shares are exact
        while True:
            subject, verb = generator.choice(nouns), generator.choice(VERBS)
            attractor = generator.choice(nouns) if has_phrase else None
            if attractor != subject and not is_held_out(subject, verb, attractor):
                break
        subject_adjective = generator.choice(ADJECTIVES) if generator.random() < adjective_share else None
        attractor_adjective = generator.choice(ADJECTIVES) if generator.random() < adjective_share else None

        # Write the sentence
        phrase = None
        if attractor is not None:
            preposition = generator.choice(PREPOSITIONS)
            phrase = f"{preposition} {_noun_phrase(attractor_adjective, attractor, plural != differs)}"
        words = (_noun_phrase(subject_adjective, subject, plural), phrase, verb if plural else verb + "s", ".")
        yield " ".join(filter(None, words))


def _noun_phrase(adjective: str | None, noun: str, plural: bool) -> str:
    return f"the {adjective + ' ' if adjective else ''}{NOUNS[noun] if plural else noun}"


def pairs(variant: str) -> Iterator[MinimalPair]:
    """Yield every held-out pair of a variant, each with its patch prompt.

    ``simple`` has no intervening phrase; ``attractor`` has one in which the number of the noun differs from that of the
    subject. The patch prompt changes the number of the subject and keeps every other word. The labels are `number` of
    the subject, number of the `attractor` (``"none"`` in ``simple``), and `case`, which joins both by an underscore.

    Args:
        variant: One of `VARIANTS`.

    Raises:
        UnknownTaskError: There is no such variant.

    Examples:
        >>> pair = next(pairs("attractor"))
        >>> sorted(pair.labels)
        ['attractor', 'case', 'number']
    """
    if variant not in VARIANTS:
        raise UnknownTaskError(f"agreement has no variant {variant!r}: {nearest(variant, VARIANTS)}")
    return iter(_simple_pairs() if variant == "simple" else _attractor_pairs())


@cache
def _simple_pairs() -> tuple[MinimalPair, ...]:
    return tuple(
        _pair(f"the {adjective} " if adjective else "the ", subject, "", verb, number, "none")
        for subject, verb in product(NOUNS, VERBS)
        if is_held_out(subject, verb, None)
        for adjective, number in product((None, *ADJECTIVES), NUMBERS)
    )


@cache
def _attractor_pairs() -> tuple[MinimalPair, ...]:
    return tuple(
        _pair("the ", subject, f"{preposition} the {form} ", verb, number, attractor)
        for subject, verb, noun in product(NOUNS, VERBS, NOUNS)
        if noun != subject and is_held_out(subject, verb, noun)
        for preposition in PREPOSITIONS
        for number, attractor, form in (
            ("singular", "plural", NOUNS[noun]),
            ("plural", "singular", noun),
        )
    )


def _pair(start: str, subject: str, phrase: str, verb: str, number: str, attractor: str) -> MinimalPair:
    forms = (subject, verb + "s"), (NOUNS[subject], verb)
    (noun, right_verb), (patch_noun, wrong_verb) = forms if number == "singular" else forms[::-1]
    return MinimalPair(
        right=f"{start}{noun} {phrase}{right_verb} .",
        wrong=f"{start}{noun} {phrase}{wrong_verb} .",
        patch_right=f"{start}{patch_noun} {phrase}{wrong_verb} .",
        patch_wrong=f"{start}{patch_noun} {phrase}{right_verb} .",
        labels={
            "number": number,
            "attractor": attractor,
            "case": number if attractor == "none" else f"{number}_{attractor}",
        },
        where=f"agreement: {start}{noun} {phrase}{right_verb}",
    )


class Agreement:
    """Plug-in for the generated tasks ``agreement/simple`` and ``agreement/attractor``."""

    name = "agreement"
    pattern = "agreement/<simple|attractor>"
    description = "generated subject-verb agreement, held out from the text of tasks.agreement.sentences"
    source = "generated, nothing to download"
    languages = ("en",)
    has_patch = True
    path_help = "not used"
    pairs = "some hundreds (simple) or thousands (attractor)"

    def load(self, rest: str, path: Path | None) -> Task:
        """Generate every held-out pair of the variant that `rest` names; `path` is not used."""
        return Task(f"agreement/{rest}", "en", "generated by tasks.agreement", tuple(pairs(rest)))
