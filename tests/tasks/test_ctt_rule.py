"""The rule ``ctt`` keeps the pairs that the code of Crosscoding Through Time keeps, of each of its data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tasks import DataError, EmptyTaskError, MinimalPair, Task, TaskError, load
from tasks.answer_tokens import LENGTHS, TOO_LONG
from tasks.ctt import BLIMP
from tasks.minimal_pair import CttCount

SUITES = Path(__file__).resolve().parents[3] / "shared" / "suites"


@pytest.fixture(scope="module", params=["tiny-pythia", "tiny-olmo", "tiny-bloom"])
def small(request: pytest.FixtureRequest) -> tuple[str, PreTrainedTokenizerFast]:
    folder = SUITES / request.param / "main"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return request.param, AutoTokenizer.from_pretrained(folder)


def kept_by_blimps_code(tokenizer: PreTrainedTokenizerFast, row: dict[str, str]) -> bool:
    """The common tokens come off first, and what is left is decoded and counted; at most two, and equally many."""
    right, wrong = (
        tokenizer.encode(f"{row['one_prefix_prefix']} {row[f'one_prefix_word_{kind}']}", add_special_tokens=False)
        for kind in ("good", "bad")
    )
    shared = next(
        (i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b), min(len(right), len(wrong))
    )
    left = [len(tokenizer(tokenizer.decode(ids[shared:])).input_ids) for ids in (right, wrong)]
    return left[0] == left[1] <= 2


def kept_by_words(tokenizer: PreTrainedTokenizerFast, pair: MinimalPair) -> bool:
    """The first whitespace-separated word that differs, with a blank before it: at most two, and equally many."""
    words = next((a, b) for a, b in zip(pair.right.split(), pair.wrong.split(), strict=False) if a != b)
    left = [len(tokenizer(f" {word}").input_ids) for word in words]
    return left[0] == left[1] <= 2


def places(task: Task, tokenizer: PreTrainedTokenizerFast) -> set[str]:
    try:
        return {pair.where for pair in task.tokenize(tokenizer, rule="ctt").pairs}
    except EmptyTaskError:
        return set()


def test_blimp_is_counted_after_the_common_tokens(small, data):
    name, tokenizer = small
    n_pairs = 0
    for paradigm in BLIMP:
        file = data / "blimp" / f"{paradigm}.jsonl"
        if not file.is_file():
            pytest.skip(f"{file} is absent")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        expected = {f"{file.name}:{i}" for i, row in enumerate(rows, 1) if kept_by_blimps_code(tokenizer, row)}
        assert places(load(f"blimp/{paradigm}", data), tokenizer) == expected
        n_pairs += len(expected)
    assert n_pairs == {"tiny-pythia": 3007, "tiny-olmo": 3007, "tiny-bloom": 2253}[name]
    assert len(load("ctt/blimp-sva", data).tokenize(tokenizer)) == n_pairs


@pytest.mark.parametrize(
    "name", ["clams/en/vp_coord", "clams/fr/simple_agrmt", "multiblimp/eng/SV-#", "multiblimp/por/SV-P"]
)
def test_clams_and_multiblimp_are_counted_by_whole_words(small, data, name: str):
    _, tokenizer = small
    task = load(name, data)
    expected = {pair.where for pair in task.pairs if kept_by_words(tokenizer, pair)}
    assert places(task, tokenizer) == expected
    # The answers are those of its code: the first tokens of the words, or the second where the first are the same.
    tokenized = task.tokenize(tokenizer, rule="ctt", limit=50)
    for pair, prompt, right, wrong in zip(
        tokenized.pairs, tokenized.prompts, tokenized.right, tokenized.wrong, strict=True
    ):
        words = [text.split() for text in (pair.right, pair.wrong)]
        place = next(i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b)
        answers = [tokenizer(f" {of_text[place]}").input_ids for of_text in words]
        second = answers[0][0] == answers[1][0]
        beginning = tokenizer(" ".join(words[0][:place])).input_ids + answers[0][: int(second)]
        assert (list(prompt), right, wrong) == (beginning, answers[0][second], answers[1][second])


def of_letters(right: str, wrong: str, count: CttCount) -> str | None:
    """The reason why a pair is left out if each letter is a token, with the blank before it."""
    from test_tokenize import FakeTokenizer, reason

    return reason(
        Task("one", "und", "here", (MinimalPair(right, wrong, ctt_count=count),)), FakeTokenizer(r"\s*\S"), "ctt"
    )


@pytest.mark.parametrize(
    ("right", "wrong", "word", "spaced", "rest"),
    [
        # Only what both answers begin with makes them longer than two tokens.
        ("a abcde d", "a abcdf d", TOO_LONG, TOO_LONG, None),
        ("a bcx d", "a bex d", TOO_LONG, TOO_LONG, None),
        # Punctuation belongs to the word where words are split at blanks.
        ("a bc.", "a be.", None, TOO_LONG, None),
        ("a bcxy d", "a befg d", TOO_LONG, TOO_LONG, TOO_LONG),
        ("a bcx d", "a be d", LENGTHS, LENGTHS, LENGTHS),
    ],
)
def test_what_is_counted(right: str, wrong: str, word: str | None, spaced: str | None, rest: str | None):
    counts = (CttCount(), CttCount("spaced-word"), CttCount("rest"))
    assert [of_letters(right, wrong, count) for count in counts] == [word, spaced, rest]


def test_an_answer_of_several_words_counts_to_its_end(tmp_path: Path):
    rows = [
        {"one_prefix_prefix": "The girl", "one_prefix_word_good": "gets a job", "one_prefix_word_bad": "get a job"},
        {"one_prefix_prefix": "The girl", "one_prefix_word_good": "runs", "one_prefix_word_bad": "run"},
    ]
    for row in rows:
        for kind in ("good", "bad"):
            row[f"sentence_{kind}"] = f"{row['one_prefix_prefix']} {row[f'one_prefix_word_{kind}']} now."
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    from test_tokenize import WHOLE_WORDS, FakeTokenizer

    tokenized = load("blimp/mine", tmp_path).tokenize(FakeTokenizer(WHOLE_WORDS), rule="ctt")
    assert [pair.right for pair in tokenized.pairs] == ["The girl runs now."]
    assert tokenized.skipped == {"answer longer than two tokens": 1}


def ctt_row(right: str, wrong: str, prompt: str, answer: str, other: str, **more: object) -> str:
    fields = {"sentence_good": right, "sentence_bad": wrong, "clean_prefix": prompt}
    return json.dumps(fields | {"clean_answer": answer, "patch_answer": other, "skip": False} | more)


@pytest.fixture
def ctt_files(tmp_path: Path) -> Path:
    rows = [
        ctt_row("The author is tall", "The author are tall", "The author", " is", " are"),
        ctt_row("The pilots smile", "The pilots smiles", "The pilots", " smile", " smiles"),
        ctt_row("The cats skip", "The cats skips", "The cats", " skip", " skips", skip=True),
    ]
    (tmp_path / "en_simple_agrmt.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "en_simple_agrmt_tokenprefix.jsonl").write_text(rows[0] + "\n")
    french = ctt_row("Les gardes déménagent", "Les gardes déménage", "Les gardes démén", "agent", "age")
    (tmp_path / "fr_simple_agrmt.jsonl").write_text(french + "\n")
    (tmp_path / "en_long_vp_coord_tokenprefix.jsonl").write_text("")
    return tmp_path


@pytest.mark.parametrize("name", ["clams/en/simple_agrmt", "pairs/en_simple_agrmt", "blimp/en_simple_agrmt"])
def test_the_papers_own_task_files_are_read_without_what_they_skip(ctt_files: Path, name: str):
    task = load(name, ctt_files)
    assert [pair.right.split()[1] for pair in task.pairs] == ["author", "pilots"]
    assert task.skipped == {"marked to be skipped in the file": 1}
    assert not task.has_patch


def test_the_papers_task_files_are_found_by_folder_file_and_language(ctt_files: Path):
    by_file = load("clams/en/simple_agrmt", ctt_files / "en_simple_agrmt.jsonl")
    assert [pair.right for pair in by_file.pairs] == ["The author is tall", "The pilots smile"]
    assert load("clams/en/simple_agrmt_tokenprefix", ctt_files).pairs[0].ctt_count == CttCount("rest", (18, 19))
    for name in ("pairs/fr_simple_agrmt", "clams/fr/simple_agrmt"):
        (pair,) = load(name, ctt_files).pairs
        assert (pair.right, pair.wrong) == ("Les gardes déménagent", "Les gardes déménage")
    nested = ctt_files / "repository" / "data" / "clams_data"
    nested.mkdir(parents=True)
    (ctt_files / "fr_simple_agrmt.jsonl").rename(nested / "fr_simple_agrmt.jsonl")
    assert len(load("clams/fr/simple_agrmt", ctt_files / "repository")) == 1


def test_what_is_wrong_with_the_papers_task_files_is_said(ctt_files: Path):
    with pytest.raises(EmptyTaskError, match=r"en_long_vp_coord_tokenprefix.jsonl holds no pair"):
        load("pairs/en_long_vp_coord_tokenprefix", ctt_files)
    with pytest.raises(DataError, match="did you mean 'en_simple_agrmt'"):
        load("clams/en/simple_agrmnt", ctt_files)
    (ctt_files / "en_simple_agrmt.jsonl").write_text(ctt_row("a b", "a c", "a", " b", " c", skip="no"))
    with pytest.raises(DataError, match=r"en_simple_agrmt.jsonl:1: field 'skip' must be true or false, found 'no'"):
        load("clams/en/simple_agrmt", ctt_files)
    mixed = [ctt_row("a b", "a c", "a", " b", " c"), ctt_row("a b", "a c", "a", " b", " c", patch_prefix="d")]
    (ctt_files / "en_simple_agrmt.jsonl").write_text("\n".join(mixed))
    with pytest.raises(DataError, match=r"agrmt.jsonl:2: either all rows have a 'patch_prefix' or none"):
        load("pairs/en_simple_agrmt", ctt_files)
    (ctt_files / "en_simple_agrmt.jsonl").write_text(ctt_row("a b", "a c", "a", " b", " c", patch_prefx="d"))
    with pytest.raises(DataError, match="no field 'patch_prefix'"):
        load("pairs/en_simple_agrmt", ctt_files)


def test_another_way_of_counting_is_refused():
    with pytest.raises(TaskError, match=r"the rule ctt cannot count 'words': .*'word'"):
        CttCount("words")
