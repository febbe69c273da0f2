"""Tables of a realistic report: accuracy, effects, ablations, training and what is compared with them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

REVISIONS = {
    "step0": 0,
    "step64": 64,
    "step256": 256,
    "step512": 512,
    "step1000": 1000,
    "step2000": 2000,
    "main": 3000,
}
COMPARED = ("step64", "step256", "main")
TASKS = ("distractor_agreement_relational_noun", "regular_plural_subject_verb_agreement_1")
FEATURES = (
    7,
    123,
    404,
    512,
    777,
    1024,
    1500,
    2048,
    3001,
    3333,
    4095,
    5000,
    6021,
    7007,
    8191,
    9000,
    9999,
    12001,
    15000,
    16383,
)
NASTY = "<script>alert(1)</script>"


def accuracy() -> pd.DataFrame:
    curves = {
        TASKS[0]: (0.49, 0.45, 0.37, 0.35, 0.30, 0.33, 0.28),
        TASKS[1]: (0.51, 0.55, 0.70, 0.72, 0.77, 0.77, 0.79),
    }
    rows = []
    for task, values in curves.items():
        for (revision, step), value in zip(REVISIONS.items(), values, strict=True):
            margin = 1.96 * math.sqrt(value * (1 - value) / 300)
            rows.append(
                (
                    revision,
                    step,
                    step * 2048,
                    task,
                    300,
                    value,
                    value - margin,
                    value + margin,
                    4 * (value - 0.5),
                )
            )
    columns = ("revision", "step", "tokens", "task", "n", "accuracy", "low", "high", "logit_difference")
    return pd.DataFrame(rows, columns=columns)


def effects(compared=COMPARED) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for task in TASKS:
        for rank, feature in enumerate((*FEATURES, -1)):
            scale = 0.5 if feature == -1 else 0.9 / (1 + rank) ** 0.8
            turn = generator.normal(size=len(compared))
            for revision, value in zip(compared, scale * turn, strict=True):
                if feature == 16383:
                    value = math.nan if revision == compared[0] else 0.0
                rows.append((task, feature, revision, value, value - 0.1 * scale, value + 0.12 * scale))
    return pd.DataFrame(rows, columns=("task", "feature", "revision", "ie", "low", "high"))


def temporal(compared=COMPARED) -> pd.DataFrame:
    table = effects(compared)
    table = table[table["feature"] != -1]
    norms = np.random.default_rng(1).gamma(1.0, 1.0, size=(len(FEATURES), len(compared)))
    rows = []
    for (task, feature), group in table.groupby(["task", "feature"], sort=False):
        norm = norms[FEATURES.index(feature)]
        total = group["ie"].abs().sum(skipna=False)
        for place, (revision, ie) in enumerate(zip(group["revision"], group["ie"], strict=True)):
            relie = abs(ie) / total if total else math.nan
            low, high = max(0.0, relie - 0.08), min(1.0, relie + 0.08)
            if math.isnan(relie):
                low = high = math.nan
            rows.append((task, feature, revision, relie, low, high, norm[place] / norm.sum(), norm[place]))
    columns = ("task", "feature", "revision", "relie", "relie_low", "relie_high", "reldec", "decoder_norm")
    return pd.DataFrame(rows, columns=columns)


def classes(compared=COMPARED) -> pd.DataFrame:
    def label(values: pd.Series, revisions: pd.Series) -> str:
        if values.isna().any():
            return "undefined"
        present = [name for name, value in zip(revisions, values, strict=True) if value >= 0.3]
        if len(present) == len(compared):
            return "shared"
        return f"{present[0]} only" if len(present) == 1 else "+".join(present)

    rows = [
        (task, feature, label(group["relie"], group["revision"]), label(group["reldec"], group["revision"]))
        for (task, feature), group in temporal(compared).groupby(["task", "feature"], sort=False)
    ]
    return pd.DataFrame(rows, columns=("task", "feature", "class_ie", "class_dec"))


def ablation(compared=COMPARED) -> pd.DataFrame:
    generator = np.random.default_rng(2)
    rows = []
    for task in TASKS:
        what = [("top-10", "set", 0.2), ("top-100", "set", 0.35), ("top-10", "random", 0.01)]
        what += [(str(feature), "single", 0.06) for feature in FEATURES]
        for features, kind, scale in what:
            for place, revision in enumerate(compared):
                change = float(generator.normal() * scale * 0.4 - scale * place / 2)
                rows.append((task, features, kind, revision, 0.6 + change, change, 0.4 + 3 * change, 3 * change))
    columns = ["task", "features", "kind", "revision", "accuracy", "accuracy_change", "logit_difference"]
    table = pd.DataFrame(rows, columns=[*columns, "logit_difference_change"])
    changes = {"low": "logit_difference_change", "accuracy_change_low": "accuracy_change"}
    for low, change in changes.items():
        table[low], table[low.replace("low", "high")] = table[change] - 0.06, table[change] + 0.05
    return table


def training() -> pd.DataFrame:
    step = np.arange(0, 2000, 2)
    decay = np.exp(-step / 300)
    noise = np.random.default_rng(3).normal(size=len(step)) * 0.02
    l2, sparsity = 20 + 700 * decay * (1 + noise), 3 + 9 * (1 - decay)
    dead = np.where(step < 400, math.nan, 40 * (1 - decay)).round()
    return pd.DataFrame(
        {
            "step": step,
            "loss": l2 + sparsity,
            "l2": l2,
            "sparsity": sparsity,
            "l0": 60 + 900 * decay,
            "dead": dead,
        }
    )


def evaluation(compared=COMPARED) -> pd.DataFrame:
    rows = [
        (revision, 0.9 - 0.02 * i, 5.2 - i, 5.4 - i, 0.97 - 0.01 * i, 61.3 + i) for i, revision in enumerate(compared)
    ]
    return pd.DataFrame(rows, columns=("revision", "fve", "ce_clean", "ce_spliced", "ce_recovered", "l0"))


def faithfulness(compared=COMPARED) -> pd.DataFrame:
    rows = []
    for task in TASKS:
        for features, gain in (("top", 0.3), ("random", 0.02)):
            for place, revision in enumerate(compared):
                for n in (0, 1, 2, 5, 10, 20, 50, 100):
                    share = 1 - math.exp(-gain * n / (place + 1))
                    rows.append((task, revision, features, n, share, share - 0.05, share + 0.05, *_around(1 - share)))
    columns = ["task", "revision", "features", "n"]
    columns += [f"{name}{end}" for name in ("faithfulness", "completeness") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=columns)


def _around(value: float) -> tuple[float, float, float]:
    return value, value - 0.04, value + 0.06


def baselines(compared=COMPARED) -> pd.DataFrame:
    rows = [
        (TASKS[0], revision, name, 64, 12.5, n, place + 0.1 * n / (n + 3), place + 0.8 * n / (n + 5), 0.7 - place)
        for revision in compared
        for place, name in ((0.2, "crosscoder"), (0.1, "neurons"), (0.0, "sae-rotated"))
        for n in (1, 10, 100)
    ]
    columns = ["task", "revision", "dictionary", "size", "l0", "n", "effect_share", "faithfulness", "completeness"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(accuracy_kept=0.7, accuracy_ablated=0.4, cpr=0.6, cmd=0.4, cpr_difference=0.1)
    table["cmd_difference"] = -0.1
    bounded = ("faithfulness", "completeness", "cpr", "cmd", "cpr_difference", "cmd_difference")
    lower = {f"{column}_low": table[column] - 0.1 for column in bounded}
    return table.assign(**lower, **{f"{column}_high": table[column] + 0.1 for column in bounded})


def stability(compared=COMPARED) -> pd.DataFrame:
    """Two variants; one has no agreement at the first checkpoint, and no row at the others."""
    rows = [
        (TASKS[0], "prompts", "resampled", revision, 10, 0.25 + 0.1 * place, 40)
        for place, revision in enumerate(compared)
    ]
    rows.append((TASKS[0], "baseline", "mean", compared[0], 10, math.nan, 16))
    table = pd.DataFrame(rows, columns=["task", "comparison", "variant", "revision", "k", "jaccard", "n_prompts"])
    bounds = {"jaccard_low": table.jaccard - 0.15, "jaccard_high": table.jaccard + 0.15}
    return table.assign(**bounds, kendall=0.5, kendall_low=0.4, kendall_high=0.6)


def dips(compared=COMPARED) -> pd.DataFrame:
    rows = [
        (TASKS[0], compared[1], compared[-1], TASKS[0], group, 33, compared[1], 100, 0.33, 0.33, change, low, high, p)
        for group, change, low, high, p in (
            ("harmful", 1.83, 1.51, 2.15, 0.016),
            ("matched control", -0.01, -0.2, 0.3, math.nan),
        )
        if len(compared) > 1
    ]
    columns = ["dip", "at", "other", "task", "group", "n", "revision", "prompts", "accuracy", "accuracy_change"]
    return pd.DataFrame(rows, columns=[*columns, "logit_difference_change", "low", "high", "p"])
