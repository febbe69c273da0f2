"""A generated grammar of subject-verb agreement: training text and held-out minimal pairs.

A sentence is ``the [adjective] subject [preposition the [adjective] noun] verb .``, lower case, words
split by blanks. In training text the noun next to the verb has the subject's number more often than
not, so that a model first learns to agree with the nearest noun and only later with the subject.
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

NOUNS = {
    **{noun: noun + "s" for noun in (
        "author", "baker", "doctor", "farmer", "guard", "lawyer", "pilot", "poet", "sailor", "singer",
        "teacher", "king", "uncle", "girl", "horse", "eagle",
    )},
    "man": "men", "woman": "women", "child": "children", "person": "people",
    "mouse": "mice", "goose": "geese", "wolf": "wolves", "spy": "spies",
}  # fmt: skip
VERBS = (
    "laugh", "smile", "sing", "sleep", "wait", "work", "dance", "listen",
    "arrive", "agree", "swim", "shout", "win", "wander", "hide", "pray",
)  # fmt: skip
PREPOSITIONS = ("near", "behind", "beside", "with", "above", "below")
ADJECTIVES = ("old", "young", "tall", "quiet", "happy", "famous")
NUMBERS = ("singular", "plural")
VARIANTS = ("simple", "attractor")
HELD_OUT_SHARE = 1 / 8


def vocabulary() -> tuple[str, ...]:
    """Every word of the grammar, sorted: what a word-level tokenizer for it needs.

    Examples:
        >>> {"the", "men", "laughs", "."} <= set(vocabulary())
        True
    """
    words = {"the", ".", *PREPOSITIONS, *ADJECTIVES, *NOUNS, *NOUNS.values()}
    return tuple(sorted(words.union(VERBS, (verb + "s" for verb in VERBS))))


@cache
def is_held_out(subject: str, verb: str, attractor: str | None) -> bool:
    """Whether a combination of words belongs to the test pairs and never occurs in training text.

    The words are dictionary forms (``"child"``, ``"laugh"``), so a combination is held out in both
    numbers, with every preposition and adjective, and its patch prompt with it. `attractor` is the noun
    of the intervening phrase, of whichever number, or None in a sentence without one. About one
    combination in eight is held out, by a fixed hash: the split is the same for every seed, process
    and machine.
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

    The noun next to the verb has the right number in ``1 - phrase_share * attractor_share`` of the
    sentences (0.7 by default): the shallow rule pays at first, and is never enough.

    Args:
        count: How many sentences.
        seed: The same seed gives the same text.
        attractor_share: Of the sentences with an intervening phrase, the share in which its noun has
            the other number than the subject.
        phrase_share: The share of sentences with a phrase between subject and verb.
        adjective_share: The share of nouns with an adjective.

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
    count: int, draw: random.Random, attractor_share: float, phrase_share: float, adjective_share: float
) -> Iterator[str]:
    nouns = tuple(NOUNS)
    for _ in range(count):
        plural = draw.random() < 0.5
        has_phrase = draw.random() < phrase_share
        differs = draw.random() < attractor_share
        # Only the words are drawn again when a combination is held out: the shares stay exact.
        while True:
            subject, verb = draw.choice(nouns), draw.choice(VERBS)
            other = draw.choice(nouns) if has_phrase else None
            if other != subject and not is_held_out(subject, verb, other):
                break
        first = draw.choice(ADJECTIVES) if draw.random() < adjective_share else None
        second = draw.choice(ADJECTIVES) if draw.random() < adjective_share else None
        phrase = None
        if other is not None:
            phrase = f"{draw.choice(PREPOSITIONS)} {_noun_phrase(second, other, plural != differs)}"
        words = (_noun_phrase(first, subject, plural), phrase, verb if plural else verb + "s", ".")
        yield " ".join(filter(None, words))


def _noun_phrase(adjective: str | None, noun: str, plural: bool) -> str:
    return f"the {adjective + ' ' if adjective else ''}{NOUNS[noun] if plural else noun}"


def pairs(variant: str) -> Iterator[MinimalPair]:
    """Yield every held-out pair of a variant, each with its patch prompt.

    ``simple`` has no intervening phrase; ``attractor`` has one whose noun is of the *other* number
    than the subject. The patch prompt flips the subject's number and keeps every other word. Labels:
    `number` of the subject, number of the `attractor` (``"none"`` in ``simple``), and `case`, both
    joined by an underscore.

    Raises:
        UnknownTaskError: No such variant.

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
        for subject, verb, other in product(NOUNS, VERBS, NOUNS)
        if other != subject and is_held_out(subject, verb, other)
        for preposition in PREPOSITIONS
        for number, attractor, form in (
            ("singular", "plural", NOUNS[other]),
            ("plural", "singular", other),
        )
    )


def _pair(lead: str, subject: str, phrase: str, verb: str, number: str, attractor: str) -> MinimalPair:
    forms = (subject, verb + "s"), (NOUNS[subject], verb)
    (noun, agrees), (flipped, differs) = forms if number == "singular" else forms[::-1]
    return MinimalPair(
        right=f"{lead}{noun} {phrase}{agrees} .",
        wrong=f"{lead}{noun} {phrase}{differs} .",
        patch_right=f"{lead}{flipped} {phrase}{differs} .",
        patch_wrong=f"{lead}{flipped} {phrase}{agrees} .",
        labels={
            "number": number,
            "attractor": attractor,
            "case": number if attractor == "none" else f"{number}_{attractor}",
        },
        where=f"agreement: {lead}{noun} {phrase}{agrees}",
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
        """Make every held-out pair of the variant named by `rest`; `path` is not used."""
        found = tuple(pairs(rest))
        return Task(f"agreement/{rest}", "en", "generated by tasks.agreement", found)
