"""How much the estimator matters in Crosscoding Through Time: default, as written and as released, on small suites.

``python -m benchmarks.papers.ctt_estimators SUITES DATA [NAME ...]`` trains a crosscoder on three checkpoints of each
suite in the folder SUITES (or of those named), estimates effects on the paper's pairs in DATA, and writes
``ctt_estimators.json`` beside this file.
Without arguments it prints the table of that file, as it is in ``docs/guides/ctt.md``; a test keeps both in step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import crosstime as ct
from crosstime.effects.attribution import Attribution
from crosstime.effects.relie import classify, relative
from crosstime.effects.select_top import select_top
from crosstime.machine.storage import write_json
from interventions import Aggregation, Estimator
from tasks import load

RESULT = Path(__file__).with_name("ctt_estimators.json")
RESAMPLES, SEED, PAIRS = 200, 0, 400
PRESENT = 3 / 7
"""Share of a feature's largest effect at which it is present, as in `crosstime.evolution`."""


@dataclass(frozen=True)
class Setting:
    """A suite, its compared checkpoints, and the pairs and columns of the paper's data table for them."""

    suite: str
    revisions: tuple[str, ...]
    corpus: str
    task: str
    columns: int


SETTINGS = (
    Setting("tiny-pythia", ("step64", "step512", "main"), "tatoeba_en.txt.gz", "ctt/blimp-sva", 18),
    Setting("tiny-olmo", ("step64-tokens0M", "step512-tokens1M", "main"), "tatoeba_en.txt.gz", "ctt/blimp-sva", 18),
    Setting("tiny-bloom", ("global_step64", "global_step512", "main"), "tatoeba_fr.txt.gz", "ctt/clams-en-fr", 6),
)
COMPARISONS = {
    "as written": ("written", "default"),
    "as released": ("released", "default"),
    "gradient alone": ("released", "integral, aggregated as released"),
    "aggregation alone": ("integral, aggregated as released", "default"),
}
"""Name of a column: the estimator that it is about, and the one that it is compared with."""


def measure(setting: Setting, suites: Path, data: Path) -> list[dict[str, Any]]:
    """Train a crosscoder, estimate effects in four ways on the same prompts, and compare them."""
    # Train as the small recipes do
    suite = ct.Suite.open(suites / setting.suite, setting.revisions, tokenizer=suites / setting.suite / "main")
    config = ct.L1Config(n_features=1024, steps=1500, lr=2e-3, l1=1.0)
    batches = ct.DataConfig(batch_size=512, sequence_length=64, buffer_tokens=100_000)
    trained = ct.train(suite, ct.Site(1), str(data / "corpus" / setting.corpus), config, data=batches)

    # Estimate the effects
    task = load(setting.task, data).tokenize(suite.tokenizer, limit=PAIRS, prepend="eos")
    decomposed = ct.decompose_task(suite, trained.crosscoder, task)
    estimators = {
        "default": Estimator(),
        "written": Estimator.named("ctt-as-written"),
        "released": Estimator.named("ctt-as-released", columns=setting.columns),
    }
    attributions = {
        name: ct.attribute(suite, trained.crosscoder, decomposed, estimator) for name, estimator in estimators.items()
    }
    released = Aggregation("ctt-released", columns=setting.columns)
    integral = tuple(replace(effects, aggregation=released) for effects in attributions["default"].effects)
    attributions["integral, aggregated as released"] = replace(attributions["default"], effects=integral)

    # Compare them on the prompts and on resamples of them
    weights = _resamples(len(task))
    values = {name: _per_prompt(attribution) for name, attribution in attributions.items()}
    rows = []
    for column, (other, reference) in COMPARISONS.items():
        samples = [
            compare(*(torch.einsum("p,cpf->cf", w, values[name]) for name in (reference, other)), setting.revisions)
            for w in weights
        ]
        errors = [_completeness(attributions[other], w) for w in weights]
        samples = [sample | {"completeness error": error} for sample, error in zip(samples, errors, strict=True)]
        for metric, value in samples[0].items():
            spread = torch.tensor([sample[metric] for sample in samples[1:]], dtype=torch.float64)
            low, high = torch.nanquantile(spread, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
            rows.append({"suite": setting.suite, "column": column, "metric": metric, "pairs": len(task)})
            rows[-1] |= {"value": value, "low": low, "high": high}
    return rows


def compare(reference: Tensor, other: Tensor, revisions: tuple[str, ...]) -> dict[str, float]:
    """How far the conclusions from two matrices of effects ``C F`` agree, on the features that the first selects."""
    selected = select_top(reference, 10)
    pair = (reference[:, selected].T, other[:, selected].T)
    shares = [relative(effects) for effects in pair]
    difference = (shares[0] - shares[1]).abs()
    defined = difference.isfinite()
    classes = [classify(share, revisions) for share in shares]
    changed = [first != second for first, second in zip(*classes, strict=True)]
    onsets = [(effects.abs() >= PRESENT * effects.abs().amax(1, keepdim=True)).int().argmax(1) for effects in pair]
    return {
        "top 10 in common": _overlap(reference, other, 10),
        "top 100 in common": _overlap(reference, other, 100),
        "same sign": float((pair[0].sign() == pair[1].sign()).double().mean()),
        "mean difference of RelIE": float(difference[defined].mean()),
        "largest difference of RelIE": float(difference[defined].max()),
        "class changes": sum(changed) / len(changed),
        "first checkpoint changes": float((onsets[0] != onsets[1]).double().mean()),
    }


def _overlap(reference: Tensor, other: Tensor, k: int) -> float:
    """Share of the k largest effects that two estimators have in common, as a mean over checkpoints."""
    shares, k = [], min(k, reference.shape[1])
    for effects in zip(reference.abs(), other.abs(), strict=True):
        largest = [task_effects.topk(k) for task_effects in effects]
        first, second = (set(top.indices[top.values > 0].tolist()) for top in largest)
        shares.append(len(first & second) / max(len(first), 1))
    return sum(shares) / len(shares)


def _resamples(n_prompts: int) -> list[Tensor]:
    """Weights of the prompts: all equal, and then one row for each bootstrap resample."""
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.randint(n_prompts, (RESAMPLES, n_prompts), generator=generator)
    counts = [torch.bincount(draw, minlength=n_prompts) for draw in draws]
    return [weights.double() / n_prompts for weights in (torch.ones(n_prompts), *counts)]


def _per_prompt(attribution: Attribution) -> Tensor:
    """Effects of all features on each prompt ``C P F``, whose mean over prompts is the indirect effect."""
    features = range(attribution.decoder_norms.shape[1])
    return torch.stack([effects.per_prompt(features) for effects in attribution.effects])


def _completeness(attribution: Attribution, weights: Tensor) -> float:
    """Completeness error, with weights of the prompts, as a mean over checkpoints."""
    errors = []
    for effects in attribution.effects:
        total = effects.error.double().index_add(0, effects.prompt, effects.value.double())
        change = (effects.baseline - effects.clean).double()
        errors.append(float((weights * (total - change).abs()).sum() / (weights * change.abs()).sum()))
    return sum(errors) / len(errors)


def table(rows: list[dict[str, Any]]) -> str:
    """The result as a Markdown table, with a block of rows for each suite."""
    lines = ["| | " + " | ".join(COMPARISONS) + " |", "|---|" + "--:|" * len(COMPARISONS)]
    by_place = {(row["suite"], row["metric"], row["column"]): row for row in rows}
    for suite in dict.fromkeys(row["suite"] for row in rows):
        pairs = next(row["pairs"] for row in rows if row["suite"] == suite)
        lines.append(f"| **{suite}**, {pairs} pairs |" + " |" * len(COMPARISONS))
        for metric in dict.fromkeys(row["metric"] for row in rows):
            lines.append(f"| {metric} | " + " | ".join(_cell(by_place[suite, metric, c]) for c in COMPARISONS) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any]) -> str:
    """A number with its interval."""
    show: Callable[[float], str] = lambda value: f"{value:.2f}".removeprefix("0")  # noqa: E731
    return f"{show(row['value'])} ({show(row['low'])} to {show(row['high'])})"


def main(arguments: list[str]) -> None:
    """Measure, if two folders are given, and print the table."""
    if arguments:
        suites, data, *names = arguments
        measured = [
            row
            for setting in SETTINGS
            if not names or setting.suite in names
            for row in measure(setting, Path(suites), Path(data))
        ]
        earlier = json.loads(RESULT.read_text(encoding="utf-8")) if names and RESULT.exists() else []
        rows = [row for row in earlier if row["suite"] not in names] + measured
        order = [setting.suite for setting in SETTINGS]
        write_json(RESULT, sorted(rows, key=lambda row: order.index(row["suite"])))
    print(table(json.loads(RESULT.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
