from __future__ import annotations

import pandas as pd
import pytest
import torch

from crosstime.crosscoders.decompose import DecomposedTask
from crosstime.runs.findings import (
    ablation_groups,
    absorption_sentences,
    dip_count,
    emergence,
    presence_sentences,
    summary,
)
from interventions import Codes, Decomposition, Prompts
from tasks import TokenizedTask

FEATURES = 40
CLASSES = {3: "late only", 5: "shared", 8: "late only", 11: "early only", 20: "undefined"}


def decomposed(firing: list[int], name: str = "mine") -> DecomposedTask:
    """A task of one prompt, on whose only token the given features fire."""
    count = len(firing)
    codes = Codes(torch.zeros(count, dtype=torch.long), torch.tensor(firing), torch.ones(count), 1, FEATURES)
    decomposition = Decomposition(torch.zeros(1, 2), codes, torch.zeros(FEATURES, 2), torch.zeros(2))
    task = TokenizedTask(name, ((5,),), (1,), (2,), None, ())
    return DecomposedTask(task, Prompts.of(task), (decomposition, decomposition), None)


IE = {3: (0.1, 0.6), 5: (2.0, 2.0), 8: (0.0, 0.5), 11: (0.9, -0.1), 20: (0.0, 0.0)}
"""Effects at both checkpoints on the prompts of the selection."""


def effects(task: str = "mine", classes: dict[int, str] = CLASSES) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": task,
            "feature": feature,
            "revision": revision,
            "selection_class": label,
            "selection_ie": IE.get(feature, (0.0, 0.0))[revision == "late"],
        }
        for feature, label in classes.items()
        for revision in ("early", "late")
    )


def test_each_feature_all_of_them_and_each_class_are_ablated():
    groups = ablation_groups(effects(), decomposed(list(range(FEATURES))))
    kinds = {name: (group.kind, group.features) for name, group in groups.items() if group.kind != "random"}
    assert kinds == {
        **{str(feature): ("single", [feature]) for feature in CLASSES},
        "all selected (5)": ("set", [3, 5, 8, 11, 20]),
        "late only (2)": ("set", [3, 8]),
        "early only (1)": ("set", [11]),
    }


def test_every_set_has_a_control_of_its_size_that_fires_and_was_not_selected():
    firing = list(range(0, FEATURES, 2))
    groups = ablation_groups(effects(), decomposed(firing))
    controls = {name: group.features for name, group in groups.items() if group.kind == "random"}
    assert {name: len(features) for name, features in controls.items()} == {"5 random": 5, "2 random": 2, "1 random": 1}
    for features in controls.values():
        assert len(set(features)) == len(features)
        assert set(features) <= set(firing) - set(CLASSES)


def test_controls_are_those_of_the_seed():
    all_firing = decomposed(list(range(FEATURES)))
    first, again, other = (ablation_groups(effects(), all_firing, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["5 random"] != other["5 random"]


def test_there_is_no_control_where_too_few_other_features_fire():
    groups = ablation_groups(effects(), decomposed([*CLASSES, 0, 1, 2]))
    assert sorted(name for name, group in groups.items() if group.kind == "random") == ["1 random", "2 random"]


def test_only_the_tasks_own_rows_count():
    both = pd.concat([effects("other", {30: "late only"}), effects("mine", {3: "shared"})])
    groups = ablation_groups(both, decomposed([3, 4]))
    assert [name for name, group in groups.items() if group.kind != "random"] == ["3", "all selected (1)"]


ACCURACY = pd.DataFrame(
    {
        "task": ["mine"] * 3,
        "revision": ["early", "middle", "late"],
        "accuracy": [0.5, 0.6, 0.954],
    }
)
ABLATION = pd.DataFrame(
    [
        ("mine", "all selected (5)", "set", "late", 0.10, -0.85, -0.9, -0.8),
        ("mine", "late only (2)", "set", "early", 0.48, -0.02, -0.1, 0.1),
        ("mine", "late only (2)", "set", "late", 0.55, -0.40, -0.47, -0.33),
        ("mine", "early only (1)", "set", "late", 0.99, 0.04, 0.0, 0.1),
        ("mine", "2 random", "random", "early", 0.10, -0.40, -0.5, -0.3),
        ("mine", "2 random", "random", "late", 0.94, -0.01, -0.03, 0.01),
        ("mine", "3", "single", "late", 0.0, -0.95, -1.0, -0.9),
    ],
    columns=[
        "task",
        "features",
        "kind",
        "revision",
        "accuracy",
        "accuracy_change",
        "accuracy_change_low",
        "accuracy_change_high",
    ],
)


def test_the_summary_says_the_strongest_class_beside_its_control_and_the_accuracy():
    assert summary(ACCURACY, effects(), ABLATION, ["early", "late"]) == (
        "Without the 2 features of class 'late only', accuracy on mine at late goes from 0.95 to 0.55 "
        "(-0.40 [-0.47, -0.33]); without 2 random features, to 0.94 (-0.01 [-0.03, +0.01]). "
        "Accuracy on mine: 0.50 at early, 0.95 at late. "
        "5 features were selected by their indirect effect at one or more of 2 checkpoints."
    )


def test_the_sentence_is_chosen_by_the_prompts_of_the_selection_and_not_by_the_change_that_it_reports():
    # By IE on the selection, "late only" at late comes first: 0.6 + 0.5, against 0.1 of the others.
    changed = ABLATION.assign(accuracy_change=[-0.85, -0.02, -0.01, -0.9, 0, 0, 0], accuracy=0.5)
    assert summary(ACCURACY, effects(), changed, ["early", "late"]).startswith(
        "Without the 2 features of class 'late only', accuracy on mine at late goes from 0.51 to 0.50 (-0.01 "
    )
    strongest_at_late = effects().assign(selection_ie=lambda table: table.selection_ie - 9 * (table.feature == 11))
    assert summary(ACCURACY, strongest_at_late, ABLATION, ["late"]).startswith(
        "Without the 1 feature of class 'early only', accuracy on mine at late goes from 0.95 to 0.99"
    )


def null_rows(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["source", "claim", "expected", "low", "high"]).assign(false=True)


def test_the_size_of_the_ablated_class_has_the_number_that_is_expected_beside_it():
    nulls = null_rows(("RelIE: mine", "late only", 0.41, 0.0, 2.2), ("RelIE: other", "late only", 5.0, 4.0, 6.0))
    assert summary(ACCURACY, effects(), ABLATION, ["early", "late"], nulls).startswith(
        "Without the 2 features of class 'late only' (0.4 [0, 2] expected under the null), accuracy on mine at late "
    )
    # Under none of the null models of another task is the claim false
    assert "expected under" not in summary(ACCURACY, effects(), ABLATION, ["early", "late"], nulls.iloc[1:])


def test_explained_dips_are_counted_beside_the_number_that_is_expected():
    nulls = null_rows(("dips", "explained", 0.5, 0.1, 1.8))
    assert dip_count([True, True, False], nulls) == ["Explained dips: 2 of 3 (0.5 [0.1, 1.8] expected under the null)."]
    assert dip_count([], nulls) == []
    assert dip_count([True], nulls.iloc[:0]) == []


def test_without_a_control_the_summary_names_the_class_alone():
    text = summary(ACCURACY, effects(), ABLATION[ABLATION.kind != "random"], ["early", "late"])
    assert text.startswith(
        "Without the 2 features of class 'late only', accuracy on mine at late goes from 0.95 to 0.55 "
        "(-0.40 [-0.47, -0.33]). "
    )


@pytest.mark.parametrize("ablated", [["all selected (5)"], []])
def test_without_classes_to_ablate_the_summary_begins_with_accuracy(ablated: list[str]):
    text = summary(ACCURACY, effects(), ABLATION[ABLATION.features.isin(ablated)], ["early", "late"])
    assert text.startswith("Accuracy on mine: ")


LIVES = pd.DataFrame(
    [
        ("mine", 3, "emerging", "emerges at late", True),
        ("mine", 9, "transient", "transient at middle", True),
        ("mine", 5, "discontinued", "discontinued after middle", True),
        ("mine", 8, "discontinued", "discontinued after early", True),
        *(("mine", feature, "discontinued", "discontinued after early", True) for feature in range(20, 26)),
        ("mine", 4, "emerging", "emerges at late", False),
        ("still", 3, "always", "always", True),
        ("one", 7, "emerging", "emerges at late", True),
    ],
    columns=["task", "feature", "life_cycle", "label", "strongest"],
)


def test_a_sentence_a_task_says_which_features_came_and_went():
    assert emergence(LIVES) == [
        "By their effects on mine, of 10 selected features 1 emerges (at late: f3), 1 is transient (at middle: f9) and "
        "8 are discontinued (after middle: f5; after early: f8, f20, f21, f22, f23 and 2 more).",
        "By their effects on still, of 1 selected feature none came or went.",
        "By their effects on one, of 1 selected feature 1 emerges (at late: f7).",
    ]


def presence_table(rows: list[tuple[int, str, str]]) -> pd.DataFrame:
    """The table of the test at two checkpoints."""
    table = pd.DataFrame(rows, columns=["feature", "life_cycle", "label"])
    return pd.concat([table.assign(revision=revision) for revision in ("early", "late")])


def test_a_sentence_says_where_features_are_by_the_test_of_presence():
    rows = [
        (3, "emerging", "emerges at late"),
        (5, "always", "always"),
        (7, "always", "always"),
        (8, "undecided", "undecided"),
        (9, "discontinued", "discontinued after early"),
        (11, "emerging", "emerges at late"),
        (12, "intermittent", "intermittent"),
        (13, "never", "never"),
        (14, "undecided", "undecided"),
    ]
    assert presence_sentences(presence_table(rows)) == [
        "By the test of presence on held-out text, of 9 selected features 2 are there at all checkpoints, 2 emerge (at "
        "late: f3, f11), 1 is discontinued (after early: f9), 1 is intermittent, 1 is never there and 2 are undecided."
    ]
    assert presence_sentences(presence_table(rows[1:2])) == [
        "By the test of presence on held-out text, of 1 selected feature 1 is there at all checkpoints."
    ]
    assert presence_sentences(presence_table([])) == []


def test_of_models_side_by_side_the_test_says_which_have_a_feature():
    rows = [(3, "specific", "specific to chat"), (5, "shared", "shared"), (6, "undecided", "undecided")]
    assert presence_sentences(presence_table(rows), ordered=False) == [
        "By the test of presence on held-out text, of 3 selected features 1 is there in all models, 1 is specific (to "
        "chat: f3) and 1 is undecided."
    ]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_sentence_says_how_many_features_that_end_look_absorbed(as_text: bool):
    table = pd.DataFrame({"parent": range(8), "child": range(20, 28), "absorbed": [True] * 6 + [False] * 2})
    # Tables of a run are read from CSV
    table = table.astype({"absorbed": str}) if as_text else table
    assert absorption_sentences(table) == [
        "Of 8 selected features that end by the test of presence, 6 look absorbed by a more specific one (f0 by f20, "
        "f1 by f21, f2 by f22, f3 by f23, f4 by f24 and 1 more)."
    ]
    assert absorption_sentences(table[5:]) == [
        "Of 3 selected features that end by the test of presence, 1 looks absorbed by a more specific one (f5 by f25)."
    ]
    assert absorption_sentences(table[7:]) == [
        "Of 1 selected feature that ends by the test of presence, none looks absorbed by a more specific one."
    ]
    assert absorption_sentences(table[:0]) == []
