from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from recipe_text import RECIPE_TEXT

from crosstime.errors import RecipeError
from crosstime.runs.recipe.effects import EffectsRecipe
from crosstime.runs.recipe.recipe import Recipe
from crosstime.runs.recipe.shipped_recipes import shipped_recipes
from crosstime.suites.tiny_config import TinyConfig
from crosstime.training.jumprelu_per_checkpoint_config import PerCheckpointJumpReLUConfig
from interventions import Aggregation

EOC_STEPS = [0, *(2**power for power in range(1, 10)), *range(1000, 11_000, 1000), 14_000, 20_000, 27_000, 34_000]
EOC_STEPS += [47_000, 60_000, 74_000, 87_000, 100_000, 114_000, 127_000, 143_000]
"""The snapshots of EoC's analysis script."""


def write_recipe(folder: Path, text: str = RECIPE_TEXT) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, *overrides: str) -> str:
    """The one sentence with which a recipe is refused."""
    with pytest.raises(RecipeError) as caught:
        Recipe.load(write_recipe(folder, text), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_parses(name: str):
    recipe = Recipe.named(name)
    assert recipe.name == name
    assert recipe.description


def test_the_demo_is_shipped_and_needs_no_data():
    recipe = Recipe.named("demo")
    assert (recipe.suite.source, recipe.corpus.source) == ("tiny", "agreement")
    assert all(task.name.startswith("agreement/") and task.path is None for task in recipe.tasks)
    assert isinstance(recipe.suite.tiny, TinyConfig)
    assert {f"step{step}" for step in recipe.suite.tiny.checkpoints} >= set(recipe.compare.revisions)


def test_what_is_not_written_has_its_default(tmp_path):
    recipe = Recipe.load(write_recipe(tmp_path))
    assert (recipe.name, recipe.seed, recipe.description) == ("mine", 0, "")
    assert recipe.crosscoder.n_features == 16_384
    assert recipe.crosscoder.batch_size == 4096
    assert (recipe.effects.method, recipe.effects.baseline, recipe.effects.steps) == (None, "zero", None)
    assert recipe.compute.dtype == "float32"
    assert [task.limit for task in recipe.tasks] == [None, 20]


def test_a_recipe_as_plain_values_builds_the_same_recipe(tmp_path):
    recipe = Recipe.load(write_recipe(tmp_path))
    plain = recipe.to_dict()
    plain["suite"]["tiny"]["checkpoints"] = list(plain["suite"]["tiny"]["checkpoints"])

    def without_none(value):
        if isinstance(value, dict):
            return {key: without_none(item) for key, item in value.items() if item is not None}
        return [without_none(item) for item in value] if isinstance(value, list) else value

    assert Recipe.of(without_none(plain)) == recipe


def test_paths_beside_the_recipe_are_found_there_and_others_are_left_alone(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "text.txt").write_text("one\n")
    text = RECIPE_TEXT.replace('source = "text.txt"', 'source = ["text.txt", "hf:a/b"]\nheld_out = "elsewhere.txt"')
    recipe = Recipe.load(write_recipe(tmp_path, text))
    assert recipe.suite.source == str(tmp_path / "models")
    assert recipe.corpus.source == [str(tmp_path / "text.txt"), "hf:a/b"]
    assert recipe.corpus.held_out == "elsewhere.txt"
    assert recipe.tasks[0].path == "data"


def test_a_folder_named_like_a_keyword_does_not_hide_it(tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "agreement").mkdir()
    recipe = Recipe.load(write_recipe(tmp_path), ["suite.source=tiny", "corpus.source=agreement"])
    assert (recipe.suite.source, recipe.corpus.source) == ("tiny", "agreement")


def test_overrides_take_toml_values_and_bare_words(tmp_path):
    overrides = [
        "crosscoder.steps=20", "crosscoder.lr = 1e-3", "compare.site=mlp.0", 'compare.revisions=["a", "b"]',
        "suite.tiny.checkpoints=[0, 4]", "effects.steps=4", "seed=7",
    ]  # fmt: skip
    recipe = Recipe.load(write_recipe(tmp_path), overrides)
    assert (recipe.crosscoder.steps, recipe.crosscoder.lr, recipe.seed) == (20, 1e-3, 7)
    assert (recipe.compare.site, recipe.compare.revisions) == ("mlp.0", ["a", "b"])
    assert recipe.suite.tiny.checkpoints == (0, 4)
    assert recipe.effects.steps == 4


def test_an_override_reaches_an_item_of_a_list(tmp_path):
    recipe = Recipe.load(write_recipe(tmp_path), ["tasks.1.limit=3", "tasks.0.name=blimp/two"])
    assert [(task.name, task.limit) for task in recipe.tasks] == [("blimp/two", None), ("agreement/simple", 3)]


def test_a_whole_number_serves_as_a_number(tmp_path):
    lr = Recipe.load(write_recipe(tmp_path), ["crosscoder.lr=1"]).crosscoder.lr
    assert lr == 1.0
    assert isinstance(lr, float)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("crosscoder.step=3", ("[crosscoder] has no key 'step'", "did you mean 'steps'?")),
        ("sed=3", ("the top level has no key 'sed'", "did you mean 'seed'?")),
        ("suite.tiny.layers=2", ("[suite.tiny] has no key 'layers'", "did you mean 'n_layers'?")),
        ("tasks.1.lmit=2", ("[tasks[1]] has no key 'lmit'", "did you mean 'limit'?")),
        ("seed=zero", ("seed must be a whole number, not 'zero'",)),
        ("seed=true", ("seed must be a whole number, not True",)),
        ("crosscoder.steps=2.5", ("crosscoder.steps must be a whole number, not 2.5",)),
        ("crosscoder.lr=fast", ("crosscoder.lr must be a number, not 'fast'",)),
        ("crosscoder.l1=nan", ("crosscoder.l1 must be a finite number",)),
        ("crosscoder.lr=inf", ("crosscoder.lr must be a finite number",)),
        ("crosscoder.seed=99999999999999999999", ("crosscoder.seed must fit in 64 bits",)),
        ("compare.site=3", ("compare.site must be a text, not 3",)),
        ("compare.revisions=main", ("compare.revisions must be a list, not 'main'",)),
        ("compare.revisions=[1]", ("compare.revisions[0] must be a text, not 1",)),
        ("corpus.source=3", ("corpus.source must be a text or a list, not 3",)),
        ("crosscoder=3", ("crosscoder must be a table, not 3",)),
        ("tasks=3", ("tasks must be a list, not 3",)),
        ("tasks=[3]", ("tasks[0] must be a table, not 3",)),
        ("tasks=[]", ("at least one [[tasks]] table",)),
        ("tasks.0.name=agreement/simple", ("'agreement/simple' is there twice",)),
        ("tasks.0.limit=0", ("[tasks[0]] limit must be at least 1, not 0",)),
        ("tasks.0.rule=ct", ("[tasks[0]] there is no rule 'ct': did you mean 'ctt'?",)),
        ("name=a/b", ("name: it names the run's folder", "'a/b'")),
        ("name=..", ("name: it names the run's folder",)),
        ('name=""', ("name: it names the run's folder",)),
        ("seed=-1", ("seed must be at least 0, not -1",)),
        ("compare.site=head.1", ("compare.site: There is no component 'head': Allowed: attn, mlp, resid",)),
        ("compare.site=resid", ("compare.site: A site is written COMPONENT.LAYER",)),
        ("crosscoder.n_features=0", ("[crosscoder] n_features must be positive",)),
        ("crosscoder.batch_size=0", ("[crosscoder] batch_size must be at least 1",)),
        ("crosscoder.l1_warmup=2", ("[crosscoder] l1_warmup is a fraction",)),
        ("corpus.sequence_length=1", ("[corpus] sequence_length must be at least 2, not 1",)),
        ("corpus.sentences=0", ("[corpus] sentences must be at least 1",)),
        ("corpus.attractor_share=1.5", ("[corpus] attractor_share must lie between 0 and 1",)),
        ("effects.method=igg", ("[effects] There is no method 'igg'", "did you mean 'ig'?")),
        ("effects.baseline=pach", ("[effects] There is no baseline 'pach'", "did you mean 'patch'?")),
        ("effects.metric=logit_diference", ("[effects] There is no metric", "did you mean 'logit_difference'?")),
        ("effects.quadrature=gauss", ("[effects] There is no quadrature rule 'gauss'",)),
        ("effects.steps=0", ("[effects] steps must be at least 1",)),
        ("effects.top=0", ("[effects] top must be at least 1",)),
        ("effects.resamples=0", ("[effects] resamples must be at least 1",)),
        ("effects.tolerance=0", ("[effects] tolerance must be positive",)),
        ("suite.tiny.architecture=gpt_nex", ("[suite.tiny] unknown architecture 'gpt_nex'", "'gpt_neox'")),
        ("compute.dtype=float8", ("[compute] there is no dtype 'float8'",)),
        ("compute.device=gpu9x", ("[compute] there is no device 'gpu9x'",)),
        ("steps", ("An override (--set) is written table.key=value; got 'steps'",)),
        ("=3", ("An override (--set) is written table.key=value",)),
        ("name.first=3", ("does not name a key of a table",)),
        ("name.first.letter=3", ("does not name a key of a table",)),
        ("tasks.7.limit=3", ("a list of 2 has no item '7'; count from 0",)),
        ("tasks.first.limit=3", ("a list of 2 has no item 'first'",)),
        ("tasks.².limit=3", ("a list of 2 has no item '²'",)),
        ("tasks.0=3", ("does not name a key of a table",)),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_key(tmp_path, override: str, parts: tuple[str, ...]):
    sentence = refused(tmp_path, RECIPE_TEXT, override)
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('name = "mine"', "needs a key 'name'"),
        ('site = "resid.1"', "[compare] needs a key 'site'"),
        ('name = "agreement/simple"', "[tasks[1]] needs a key 'name'"),
    ],
)
def test_a_missing_key_is_named(tmp_path, key: str, message: str):
    assert message in refused(tmp_path, RECIPE_TEXT.replace(key, "", 1))


def test_checkpoints_and_rules_that_are_left_open_are_none(tmp_path):
    recipe = Recipe.load(write_recipe(tmp_path, RECIPE_TEXT.replace('revisions = ["step0", "main"]', "")))
    assert recipe.compare.revisions is None
    assert (recipe.tasks[0].rule, recipe.tasks[0].prepend) == (None, None)
    assert recipe.select.k == 3


def test_a_recipe_can_be_laid_over_a_shipped_one(tmp_path):
    text = (
        'extends = "ctt-pythia-1b"\nname = "mine"\n[compare]\nrevisions = ["step64", "main"]\n[crosscoder]\nsteps = 7\n'
    )
    base, recipe = Recipe.named("ctt-pythia-1b"), Recipe.load(write_recipe(tmp_path, text))
    assert (recipe.name, recipe.compare.revisions, recipe.crosscoder.steps) == ("mine", ["step64", "main"], 7)
    assert (recipe.compare.site, recipe.crosscoder.l1, recipe.tasks) == ("resid.8", base.crosscoder.l1, base.tasks)
    with pytest.raises(RecipeError, match="There is no recipe 'ctt-pythia-1': did you mean"):
        Recipe.load(write_recipe(tmp_path, text.replace("1b", "1")))


def test_the_papers_numbers_are_in_their_recipes():
    """CTT section 3.3 and its released settings; EoC's released settings."""
    for name, site in (("ctt-pythia-1b", "resid.8"), ("ctt-olmo-1b-0724", "resid.8"), ("ctt-bloom-1b1", "resid.12")):
        recipe = Recipe.named(name)
        crosscoder = recipe.crosscoder
        assert (crosscoder.kind, crosscoder.n_features, crosscoder.batch_size) == ("l1", 16_384, 4096)
        assert crosscoder.steps * crosscoder.batch_size == pytest.approx(400e6, rel=1e-4)
        assert (crosscoder.lr, crosscoder.l1, crosscoder.l1_warmup, crosscoder.lr_decay) == (5e-5, 2.0, 0.05, 0.2)
        assert (crosscoder.clip, crosscoder.decoder_norm, crosscoder.seed) == (1.0, 0.08, 124)
        assert (recipe.compare.site, len(recipe.compare.revisions), recipe.corpus.sequence_length) == (site, 3, 1024)
        assert set(recipe.compare.revisions) <= set(recipe.suite.revisions)
    sizes = {"160m": (24_576, "resid.6", 5e-5, 0.1), "6.9b": (32_768, "resid.16", 1e-5, 0.3)}
    for model, (n_features, site, lr, threshold_lr_factor) in sizes.items():
        recipe = Recipe.named(f"eoc-pythia-{model}")
        expected = PerCheckpointJumpReLUConfig(
            n_features=n_features, lr=lr, threshold_lr_factor=threshold_lr_factor, lr_warmup=5_000.0
        )
        assert recipe.crosscoder.config() == expected
        assert (recipe.compare.site, recipe.corpus.sequence_length) == (site, 2048)
        assert recipe.crosscoder.steps * recipe.crosscoder.batch_size == 800_000_000
        assert recipe.compare.revisions == [f"step{step}" for step in EOC_STEPS]
        assert recipe.suite.revisions == recipe.compare.revisions


def test_both_lists_of_eocs_snapshots_are_in_its_recipe():
    """The list of the activation script is a comment that can be uncommented in place of the other."""
    text = (files("crosstime") / "recipes" / "eoc-pythia-160m.toml").read_text(encoding="utf-8")
    comments = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    (listed,) = re.findall(r"^revisions = \[.*?^\]", comments, re.MULTILINE | re.DOTALL)
    revisions = tomllib.loads(listed)["revisions"]
    even = [7000, 14000, 20000, 27000, 34000, 40000, 47000, 54000, 60000, 67000, 74000, 80000, 87000, 94000, 100000]
    even += [107000, 114000, 120000, 127000, 134000, 143000]
    assert revisions == [f"step{step}" for step in [0, *(2**power for power in range(1, 10)), 1000, *even]]
    assert len(revisions) == 32


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("remote.host=ndif.us", "[remote] The host of a remote model is a URL"),
        ("remote.sandboxed=maybe", "[remote] sandboxed must be 'auto', true or false"),
        ("select.k=1", "[select] k must be at least 2"),
        ("select.measure=cosin", "[select] there is no measure 'cosin': did you mean 'cosine'?"),
        ("tasks.0.prepend=bso", "[tasks[0]] there is no prepend 'bso'"),
        ("compute.remote=local", "a server has a table of its own, [remote]"),
        ("evolve.sequences=0", "[evolve] sequences must be at least 1"),
    ],
)
def test_a_wrong_value_in_a_newer_table_is_refused_by_its_key(tmp_path, override: str, part: str):
    overrides = [override] if not override.startswith("remote.s") else ["remote.host=local", override]
    assert part in refused(tmp_path, RECIPE_TEXT, *overrides)


def test_the_file_is_named(tmp_path):
    assert str(tmp_path / "mine.toml") in refused(tmp_path, RECIPE_TEXT, "seed=zero")


@pytest.mark.parametrize("text", ["name = ", "[suite", 'name = "a"\nname = "b"', "{}"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, text: str):
    assert "is not a TOML file" in refused(tmp_path, text)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(RecipeError, match="is not a TOML file"):
        Recipe.load(tmp_path / "mine.toml")


def test_a_missing_file_is_named_with_the_shipped_recipes(tmp_path):
    with pytest.raises(RecipeError, match=r"Cannot read recipe .*absent\.toml: No such file.*shipped recipes: .*demo"):
        Recipe.load(tmp_path / "absent.toml")


def test_an_unknown_shipped_recipe_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="There is no recipe 'dmeo': did you mean 'demo'"):
        Recipe.named("dmeo")


def test_a_named_estimator_sets_its_options(tmp_path):
    written_as = Recipe.load(write_recipe(tmp_path), ["effects.estimator=ctt-as-written"]).effects
    assert written_as == EffectsRecipe("ig", quadrature="left", steps=10, aggregation=Aggregation("ctt"))
    changes = ["effects.estimator=ctt-as-released", "effects.aggregation.columns=6", "effects.top=100"]
    released = Recipe.load(write_recipe(tmp_path), changes).effects
    assert released == EffectsRecipe("atp", aggregation=Aggregation("ctt-released", columns=6), undefined=0.5, top=100)
    assert Recipe.load(write_recipe(tmp_path), ["effects.estimator=default"]).effects == EffectsRecipe()
    bare = Recipe.load(write_recipe(tmp_path), ["effects.aggregation=ctt", "effects.undefined=0.5"]).effects
    assert (bare.aggregation, bare.undefined, bare.method) == (Aggregation("ctt"), 0.5, None)
    for name in (name for name in shipped_recipes() if name.startswith("ctt-")):
        assert Recipe.named(name, ["effects.estimator=ctt-as-written"]).effects.name == "ctt-as-written"
        assert Recipe.named(name, ["effects.estimator=ctt-as-released"]).effects.name == "ctt-as-released"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["effects.estimator=ctt"], "[effects] estimator: there is none named 'ctt': "),
        (["effects.estimator=5"], "[effects] estimator: there is none named 5: "),
        (
            ["effects.estimator=ctt-as-written", "effects.steps=20"],
            "[effects] estimator 'ctt-as-written' has steps 10, but the recipe says 20: remove one of the two keys",
        ),
        (
            ["effects.estimator=ctt-as-released", "effects.baseline=patch"],
            "has baseline 'zero', but the recipe says 'pa",
        ),
        (["effects.estimator=ctt-as-released", "effects.aggregation=ctt"], "has aggregation 'ctt-released', but"),
        (["effects.aggregation=mean"], "[effects.aggregation] There is no aggregation named 'mean': "),
        (["effects.aggregation.batch_size=0"], "[effects.aggregation] batch_size of an aggregation must be at least 1"),
        (["effects.aggregation.column=6"], "[effects.aggregation] has no key 'column': did you mean 'columns'"),
        (["effects.method=exact", "effects.aggregation=ctt"], "'ctt' needs effects per position"),
        (["effects.undefined=2.0"], "[effects] undefined: a RelIE is from 0 to 1, not 2.0"),
    ],
)
def test_an_estimator_that_cannot_be_is_refused(tmp_path, changes: list[str], message: str):
    assert message in refused(tmp_path, RECIPE_TEXT, *changes)


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path):
    plain, marked = tmp_path / "plain.toml", tmp_path / "marked.toml"
    plain.write_text(RECIPE_TEXT, encoding="utf-8")
    marked.write_text(RECIPE_TEXT, encoding="utf-8-sig")
    assert Recipe.load(marked) == Recipe.load(plain)
