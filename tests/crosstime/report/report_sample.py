"""A realistic report with everything that could break a page, shared by the tests of the report."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd

from crosstime.report.columns import COLUMNS
from crosstime.report.page.context import Context
from crosstime.report.page.report_input import ReportInput

REVISIONS = {
    "step0": 0,
    "step64": 64,
    "step256": 256,
    "step512": 512,
    "step1000": 1000,
    "step2000": 2000,
    "main": 3000,
}
KINDS = ("token", "context", "previous token", "silent")
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


def decoders(compared=COMPARED) -> pd.DataFrame:
    return temporal(compared).drop_duplicates(["feature", "revision"])[
        ["feature", "revision", "reldec", "decoder_norm"]
    ]


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


PROMPTS = (
    ("The", " sketch", " of", " those", " authors"),
    (NASTY, " &amp; <b>bold</b>", '"onmouseover="alert(1)', " '"),
    (
        "\u0627\u0644\u0643",
        "\u062a\u0627\u0628",
        " \u0627\u0644\u0630\u064a",
        " \u0642\u0631\u0623\u062a\u0647",
    ),
    ("A", "\n", "\n\n", "\t", " ", "  ", "\U0001f469\u200d\U0001f52c", " \u202egnp.exe", "\x00", "\u00a0"),
)


def contexts() -> dict[int, list[Context]]:
    generator = np.random.default_rng(4)
    out: dict[int, list[Context]] = {}
    for feature in FEATURES[:-1]:
        out[feature] = []
        for place in range(8):
            tokens = PROMPTS[place % len(PROMPTS)]
            active = np.maximum(0.0, generator.normal(size=len(tokens)) * 3).round(3)
            label = "plural" if place % 2 else ""
            if place == 7:
                out[feature].append(Context("stories", tokens, tuple(active.tolist()), source="corpus"))
                continue
            effects = {name: tuple((active * (0.1 - 0.1 * i)).tolist()) for i, name in enumerate(COMPARED)}
            context = Context(TASKS[place % 2], tokens, tuple(active.tolist()), " are", " <is>", label, effects=effects)
            out[feature].append(context)
    return out


def faithfulness(compared=COMPARED) -> pd.DataFrame:
    rows = []
    for task in TASKS:
        for features, gain in (("top", 0.3), ("random", 0.02)):
            for place, revision in enumerate(compared):
                for n in (0, 1, 2, 5, 10, 20, 50, 100):
                    kept = 1 - math.exp(-gain * n / (place + 1))
                    rows.append((task, revision, features, n, kept, kept - 0.05, kept + 0.05, *_around(1 - kept)))
    columns = ["task", "revision", "features", "n"]
    columns += [f"{name}{end}" for name in ("faithfulness", "completeness") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=columns)


def _around(value: float) -> tuple[float, float, float]:
    return value, value - 0.04, value + 0.06


def rotation(compared=COMPARED) -> pd.DataFrame:
    rows = [
        (one, other, round(0.9 ** abs(i - j), 4)) for i, one in enumerate(compared) for j, other in enumerate(compared)
    ]
    return pd.DataFrame(rows, columns=["revision", "other", "cosine"])


def rotation_steps(compared=COMPARED) -> pd.DataFrame:
    rows = [(later, earlier, 40.0, 1 / (len(compared) - 1), 3) for earlier, later in pairwise(compared)]
    return pd.DataFrame(rows, columns=["revision", "previous", "degrees", "share", "turning"])


def dimensionality(compared=COMPARED) -> pd.DataFrame:
    rows = [(revision, 10.0 + place, 100 * place) for place, revision in enumerate(compared)]
    return pd.DataFrame(rows, columns=["revision", "total", "alive"])


def onsets(compared=COMPARED) -> pd.DataFrame:
    rows = [(place, revision, KINDS[place % len(KINDS)]) for place, revision in enumerate(4 * list(compared))]
    return pd.DataFrame(rows, columns=["feature", "onset", "kind"])


def ngrams(compared=COMPARED) -> pd.DataFrame:
    rows = [
        (revision, 1e6 * 4**place, 6.0 - place, 1.0 + place, 3.0 - place, 5.0, 4.0)
        for place, revision in enumerate(compared)
    ]
    names = "revision tokens loss unigram_kl bigram_kl unigram_entropy bigram_entropy"
    return pd.DataFrame(rows, columns=names.split())


def similarity(compared=COMPARED) -> pd.DataFrame:
    table = rotation(compared)
    return table.assign(pearson=table["cosine"] - 0.01, cka=table["cosine"] ** 2)


def lives(compared=COMPARED) -> pd.DataFrame:
    labels = [*(f"emerges at {revision}" for revision in compared[-1:]), "always", "never"]
    rows = [
        (task, feature, label.split()[0], label, 0.9)
        for task in TASKS
        for feature, label in zip(FEATURES, labels * len(FEATURES), strict=False)
    ]
    return pd.DataFrame(rows, columns=["task", "feature", "life_cycle", "label", "support"])


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


def nulls() -> pd.DataFrame:
    claims = ((f"IE: {TASKS[0]}", "emerging"), ("RelDec", f"{COMPARED[-1]} only"), ("dips", "explained"))
    rows = [
        (null, source, claim, str(null == "same-checkpoint"))
        for null in ("same-checkpoint", "random-weights")
        for source, claim in claims
    ]
    numbers = {"count": 8, "n": 20, "seeds": 1, "null_count": 1, "null_n": 20, "rate": 0.05, "rate_low": 0.001}
    numbers |= {"rate_high": 0.25, "expected": 1.0, "low": 0.02, "high": 5.0, "fdr": 0.125, "fdr_low": 0.0025}
    table = pd.DataFrame(rows, columns=["null", "source", "claim", "false"])
    return table.assign(**numbers, fdr_high=0.625)


def replication(matches: int = 1) -> pd.DataFrame:
    rows = [(task, feature) for task in TASKS for feature in FEATURES]
    counts = {"others": 2, "matches": matches, "cosine": 0.9, "selected": 1, "same_class": 1, "same_life": 0}
    return pd.DataFrame(rows, columns=["task", "feature"]).assign(**counts)


def descriptions() -> pd.DataFrame:
    numbers = dict.fromkeys(COLUMNS["descriptions"], 0.25) | {"asked": 4, "described": 3, "detection": 0.875}
    return pd.DataFrame([numbers | {"source": source} for source in ("run", "random-weights-0")])


def complexity() -> pd.DataFrame:
    rows = [("run", feature, True, True, "a noun", 2.0, COMPARED[0], 0.75, 0.5) for feature in FEATURES]
    return pd.DataFrame(rows, columns=list(COLUMNS["complexity"]))


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


FINDING = f"The dip on {TASKS[0]} is explained by discontinued features <b>&</b> nothing else."


def life_cycles() -> pd.DataFrame:
    rows = [("decoder norm", "emerging", 12, 0.6, 0.4, 0.8), ("decoder norm", "always", 8, 0.4, 0.2, 0.6)]
    return pd.DataFrame(rows, columns=["source", "life_cycle", "count", "share", "low", "high"])


def logit_effects(compared=COMPARED) -> pd.DataFrame:
    tokens = {"promoted": (" are", NASTY, "\u0627\u0644"), "suppressed": (" is", "\n", "\U0001f469\u200d\U0001f52c")}
    rows = [
        (feature, revision, side, rank, token, (4 - rank) * (1 if side == "promoted" else -1))
        for feature in FEATURES[:-1]
        for revision in compared
        for side, listed in tokens.items()
        for rank, token in enumerate(listed, 1)
    ]
    return pd.DataFrame(rows, columns=["feature", "revision", "side", "rank", "token", "effect"])


def facts() -> pd.DataFrame:
    cycles = ["emerging", "discontinued", "always", ""]
    return pd.DataFrame(
        {
            "feature": FEATURES,
            "onset": [COMPARED[i % 3] for i in range(len(FEATURES))],
            "persistence": [round(0.05 * i, 2) for i in range(len(FEATURES))],
            "life_cycle_dec": [cycles[i % 4] for i in range(len(FEATURES))],
        }
    )


def sample(compared: tuple[str, ...] = COMPARED, **changes: object) -> ReportInput:
    values = {
        "title": f"Agreement in tiny-pythia {NASTY}",
        "summary": "Three checkpoints of tiny-pythia were compared on two BLiMP paradigms: the features that follow "
        "the nearest noun emerge by step 256 & stay; those for irregular plurals come < main.",
        "setup": {
            "suite": "tiny-pythia",
            "site": "layer 2, resid",
            "crosscoder": "BatchTopK, 16,384 features, k 60",
            "seed": "124",
            "metric": "logit(wrong) - logit(right)",
            "effects": "integrated gradients, Gauss-Legendre, 8 nodes",
            "versions": "crosstime 0.1.0, torch 2.13.0, nnsight 0.8.1",
        },
        "accuracy": accuracy(),
        "compared": compared,
        "effects": effects(compared),
        "temporal": temporal(compared),
        "classes": classes(compared),
        "ablation": ablation(compared),
        "training": training(),
        "evaluation": evaluation(compared),
        "contexts": contexts(),
        "faithfulness": faithfulness(compared),
        "rotation": rotation(compared),
        "rotation_steps": rotation_steps(compared),
        "dimensionality": dimensionality(compared),
        "onsets": onsets(compared),
        "ngrams": ngrams(compared),
        "life_cycles": life_cycles(),
        "similarity": similarity(compared),
        "lives": lives(compared),
        "dips": dips(compared),
        "stability": stability(),
        "nulls": nulls(),
        "replication": replication(),
        "descriptions": descriptions(),
        "complexity": complexity(),
        "baselines": baselines(compared),
        "findings": [FINDING],
        "logit_effects": logit_effects(compared),
        "facts": facts(),
        "languages": {TASKS[0]: "en", TASKS[1]: "fr"},
    }
    return ReportInput(**{**values, **changes})


def large(n_features: int = 1000) -> ReportInput:
    """A report of many features with contexts and logit effects, made by repeating those of the sample."""
    rounds = -(-n_features // len(FEATURES))

    def repeated(frame: pd.DataFrame) -> pd.DataFrame:
        real = frame[frame["feature"] >= 0]
        parts = [real.assign(feature=real["feature"] + 20_000 * i) for i in range(rounds)]
        return pd.concat([frame[frame["feature"] < 0], *parts], ignore_index=True)

    return sample(
        effects=repeated(effects()),
        temporal=repeated(temporal()),
        classes=repeated(classes()),
        logit_effects=repeated(logit_effects()),
        facts=repeated(facts()),
        replication=repeated(replication()),
        contexts={feature + 20_000 * i: _long_contexts(i) for i in range(rounds) for feature in FEATURES},
    )


def _long_contexts(seed: int) -> list[Context]:
    """Contexts as numerous and long as in a run: prompts of two tasks with effects, and excerpts of a corpus."""
    generator = np.random.default_rng(seed)
    words = [token for prompt in PROMPTS for token in prompt]
    contexts = []
    for place in range(18):
        tokens = tuple(words[index] for index in generator.integers(len(words), size=25))
        # A feature is silent on most tokens, and has no effect where it is silent.
        fires = generator.random(25) < 0.25
        active = (fires * generator.gamma(2.0, size=25)).tolist()
        if place >= 12:
            contexts.append(Context("corpus", tokens, tuple(active), source="corpus"))
            continue
        effects = {name: tuple((fires * generator.normal(size=25)).tolist()) for name in COMPARED}
        contexts.append(Context(TASKS[place % 2], tokens, tuple(active), " are", " is", effects=effects))
    return contexts
