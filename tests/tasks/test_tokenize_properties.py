"""For every kept pair, prompt and answer begin the tokens of the whole sentence: in four scripts, and in the data."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import EmptyTaskError, MinimalPair, Task, TaskError, TokenizedTask, TokenizerError, load
from tasks.answer_tokens import NO_PROMPT, PREFIX
from tasks.start_token import STARTS, start_token

ALPHABETS = {
    "latin": "aeioulnrstbdàéçœ" + "e\u0301",
    "arabic, with vowel signs": "ابتجدرسعكلمنهوي" + "\u064e\u064f\u0650\u0651\u0652",
    "hebrew, with points": "אבגדהולמנרשת" + "\u05b0\u05b4\u05b8\u05bc",
    "devanagari": "कखगचतदनपमयरलसह" + "\u093e\u093f\u0940\u0947\u0902\u094d",
}
ELISIONS = ("", "l' ", "qu' ", "d' ", "l'", "s' ")
TAILS = ("", ".", " .", " le", " ،", " ।")

settings.register_profile(
    "tokens", max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
profile = settings.get_profile("tokens")


@st.composite
def answers(draw) -> tuple[str, str]:
    """Two words of one script: unrelated, with one stem, or one the beginning of the other."""
    word = st.text(ALPHABETS[draw(st.sampled_from(sorted(ALPHABETS)))], min_size=1, max_size=7)
    stem, first, second = draw(word), draw(word), draw(word)
    kind = draw(st.sampled_from(("unrelated", "stem", "prefix")))
    return {"unrelated": (first, second), "stem": (stem + first, stem + second), "prefix": (stem, stem + first)}[kind]


@st.composite
def pairs(draw) -> MinimalPair:
    """A pair whose sentences are alike before the answer, and mostly behind it."""
    words = st.text(ALPHABETS[draw(st.sampled_from(sorted(ALPHABETS)))], min_size=1, max_size=6)
    before = " ".join(draw(st.lists(words, max_size=4)))
    lead = (before + " " if before else "") + draw(st.sampled_from(ELISIONS))
    tail = draw(st.sampled_from(TAILS))
    right, wrong = draw(answers())
    return MinimalPair(lead + right + tail, lead + wrong + tail)


def task_of(*pairs: MinimalPair) -> Task:
    return Task("made", "und", "here", pairs)


def kept_or_why(task: Task, tokenizer, **options) -> TokenizedTask | str:
    """The task in tokens, or why nothing is left of it."""
    try:
        return task.tokenize(tokenizer, **options)
    except EmptyTaskError as error:
        return str(error)


def whole(tokenizer, sentence: str, start: int | None = None) -> list[int]:
    """The tokens of a sentence as the model would be shown it."""
    ids = tokenizer(sentence)["input_ids"]
    return ids if start is None or ids[:1] == [start] else [start, *ids]


def holds(tokenizer, tokenized: TokenizedTask, start: int | None = None) -> None:
    """Prompt and answer begin the whole sentence; patch prompt and swapped answer the patched one."""
    for index, pair in enumerate(tokenized.pairs):
        prompt, right, wrong = list(tokenized.prompts[index]), tokenized.right[index], tokenized.wrong[index]
        assert prompt
        assert right != wrong
        assert whole(tokenizer, pair.right, start)[: len(prompt) + 1] == [*prompt, right]
        assert whole(tokenizer, pair.wrong, start)[: len(prompt) + 1] == [*prompt, wrong]
        if tokenized.patch is not None:
            patch = list(tokenized.patch[index])
            assert len(patch) == len(prompt)
            assert whole(tokenizer, pair.patch_right, start)[: len(prompt) + 1] == [*patch, wrong]
            assert whole(tokenizer, pair.patch_wrong, start)[: len(prompt) + 1] == [*patch, right]


@settings(profile)
@given(pair=pairs(), rule=st.sampled_from(("first-difference", "ctt")))
def test_prompt_and_answer_begin_the_whole_sentence_in_every_script(tokenizer, pair, rule):
    outcome = kept_or_why(task_of(pair), tokenizer, rule=rule)
    if not isinstance(outcome, str):
        holds(tokenizer, outcome)


@settings(profile)
@given(pair=pairs(), which=st.sampled_from(STARTS))
def test_so_they_do_behind_a_start_token_which_is_there_once(tokenizer, pair, which):
    try:
        start = start_token(tokenizer, which)
    except TokenizerError:
        with pytest.raises(TokenizerError):
            task_of(pair).tokenize(tokenizer, prepend=which)
        return
    outcome = kept_or_why(task_of(pair), tokenizer, prepend=which)
    if isinstance(outcome, str):
        assert NO_PROMPT not in outcome
        return
    holds(tokenizer, outcome, start)
    assert outcome.prompts[0][0] == start
    assert outcome.prompts[0][1:2] != (start,)


@pytest.mark.parametrize("name", ["byte-level", "byte-level with prefix space"])
@settings(profile)
@given(pair=pairs())
def test_an_answer_starts_inside_both_words_counted_in_bytes(trained, name, pair):
    """An independent account: the tokens of a byte-level vocabulary say how many bytes they stand for."""
    tokenizer = trained[name]
    outcome = kept_or_why(task_of(pair), tokenizer)
    if isinstance(outcome, str):
        return
    # A leading-space piece stands for a blank that is not in the text.
    added = name.endswith("prefix space") and not pair.right[0].isspace()
    start = sum(len(token) for token in tokenizer.convert_ids_to_tokens(outcome.prompts[0])) - added
    for sentence in (pair.right, pair.wrong):
        words = sentence.split(" ")
        ends = [len(" ".join(words[: n + 1]).encode()) for n in range(len(words))]
        shared = next(
            n for n, (a, b) in enumerate(zip(pair.right.split(" "), pair.wrong.split(" "), strict=True)) if a != b
        )
        assert start < ends[shared]


CASES = {
    "an elision with a blank": ("il dit qu' elle arrive .", "il dit qu' ils arrive ."),
    "an elision without": ("c'est l'auteur .", "c'est l'oiseau ."),
    "right to left": ("ذهب الولد إلى المدرسة .", "ذهب البنت إلى المدرسة ."),
    "vowel signs": ("قال كتبَتْ .", "قال كتبُوا ."),
    "points": ("הסופר שָׁר .", "הסופר שָׁרִים ."),
    "matras": ("लड़का अच्छा है .", "लड़का अच्छी है ."),
    "long words": ("they internationalize it .", "they internationally it ."),
}


@pytest.mark.parametrize(("right", "wrong"), CASES.values(), ids=CASES)
def test_these_pairs_are_kept_or_one_answer_begins_the_other(tokenizer, right, wrong):
    known = tokenizer.unk_token_id is None or tokenizer.unk_token_id not in tokenizer(right + " " + wrong)["input_ids"]
    outcome = kept_or_why(task_of(MinimalPair(right, wrong)), tokenizer)
    if isinstance(outcome, str):
        assert PREFIX in outcome or not known
    else:
        holds(tokenizer, outcome)


def test_answers_of_several_tokens_are_kept_and_the_first_of_them_is_the_answer(trained):
    tokenizer = trained["byte-level"]
    right, wrong = CASES["long words"]
    tokenized = task_of(MinimalPair(right, wrong)).tokenize(tokenizer)
    tokens = [tokenizer.tokenize(text) for text in (right, wrong)]
    shared = next(i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b)
    words = [len(tokenizer.tokenize(" " + text.split()[1])) for text in (right, wrong)]
    assert min(words) > 3
    assert len(tokenized.prompts[0]) == shared > len(tokenizer.tokenize("they"))


@cache
def sampled(name: str, data: Path) -> Task:
    """Sixty pairs of a task, read once for all tokenizers."""
    return load(name, data, limit=60, seed=1)


LANGUAGES = ("eng", "fra", "spa", "por", "arb", "hin")


@pytest.mark.parametrize("name", [f"multiblimp/{language}/all" for language in LANGUAGES] + ["clams/fr/vp_coord"])
def test_so_it_is_for_pairs_of_the_data(tokenizer, data, name):
    task = sampled(name, data)
    starts = [None] if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None else [None, "bos-or-eos"]
    for prepend in starts:
        outcome = kept_or_why(task, tokenizer, prepend=prepend)
        enough = not isinstance(outcome, str) and len(outcome) > 12
        assert enough or tokenizer.unk_token_id is not None, "a vocabulary of bytes can tell most words apart"
        if not isinstance(outcome, str):
            holds(tokenizer, outcome, None if prepend is None else start_token(tokenizer, prepend))


@pytest.mark.parametrize("name", ["agreement/attractor", "induction/8", "ioi/all"])
def test_so_it_is_for_patch_prompts_behind_a_start_token(tokenizer, name):
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        pytest.skip("this tokenizer has no start token")
    tokenized = load(name, limit=60).tokenize(tokenizer, prepend="bos-or-eos")
    assert tokenized.patch is not None
    holds(tokenizer, tokenized, start_token(tokenizer))


def test_a_first_word_is_an_answer_behind_a_start_token_only(trained):
    marked = trained["untrimmed byte-level with markers"]
    marked_eos = SimpleNamespace(bos_token_id=None, eos_token_id=7)
    assert start_token(marked_eos) == start_token(marked_eos, "eos") == 7
    pair = MinimalPair("authors laugh .", "bakers laugh .")
    with pytest.raises(EmptyTaskError, match=NO_PROMPT):
        task_of(pair).tokenize(trained["byte-level"])
    tokenized = task_of(pair).tokenize(marked)
    assert tokenized.prompts == ((marked.convert_tokens_to_ids("<s>"),),)


def test_bos_goes_before_eos_even_when_its_id_is_zero():
    both = SimpleNamespace(bos_token_id=0, eos_token_id=2)
    assert [start_token(both, which) for which in STARTS] == [0, 2, 0]


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        ("bos", TokenizerError, "SimpleNamespace has no BOS token"),
        ("eos", TokenizerError, "SimpleNamespace has no EOS token"),
        ("bos-or-eos", TokenizerError, "SimpleNamespace has neither a BOS nor an EOS token"),
        ("boss", TaskError, "no start token 'boss': did you mean 'bos'?"),
    ],
)
def test_a_start_token_that_is_not_there_is_named(which, error, message):
    with pytest.raises(error) as caught:
        start_token(SimpleNamespace(bos_token_id=None, eos_token_id=None), which)
    assert message in str(caught.value)


def test_a_task_may_bring_its_start_token_and_its_rule(trained):
    tokenizer = trained["byte-level"]
    tokenizer_with_eos = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    pair = MinimalPair("the author laughs .", "the author sings .")
    task = Task("mine", "en", "here", (pair,), prepend="eos")
    eos = tokenizer_with_eos.eos_token_id
    assert task.tokenize(tokenizer_with_eos).prompts[0][0] == eos
    assert task_of(pair).tokenize(tokenizer_with_eos).prompts[0][0] != eos
    assert (
        task_of(pair).tokenize(tokenizer_with_eos, prepend="eos").prompts == task.tokenize(tokenizer_with_eos).prompts
    )
