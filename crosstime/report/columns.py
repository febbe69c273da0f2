"""The tables of a report: their columns, and how columns and features are named for readers."""

from __future__ import annotations

import pandas as pd

_COLUMNS = {
    "accuracy": "revision step tokens task n accuracy low high logit_difference",
    "effects": "task feature revision ie low high",
    "temporal": "task feature revision relie relie_low relie_high reldec decoder_norm",
    "decoders": "feature revision reldec decoder_norm",
    "classes": "task feature class_ie class_dec",
    "ablation": (
        "task features kind revision accuracy accuracy_change logit_difference logit_difference_change low high "
        "accuracy_change_low accuracy_change_high"
    ),
    "training": "step loss l2 sparsity l0 dead",
    "evaluation": "revision fve fve_without_outliers outliers top_norm_share ce_clean ce_spliced ce_recovered l0",
    "faithfulness": (
        "task revision features n faithfulness faithfulness_low faithfulness_high "
        "completeness completeness_low completeness_high"
    ),
    "life_cycles": "source life_cycle count share low high",
    "rotation": "revision other cosine",
    "rotation_steps": "revision previous degrees share turning",
    "dimensionality": "revision total alive",
    "onsets": "feature onset kind",
    "ngrams": "revision tokens loss unigram_kl bigram_kl unigram_entropy bigram_entropy",
    "similarity": "revision other cosine pearson cka",
    "lives": "task feature life_cycle label support",
    "dips": ("dip at other task group n revision prompts accuracy accuracy_change logit_difference_change low high p"),
    "nulls": (
        "null source claim false count n seeds null_count null_n rate rate_low rate_high expected low high "
        "fdr fdr_low fdr_high"
    ),
    "baselines": (
        "task revision dictionary size l0 n effect_share faithfulness faithfulness_low faithfulness_high "
        "completeness completeness_low completeness_high accuracy_kept accuracy_ablated cpr cpr_low cpr_high "
        "cmd cmd_low cmd_high cpr_difference cpr_difference_low cpr_difference_high "
        "cmd_difference cmd_difference_low cmd_difference_high"
    ),
    "stability": (
        "task comparison variant revision k jaccard jaccard_low jaccard_high kendall kendall_low kendall_high n_prompts"
    ),
    "replication": "task feature others matches cosine selected same_class same_life same_presence",
    "descriptions": (
        "source asked described complexity complexity_low complexity_high detection detection_low detection_high "
        "fuzzing fuzzing_low fuzzing_high detection_f1 fuzzing_f1 onset_n onset_r onset_low onset_high onset_p "
        "peak_n peak_r peak_low peak_high peak_p"
    ),
    "complexity": "source feature drawn selected description complexity onset detection fuzzing",
    "logit_effects": "feature revision side rank token effect",
}
COLUMNS: dict[str, tuple[str, ...]] = {table: tuple(columns.split()) for table, columns in _COLUMNS.items()}
"""Columns of each table, in the order in which they are written."""

CHECKPOINTS = ("revision", "other", "previous", "at", "onset")
LABELS = ("task", "dip", "features", "kind", "group", "class_ie", "class_dec", "source", "life_cycle", "label")
NAMES = ("dictionary", "description", "comparison", "variant")
CLAIMS = ("null", "claim", "false")
TEXT = frozenset({*CHECKPOINTS, *LABELS, *CLAIMS, *NAMES, "side", "token"})
"""Columns of text. A revision named 143000 or a feature set named 7 is still text."""

TOP = "top"
"""Value of the column ``features`` of the faithfulness table for the top features, as opposed to a control."""

RUN = "run"
"""Value of the column ``source`` of descriptions for the run's own dictionary; others are null models."""

PRESENCE_TEST, UNDECIDED = "test of presence", "undecided"
"""Value of ``source`` for life cycles by the test of presence, and of ``life_cycle`` where it cannot tell."""

ERROR_TERM = -1
"""Value of the column ``feature`` for the crosscoder's error term."""

FACTS = {
    "rotation": "rotation (degrees)",
    "life_cycle_dec": "life cycle by decoder norm",
    "life_cycle_presence": "life cycle by the test of presence",
    "sharing_dec": "models by decoder norm",
    "sharing_presence": "models by the test of presence",
    "sharing": "models by effect",
    "spurious": "there by latent scaling at",
    "replicates": "in most seeds",
    "corpus_density": "share of corpus tokens",
    "row_density": "share of rows",
    "written": "squared norm it writes",
}
"""Titles of the facts about features whose column names do not explain themselves."""


def distinct(values: pd.Series) -> list[str]:
    """Return the distinct values of a column of text in order of first appearance, the order they are shown in."""
    return list(dict.fromkeys(values.tolist()))


def feature_name(feature: int) -> str:
    """Return the name of a feature in charts and tables.

    Examples:
        >>> feature_name(123), feature_name(-1)
        ('f123', 'error term')
    """
    return "error term" if feature == ERROR_TERM else f"f{feature}"


def fact_title(name: str) -> str:
    """Return the title that readers see for a column of facts.

    Examples:
        >>> fact_title("turning_point"), fact_title("life_cycle[agreement/simple]"), fact_title("rotation")
        ('turning point', 'life cycle on agreement/simple', 'rotation (degrees)')
    """
    fact, _, task = name.partition("[")
    title = FACTS.get(fact, fact.replace("_", " "))
    return f"{title} on {task.removesuffix(']')}" if task else title
