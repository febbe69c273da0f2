"""Tokenizers of several kinds, trained here, and the shared data where it is present."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tasks.agreement import sentences

SHARED = Path(__file__).resolve().parents[3] / "shared"
SUITES = ("tiny-pythia", "tiny-olmo", "tiny-bloom")
TRAINED = ("byte-level", "byte-level with prefix space", "untrimmed byte-level with markers", "unigram", "words")

TEXT = [
    *sentences(1500, seed=5),
    "Most legislatures haven't disliked children. Paula references Robert; Paula reference Robert.",
    "les auteurs sont vieux . l'auteur est vieux . le garçon étrange a mangé des crêpes à Noël .",
    "ذهب الولد إلى المدرسة . ذهبت البنت إلى المدرسة . كتبَ كتبَتْ",
    "הסופר צוחק . הסופרים צוחקים .",
    "लड़का अच्छा है . लड़की अच्छी है . लड़के अच्छे हैं ।",
] * 2


def _byte_level(*, prefix_space: bool, markers: bool) -> PreTrainedTokenizerFast:
    # Train the merges
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"] if markers else []
    tokenizer.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )

    # Put the markers around every text
    if markers:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[(token, tokenizer.token_to_id(token)) for token in special]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    named = {"bos_token": "<s>", "eos_token": "</s>"} if markers else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def _unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def _words() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(TEXT[:1500], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="session")
def trained() -> dict[str, PreTrainedTokenizerFast]:
    """One tokenizer of each kind, by name."""
    built = (
        _byte_level(prefix_space=False, markers=False),
        _byte_level(prefix_space=True, markers=False),
        _byte_level(prefix_space=False, markers=True),
        _unigram(),
        _words(),
    )
    return dict(zip(TRAINED, built, strict=True))


@pytest.fixture(scope="session", params=[*TRAINED, *SUITES])
def tokenizer(request: pytest.FixtureRequest, trained: dict[str, PreTrainedTokenizerFast]):
    """Every tokenizer in turn: those trained here and those of the shared suites."""
    if request.param in trained:
        return trained[request.param]
    folder = SHARED / "suites" / request.param / "main"
    if not folder.is_dir():
        pytest.skip(f"the shared suite {request.param} is not beside the checkout")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of shared data."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared data folder is not beside the checkout")
    return SHARED / "data"
