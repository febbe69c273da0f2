"""What the recipe eoc-tiny shows beside the paper's claims, and onsets and lives under both gates, as Markdown tables.

``python -m benchmarks.papers.evolution_of_concepts RUN`` reads the folder of a finished run of eoc-tiny. It trains the
same suite's crosscoder under one gate for all checkpoints, twice, which takes minutes; ``--claims`` leaves that out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import decompose_text
from crosstime.crosscoders.evaluate import evaluate
from crosstime.evolution.decoder_evolution import decoder_evolution
from crosstime.runs.folder import RunFolder
from crosstime.runs.inputs import Inputs
from crosstime.runs.recipe.recipe import Recipe
from crosstime.suites.text_sample import TextSample
from crosstime.training.jumprelu_config import JumpReLUConfig
from crosstime.training.train import train

CAN_DO = 0.9
"""Accuracy from which a checkpoint counts as doing a task."""


def claims(folder: RunFolder) -> list[tuple[str, str]]:
    """Each claim of the paper, and what the run shows."""
    return [
        ("first the statistics of single tokens and pairs are learned, then features", _statistics(folder)),
        ("most features emerge around one point", _emergence(folder)),
        ("simple kinds emerge before complex ones", _kinds(folder)),
        ("directions turn most at a turning point", _rotation(folder)),
        ("the dimensions that features fill fall, and rise again", _dimensionality(folder)),
        ("few features disrupt a task at every checkpoint", _ablation(folder)),
    ]


def _statistics(folder: RunFolder) -> str:
    table = folder.table("ngrams")
    nearest = {name: table.loc[table[f"{name}_kl"].idxmin()] for name in ("unigram", "bigram")}
    below = table[table.loss < table.bigram_entropy]
    parts = [f"nearest to {name}s at {row.revision} (KL {row[f'{name}_kl']:.2f})" for name, row in nearest.items()]
    parts.append(
        f"loss below the bigrams' entropy from {below.revision.iloc[0]} on" if len(below) else "never below it"
    )
    return ", ".join(parts)


def _alive(folder: RunFolder) -> pd.DataFrame:
    """Onset, turning point and kind of the features that fire."""
    table = folder.table("evolution/evolution").merge(folder.table("evolution/kinds"), on="feature")
    return table[table.kind != "silent"]


def _emergence(folder: RunFolder) -> str:
    onsets = _alive(folder).onset.value_counts()
    listed = ", ".join(f"{revision} {count}" for revision, count in onsets.head(4).items())
    return f"onsets of the {onsets.sum()} features that fire: {listed}"


def _kinds(folder: RunFolder) -> str:
    table = folder.table("evolution/onsets")
    rows = table[table.kind != "silent"].sort_values("onset").itertuples()
    return "mean onset, in checkpoints: " + ", ".join(
        f"{row.kind} {row.onset:.1f} [{row.low:.1f}, {row.high:.1f}] (n {row.n})" for row in rows
    )


def _rotation(folder: RunFolder) -> str:
    steps = folder.table("evolution/rotation_steps")
    largest = steps.loc[steps.degrees.idxmax()]
    turning = _alive(folder).turning_point.value_counts()
    return (
        f"mean angle {steps.degrees.iloc[0]:.0f}° at the first step, {largest.degrees:.0f}° at most "
        f"({largest.revision}), {steps.degrees.iloc[-1]:.0f}° at the last; {turning.iloc[0]} of {turning.sum()} "
        f"features that fire turn most on the way to {turning.index[0]}"
    )


def _dimensionality(folder: RunFolder) -> str:
    table = folder.table("evolution/dimensionality")
    least = table.loc[table.total.idxmin()]
    return (
        f"{table.total.iloc[0]:.1f} at {table.revision.iloc[0]}, {least.total:.1f} at {least.revision}, "
        f"{table.total.iloc[-1]:.1f} at {table.revision.iloc[-1]}"
    )


def _ablation(folder: RunFolder) -> str:
    """Accuracy without all selected features, and without as many random ones, where the model does the task."""
    ablation, accuracy = folder.table("ablation"), folder.table("accuracy")
    parts = []
    for task, rows in ablation.groupby("task", sort=False):
        clean = accuracy[accuracy.task == task].set_index("revision").accuracy
        able = set(clean[clean >= CAN_DO].index)
        sets = rows[(rows.kind == "set") & rows.revision.isin(able)]
        size = sets.features.str.extract(r"\((\d+)\)")[0].astype(int).max()
        chosen = sets[sets.features.str.endswith(f"({size})")].drop_duplicates("revision")
        control = rows[(rows.features == f"{size} random") & rows.revision.isin(able)]
        parts.append(
            f"{task}, {len(able)} checkpoints that do it: accuracy without the {size} selected features "
            f"{chosen.accuracy.min():.2f} to {chosen.accuracy.max():.2f}, without {size} random ones "
            f"{control.accuracy.min():.2f} to {control.accuracy.max():.2f}"
        )
    return "; ".join(parts)


def one_gate(inputs: Inputs, sparsity: float) -> CrossCoder:
    """The crosscoder of the recipe's size and schedule with one gate for all checkpoints."""
    table = inputs.recipe.crosscoder
    config = JumpReLUConfig(
        n_features=table.n_features,
        steps=table.steps,
        lr=table.lr,
        lr_warmup=table.lr_warmup,
        lr_decay=table.lr_decay,
        seed=table.seed,
        sparsity=sparsity,
        sparsity_warmup=0.1,
        threshold=0.1,
        bandwidth=4.0,
    )
    data = table.data_config(sequence_length=inputs.recipe.corpus.sequence_length, seed=inputs.recipe.seed)
    return train(inputs.compared, inputs.site, inputs.corpus(), config, data=data, compute=inputs.compute).crosscoder


def gate_row(inputs: Inputs, name: str, crosscoder: CrossCoder) -> dict[str, str]:
    """Onsets and lives of the features of one crosscoder that fire on held-out text."""
    length = inputs.recipe.corpus.sequence_length
    text = inputs.corpus(held_out=True)
    evaluation = evaluate(inputs.compared, crosscoder, text, sample=TextSample(128, length), compute=inputs.compute)
    norms = crosscoder.decoder_norms()
    codes = decompose_text(inputs.compared, crosscoder, text, sample=TextSample(128, length)).codes
    firing = torch.unique(codes.feature)
    evolution = decoder_evolution(crosscoder)["evolution"].iloc[firing.tolist()]
    lives = evolution.life_cycle.astype(str).value_counts(normalize=True)
    first = crosscoder.origin.revisions[0]
    smallest = (norms.amin(0) / norms.amax(0).clamp(min=1e-30))[firing]
    return {
        "crosscoder": name,
        "l0": f"{evaluation.l0.mean():.1f}",
        "variance explained": f"{evaluation.fve.mean():.3f}",
        "features that fire": str(len(firing)),
        f"onset at {first}": f"{(evolution.onset == first).mean():.0%}",
        "onset at all other checkpoints": f"{(evolution.onset != first).mean():.0%}",
        **{life: f"{lives.get(life, 0.0):.0%}" for life in ("always", "emerging", "discontinued", "intermittent")},
        "smallest norm / largest, median": f"{smallest.median().item():.3f}",
    }


def markdown(rows: list[dict[str, str]]) -> str:
    """A table in Markdown; all rows have the same keys."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(row[name] for name in names) + " |" for row in rows)])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of eoc-tiny")
    parser.add_argument("--claims", action="store_true", help="print the first table only")
    options = parser.parse_args()
    folder, recipe = RunFolder(options.run), Recipe.named("eoc-tiny")

    print(markdown([{"the paper": claim, "eoc-tiny": shown} for claim, shown in claims(folder)]))
    if options.claims:
        return

    inputs = Inputs(replace(recipe, name=options.run.name), folder)
    weight, n_checkpoints = recipe.crosscoder.config().sparsity, len(recipe.compare.revisions)
    rows = [gate_row(inputs, f"a gate per checkpoint, sparsity {weight:g}", folder.crosscoder)]
    for sparsity in (weight, weight * n_checkpoints):
        rows.append(gate_row(inputs, f"one gate, sparsity {sparsity:g}", one_gate(inputs, sparsity)))
    print("\n" + markdown(rows))


if __name__ == "__main__":
    main()
