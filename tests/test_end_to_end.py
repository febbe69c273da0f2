"""The whole path on the shared checkpoint suites: real text, real tokenizers, three architectures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import crosstime as ct
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.run import RunResult
from interventions import Bootstrap
from tasks.errors import NoSharedPromptError

SHARED = Path(__file__).resolve().parents[2] / "shared"
SUITES, DATA = SHARED / "suites", SHARED / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SUITES.is_dir() and DATA.is_dir()), reason="the shared suites and data are not beside the checkout"
    ),
]

# Accuracy that was measured on these suites by other means, 300 pairs a set, checkpoints in order of training.
KNOWN = {
    "tiny-pythia": (
        "blimp/regular_plural_subject_verb_agreement_1",
        [0.51, 0.55, 0.70, 0.72, 0.77, 0.77, 0.79],
    ),
    "tiny-olmo": (
        "blimp/distractor_agreement_relational_noun",
        [0.46, 0.54, 0.42, 0.28, 0.25, 0.31, 0.30],
    ),
    "tiny-bloom": (
        "clams/fr/simple_agrmt",
        [0.40, 0.50, 0.76, 0.84, 0.85, 0.93, 0.94],
    ),
}
TASKS = {
    "tiny-pythia": ["blimp/regular_plural_subject_verb_agreement_1", "pairs/simple_test"],
    "tiny-olmo": ["blimp/distractor_agreement_relational_noun", "multiblimp/eng/SV-#"],
    "tiny-bloom": ["clams/fr/simple_agrmt", "multiblimp/fra/SV-#"],
}
MAY_LACK = ["relie", "relie_low", "relie_high", "ce_recovered"]
"""Ratios that are 0/0 where a feature has no effect, or where zero does an untrained model no harm."""
FAMILIES = [
    ("blimp/distractor_agreement_relational_noun", 1000),
    ("clams/en/simple_agrmt", 140),
    ("clams/fr/simple_agrmt", 280),
    ("multiblimp/eng/SV-#", 317),
    ("multiblimp/fra/SV-P", 1569),
    ("pairs/nounpp_test", None),
]


# One family is in every run of the tests; the others are in that of the long ones.
SUITES_OF_TEST = [pytest.param(name, marks=[] if name == "tiny-pythia" else [pytest.mark.long]) for name in KNOWN]


@pytest.fixture(scope="module", params=SUITES_OF_TEST)
def suite(request: pytest.FixtureRequest) -> ct.Suite:
    if not (SUITES / request.param).is_dir():
        pytest.skip(f"the shared suite {request.param} is not beside the checkout")
    return ct.Suite.open(SUITES / request.param)


@pytest.mark.parametrize(("name", "count"), FAMILIES)
def test_every_family_loads_and_tokenizes(suite: ct.Suite, name: str, count: int | None):
    task = ct.tasks.load(name, DATA)
    assert count is None or len(task) == count
    tokenized = task.tokenize(suite.tokenizer)
    assert len(tokenized) + sum(tokenized.skipped.values()) == len(task)
    assert len(tokenized) > 20
    for prompt, right, wrong, pair in zip(
        tokenized.prompts, tokenized.right, tokenized.wrong, tokenized.pairs, strict=True
    ):
        for answer, sentence in ((right, pair.right), (wrong, pair.wrong)):
            whole = suite.tokenizer(sentence)["input_ids"]
            assert tuple(whole[: len(prompt) + 1]) == (*prompt, answer)


def test_a_paradigm_without_a_shared_prompt_is_refused(suite: ct.Suite):
    task = ct.tasks.load("blimp/regular_plural_subject_verb_agreement_2", DATA)
    with pytest.raises(NoSharedPromptError, match="differ before the answer"):
        task.tokenize(suite.tokenizer)


def as_measured(task: ct.tasks.Task, suite: ct.Suite) -> ct.tasks.TokenizedTask:
    """The pairs as the known numbers took them: the first 300, written as in the models' text, after the end token.

    Every pair is kept, also where one answer begins the other; CLAMS gets its capitals and apostrophes.
    """
    end, prompts, right, wrong = suite.tokenizer.eos_token_id, [], [], []
    for pair in task.pairs[:300]:
        texts = [text[0].upper() + text[1:].replace("' ", "'") for text in (pair.right, pair.wrong)]
        good, bad = (suite.tokenizer(text)["input_ids"] for text in texts)
        first = next(index for index, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b)
        prompts.append((end, *good[:first]))
        right.append(good[first])
        wrong.append(bad[first])
    return ct.tasks.TokenizedTask(task.name, tuple(prompts), tuple(right), tuple(wrong), None, task.pairs[:300])


def test_accuracy_over_training_is_what_is_known(suite: ct.Suite):
    name, known = KNOWN[suite.name]
    table = ct.accuracy(suite, as_measured(ct.tasks.load(name, DATA), suite), bootstrap=Bootstrap(20))
    assert len(table) == len(suite) == len(known)
    for revision, actual, expected in zip(table.revision, table.accuracy, known, strict=True):
        assert actual == pytest.approx(expected, abs=0.02), revision


@pytest.fixture(scope="module")
def result(suite: ct.Suite, tmp_path_factory) -> RunResult:
    recipe = Recipe.of(
        {
            "name": suite.name,
            "suite": {"source": str(SUITES / suite.name), "revisions": list(suite.revisions[::3])},
            "compare": {"revisions": [suite.revisions[0], suite.revisions[-1]], "site": "resid.1"},
            "corpus": {
                "source": [str(DATA / "corpus" / "tinystories_v2_10klines.txt.gz")],
                "held_out": str(DATA / "corpus" / "tinystories_train_slice_b.txt.gz"),
                "sequence_length": 32,
            },
            "crosscoder": {
                "n_features": 96, "steps": 80, "batch_size": 128, "buffer_tokens": 8192, "lr": 3e-3, "l1": 0.2
            },
            "tasks": [{"name": name, "path": str(DATA), "limit": 16} for name in TASKS[suite.name]],
            "effects": {"top": 2, "resamples": 100},
        }
    )  # fmt: skip
    return ct.run(recipe, tmp_path_factory.mktemp("end_to_end"))


def test_the_whole_path_runs_and_its_tables_are_finite(suite: ct.Suite, result: RunResult):
    tables = {name: getattr(result, name) for name in ("accuracy", "evaluation", "effects", "ablation")}
    for name, table in tables.items():
        assert len(table) > 0, name
        numbers = table.select_dtypes("number").drop(columns=MAY_LACK, errors="ignore")
        assert not numbers.isna().any().any(), name
        assert not numbers.isin([float("inf"), -float("inf")]).any().any(), name
    assert set(result.accuracy.task) == set(result.effects.task) == set(TASKS[suite.name])
    assert result.report.stat().st_size > 10_000


def test_effects_and_error_term_are_complete(result: RunResult):
    completeness = pd.read_csv(result.folder / "completeness.csv")
    assert len(completeness) == 2 * 2
    # Measured: below 1 % but for BLOOM at its last checkpoint, where the most nodes allowed, 64, leave 2.2 %.
    assert (completeness.completeness_error < 0.05).all()


def test_shares_of_a_features_effect_sum_to_one(result: RunResult):
    total = result.effects.groupby(["task", "feature"]).relie.sum(min_count=1).dropna()
    assert len(total) > 0
    assert total.to_numpy() == pytest.approx(1.0)


def test_a_crosscoder_of_a_few_steps_explains_most_of_the_variance(result: RunResult):
    assert (result.evaluation.fve > 0.3).all()
    trained = result.evaluation.set_index("revision").loc[result.crosscoder.origin.revisions[-1]]
    assert trained.ce_clean < trained.ce_spliced < trained.ce_zero + 5
