"""Recipes, overrides, and the small languages in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_input import edits, fuzzed, json_values, refuses_politely, replaced, write_file
from hypothesis import given
from hypothesis import strategies as st

from crosstime.errors import RecipeError
from crosstime.runs.plan.machine import Machine
from crosstime.runs.plan.plan import plan
from crosstime.runs.recipe.recipe import Recipe
from crosstime.suites.read_lines import HubText
from crosstime.suites.revisions import in_training_order, training_progress
from interventions import Site

pytestmark = pytest.mark.fuzz

TABLE = {
    "name": "mine", "seed": 1,
    "suite": {"source": "tiny", "tiny": {"d_model": 16, "n_heads": 2, "checkpoints": [0, 64]}},
    "compare": {"revisions": ["step0", "step64"], "site": "resid.1"},
    "corpus": {"source": ["a.txt", "b.txt"], "sequence_length": 16},
    "crosscoder": {"kind": "topk", "k": 4, "n_features": 64, "steps": 10, "lr": 1e-3},
    "tasks": [{"name": "agreement/simple", "limit": 5}, {"name": "blimp/wh_island", "path": "data"}],
    "effects": {"top": 3, "tolerance": 0.1}, "compute": {"device": "cpu"},
}  # fmt: skip
TEXT = b"""name = "mine"
[suite]
source = "tiny"
[suite.tiny]
checkpoints = [0, 64]
[compare]
revisions = ["step0", "step64"]
site = "resid.1"
[corpus]
source = "a.txt"
[[tasks]]
name = "agreement/simple"
"""
MACHINE = Machine("cpu", "a machine", 1e11, 1e10, 10**10, 10**10, 10**11)
KEYS = st.from_regex(
    r"(suite|suite\.tiny|compare|corpus|crosscoder|tasks\.0|effects|compute|select)\.[a-z_]{1,12}", fullmatch=True
)
REVISIONS = st.text(max_size=20) | st.from_regex(
    r"(step|global_step|stage\d-step|epoch)\d{1,30}(-tokens\d{1,30}[KMBT]?)?"
)


def test_the_good_recipes_are_read(tmp_path: Path):
    assert Recipe.of(TABLE).crosscoder.kind == "topk"
    assert Recipe.load(write_file(tmp_path, "a.toml", TEXT)).name == "mine"


@fuzzed
@given(data=st.data())
def test_edited_recipe_files(tmp_path: Path, data: st.DataObject):
    path = write_file(tmp_path, "mine.toml", data.draw(edits(TEXT)))
    refuses_politely(lambda: Recipe.load(path))


@pytest.mark.parametrize("value", ["[" * 2000, "{b=" * 2000, "9" * 5000, "1e999999", "0x" + "f" * 5000])
def test_values_that_the_parser_gives_up_on(tmp_path: Path, value: str):
    path = write_file(tmp_path, "mine.toml", b"seed = " + value.encode() + b"\n" + TEXT)
    with pytest.raises(RecipeError):
        Recipe.load(path)
    with pytest.raises(RecipeError):
        Recipe.of(TABLE, overrides=[f"seed={value}"])


@fuzzed
@given(data=st.data())
def test_recipes_with_other_values(tmp_path: Path, data: st.DataObject):
    table = data.draw(replaced(TABLE).filter(lambda value: isinstance(value, dict)))
    refuses_politely(lambda: plan(Recipe.of(table, base=tmp_path), MACHINE))


@fuzzed
@given(text=st.text(max_size=40) | st.builds("{}={}".format, KEYS | st.text(max_size=9), json_values))
def test_overrides(text: str):
    refuses_politely(lambda: Recipe.of(TABLE, overrides=[text]))


@fuzzed
@given(
    name=REVISIONS, other=REVISIONS, source=st.sampled_from(["EleutherAI/pythia-1b", "a/b", "", "bigscience/bloom-1b1"])
)
def test_names_of_revisions(name: str, other: str, source: str):
    def read() -> None:
        progress = {source_name: training_progress(source_name, source) for source_name in (name, other)}
        assert sorted(in_training_order(progress)) == sorted(progress)

    refuses_politely(read)


@fuzzed
@given(text=st.text(max_size=20) | st.from_regex(r"(resid|attn|mlp)\.-?\d{0,30}"))
def test_names_of_sites(text: str):
    refuses_politely(lambda: Site.parse(text).resolve(12))


@fuzzed
@given(text=st.builds("hf:{}".format, st.text(max_size=30)))
def test_names_of_hub_texts(text: str):
    refuses_politely(lambda: HubText.parse(text))
