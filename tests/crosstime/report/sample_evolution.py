"""Tables of a realistic report about change over training, and about null models and other seeds."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
from sample_tables import COMPARED, FEATURES, TASKS

KINDS = ("token", "context", "previous token", "silent")


def rotation(compared=COMPARED) -> pd.DataFrame:
    rows = [
        (revision, other, round(0.9 ** abs(i - j), 4))
        for i, revision in enumerate(compared)
        for j, other in enumerate(compared)
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


def life_cycles() -> pd.DataFrame:
    rows = [("decoder norm", "emerging", 12, 0.6, 0.4, 0.8), ("decoder norm", "always", 8, 0.4, 0.2, 0.6)]
    return pd.DataFrame(rows, columns=["source", "life_cycle", "count", "share", "low", "high"])


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
