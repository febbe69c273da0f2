"""Contexts in a script whose characters are several tokens of a byte-level tokenizer."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from crosstime.features.contexts import _by_part
from crosstime.suites.token_text import token_text


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_tokens_of_one_character_are_shown_as_it_with_their_largest_activation_and_summed_effects():
    tokenizer = byte_tokenizer()
    ids = tokenizer("aד €")["input_ids"]
    # a, two bytes, a space, three bytes
    assert len(ids) == 7
    activation = torch.tensor([0.5, 0.0, 2.0, 0.0, 3.0, 1.0, 0.0])
    effects = {"step1": torch.tensor([1.0, 0.25, 0.5, 0.0, -1.0, 2.0, 0.5])}
    tokens, activations, by_revision = _by_part(tokenizer, ids, activation, effects)
    assert tokens == ("a", "ד", " ", "€")
    assert activations == (0.5, 2.0, 0.0, 3.0)
    assert by_revision == {"step1": (1.0, 0.75, 0.0, 1.5)}


def test_an_excerpt_that_ends_within_a_character_has_the_number_of_its_last_token():
    tokenizer = byte_tokenizer()
    ids = tokenizer("aד")["input_ids"][:-1]
    tokens, activations, _ = _by_part(tokenizer, ids, torch.tensor([1.0, 4.0]), {})
    assert tokens == ("a", f"<{ids[-1]}>") == ("a", token_text(tokenizer, ids[-1]))
    assert activations == (1.0, 4.0)
