"""`crosstime tasks show` in scripts whose characters are several tokens, and tasks with paths of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from crosstime.cli.main import app
from crosstime.cli.options import load_tasks
from crosstime.cli.tasks import mark_answer
from crosstime.suites.token_text import readable_parts
from tasks import TaskError, load

SENTENCES = {
    "en": "The authors laugh .",
    "he": "הסופר צוחק .",
    "ru": "авторы смеются .",
    "hi": "लड़का अच्छा है .",
    "zh": "作者笑了。",
    "emoji": "ok 👩‍🔬 !",
}


def byte_level(*, merges: int) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, with some merges, in most of which a character is several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(list(SENTENCES.values()) * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.mark.parametrize("merges", [0, 12, 40])
@pytest.mark.parametrize("language", SENTENCES)
def test_the_parts_are_the_text_and_all_its_tokens(language: str, merges: int):
    tokenizer, sentence = byte_level(merges=merges), SENTENCES[language]
    ids = tokenizer(sentence)["input_ids"]
    parts = list(readable_parts(tokenizer, ids))
    assert "".join(text for _, text, _ in parts) == sentence
    assert [start for start, _, _ in parts] == [sum(n for _, _, n in parts[:i]) for i in range(len(parts))]
    assert sum(n for _, _, n in parts) == len(ids)
    if merges == 0:
        # Without merges, a part is a character, and its tokens are its bytes
        assert [(text, n) for _, text, n in parts] == [(c, len(c.encode())) for c in sentence]


def test_a_token_within_no_character_is_shown_by_its_id():
    tokenizer = byte_level(merges=0)
    ids = tokenizer("аб")["input_ids"][:-1]
    assert [text for _, text, _ in readable_parts(tokenizer, ids)] == ["а", f"<{ids[2]}>"]


def test_the_answer_says_which_of_the_tokens_of_a_character_it_is():
    tokenizer = byte_level(merges=0)
    # The letter is two bytes, of which the second is the answer
    assert mark_answer("+ ", tokenizer, "a ש.", 3).plain == "+ a|·|«ש»₂/₂|."
    assert mark_answer("+ ", tokenizer, "a שab", 4).plain == "+ a|·|ש₂|«a»|b"


def pairs_file(path: Path, *rows: tuple[str, str, str]) -> Path:
    fields = ("clean_prefix", "clean_answer", "patch_answer")
    path.write_text("\n".join(json.dumps(dict(zip(fields, row, strict=True))) for row in rows), encoding="utf-8")
    return path


def test_hebrew_is_readable_on_the_screen(tmp_path: Path):
    folder = tmp_path / "models" / "step1"
    byte_level(merges=0).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    file = pairs_file(tmp_path / "mine.jsonl", ("הסופר", " צוחק", " צוחקים"), ("הסופר", " א", " ב"))
    shown = CliRunner().invoke(app, ["tasks", "show", f"pairs/mine={file}", "-t", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "+ ה₂|ס₂|ו₂|פ₂|ר₂|·|«א»₂/₂" in shown.output
    assert "the answer is token k of these n" in shown.output
    assert "<" not in shown.output


def test_each_task_has_a_path_of_its_own_or_that_of_all(tmp_path: Path):
    first = pairs_file(tmp_path / "a=b.jsonl", ("one", " x", " y"))
    pairs_file(tmp_path / "other.jsonl", ("two", " x", " y"), ("three", " x", " y"))
    loaded = load_tasks([f"pairs/mine={first}", "pairs/other", "agreement/simple"], tmp_path, limit=None, seed=0)
    assert [(task.name, task.pairs[0].right) for task in loaded[:2]] == [
        ("pairs/mine", "one x"), ("pairs/other", "two x")
    ]  # fmt: skip
    assert load(f"pairs/mine={first}").pairs == loaded[0].pairs
    with pytest.raises(TaskError, match="2 tasks have the name 'pairs/mine', under which results are kept: give each"):
        load_tasks([f"pairs/mine={first}", f"pairs/mine={tmp_path / 'other.jsonl'}"], None, limit=None, seed=0)
    with pytest.raises(TaskError, match="'pairs/mine=' has no path after its '='"):
        load("pairs/mine=")
    with pytest.raises(TaskError, match=r"absent\.jsonl does not exist"):
        load(f"pairs/mine={tmp_path / 'absent.jsonl'}")
