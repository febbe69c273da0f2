"""Token ids are those of tokenizer.json, whatever class transformers would open it with."""

import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, PreTrainedTokenizerFast

from interventions import known_tokenizers
from interventions.errors import CheckpointLoadError
from interventions.known_tokenizers import KNOWN, KnownTokenizer, check_known_ids
from interventions.read_tokenizer import PROBES, read_tokenizer

LINE = "in 2023 and 650841823 they don't"
CLASSES = ["GPT2Tokenizer", "GPTNeoXTokenizerFast", "PreTrainedTokenizerFast", "LlamaTokenizerFast", None]


@pytest.fixture(scope="module")
def numbers():
    """A tokenizer that splits numbers in threes, as OLMo-2's."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\p{N}{1,3}| ?[^\s\p{N}]+|\s+"), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"in {year} and {year * 317} they don't" for year in range(1900, 2100)], trainer)
    return tokenizer


def write(folder, tokenizer, tokenizer_class=None, model_type=None, **more):
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {} if tokenizer_class is None else {"tokenizer_class": tokenizer_class}
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>", **named, **more}))
    if model_type is not None:
        AutoConfig.for_model(model_type).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("tokenizer_class", CLASSES)
@pytest.mark.parametrize("model_type", [None, "gpt2", "gpt_neox", "olmo", "olmo2"])
def test_ids_are_those_of_tokenizer_json(tmp_path, numbers, tokenizer_class, model_type):
    opened = read_tokenizer(write(tmp_path / "t", numbers, tokenizer_class, model_type))
    for text in (LINE, *PROBES):
        assert opened(text, add_special_tokens=False)["input_ids"] == numbers.encode(text, add_special_tokens=False).ids
    assert opened.eos_token == "<|endoftext|>"


def test_a_normalizer_of_the_file_is_kept(tmp_path, numbers):
    from tokenizers import normalizers

    lower = Tokenizer.from_str(numbers.to_str())
    lower.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    opened = read_tokenizer(write(tmp_path / "t", lower, "GPT2Tokenizer", "gpt2"))
    assert opened("IN 2023")["input_ids"] == numbers.encode("in 2023").ids


def test_the_beginning_that_the_file_puts_before_a_text_is_kept(tmp_path, numbers):
    begins = Tokenizer.from_str(numbers.to_str())
    begins.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    opened = read_tokenizer(write(tmp_path / "t", begins, "GPT2Tokenizer", "gpt2", bos_token="<s>"))
    assert opened(LINE)["input_ids"] == [1, *numbers.encode(LINE).ids]


def test_tokens_that_only_the_configuration_adds_are_kept(tmp_path, numbers):
    added = {"500": {"content": "<|pad|>", "special": True, "lstrip": False, "rstrip": False, "normalized": False,
                     "single_word": False}}  # fmt: skip
    opened = read_tokenizer(
        write(tmp_path / "t", numbers, "PreTrainedTokenizerFast", pad_token="<|pad|>", added_tokens_decoder=added)
    )
    assert opened.pad_token_id == 500
    assert opened("in 2023")["input_ids"] == numbers.encode("in 2023").ids


def test_a_class_that_changes_ids_in_spite_of_the_file_is_named(tmp_path, numbers, monkeypatch):
    class Shifting(PreTrainedTokenizerFast):
        def __call__(self, text, **options):
            encoded = super().__call__(text, **options)
            encoded["input_ids"] = [1 + number for number in encoded["input_ids"]]
            return encoded

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", Shifting.from_pretrained)
    folder = write(tmp_path / "t", numbers)
    with pytest.raises(
        CheckpointLoadError, match=r"Shifting, the class with which transformers opens .*tokenizer\.json"
    ):
        read_tokenizer(folder)


def test_damaged_and_missing_files_are_refused(tmp_path, numbers):
    folder = write(tmp_path / "t", numbers, "PreTrainedTokenizerFast", "gpt2")
    (tmp_path / "t" / "tokenizer.json").write_text('{"version": "1.0", "model": 3}')
    with pytest.raises(CheckpointLoadError):
        read_tokenizer(folder)
    (tmp_path / "t" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointLoadError):
        read_tokenizer(folder)


def byte_level_words(ids):
    """A tokenizer of whole words with given ids; what is no word of it becomes its unknown token."""
    words = Tokenizer(models.WordLevel({**ids, "<unk>": 60_000}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


def test_a_tokenizer_with_a_known_vocabulary_and_other_ids_is_refused(monkeypatch):
    known = KnownTokenizer("Toy", {"This": 5, "Ġtest": 7}, {"This is a test": (5, 9, 11, 7)})
    monkeypatch.setattr(known_tokenizers, "KNOWN", (known,))
    check_known_ids(byte_level_words({"This": 5, "Ġis": 9, "Ġa": 11, "Ġtest": 7}), "good")
    check_known_ids(byte_level_words({"This": 4, "Ġtest": 7}), "another vocabulary")
    with pytest.raises(CheckpointLoadError, match=r"Toy's, but splits 'This is a test' into \[5, 60000, 11, 7\], not"):
        check_known_ids(byte_level_words({"This": 5, "Ġa": 11, "Ġtest": 7}), "bad")


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_facts_agree_with_the_marks_by_which_they_are_recognized(known):
    assert len(known.ids) >= 9
    assert known.ids[" Hello"] == (known.marks["ĠHello"],)
    assert known.ids["This is a test"][0] == known.marks["This"]
    words = dict(zip(("This", "Ġis", "Ġa", "Ġtest"), known.ids["This is a test"], strict=True))
    tokenizer = byte_level_words(words | known.marks)
    assert tokenizer("This is a test")["input_ids"] == list(known.ids["This is a test"])
    with pytest.raises(CheckpointLoadError, match=f"the vocabulary of {known.name}'s, but splits"):
        check_known_ids(tokenizer, "words only")
