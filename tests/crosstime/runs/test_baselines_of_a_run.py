"""Baselines of a small run: from the recipe to the table and the report, and what cannot have them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_run import contents, finished_run, home_of, recipe, together

import crosstime as ct
from crosstime.cli.main import main
from crosstime.crosscoders.baselines.names import BASELINE_NAMES
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.effects.baselines import COLUMNS
from crosstime.errors import CrosscoderError, RecipeError
from crosstime.runs.folder import RunFolder
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.stages import baselines as stage
from interventions import Bootstrap, Estimator

TASKS = [{"name": "agreement/simple", "limit": 12}]
NAMES = list(BASELINE_NAMES)


def with_baselines(**table: object) -> str:
    text = recipe(tasks=TASKS)
    lines = "\n".join(f"{key} = {value!r}".replace("'", '"') for key, value in table.items())
    return f"{text}\n[baselines]\n{lines}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home whose run has every baseline, of eight of its prompts."""
    return home_of(tmp_path_factory.mktemp("baselines"), with_baselines(names=NAMES, sizes=[1, 3], prompts=8))


@pytest.fixture(scope="module")
def finished(home) -> Path:
    """The folder of the run."""
    return finished_run(home)


@pytest.mark.slow
def test_the_table_of_a_run_is_that_of_the_function(home, finished):
    stored_table = RunFolder(finished).table("baselines")
    assert stored_table.columns.tolist() == list(COLUMNS)
    assert stored_table.dictionary.unique().tolist() == ["crosscoder", *NAMES]
    read = Recipe.load(home / "small.toml")
    suite = ct.Suite.open(finished / "suite").select(["step0", "step12"])
    crosscoder = CrossCoder.load(finished / "crosscoder.safetensors")
    text = str(home / "text.txt")
    data = read.crosscoder.data_config(sequence_length=12, seed=3)
    chain = ct.train_chain(suite, ct.Site(0), text, read.crosscoder.config(), data=data)
    alone = ct.train(suite.select(["step12"]), ct.Site(0), text, read.crosscoder.config(), data=data).crosscoder
    dictionaries = ct.baseline_dictionaries(
        suite, crosscoder, text, NAMES, autoencoder=alone, chain=chain, seed=3, sample=ct.TextSample(256, 12)
    )
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(3))[:8].sort().values.tolist()
    task = ct.tasks.load("agreement/simple").tokenize(suite.tokenizer, limit=12, seed=3).select(rows)
    expected = ct.baselines(
        suite,
        crosscoder,
        task,
        dictionaries,
        sizes=[1, 3],
        estimator=Estimator(baseline="mean", steps=2),
        bootstrap=Bootstrap(2_000, 3),
    )
    pd.testing.assert_frame_equal(stored_table, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_other_stages_keep_their_results_and_autoencoders_their_training(home, finished, monkeypatch):
    plain = finished_run(home_of(home / "plain", recipe(tasks=TASKS)))
    without, own = contents(plain), contents(finished)
    assert set(own) - set(without) == {"baselines.csv"}
    assert all(own[name] == without[name] for name in without)

    # A stage that stops after its training does not train again
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    text = with_baselines(names=["sae-raw", "sae-chain"], sizes=[1], prompts=8)
    (home / "plain" / "small.toml").write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "baseline_dictionaries", stop)
        with pytest.raises(KeyboardInterrupt):
            finished_run(home / "plain")
    trained = []
    with monkeypatch.context() as patch:
        patch.setattr(stage, "train", lambda *args, **options: trained.append(args))
        finished_run(home / "plain")
    assert not trained
    again = RunFolder(plain).table("baselines")
    first = RunFolder(finished).table("baselines")
    assert (again.dictionary.unique() == ["crosscoder", "sae-raw", "sae-chain"]).all()
    both = again.merge(first[first.n == 1], on=["revision", "dictionary", "n"], suffixes=("", "_first"))
    assert (both.faithfulness == both.faithfulness_first).all()


@pytest.mark.slow
def test_an_autoencoder_from_a_file(home, finished):
    suite = ct.Suite.open(finished / "suite").select(["step12"])
    config = ct.TopKConfig(n_features=9, k=2, steps=3)
    data = ct.DataConfig(batch_size=32, sequence_length=12)
    trained = ct.train(suite, ct.Site(0), str(home / "text.txt"), config, data=data).crosscoder
    folder = home_of(home / "file", with_baselines(names=["sae-raw"], sae="sae.safetensors", sizes=[2], prompts=8))
    trained.save(folder / "sae.safetensors")
    table = RunFolder(finished_run(folder)).table("baselines")
    assert table[table.dictionary == "sae-raw"]["size"].tolist() == [9, 9]

    # Another file under this name is another input; one that does not fit is refused before anything is computed
    other = CrossCoder.load(finished / "crosscoder.safetensors")
    other.save(folder / "sae.safetensors")
    with pytest.raises(CrosscoderError, match="crosscoder of step0, step12"):
        ct.run(folder / "small.toml", folder / "fresh")
    (folder / "sae.safetensors").write_bytes(b"nothing")
    with pytest.raises(CrosscoderError):
        ct.run(folder / "small.toml", folder / "fresh")
    assert not list((folder / "fresh").glob("*/*.csv"))


@pytest.mark.slow
def test_two_processes_train_the_autoencoders_together(tmp_path, forks, finished):
    home = home_of(tmp_path / "two", with_baselines(names=["sae-raw", "sae-chain"], sizes=[1, 3], prompts=8))
    for process in together(forks, home, home / "runs", 2):
        process.join(240)
        assert process.exitcode == 0, (home / "said-0").read_text()
    table = RunFolder(home / "runs" / "small").table("baselines")
    alone = RunFolder(finished).table("baselines")
    alone = alone[alone.dictionary.isin(table.dictionary)].reset_index(drop=True)
    axes = ["task", "revision", "dictionary", "size", "n"]
    assert table[axes].equals(alone[axes])
    # Two processes add gradients up in another order, so that the last digits of the autoencoders differ
    raw, raw_alone = (rows[rows.dictionary == "sae-raw"] for rows in (table, alone))
    np.testing.assert_allclose(raw.l0, raw_alone.l0, rtol=0.05)
    np.testing.assert_allclose(raw.effect_share, raw_alone.effect_share, atol=0.02)


def test_the_plan_has_a_line_with_the_trainings(home):
    machine = Machine("cpu", "2 cores", 1e11, 1e10, 8 * 10**9, 8 * 10**9, 5 * 10**10)
    costs = {cost.stage: cost for cost in plan(Recipe.load(home / "small.toml"), machine).costs}
    assert costs["baselines"].what == "8 dictionaries, 8 prompts, 3 trainings"
    assert costs["baselines"].flops > 1.5 * costs["train"].flops
    fewer = Recipe.load(home / "small.toml", ["baselines.names=['neurons']"])
    cost = {cost.stage: cost for cost in plan(fewer, machine).costs}["baselines"]
    assert cost.what == "1 dictionaries, 8 prompts"
    assert 0 < cost.flops < costs["baselines"].flops / 4
    none = Recipe.load(home / "small.toml", ["baselines.names=[]"])
    assert "baselines" not in {cost.stage for cost in plan(none, machine).costs}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("baselines.names=['neuron']", "no baseline dictionary 'neuron': did you mean 'neurons'"),
        ("baselines.names=['neurons', 'neurons']", "'neurons' is there twice"),
        ("baselines.sizes=[2, 1]", r"ascending whole numbers of at least 1, not \[2, 1\]"),
        ("baselines.sizes=[0, 1]", "at least 1"),
        ("baselines.prompts=3", "prompts must be at least 4, not 3"),
        ("baselines.checkpoint='step13'", "'step13' is not compared: did you mean 'step12'"),
        ("baselines.size=[1]", "did you mean 'sizes'"),
        ("compute.feature_shards=2", "feature_shards = 1"),
        ("crosscoder.source='other.safetensors'", "which crosscoder.source replaces"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(home, override, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load(home / "small.toml", [override])


def test_the_command_line_says_what_is_wrong(home, monkeypatch, capsys):
    arguments = ["run", str(home / "small.toml"), "--runs", str(home / "wrong"), "--set", "baselines.names=['sae']"]
    monkeypatch.setattr(sys, "argv", ["crosstime", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "no baseline dictionary 'sae'" in " ".join(capsys.readouterr().err.split())
    assert not (home / "wrong").exists()


def test_words_for_autoencoders_are_not_paths(home):
    (home / "train").mkdir(exist_ok=True)
    assert Recipe.load(home / "small.toml").baselines.sae == "train"
