"""Names and paths in place of sites, tasks and crosscoders: the same results as with the objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import crosstime as ct
from crosstime.crosscoders.open_crosscoder import as_crosscoder
from crosstime.effects.faithfulness import ranking
from crosstime.errors import CrosscoderError
from interventions import Bootstrap, SiteError
from tasks.agreement import sentences
from tasks.errors import UnknownTaskError

TASK = "agreement/simple"
FEW = Bootstrap(resamples=10)


@pytest.fixture(scope="module")
def saved(learning_crosscoder: ct.CrossCoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "crosscoder.safetensors"
    learning_crosscoder.save(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def short_tasks() -> None:
    """The generated family in ten pairs, so that its name stands for few prompts."""
    real = ct.tasks.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.registry.load", lambda name: real(name, limit=10))
        yield


def test_a_site_may_be_a_text(learning_suite: ct.Suite, tmp_path: Path):
    text = list(sentences(120, seed=3))
    sample = ct.TextSample(4, 12)
    scales = [ct.estimate_scales(learning_suite, site, text, sample) for site in ("mlp.-1", ct.Site(-1, "mlp"))]
    assert torch.equal(*scales)
    tables = [ct.similarity(learning_suite, site, text, sample) for site in ("resid.0", ct.Site(0))]
    assert tables[0].equals(tables[1])
    stores = [
        ct.harvest(learning_suite, site, text, tmp_path / folder, sequence_length=12, tokens=44)
        for site, folder in (("resid.0", "text"), (ct.Site(0), "site"))
    ]
    assert stores[0].digest == stores[1].digest
    data = ct.DataConfig(batch_size=32, sequence_length=12)
    config = ct.L1Config(n_features=8, steps=3)
    trained = [
        ct.train(learning_suite, site, text, config, data=data).crosscoder for site in ("attn.1", ct.Site(1, "attn"))
    ]
    assert trained[0].origin == trained[1].origin
    assert torch.equal(trained[0].W_dec, trained[1].W_dec)
    with pytest.raises(SiteError, match=r"resid\.2; got 'block 1'|no component"):
        ct.train(learning_suite, "block 1", text, config)


@pytest.mark.long
def test_a_crosscoder_may_be_a_path_and_a_task_a_name(learning_suite, learning_crosscoder, saved: Path):
    few = ct.tasks.load(TASK, limit=10)
    by_object = ct.attribute(learning_suite, learning_crosscoder, few)
    by_name = ct.attribute(learning_suite, str(saved), TASK)
    assert torch.equal(by_name.ie(), by_object.ie())
    top = by_object.top(2)

    calls = {
        "ablate": lambda crosscoder, task: ct.ablate(learning_suite, crosscoder, task, top, bootstrap=FEW),
        "faithfulness": lambda crosscoder, task: ct.faithfulness(
            learning_suite, crosscoder, task, ranking(by_object, 2), bootstrap=FEW
        ),
        "transplant": lambda crosscoder, task: ct.transplant(
            learning_suite, crosscoder, task, top, source="step40", target="step10", bootstrap=FEW
        ),
        "evaluate": lambda crosscoder, _: ct.evaluate(
            learning_suite, crosscoder, list(sentences(80, seed=4)), sample=ct.TextSample(4, 12)
        ),
        "explain_dip": lambda crosscoder, task: (
            ct.explain_dip(learning_suite, crosscoder, task, "step10", "step40", bootstrap=FEW).table
        ),
        "evolve": lambda crosscoder, task: ct.evolve(learning_suite, crosscoder, [task], bootstrap=FEW)["life_cycles"],
        "accuracy": lambda _, task: ct.accuracy(learning_suite, task, bootstrap=FEW),
    }
    for name, call in calls.items():
        assert call(saved.parent, TASK).equals(call(learning_crosscoder, few)), name
    assert torch.equal(
        ct.decompose_task(learning_suite, saved, TASK).codes.value,
        ct.decompose_task(learning_suite, learning_crosscoder, few).codes.value,
    )


def test_evolve_takes_tasks_as_its_command_does(learning_suite, learning_crosscoder, saved: Path):
    named = ct.evolve(learning_suite, saved, TASK, bootstrap=FEW)
    attributed = ct.evolve(
        learning_suite, learning_crosscoder, [ct.attribute(learning_suite, learning_crosscoder, TASK)], bootstrap=FEW
    )
    assert named.keys() == attributed.keys()
    assert all(named[name].equals(attributed[name]) for name in named)
    with pytest.raises(CrosscoderError, match="only with the suite"):
        ct.evolve(None, learning_crosscoder, TASK)


def test_other_formats_are_read_and_missing_ones_named(learning_crosscoder, saved: Path, tmp_path: Path):
    with pytest.raises(CrosscoderError, match="there is no crosscoder at"):
        as_crosscoder(tmp_path / "nothing.safetensors")
    with pytest.raises(CrosscoderError, match=r"there is no crosscoder at \./nothing"):
        as_crosscoder("./nothing")
    assert as_crosscoder(learning_crosscoder) is learning_crosscoder
    assert as_crosscoder(saved.parent).n_features == learning_crosscoder.n_features


def test_unknown_tasks_are_named_with_the_nearest(learning_suite, learning_crosscoder):
    with pytest.raises(UnknownTaskError, match="agreement"):
        ct.attribute(learning_suite, learning_crosscoder, "agrement/simple")
