"""A realistic report with everything that could break a page, shared by the tests of the report."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sample_evolution import (
    dimensionality,
    facts,
    life_cycles,
    lives,
    ngrams,
    nulls,
    onsets,
    replication,
    rotation,
    rotation_steps,
    similarity,
)
from sample_tables import (
    COMPARED,
    FEATURES,
    NASTY,
    TASKS,
    ablation,
    accuracy,
    baselines,
    classes,
    dips,
    effects,
    evaluation,
    faithfulness,
    stability,
    temporal,
    training,
)

from crosstime.report.columns import COLUMNS
from crosstime.report.page.context import Context
from crosstime.report.page.report_input import ReportInput

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


def decoders(compared=COMPARED) -> pd.DataFrame:
    return temporal(compared).drop_duplicates(["feature", "revision"])[
        ["feature", "revision", "reldec", "decoder_norm"]
    ]


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


def descriptions() -> pd.DataFrame:
    numbers = dict.fromkeys(COLUMNS["descriptions"], 0.25) | {"asked": 4, "described": 3, "detection": 0.875}
    return pd.DataFrame([numbers | {"source": source} for source in ("run", "random-weights-0")])


def complexity() -> pd.DataFrame:
    rows = [("run", feature, True, True, "a noun", 2.0, COMPARED[0], 0.75, 0.5) for feature in FEATURES]
    return pd.DataFrame(rows, columns=list(COLUMNS["complexity"]))


FINDING = f"The dip on {TASKS[0]} is explained by discontinued features <b>&</b> nothing else."


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
