"""The test of presence in a run's null models and other seeds: on their own held-out text, beside the run's counts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from small_run import finished_run, home_of, recipe

import crosstime as ct
from crosstime.evolution.presence_test import presence_test
from crosstime.evolution.replicated_claims import replicated_claims
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.manifest import read_manifest
from crosstime.runs.null_inputs import NullInputs, NullModel
from crosstime.runs.recipe.recipe import Recipe

pytestmark = pytest.mark.long
SEEDS = [3, 4]
EVOLVE = {"text": True, "sequences": 40}
KINDS = ("same-checkpoint-noise", "permuted-tokens")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run with text, two seeds and two null models."""
    changes = {"evolve": EVOLVE, "effects": {"top": 4}, "crosscoder": {"seeds": SEEDS}}
    text = f"{recipe(changes)}\n[null]\nkinds = {list(KINDS)}\n"
    home = home_of(tmp_path_factory.mktemp("presence"), text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return finished_run(home)


def presence_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "evolution" / "presence.csv")


@pytest.mark.parametrize("kind", KINDS)
def test_null_models_are_tested_on_text_of_their_own(finished, kind, monkeypatch):
    """The same activations, read by hand and changed by hand, give the same table."""
    monkeypatch.chdir(finished.parent.parent)
    inputs = Inputs(Recipe.load("small.toml"), RunFolder(finished))
    null_folder = RunFolder(finished / "nulls" / f"{kind}-0")
    null_inputs = NullInputs(inputs, NullModel(kind), null_folder)
    crosscoder = null_folder.crosscoder
    text = ct.decompose_text(
        inputs.compared, crosscoder, inputs.corpus(held_out=True), sample=ct.TextSample(EVOLVE["sequences"], 12)
    )

    # Activations of the null model: the last checkpoint twice with noise, or tokens in another order at each
    x = torch.stack([decomposition.x for decomposition in text.decompositions])
    generator = torch.Generator().manual_seed((3 * 0x9E3779B97F4A7C15 - 1) % 2**63)
    if kind == "permuted-tokens":
        orders = [torch.randperm(x.shape[1], generator=generator) for _ in range(2)]
        x = torch.stack([x[c, order] for c, order in enumerate(orders)])
    else:
        deviation = null_inputs.null_batches.noise[0]
        noise = torch.randn(x.shape[1], 2, x.shape[2], generator=generator).transpose(0, 1)
        x = x[[1, 1]] + deviation * noise
    table = presence_of(null_folder.path)
    sequences = text.text.sequence_of_token[text.token_mask]
    features = table.feature.unique().tolist()
    truth = presence_test(crosscoder, crosscoder.decompose(x), features=features, sequence_of_token=sequences)
    assert table.presence.tolist() == truth.presence.tolist()
    torch.testing.assert_close(torch.tensor(table.slope.values), torch.tensor(truth.slope.values), rtol=1e-3, atol=1e-5)


def test_the_table_of_null_models_counts_lives_by_the_test(finished):
    nulls = pd.read_csv(finished / "nulls.csv")
    run = presence_of(finished).drop_duplicates("feature")
    for kind in KINDS:
        rows = nulls[(nulls["null"] == kind) & (nulls.source == "test of presence")].set_index("claim")
        lives = presence_of(finished / "nulls" / f"{kind}-0").drop_duplicates("feature").life_cycle
        assert len(rows) > 0
        assert (rows.n == len(run)).all()
        assert (rows.null_n == len(lives)).all()
        assert rows["count"].to_dict() == {claim: int((run.life_cycle == claim).sum()) for claim in rows.index}
        assert rows.null_count.to_dict() == {claim: int((lives == claim).sum()) for claim in rows.index}
        assert "undecided" not in rows.index
    assert not nulls[(nulls.source == "test of presence") & (nulls.claim == "always")].false.tolist()[0]


def test_null_models_and_seeds_find_no_kinds_of_features(finished):
    for folder in (finished / "nulls" / "permuted-tokens-0", finished / "seeds" / "4"):
        files = {path.name for path in (folder / "evolution").iterdir()}
        assert "presence.csv" in files
        assert not files & {"kinds.csv", "onsets.csv"}
        assert read_manifest(folder)["recipe"]["evolve"]["kinds"] is False
    assert (finished / "evolution" / "kinds.csv").is_file()


def test_replication_counts_the_lives_by_the_test(finished):
    folders = [finished, finished / "seeds" / "4"]
    crosscoders = [ct.CrossCoder.load(folder / "crosscoder.safetensors") for folder in folders]
    effects = [pd.read_csv(folder / "effects.csv") for folder in folders]
    lives = [pd.read_csv(folder / "evolution/life_cycles.csv") for folder in folders]
    presence = [presence_of(folder) for folder in folders]
    table = pd.read_csv(finished / "replication.csv")
    pd.testing.assert_frame_equal(table, replicated_claims(crosscoders, effects, lives, presence), check_dtype=False)
    assert table.same_presence.notna().all()
    assert "by the test of presence in more than half" in "\n".join(pd.read_csv(finished / "summary.csv").text)


def test_a_run_without_kinds_has_a_report(tmp_path, monkeypatch):
    home = home_of(tmp_path, recipe({"evolve": {**EVOLVE, "kinds": False}}))
    monkeypatch.chdir(home)
    folder = ct.run(home / "small.toml", home / "runs").folder
    assert not (folder / "evolution" / "kinds.csv").exists()
    assert "By the test of presence on held-out text" in (folder / "report.html").read_text(encoding="utf-8")
