"""The halves of a run's prompts: by its seed, none if the recipe says so, refused if there are too few."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import crosstime as ct
from crosstime.effects.effects_file import write_effects
from crosstime.errors import RecipeError
from crosstime.runs.effect_halves import effect_halves
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.recipe import Recipe


@pytest.mark.parametrize("halves", [True, False])
def test_a_run_splits_by_its_seed_unless_its_recipe_selects_on_all_prompts(
    learning_suite, learning_crosscoder, tmp_path: Path, halves: bool
):
    attribution = ct.attribute(learning_suite, learning_crosscoder, ct.tasks.load("agreement/simple", limit=6))
    recipe = Recipe.named("demo", ["seed=4", f"effects.halves={str(halves).lower()}"])
    folder = RunFolder(tmp_path)
    learning_crosscoder.save(tmp_path / folder.CROSSCODER)
    (tmp_path / folder.effects_file(0)).parent.mkdir()
    write_effects(tmp_path / folder.effects_file(0), attribution.effects)
    inputs = Inputs(recipe, folder)
    inputs._decomposed[0] = attribution.decomposed

    expected = attribution.halves(seed=4) if halves else (attribution, attribution)
    for half, by_hand in zip(effect_halves(inputs, folder, 0), expected, strict=True):
        assert torch.equal(half.ie(), by_hand.ie())
        assert half.decomposed.task.prompts == by_hand.decomposed.task.prompts


@pytest.mark.parametrize(("limit", "halves", "refused"), [(3, "true", True), (4, "true", False), (3, "false", False)])
def test_tasks_with_too_few_prompts_are_refused_before_anything_is_computed(
    tmp_path: Path, limit: int, halves: str, refused: bool
):
    overrides = [f"tasks.1.limit={limit}", f"effects.halves={halves}", "crosscoder.n_features=100000000000"]
    with pytest.raises(ct.errors.USER_ERRORS) as error:
        ct.run(Recipe.named("demo", overrides), tmp_path)
    # What is refused otherwise is the crosscoder, which is too large
    assert ("agreement/attractor has 3 prompts, and two halves need at least 4" in str(error.value)) == refused
    assert isinstance(error.value, RecipeError) == refused
    assert not list(tmp_path.rglob("*.csv"))
