from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from crosstime.activations.data_config import DataConfig
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedTask, decompose_task
from crosstime.crosscoders.origin import Origin
from crosstime.effects.ablate import ablate
from crosstime.errors import CrosscoderError
from crosstime.suites.suite import Suite
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.train_tiny_suite import train_tiny_suite
from crosstime.training.l1_config import L1Config
from crosstime.training.train import train
from interventions import Bootstrap, InterventionError, Site
from interventions.metrics import answered_right
from tasks import TokenizedTask, load
from tasks.agreement import sentences

SMALL = TinyConfig(
    architecture="bloom",
    d_model=16,
    n_layers=2,
    n_heads=2,
    vocab_size=512,
    sequence_length=16,
    batch_tokens=256,
    steps=40,
    checkpoints=(0, 40),
    lr=1e-2,
    warmup=4,
)
PAIRS = 12


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    folder = tmp_path_factory.mktemp("ablating") / "mine"
    return train_tiny_suite(folder, sentences(1500, seed=0), SMALL)


@pytest.fixture(scope="module")
def crosscoder(suite: Suite) -> CrossCoder:
    config = L1Config(n_features=20, steps=60, lr=1e-2, l1=0.2)
    text = list(sentences(300, seed=1))
    return train(suite, Site(0), text, config, data=DataConfig(batch_size=64, sequence_length=12)).crosscoder


@pytest.fixture(scope="module")
def task(suite: Suite) -> TokenizedTask:
    return load("agreement/attractor").tokenize(suite.tokenizer, limit=PAIRS)


@pytest.fixture(scope="module")
def decomposed(suite: Suite, crosscoder: CrossCoder, task: TokenizedTask) -> DecomposedTask:
    return decompose_task(suite, crosscoder, task)


@pytest.fixture(scope="module")
def firing(decomposed: DecomposedTask) -> list[int]:
    """Features that fire on the task, most often first."""
    return torch.bincount(decomposed.clean[0].codes.feature, minlength=20).argsort(descending=True).tolist()


def right_minus_wrong(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, revision: str, features
) -> list[float]:
    """Right minus wrong logit of each prompt, by bare models, one prompt at a time, features taken out of block 0."""
    models = [AutoModelForCausalLM.from_pretrained(checkpoint.source).eval() for checkpoint in suite]
    c = suite.revisions.index(revision)
    differences = []
    for ids, right, wrong in zip(task.prompts, task.right, task.wrong, strict=True):
        prompt = torch.tensor([ids])
        with torch.no_grad():
            x = torch.stack([model(prompt, output_hidden_states=True).hidden_states[1][0] for model in models], dim=1)
            codes = crosscoder.encode(x)
            moved = x[:, c].clone()
            for feature in features:
                moved -= codes[:, feature, None] * crosscoder.W_dec[feature, c] / crosscoder.scales[c]

            def hook(module, inputs, output, moved=moved):
                return (moved.unsqueeze(0), *output[1:]) if isinstance(output, tuple) else moved.unsqueeze(0)

            handle = models[c].transformer.h[0].register_forward_hook(hook)
            logits = models[c](prompt).logits[0, -1]
            handle.remove()
        differences.append((logits[right] - logits[wrong]).item())
    return differences


def test_numbers_are_those_of_bare_models_without_the_features(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask, firing: list[int]
):
    sets = {"one": firing[:1], "both": firing[:2], "many": firing[:8]}
    table = ablate(suite, crosscoder, decomposed, sets, bootstrap=Bootstrap(200, 4))
    for revision in suite.revisions:
        clean = right_minus_wrong(suite, crosscoder, task, revision, [])
        for name, features in sets.items():
            row = table[(table.features == name) & (table.revision == revision)].iloc[0]
            without = right_minus_wrong(suite, crosscoder, task, revision, features)
            change = np.array(without) - np.array(clean)
            accuracy, clean_accuracy = (sum(value > 0 for value in values) / PAIRS for values in (without, clean))
            assert row.logit_difference == pytest.approx(np.mean(without), abs=1e-4)
            assert row.logit_difference_change == pytest.approx(change.mean(), abs=1e-4)
            assert row.accuracy == pytest.approx(accuracy)
            assert row.accuracy_change == pytest.approx(accuracy - clean_accuracy)

            # The interval of the change, from the same resamples
            generator = np.random.default_rng(4)
            means = [generator.multinomial(PAIRS, [1 / PAIRS] * PAIRS) @ change / PAIRS for _ in range(200)]
            assert (row.low, row.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-4)
            assert row.low <= row.logit_difference_change <= row.high

            # The interval of the change in accuracy
            gain = np.array([(a > 0) - (b > 0) for a, b in zip(without, clean, strict=True)], dtype=float)
            generator = np.random.default_rng(4)
            means = [generator.multinomial(PAIRS, [1 / PAIRS] * PAIRS) @ gain / PAIRS for _ in range(200)]
            bounds = tuple(np.quantile(means, [0.025, 0.975]))
            assert (row.accuracy_change_low, row.accuracy_change_high) == pytest.approx(bounds, abs=1e-9)
    assert table.logit_difference_change.abs().max() > 0.005


def test_a_list_ablates_one_feature_at_a_time(
    suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask, firing: list[int]
):
    table = ablate(suite, crosscoder, decomposed, firing[:2], bootstrap=Bootstrap(20))
    assert list(zip(table.revision, table.features, strict=True)) == [
        (revision, str(feature)) for revision in suite.revisions for feature in firing[:2]
    ]
    groups = {str(feature): [feature] for feature in firing[:2]}
    pd.testing.assert_frame_equal(table, ablate(suite, crosscoder, decomposed, groups, bootstrap=Bootstrap(20)))
    assert list(table.columns) == [
        "task",
        "features",
        "revision",
        "accuracy",
        "accuracy_change",
        "logit_difference",
        "logit_difference_change",
        "low",
        "high",
        "accuracy_change_low",
        "accuracy_change_high",
    ]


def test_a_feature_that_never_fires_changes_nothing(suite: Suite, crosscoder: CrossCoder, task: TokenizedTask):
    silent = CrossCoder(crosscoder.origin, 20, crosscoder.scales)
    silent.load_state_dict(crosscoder.state_dict())
    with torch.no_grad():
        silent.b_enc[7] = -1e6
    table = ablate(suite, silent, task, [7], bootstrap=Bootstrap(20))
    assert (table[["accuracy_change", "logit_difference_change", "low", "high"]] == 0).all().all()


def test_a_task_and_its_decomposition_give_the_same_table(
    suite: Suite, crosscoder: CrossCoder, task: TokenizedTask, decomposed: DecomposedTask, firing: list[int]
):
    tables = [ablate(suite, crosscoder, form, firing[:2], bootstrap=Bootstrap(20)) for form in (task, decomposed)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize("nothing", [[], {}])
def test_nothing_to_ablate_is_refused(suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask, nothing):
    with pytest.raises(CrosscoderError, match="no features to ablate"):
        ablate(suite, crosscoder, decomposed, nothing)


def test_an_empty_set_and_a_feature_that_does_not_exist_are_refused(
    suite: Suite, crosscoder: CrossCoder, decomposed: DecomposedTask
):
    with pytest.raises(InterventionError, match="at least one feature in every group"):
        ablate(suite, crosscoder, decomposed, {"none": []})
    with pytest.raises(InterventionError, match=r"Feature 20 does not exist.*0 to 19"):
        ablate(suite, crosscoder, decomposed, [20])


def test_a_task_decomposed_with_another_crosscoder_is_refused(suite: Suite, decomposed: DecomposedTask):
    smaller = CrossCoder(Origin("mine", suite.revisions, Site(0), 16), 8)
    with pytest.raises(CrosscoderError, match="decomposed with a crosscoder of 2 checkpoints and 20 features"):
        ablate(suite, smaller, decomposed, [0])


def test_a_tie_is_answered_half_right():
    metric = torch.tensor([[-2.0, 0.0, 1.0], [-0.0, 3.0, -1.0]])
    assert answered_right(metric).tolist() == [[1.0, 0.5, 0.0], [0.5, 0.0, 1.0]]
