from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstime.errors import SuiteError
from crosstime.suites.revisions import BatchRamp, TrainingProgress, in_training_order, training_progress

PYTHIA = "EleutherAI/pythia-1b-deduped"
BLOOM = "bigscience/bloom-1b1-intermediate"


@pytest.mark.parametrize(
    ("revision", "source", "step", "tokens"),
    [
        ("step0", PYTHIA, 0, 0),
        ("step512", PYTHIA, 512, 1_073_741_824),
        ("step143000", PYTHIA, 143_000, 299_892_736_000),
        ("main", PYTHIA, 143_000, 299_892_736_000),
        ("step512", "/models/pythia-70m", 512, 1_073_741_824),
        ("step512", "suites/tiny-pythia", 512, None),
        ("step512", "someone/model", 512, None),
        ("main", "someone/model", None, None),
        ("step1454000-tokens3048B", "allenai/OLMo-1B-0724-hf", 1_454_000, 3_048_000_000_000),
        ("stage1-step140000-tokens294B", "allenai/OLMo-2-0425-1B", 140_000, 294_000_000_000),
        ("step1000-tokens2M", "tiny-olmo", 1000, 2_000_000),
        ("stage2-ingredient1-step1000-tokens3B", "allenai/OLMo-2-0425-1B", 1000, 3_000_000_000),
        ("stage1-step1000", "allenai/Olmo-3-1025-7B", 1000, None),
        ("stage2-step47684", "allenai/Olmo-3-1025-7B", 47_684, None),
        ("stage3-step11921", "allenai/Olmo-3-1025-7B", 11_921, None),
        ("stage1-step-40000", "HuggingFaceTB/SmolLM3-3B-checkpoints", 40_000, None),
        ("step-125000", "HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints", 125_000, None),
        ("step_1375", "allenai/Olmo-3-7B-RL-Zero-Math", 1375, None),
        ("checkpoint-500", "models/mine", 500, None),
        ("checkpoint-500", "models/pythia-70m", 500, None),
        ("iter_0001000", "models/megatron", 1000, None),
        ("step500000-tokens2T", "allenai/OLMo-7B-Twin-2T", 500_000, 2 * 10**12),
        ("step10-tokens1.5B", "models/mine", 10, 1_500_000_000),
        ("step-001000-2BT", "HuggingFaceFW/ablation", 1000, 2_000_000_000),
        ("step_20k", "google/multiberts", 20_000, None),
        ("step1000-7B", "models/mine", None, None),
        ("step1250-seed-default", "allenai/DataDecide-dolma-1B", None, None),
        ("lc-4k-to-32k-step-4000", "HuggingFaceTB/SmolLM3-3B-checkpoints", None, None),
        ("it-SFT", "HuggingFaceTB/SmolLM3-3B-checkpoints", None, None),
        ("step" + "9" * 5000, PYTHIA, None, None),
        ("main", "allenai/OLMo-1B-hf", None, None),
        ("global_step1000", BLOOM, 1000, 393_216_000),
        ("global_step1000", "bigscience/unknown", 1000, None),
        ("main", "bigscience/bloom-1b1", None, 341_000_000_000),
        ("step12x", PYTHIA, None, None),
        ("float16", PYTHIA, None, None),
    ],
)
def test_names_are_read_as_their_families_write_them(revision, source, step, tokens):
    assert training_progress(revision, source) == TrainingProgress(step, tokens)


def test_the_growing_batch_agrees_with_a_simulation_step_by_step():
    ramp = BatchRamp(192, 16, 9_765_625, 256)
    growth = 9_765_625 / 4
    samples = 0
    checked = {1, 12_715, 12_716, 12_717, 24_000, 30_000, 45_526, 46_000, 50_000}
    for step in range(1, 50_001):
        samples += min(256, 192 + 16 * int(samples / growth))
        if step in checked:
            assert ramp.tokens(step) == samples * 2048, step


@given(st.integers(0, 700_000))
def test_tokens_grow_with_steps_by_one_batch_of_an_allowed_size(step: int):
    ramp = BatchRamp(192, 32, 9_765_625, 512)
    batch = (ramp.tokens(step + 1) - ramp.tokens(step)) / 2048
    assert batch in range(192, 513, 32)


def test_given_counts_win_over_the_family():
    assert training_progress("step10", PYTHIA, tokens={"step10": 7}) == TrainingProgress(10, 7)
    assert training_progress("step10", PYTHIA, tokens_per_step=100) == TrainingProgress(10, 1000)
    assert training_progress("step10", PYTHIA, tokens={"step10": 7}, tokens_per_step=100) == TrainingProgress(10, 7)
    assert training_progress("early", "x/y", tokens={"early": 7}) == TrainingProgress(None, 7)
    assert training_progress("early", "x/y", tokens={"late": 7}, tokens_per_step=100) == TrainingProgress(None, None)


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(SuiteError, match="must be positive, not 0"):
        training_progress("step1", tokens_per_step=0)
    with pytest.raises(SuiteError, match="must not be negative: -1"):
        training_progress("step1", tokens={"step1": -1})


def test_tokens_per_step_must_agree_with_the_tokens_of_a_name():
    # OLMo-1B-0724: 1,454,000 steps of 2^21 tokens are 3,049 B, after restarts 3,048 B; 2^22 would be twice as many.
    name = "step1454000-tokens3048B"
    assert training_progress(name, tokens_per_step=2**21).tokens == 1_454_000 * 2**21
    with pytest.raises(SuiteError, match=r"'step1454000-tokens3048B' says 3,048,000,000,000: correct tokens_per_step"):
        training_progress(name, tokens_per_step=2**22)
    # Early names are rounded to a whole unit, by OLMo 1 downwards and by OLMo-2 upwards.
    assert training_progress("step100-tokens0B", tokens_per_step=2**21).tokens == 100 * 2**21
    assert training_progress("stage1-step150-tokens1B", tokens_per_step=2**21).tokens == 150 * 2**21
    with pytest.raises(SuiteError, match=r"64 steps of 1,000,000 tokens are 64,000,000, but .* says 1,000,000"):
        training_progress("step64-tokens1M", tokens_per_step=10**6)


def ordered(names: list[str], source: str = "", **mapping) -> tuple[str, ...]:
    return in_training_order({name: training_progress(name, source, **mapping) for name in names})


def test_order_is_numeric_with_main_last():
    assert ordered(["main", "step1000", "step64", "step512"], PYTHIA) == (
        "step64",
        "step512",
        "step1000",
        "main",
    )


def test_equal_rounded_tokens_are_told_apart_by_step():
    names = ["step512-tokens1M", "step64-tokens0M", "step256-tokens1M", "step0-tokens0M"]
    assert ordered(names) == ("step0-tokens0M", "step64-tokens0M", "step256-tokens1M", "step512-tokens1M")


def test_tokens_decide_where_a_step_is_unknown_and_unknown_names_come_after():
    names = ["zzz9", "zzz10", "late", "early", "step5"]
    tokens = {"early": 1, "step5": 50, "late": 900}
    assert ordered(names, tokens=tokens) == ("early", "step5", "late", "zzz9", "zzz10")


def test_stages_follow_one_another_and_ingredients_within_them():
    in_order = (
        "step150-tokens1B",
        "stage1-step1000-tokens3B",
        "stage1-step900000-tokens3800B",
        "stage2-ingredient1-step1000-tokens3B",
        "stage2-ingredient1-step11000-tokens24B",
        "stage2-ingredient2-step1000-tokens3B",
        "stage10-step5",
        "main",
    )
    assert ordered(sorted(in_order)) == in_order
    without_tokens = ("stage1-step-40000", "stage1-step-3440000", "stage2-step-3480000", "stage3-step-11921")
    assert ordered(sorted(without_tokens, reverse=True)) == without_tokens
    folders = ("checkpoint-500", "checkpoint-1000", "checkpoint-10000")
    assert ordered(sorted(folders)) == folders
