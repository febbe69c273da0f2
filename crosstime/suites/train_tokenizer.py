"""A byte-level BPE tokenizer, trained on text."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
"""Begins and ends documents, and fills padding."""


def train_tokenizer(lines: Sequence[str], vocab_size: int, model_max_length: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; ``<|endoftext|>`` is its first token and serves as BOS, EOS and padding.

    Every text can be tokenized, and decoding returns it unchanged.

    Args:
        lines: the text to learn merges from.
        vocab_size: largest number of tokens, including the end token and 256 bytes.
        model_max_length: longest input that the tokenizer reports.

    Examples:
        >>> tokenizer = train_tokenizer(["the cat sleeps", "the cats sleep"], vocab_size=300)
        >>> tokenizer.decode(tokenizer("the cats")["input_ids"])
        'the cats'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    # Train the merges
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)

    # Wrap it for transformers
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )
