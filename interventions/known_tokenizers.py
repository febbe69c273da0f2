"""Token ids of tokenizers of well-known suites, as facts: a release that splits text differently is noticed.

Sources: the tests of transformers for GPT-NeoX, OLMo, OLMo-2 and BLOOM (tests/models/*/test_tokenization_*.py and
test_modeling_olmo*.py), and issue 45920 of transformers for OLMo-2's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interventions.errors import CheckpointLoadError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class KnownTokenizer:
    """A tokenizer that is recognized by ids in its vocabulary, and the ids of texts without special tokens.

    Attributes:
        name: whose tokenizer it is.
        marks: tokens of its vocabulary with their ids; only a vocabulary that has all of them is it.
        without: tokens that its vocabulary does not have, but a relative's does.
        ids: token ids by text.
    """

    name: str
    marks: Mapping[str, int]
    ids: Mapping[str, tuple[int, ...]]
    without: tuple[str, ...] = ()


_GPT_NEOX_MARKS = {"ĠHello": 24387, "This": 1552, "Ġfals": 21649, "æĺ¯": 12105, "ĊĊĠĊ": 46603, "  ": 50276}
_GPT_NEOX_IDS = {
    "This is a test": (1552, 310, 247, 1071),
    "A sample test": (34, 3410, 1071),
    "I was born in 92000, and this is falsé.": (42, 369, 5686, 275, 898, 6914, 13, 285, 436, 310, 21649, 860, 15),
    "生活的真谛是": (20025, 46549, 5225, 48561, 33656, 238, 12105),
    "Hi  Hello": (12764, 50276, 12092),
    "Hi   Hello": (12764, 50275, 12092),
    " ": (209,),
    "  ": (50276,),
    " Hello": (24387,),
    "hi<s>there": (5801, 29, 84, 31, 9088),
    "The following string should be properly encoded: Hello.": (510, 1563, 2876, 943, 320, 6283, 16202, 27, 24387, 15),
    "Hey how are you doing": (8262, 849, 403, 368, 2509),
}

KNOWN = (
    KnownTokenizer("Pythia", _GPT_NEOX_MARKS | {"<|endoftext|>": 0}, _GPT_NEOX_IDS, without=("|||IP_ADDRESS|||",)),
    KnownTokenizer("OLMo", _GPT_NEOX_MARKS | {"<|endoftext|>": 50279, "|||IP_ADDRESS|||": 0}, _GPT_NEOX_IDS),
    KnownTokenizer(
        "OLMo-2",
        {"ĠHello": 22691, "This": 2028, "202": 2366, "Ġ": 220, "ĠĠ": 256, "<|endoftext|>": 100257},
        {
            "This is a test": (2028, 374, 264, 1296),
            "生活的真谛是": (21990, 76706, 9554, 89151, 39013, 249, 21043),
            "Hi  Hello": (13347, 220, 22691),
            "Hi   Hello": (13347, 256, 22691),
            " ": (220,),
            "  ": (256,),
            " Hello": (22691,),
            "2023": (2366, 18),
            "650841823": (13655, 25496, 23848),
        },
    ),
    KnownTokenizer(
        "BLOOM",
        {"ĠHello": 86153, "This": 6168, "Ġfals": 31684, "çĶŁæ´»çļĦ": 71167, "<s>": 1, "</s>": 2},
        {
            "The quick brown fox": (2175, 23714, 73173, 144252),
            "jumps over the lazy dog": (77, 132619, 3478, 368, 109586, 35433),
            "This is a test": (6168, 632, 267, 4006),
            "I was born in 92000, and this is falsé": (
                44,
                1620,
                34181,
                361,
                1575,
                14739,
                15,
                530,
                1119,
                632,
                31684,
                311,
            ),
            "生活的真谛是": (71167, 4137, 1927, 239, 644),
            "Hi  Hello": (30050, 210, 86153),
            "Hi   Hello": (30050, 250, 86153),
            " Hello": (86153,),
            "hi<s>there": (2807, 1, 51596),
            "Hey how are you doing": (40440, 4143, 1306, 1152, 12491),
            "The following string should be properly encoded: Hello": (
                *(2175, 6747, 5148, 3403, 722, 34975, 2681, 532, 29315, 86153),
            ),
        },
    ),
)
"""The tokenizers that are checked where they are opened."""


def check_known_ids(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Compare a tokenizer that has the vocabulary of a known one with the token ids that are known of it.

    Args:
        tokenizer: the tokenizer.
        name: where it comes from, for the message.

    Raises:
        CheckpointLoadError: the ids of a text differ; the message gives both.

    Examples:
        >>> check_known_ids(tokenizer, "EleutherAI/pythia-160m")  # doctest: +SKIP
    """
    vocabulary = tokenizer.get_vocab()
    for known in KNOWN:
        if any(vocabulary.get(token) != number for token, number in known.marks.items()):
            continue
        if any(token in vocabulary for token in known.without):
            continue
        for text, expected in known.ids.items():
            ids = tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            if ids != expected:
                raise CheckpointLoadError(
                    f"the tokenizer of {name} has the vocabulary of {known.name}'s, but splits {text!r} into "
                    f"{list(ids)}, not into {list(expected)} as in training; another release of transformers or "
                    "tokenizers may be the cause"
                )
