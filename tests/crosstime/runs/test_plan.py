from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from crosstime.cli.main import app
from crosstime.errors import RecipeError, RunError, SuiteError
from crosstime.machine.memory import in_bytes
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.model_size import KNOWN, ModelSize, model_size
from crosstime.runs.plan.plan import UNCERTAINTY, in_time, plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.shipped_recipes import shipped_recipes
from crosstime.suites.tiny_config import TinyConfig
from crosstime.suites.tiny_model import tiny_model_config

NODE = Machine("cuda", "one GPU", 5e13, 3e12, 2 * 10**11, 8 * 10**10, 10**13)
LAPTOP = Machine("cpu", "2 cores", 1e11, 1e10, 8 * 10**9, 8 * 10**9, 5 * 10**10)
ON_DISK = ("tiny-bloom", "tiny-olmo", "tiny-pythia")
SUITE = ("suite.source=tiny",)
CONFIG = """{"model_type": "gpt_neox", "hidden_size": 128, "num_hidden_layers": 4, "vocab_size": 4096,
"intermediate_size": 512, "tie_word_embeddings": false}"""


def suite_folder(folder: Path) -> str:
    (folder / "step0").mkdir()
    (folder / "step0" / "config.json").write_text(CONFIG)
    return str(folder)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_has_a_plan(name: str, tmp_path: Path):
    overrides = [f"suite.source={suite_folder(tmp_path)}"] if name in ON_DISK else []
    if name == "diff-demo":
        overrides = [f"suite.models.base={suite_folder(tmp_path)}/step0"]
    actual = plan(Recipe.named(name, overrides), NODE)
    stages = [cost.stage for cost in actual.costs]
    assert ("ngrams" in stages) == (name == "eoc-tiny")
    assert (
        ("null" in stages)
        == ("replicate" in stages)
        == ("stability" in stages)
        == ("baselines" in stages)
        == (name == "demo")
    )
    rest = [stage for stage in stages if stage not in ("ngrams", "replicate", "stability", "baselines", "null")]
    if name.startswith("parameter-rows"):
        assert rest[-4:] == ["train", "evaluate", "evolve", "report"]
        return
    assert rest[-8:] == ["select", "train", "evaluate", "attribute", "ablate", "evolve", "explain", "report"]
    assert (stages[0] == "suite") == (name in ("demo", "eoc-tiny"))
    for cost in actual.costs:
        assert cost.flops > 0 or cost.stage == "report"
        assert cost.work.moved > 0 or cost.stage == "report"
        assert cost.memory > 0


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name not in (*ON_DISK, "diff-demo")])
def test_the_command_prints_the_plan_and_touches_nothing(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", name, "--dry-run"])
    assert output.exit_code == (1 if "This machine cannot hold it" in output.output else 0), output.output
    for word in (name, "train", "FLOP", "In all"):
        assert word in output.output
    assert list(tmp_path.iterdir()) == []


def test_the_papers_training_set_is_counted_right():
    (train,) = [cost for cost in plan(Recipe.named("ctt-pythia-1b"), NODE).costs if cost.stage == "train"]
    tokens, c, d, f = 97_656 * 4096, 3, 2048, 16_384
    assert tokens == pytest.approx(400e6, rel=1e-4)
    # Nine of sixteen blocks of 12 D² weights, with attention to 1,024 places and one token in 1,024 not trained on;
    # and a crosscoder step of five products of B C D F.
    read = c * 9 * (2 * 12 * d * d + 4 * 1024 * d) * 1024 / 1023
    assert train.flops == pytest.approx(tokens * (read + 10 * c * d * f), rel=1e-9)
    # 201 million weights of 16 bytes, 1.01 billion of 4 bytes, and a batch's codes and activations, with gradients.
    assert train.memory == pytest.approx(201e6 * 16 + 1.01e9 * 4 + 4096 * 4 * (4 * f + 8 * c * d), rel=0.01)


def test_the_table_of_the_documentation_is_that_of_the_formulas():
    text = (Path(__file__).resolve().parents[3] / "docs" / "scaling.md").read_text(encoding="utf-8")
    numbers, cells = r" ([\d,]+) \|" * 3, r" ([^|]+) \|" * 4
    rows = re.findall(rf"^\|{numbers}{cells}$", text, re.MULTILINE)
    assert len(rows) == 8
    for row in rows:
        c, d, f = (int(number.replace(",", "")) for number in row[:3])
        buffer = 262_144 * c * d * 2
        training = 16 * 2 * c * d * f + 4 * 4096 * (4 * f + 8 * c * d)
        state = 12 * 2 * c * d * f + buffer
        assert row[3:] == (in_bytes(training), in_bytes(state), in_bytes(buffer), f"{400e6 * 10 * c * d * f:.1e}")


def test_the_buffer_is_in_main_memory_twice_while_it_is_filled():
    tokens, c, d = 524_288, 3, 2048
    for dtype, row_bytes in (("float32", 4 * d), ("bfloat16", 2 * d), ("int8", d + 4)):
        recipe = Recipe.named("ctt-pythia-1b", [f"crosscoder.buffer_dtype={dtype}"])
        (train,) = [cost for cost in plan(recipe, NODE).costs if cost.stage == "train"]
        assert train.host == 2 * tokens * c * row_bytes


def test_passes_that_are_cut_short_cost_less():
    """A site nearer to the end makes reading dearer, and all that starts from it cheaper."""
    early, late = (
        {cost.stage: cost for cost in plan(Recipe.named("ctt-pythia-1b", [f"compare.site=resid.{layer}"]), NODE).costs}
        for layer in (3, 12)
    )
    assert early["train"].flops < late["train"].flops
    for stage in ("attribute", "ablate", "explain"):
        assert early[stage].flops > late[stage].flops


def test_this_machine_is_measured(tmp_path: Path):
    actual = Machine.here(torch.device("cpu"), tmp_path / "not" / "yet" / "there")
    # Between a slow laptop and a large server.
    assert 1e8 < actual.flops < 1e15
    assert 1e8 < actual.bandwidth < 1e14
    assert 0 < actual.disk <= shutil.disk_usage(tmp_path).total


def test_time_is_that_of_products_and_of_their_traffic_with_a_factor_of_uncertainty():
    """By hand: the passes of 4,000 prompts of ten tokens at nine checkpoints, and a bootstrap over them."""
    actual = plan(Recipe.named("ctt-pythia-1b"), NODE)
    select = actual.costs[0]
    d, tokens, batch = 2048, 9 * 40_000, Recipe.named("ctt-pythia-1b").compute.max_tokens
    passes = math.ceil(tokens / batch)
    flops = 16 * tokens * (2 * 12 * d * d + 4 * 10 * d) + 4 * 10_000 * 4000 * 18
    moved = 4 * 16 * (passes * 12 * d * d + tokens * (10 + 2 * 4) * d) + 16 * 10_000 * 4000
    assert select.flops == flops
    least, most = actual.seconds(select)
    assert least == pytest.approx(flops / NODE.flops + moved / NODE.bandwidth)
    assert most == UNCERTAINTY * least
    assert actual.seconds()[0] == pytest.approx(sum(actual.seconds(cost)[0] for cost in actual.costs))


def test_what_does_not_fit_is_said():
    large = Recipe.named("eoc-pythia-160m", ["crosscoder.n_features=98304"])
    objections = plan(large, LAPTOP).objections
    assert any("main memory" in item for item in objections)
    assert any("of disk" in item for item in objections)
    assert plan(large, replace(NODE, device_memory=3 * 10**11)).objections == ()
    (objection,) = plan(large, NODE).objections
    assert objection.startswith("stage train needs")
    assert "on the GPU, which has 80 GB" in objection


def test_twice_the_features_cost_twice_the_crosscoder():
    plans = [
        plan(Recipe.named("ctt-pythia-1b", [f"crosscoder.n_features={features}"]), NODE)
        for features in (16_384, 32_768, 65_536)
    ]
    small, middle, large = (cost.flops for item in plans for cost in item.costs if cost.stage == "train")
    first, second = middle - small, large - middle
    assert second == pytest.approx(2 * first)


def test_the_broken_bloom_checkpoint_is_refused():
    recipe = Recipe.named("ctt-bloom-1b1", ['compare.revisions=["global_step10000", "global_step400000"]'])
    with pytest.raises(SuiteError, match="global_step400000 of bigscience/bloom-1b1-intermediate is broken"):
        plan(recipe, NODE)


def test_a_model_of_unknown_size_is_refused_with_the_nearest():
    recipe = Recipe.named("ctt-pythia-1b", ["suite.source=EleutherAI/pythia-1bb"])
    with pytest.raises(RecipeError, match=r"the size of EleutherAI/pythia-1bb is not known.*EleutherAI/pythia-1b"):
        plan(recipe, NODE)


@pytest.mark.parametrize("config", ["{", "[]", '{"hidden_size": "wide"}', '{"hidden_size": 8}'])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, config: str):
    source = suite_folder(tmp_path)
    (tmp_path / "step0" / "config.json").write_text(config)
    with pytest.raises((RecipeError, RunError), match=r"config\.json"):
        model_size(Recipe.named("demo", [f"suite.source={source}"]).suite)


@pytest.mark.parametrize("name", list(KNOWN))
def test_known_sizes_are_those_that_the_names_tell(name: str):
    told = {"70m": 7e7, "160m": 1.62e8, "410m": 4.05e8, "1b": 1.01e9, "1.4b": 1.41e9, "6.9b": 6.86e9}
    size = KNOWN[name]
    if "pythia" in name:
        assert size.parameters == pytest.approx(told[name.rpartition("-")[2]], rel=0.02)
    else:
        expected = next(
            value for word, value in (("bloom", 1.07e9), ("OLMo", 1.18e9), ("gemma", 2.61e9)) if word in name
        )
        assert size.parameters == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("architecture", ["gpt_neox", "bloom", "olmo"])
def test_the_size_on_disk_is_that_of_the_model(architecture: str, tmp_path: Path):
    """Against the weights of a model of that configuration."""
    from transformers import AutoModelForCausalLM

    from crosstime.suites.train_tokenizer import train_tokenizer
    from tasks.agreement import sentences

    tokenizer = train_tokenizer(list(sentences(200, seed=0)), 300)
    tiny = TinyConfig(architecture=architecture, d_model=32, n_layers=2, n_heads=2, vocab_size=300)
    config = tiny_model_config(tiny, tokenizer)
    config.save_pretrained(tmp_path / "step0")
    matrices = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters() if p.dim() == 2)
    actual = model_size(Recipe.named("demo", [f"suite.source={tmp_path}"]).suite)
    assert actual.parameters == matrices
    assert isinstance(actual, ModelSize)


def test_sizes_and_times_for_people():
    assert [in_bytes(n) for n in (900, 2.5e9, 4.9e12)] == ["0.9 kB", "2.5 GB", "4.9 TB"]
    assert [in_time(s, 2 * s) for s in (5, 90, 3600, 86_400 * 9)] == [
        "5 to 10 s",
        "1.5 to 3 min",
        "1 to 2 h",
        "9 to 18 days",
    ]


def test_recipes_are_listed_with_what_they_are():
    output = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["recipes"])
    assert output.exit_code == 0
    for name in shipped_recipes():
        assert name in output.output
