"""Evaluation, effects, ablations and evolution of a crosscoder that stays in four files are those of the loaded one."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.evaluate import evaluate
from crosstime.crosscoders.open_crosscoder import open_crosscoder
from crosstime.crosscoders.sliced_crosscoder import SlicedCrossCoder
from crosstime.effects.ablate import ablate
from crosstime.effects.attribute import attribute
from crosstime.evolution.evolve import TextEvidence, evolve
from crosstime.features.logit_effects import logit_effects
from crosstime.suites.suite import Suite
from crosstime.suites.text_sample import TextSample
from interventions import Bootstrap, Estimator
from tasks import load
from tasks.agreement import sentences

BOOTSTRAP = Bootstrap(resamples=20)
UNSTABLE = ["nu_reconstruction", "nu_error"]
"""Ratios of numbers that are compared themselves; their denominators may be nearly zero."""


@pytest.fixture(scope="module")
def sliced(learning_crosscoder: CrossCoder, tmp_path_factory: pytest.TempPathFactory) -> CrossCoder:
    path = tmp_path_factory.mktemp("sliced") / "c.safetensors"
    learning_crosscoder.save(path)
    SlicedCrossCoder(path).save_parts(path, 4)
    opened = open_crosscoder(path)
    assert isinstance(opened, SlicedCrossCoder)
    return opened


@pytest.mark.long
def test_every_stage_gives_the_tables_of_the_loaded_crosscoder(
    learning_suite: Suite, learning_crosscoder: CrossCoder, sliced: CrossCoder
):
    text = list(sentences(60, seed=5))
    task = load("agreement/attractor").tokenize(learning_suite.tokenizer, limit=6)
    tables: list[dict[str, pd.DataFrame]] = []
    effects = []
    features: list[int] = []
    for crosscoder in (learning_crosscoder, sliced):
        attribution = attribute(learning_suite, crosscoder, task, Estimator(baseline="mean"))
        features = features or attribution.top(3)
        effects.append(attribution.ie())
        followed = evolve(
            learning_suite,
            crosscoder,
            [attribution],
            features=features,
            text=TextEvidence(text, None, TextSample(8, 12)),
            bootstrap=BOOTSTRAP,
        )
        tables.append(
            followed
            | {
                "evaluation": evaluate(learning_suite, crosscoder, text, sample=TextSample(8, 12)),
                "effects": attribution.table(features, bootstrap=BOOTSTRAP),
                "errors": attribution.error_table(bootstrap=BOOTSTRAP),
                "ablation": ablate(learning_suite, crosscoder, task, features, bootstrap=BOOTSTRAP),
                "logits": logit_effects(learning_suite, crosscoder, features),
            }
        )
    torch.testing.assert_close(effects[1], effects[0], rtol=1e-3, atol=1e-5)
    for name, expected in tables[0].items():
        columns = [column for column in expected.columns if column not in UNSTABLE]
        pd.testing.assert_frame_equal(tables[1][name][columns], expected[columns], rtol=1e-3, atol=1e-4, obj=name)
