"""A server that turns out to have no gradients: what needs them is refused before the first stage of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nnsight import TransformersModel
from small_run import home_of

import crosstime as ct
from crosstime.effects.refuse_missing_gradients import refuse_missing_gradients
from crosstime.errors import CrosscoderError
from crosstime.runs.recipe.recipe import Recipe
from interventions import Aggregation, Estimator, Model, NoGradientsError, Remote
from interventions.remote import probe

STUB = Path(__file__).resolve().parents[2] / "interventions"


@pytest.fixture
def stub(monkeypatch, brief_suite):
    """A server on this machine that runs the first checkpoint of the suite, whose weights the client does not have."""
    monkeypatch.syspath_prepend(str(STUB))
    from ndif_stub import Stub

    # The model there, and one of zeros here
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.setattr(TransformersModel, "_remoteable_model_key", lambda self: "model")
    probe.forget()
    module = ct.Compute().open(brief_suite, "step0").module
    there = TransformersModel(module, task="text-generation", tokenizer=brief_suite.tokenizer)
    here = TransformersModel(type(module)(module.config), task="text-generation", tokenizer=brief_suite.tokenizer)
    with torch.no_grad():
        for weight in here._module.parameters():
            weight.zero_()

    # The client opens the one here
    server = Stub()
    server.models[here.to_model_key()] = there
    server.opened = []

    def open_there(compute: ct.Compute, suite: ct.Suite, revision: str) -> Model:
        server.opened.append(revision)
        return Model.validated(here, revision, compute.remote, compute.max_tokens)

    monkeypatch.setattr(ct.Compute, "open", open_there)
    monkeypatch.setattr(Model, "close", lambda model: None)
    yield server
    server.close()
    probe.forget()


def test_what_needs_gradients_is_refused_where_the_server_has_none(stub, brief_suite):
    stub.gradients = False
    compute = ct.Compute(remote=Remote(stub.host))
    for estimator in (Estimator("ig"), Estimator("atp"), Estimator(aggregation=Aggregation("ctt"))):
        with pytest.raises(NoGradientsError, match="gradients"):
            refuse_missing_gradients(brief_suite, compute, estimator)
    with pytest.raises(CrosscoderError, match=rf"^{stub.host} has no gradients, .* estimator cannot be compared there"):
        refuse_missing_gradients(brief_suite, compute, Estimator(), ["prompts", "estimator"])
    assert len(stub.opened) == 4


def test_a_server_is_not_asked_where_nothing_needs_gradients(stub, brief_suite):
    stub.gradients = False
    compute = ct.Compute(remote=Remote(stub.host))
    for estimator in (Estimator(), Estimator("exact")):
        refuse_missing_gradients(brief_suite, compute, estimator, ["prompts", "metric", "baseline"])
    refuse_missing_gradients(brief_suite, ct.Compute(), Estimator("ig"), ["estimator"])
    assert not stub.opened
    # The caller's word about the server is not tested
    with pytest.raises(CrosscoderError, match="estimator cannot be compared there"):
        refuse_missing_gradients(
            brief_suite, ct.Compute(remote=Remote(stub.host, sandboxed=True)), Estimator(), ["estimator"]
        )
    assert not stub.requests


def test_a_server_with_gradients_is_found_to_have_them(stub, brief_suite):
    compute = ct.Compute(remote=Remote(stub.host))
    refuse_missing_gradients(brief_suite, compute, Estimator("ig"), ["estimator"])
    assert stub.requests


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["effects.method=ig"], "effects.method"),
        (["effects.method=atp"], "effects.method"),
        (["effects.aggregation=ctt"], "effects.aggregation"),
        (['stability.comparisons=["prompts", "estimator"]'], "stability.comparisons"),
        (["effects.method=exact", 'stability.comparisons=["estimator"]'], "stability.comparisons"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_run_is_refused_before_its_first_stage(stub, brief_suite, tmp_path, overrides: list[str], key: str):
    stub.gradients = False
    home = home_of(tmp_path / "home")
    there = [f"suite.source={Path(brief_suite['step0'].source).parent}", f"remote.host={stub.host}"]
    compared = 'compare.revisions=["step6", "step0"]'
    settings = Recipe.load(home / "small.toml", [*there, compared, *overrides])
    with pytest.raises((CrosscoderError, NoGradientsError), match=rf"^{key}: ") as refused:
        ct.run(settings, home / "runs")
    assert stub.host in str(refused.value)
    # The checkpoint that is asked is one of the compared, in their order
    assert set(stub.opened) == {"step6"}
    # The ids of the jobs that asked are kept, and nothing else
    assert {path.name for path in (home / "runs").rglob("*") if path.is_file()} <= {"manifest.json", "jobs.json"}
