"""Every source reads to the counts its paper states, from each place a path may name, and from the Hub."""

from __future__ import annotations

import csv
import gzip
import json
import shutil

import datasets
import pytest
from huggingface_hub import constants

from tasks import DataError, NoSharedPromptError, TaskError, UnknownTaskError, blimp, ctt, load, multiblimp

BLIMP = {
    "determiner_noun_agreement_1": True,
    "distractor_agreement_relational_noun": True,
    "distractor_agreement_relative_clause": True,
    "irregular_plural_subject_verb_agreement_1": True,
    "irregular_plural_subject_verb_agreement_2": False,
    "regular_plural_subject_verb_agreement_1": True,
    "regular_plural_subject_verb_agreement_2": False,
}
CLAMS_SETS = (
    "simple_agrmt",
    "vp_coord",
    "long_vp_coord",
    "subj_rel",
    "obj_rel_across_anim",
    "obj_rel_within_anim",
    "prep_anim",
)
CLAMS = {"en": (140, 840, 400, 11_200, 11_200, 11_200, 16_800), "fr": (280, 980, 500, 11_200, 11_200, 11_200, 14_000)}
MULTIBLIMP = {
    "eng": {"all": 770, "SV-#": 317, "SV-P": 453},
    "fra": {"all": 2548, "SV-#": 712, "SV-P": 1569, "SP-#": 137, "SP-G": 130},
    "arb": {"all": 1215, "SV-#": 477, "SV-P": 417, "SV-G": 321},
    "spa": {"all": 2541, "SV-#": 800, "SV-P": 1341, "SP-#": 200, "SP-G": 200},
    "por": {"all": 3048, "SV-#": 800, "SV-P": 1321, "SV-G": 127, "SP-#": 400, "SP-G": 400},
    "hin": {"all": 1447, "SV-#": 407, "SV-P": 412, "SV-G": 419, "SP-#": 100, "SP-G": 109},
}
PAIRS = {"simple_test": 120, "simple_train": 480, "nounpp_test": 480, "nounpp_train": 1920, "within_rc_train": 1000}


@pytest.mark.parametrize(("paradigm", "shared_prefix"), BLIMP.items())
def test_blimp_paradigms_hold_1000_pairs_and_know_whether_they_share_a_prompt(data, paradigm, shared_prefix):
    task = load(f"blimp/{paradigm}", path=data)
    assert len(task) == 1000
    assert task.shared_prefix is shared_prefix
    assert task.pairs[16].where == f"{paradigm}.jsonl:17"


@pytest.mark.slow
@pytest.mark.parametrize(("language", "name"), [(lang, name) for lang in CLAMS for name in CLAMS_SETS])
def test_clams_sets_hold_the_stated_number_of_pairs(data, language, name):
    assert len(load(f"clams/{language}/{name}", path=data)) == CLAMS[language][CLAMS_SETS.index(name)]


@pytest.mark.parametrize("language", MULTIBLIMP)
def test_multiblimp_phenomena_hold_the_stated_number_of_pairs(data, language):
    for phenomenon, expected in MULTIBLIMP[language].items():
        assert len(load(f"multiblimp/{language}/{phenomenon}", path=data)) == expected
    parts = [number for phenomenon, number in MULTIBLIMP[language].items() if phenomenon != "all"]
    assert sum(parts) == MULTIBLIMP[language]["all"]
    assert set(MULTIBLIMP[language]) <= {"all", *multiblimp.PHENOMENA}


@pytest.mark.parametrize("language", ["fra", "spa", "por", "hin"])
@pytest.mark.parametrize("phenomenon", ["SP-#", "SP-G"])
def test_participles_of_multiblimp_agree_with_the_subject_and_differ_in_one_word(data, language, phenomenon):
    task = load(f"multiblimp/{language}/{phenomenon}", path=data)
    assert {pair.labels["phenomenon"] for pair in task.pairs} == {phenomenon}
    for pair in task.pairs:
        right, wrong = pair.right.split(), pair.wrong.split()
        assert sum(a != b for a, b in zip(right, wrong, strict=True)) == 1


@pytest.mark.parametrize(("name", "expected"), PAIRS.items())
def test_clean_and_patch_files_hold_one_pair_a_line(data, name, expected):
    task = load(f"pairs/{name}", path=data)
    assert len(task) == expected
    assert task.has_patch


def test_blimp_sentences_part_where_the_source_says(data, trained):
    """The source's own prefix column is the independent account of the prompt."""
    file = data / "blimp" / "distractor_agreement_relational_noun.jsonl"
    prefixes = [json.loads(line)["one_prefix_prefix"] for line in file.read_text(encoding="utf-8").splitlines()]
    task = load("blimp/distractor_agreement_relational_noun", path=file)
    tokenizer = trained["byte-level"]
    tokenized = task.tokenize(tokenizer, limit=60)
    for pair, prompt in zip(tokenized.pairs, tokenized.prompts, strict=True):
        assert tokenizer.decode(prompt).startswith(prefixes[task.pairs.index(pair)])


def test_a_two_prefix_paradigm_refuses_to_be_tokenized(data, trained):
    task = load("blimp/regular_plural_subject_verb_agreement_2", path=data, limit=5)
    with pytest.raises(NoSharedPromptError):
        task.tokenize(trained["byte-level"])


ROWS = [
    {"clean_prefix": "The cat", "patch_prefix": "The cats", "clean_answer": " is", "patch_answer": " are", "case": "s"},
    {"clean_prefix": "The dogs", "patch_prefix": "The dog", "clean_answer": " are", "patch_answer": " is", "case": "p"},
]
BLIMP_ROWS = [
    {
        "sentence_good": "Most cats haven't left.",
        "sentence_bad": "Most cats hasn't left.",
        "field": "morphology",
        "linguistics_term": "subject_verb_agreement",
        "UID": "x",
        "simple_LM_method": True,
        "one_prefix_method": True,
        "two_prefix_method": False,
        "lexically_identical": False,
        "pair_id": 0,
    }
]


@pytest.fixture
def root(tmp_path):
    """A small data root with every family."""
    for folder in ("blimp", "clams/en_evalset", "multiblimp/eng", "sva_pairs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "blimp/x.jsonl").write_text(json.dumps(BLIMP_ROWS[0]) + "\n", encoding="utf-8")
    (tmp_path / "clams/en_evalset/simple_agrmt.txt").write_text("True\ta b\nFalse\ta c\n", encoding="utf-8")
    (tmp_path / "sva_pairs/p.json").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    with gzip.open(tmp_path / "multiblimp/eng/data.tsv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["sen", "wrong_sen", "phenomenon", "lang"])
        writer.writerow(['He "is"\there', 'He "are"\there', "SV-#", "eng"])
        writer.writerow(["I am\nhere", "I is\nhere", "SV-P", "eng"])
        writer.writerow(["I am", "I is", "SV-P", "eng"])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("blimp/x", (".", "blimp", "blimp/x.jsonl")),
        ("clams/en/simple_agrmt", (".", "clams", "clams/en_evalset", "clams/en_evalset/simple_agrmt.txt")),
        ("multiblimp/eng/SV-#", (".", "multiblimp", "multiblimp/eng", "multiblimp/eng/data.tsv.gz")),
        ("pairs/p", (".", "sva_pairs", "sva_pairs/p.json")),
    ],
)
def test_a_path_may_be_the_root_the_familys_folder_or_the_file(root, name, paths):
    loaded = [load(name, path=root / path) for path in paths]
    assert all(task == loaded[0] for task in loaded)
    assert load(name, path=str(root)) == loaded[0]


def test_clean_and_patch_prompts_are_joined_with_their_answers(root):
    first = load("pairs/p", path=root).pairs[0]
    assert (first.right, first.wrong) == ("The cat is", "The cat are")
    assert (first.patch_right, first.patch_wrong) == ("The cats are", "The cats is")
    assert first.labels == {"case": "s"}


def test_quotes_tabs_and_line_ends_in_tsv_fields_are_read_and_rows_named_by_their_first_line(root):
    task = load("multiblimp/eng/all", path=root)
    assert task.pairs[0].right == 'He "is"\there'
    assert task.pairs[1].wrong == "I is\nhere"
    assert [pair.where for pair in task.pairs] == ["data.tsv.gz:2", "data.tsv.gz:3", "data.tsv.gz:6"]


def test_polarity_sets_of_clams_have_no_shared_prompt(root):
    folder = root / "clams/en_evalset"
    shutil.copy(folder / "simple_agrmt.txt", folder / "simple_npi_anim.txt")
    assert not load("clams/en/simple_npi_anim", path=root).shared_prefix
    assert load("clams/en/simple_agrmt", path=root).shared_prefix


@pytest.mark.parametrize(
    ("file", "name", "text", "message"),
    [
        ("blimp/x.jsonl", "blimp/x", "{}\n", r"x\.jsonl:1: no field 'sentence_good'"),
        ("blimp/x.jsonl", "blimp/x", "\n{oops\n", r"x\.jsonl:2: not JSON"),
        ("blimp/x.jsonl", "blimp/x", "[1]\n", r"x\.jsonl:1: expected one JSON object"),
        ("blimp/x.jsonl", "blimp/x", '{"sentence_good": 3}\n', r"x\.jsonl:1: field 'sentence_good' must be text"),
        ("clams/en_evalset/simple_agrmt.txt", "clams/en/simple_agrmt", "True\ta\nTrue\tb\n", r"txt:2: expected 'False"),
        ("clams/en_evalset/simple_agrmt.txt", "clams/en/simple_agrmt", "True a\n", r"txt:1: expected 'True<TAB>"),
        ("clams/en_evalset/simple_agrmt.txt", "clams/en/simple_agrmt", "True\ta\n", r"txt:1: .*no 'False' line"),
        ("multiblimp/eng/data.tsv", "multiblimp/eng/all", "sen\twrong_sen\na\n", r"data\.tsv:2: expected 2 fields"),
        ("multiblimp/eng/data.tsv", "multiblimp/eng/all", 'sen\n"a\nb\n', r"data\.tsv:2: not tab-separated"),
        ("sva_pairs/p.json", "pairs/p", '{"clean_prefix": "a"}\n', r"p\.json:1: no field 'patch_prefix'"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(root, file, name, text, message):
    (root / file).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(name, path=root / file)


def test_a_line_that_is_not_utf8_is_named(root):
    (root / "blimp/x.jsonl").write_bytes(json.dumps(BLIMP_ROWS[0]).encode() + b"\n\xff\n")
    with pytest.raises(DataError, match=r"x\.jsonl:2: not UTF-8"):
        load("blimp/x", path=root)


def test_a_file_that_only_pretends_to_be_gzipped_is_named(root):
    (root / "blimp/y.jsonl.gz").write_text("no", encoding="utf-8")
    with pytest.raises(DataError, match=r"y\.jsonl\.gz cannot be read"):
        load("blimp/y", path=root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blimp/xx", r"'xx'.*xx\.jsonl.*did you mean 'x'"),
        ("clams/en/simple", r"'simple'.*did you mean 'simple_agrmt'"),
        ("clams/eng/simple_agrmt", r"eng_evalset.*did you mean 'en'"),
        ("multiblimp/en/all", r"'en'.*did you mean 'eng'"),
        ("multiblimp/eng/SV", r"'SV'.*did you mean 'SV-"),
        ("pairs/q", r"'q': looked for .*; check the path$"),
    ],
)
def test_what_is_missing_is_named_with_the_nearest_that_is_there(root, name, message):
    with pytest.raises(TaskError, match=message):
        load(name, path=root)


def test_one_languages_folder_is_not_read_as_anothers(root):
    with pytest.raises(DataError, match="fr_evalset"):
        load("clams/fr/simple_agrmt", path=root / "clams/en_evalset")


def test_a_path_that_does_not_exist_names_its_neighbour(root):
    for name in ("blimp/x", "clams/en/simple_agrmt", "multiblimp/eng/all", "pairs/p"):
        with pytest.raises(DataError, match=r"blimb does not exist: did you mean 'blimp'"):
            load(name, path=root / "blimb")


@pytest.mark.parametrize("name", ["clams/en", "clams/en/a/b", "multiblimp/eng", "blimp/a/b"])
def test_an_incomplete_or_overlong_name_is_refused(root, name):
    with pytest.raises(UnknownTaskError):
        load(name, path=root)


def test_clams_without_a_path_says_where_to_fetch_it():
    with pytest.raises(DataError, match=r"aaronmueller/clams.*path="):
        load("clams/en/simple_agrmt")


@pytest.fixture
def hub(monkeypatch):
    """A Hub with two data sets in the real one's columns; remembers what was asked for."""
    asked = []
    monkeypatch.setattr("user_input.hub_reach._answers", {constants.ENDPOINT: (float("inf"), None)})
    tsv_row = {"sen": "He is", "wrong_sen": "He are", "phenomenon": "SV-#", "lang": "eng", "num_attractors": 2}
    held = {
        ("nyu-mll/blimp", "wh_island"): {"train": BLIMP_ROWS},
        ("jumelet/multiblimp", "eng"): {"train": [tsv_row]},
        ("some/pairs", None): {"test": ROWS},
        ("some/pairs", "two"): {"train": ROWS, "test": ROWS[:1]},
    }

    def load_dataset(dataset, config=None, *, split=None):
        asked.append((dataset, config, split))
        if (dataset, config) not in held:
            raise ConnectionError("no way\nto the Hub")
        splits = {name: datasets.Dataset.from_list(rows) for name, rows in held[dataset, config].items()}
        return datasets.DatasetDict(splits) if split is None else splits[split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_blimp_is_read_from_the_hub_as_from_the_file(hub, root):
    task = load("blimp/wh_island")
    assert hub == [("nyu-mll/blimp", "wh_island", "train")]
    local = load("blimp/x", path=root)
    assert (task.pairs[0].right, task.pairs[0].wrong) == (local.pairs[0].right, local.pairs[0].wrong)
    assert task.pairs[0].labels == local.pairs[0].labels
    assert task.pairs[0].where == "nyu-mll/blimp[wh_island]:1"
    assert task.shared_prefix


def test_two_prefix_paradigms_are_known_on_the_hub_too(hub, monkeypatch):
    monkeypatch.setitem(BLIMP_ROWS[0], "one_prefix_method", False)
    assert not load("blimp/wh_island").shared_prefix


def test_a_paradigm_that_blimp_does_not_have_is_told_without_asking_the_hub(hub):
    with pytest.raises(UnknownTaskError, match=r"no paradigm 'wh_iland': did you mean 'wh_island'\?"):
        load("blimp/wh_iland")
    assert hub == []


def test_the_67_paradigms_are_known_and_which_have_a_prompt():
    assert (len(set(blimp.ONE_PREFIX)), len(set(blimp.WHOLE_SENTENCES))) == (20, 47)
    assert not set(blimp.ONE_PREFIX) & set(blimp.WHOLE_SENTENCES)
    assert set(ctt.BLIMP) <= set(blimp.ONE_PREFIX)
    for name, has_prompt in BLIMP.items():
        assert (name in blimp.ONE_PREFIX, name in blimp.WHOLE_SENTENCES) == (has_prompt, not has_prompt)


def test_a_known_paradigm_without_the_sources_own_word_shares_a_prompt_or_not_as_it_is_known(root):
    row = {key: BLIMP_ROWS[0][key] for key in ("sentence_good", "sentence_bad")}
    for name, shared in (("wh_island", True), ("causative", False), ("mine", True)):
        (root / f"blimp/{name}.jsonl").write_text(json.dumps(row), encoding="utf-8")
        assert load(f"blimp/{name}", path=root).shared_prefix is shared


def test_multiblimp_is_read_from_the_hub(hub):
    task = load("multiblimp/eng/SV-#")
    assert hub == [("jumelet/multiblimp", "eng", None)]
    assert task.pairs[0].labels == {"phenomenon": "SV-#", "num_attractors": "2"}


def test_pairs_on_the_hub_take_the_only_split_or_the_named_one(hub):
    assert len(load("pairs/some/pairs")) == 2
    assert len(load("pairs/some/pairs/two/test")) == 1
    with pytest.raises(DataError, match=r"several splits.*test, train"):
        load("pairs/some/pairs/two")


@pytest.mark.parametrize("name", ["blimp/causative", "multiblimp/xxx/all", "pairs/no/such"])
def test_what_the_hub_cannot_give_is_one_sentence_that_names_path(hub, name):
    with pytest.raises(DataError, match=r"ConnectionError: no way to the Hub\).*path=") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_single_name_without_a_path_is_no_data_set(hub):
    with pytest.raises(DataError, match="path="):
        load("pairs/simple_test")
    assert hub == []
