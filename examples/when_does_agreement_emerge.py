"""Which features make a small model agree with the subject of a sentence, and when in training do they start to matter?

This script takes five minutes to read and less than one to run:

    python examples/when_does_agreement_emerge.py

It needs no data and no network. The model is so small that its effects are small, too: `crosstime demo` runs the same
experiment at a size at which the answer is clear. Everything below works in the same way for `EleutherAI/pythia-1b`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import crosstime as ct
from crosstime.report.charts.accuracy import accuracy_chart
from crosstime.report.charts.effects import effects_chart
from crosstime.report.charts.save_chart import save_chart
from crosstime.report.charts.ternary import ternary_chart
from tasks.agreement import sentences


def main(folder: Path) -> ct.Attribution:
    """Train a tiny suite and a crosscoder, attribute a task to its features, and draw charts of the results."""
    # 1. A suite: checkpoints of one model. Here we train one; usually it is a folder or a repository on the Hub:
    #    ct.Suite.open("EleutherAI/pythia-1b", revisions=["step512", "step2000", "main"])
    text = list(sentences(4_000, seed=0, attractor_share=0.05))
    tiny = ct.TinyConfig(d_model=32, n_layers=2, n_heads=2, vocab_size=512, steps=96, checkpoints=(0, 32, 96))
    suite = ct.train_tiny_suite(folder / "suite", text, tiny)

    # 2. A task: minimal pairs. "The authors near the guard" continues with " are" rather than " is".
    task = ct.tasks.load("agreement/simple", limit=60)
    accuracy = ct.accuracy(suite, task)
    print(accuracy[["revision", "tokens", "accuracy", "low", "high"]].to_string(index=False))

    # 3. A crosscoder: one dictionary of features for the activations of all three checkpoints.
    config = ct.L1Config(n_features=128, steps=150, lr=5e-3, l1=0.5)
    data = ct.DataConfig(batch_size=256, sequence_length=24)
    trained = ct.train(suite, ct.Site(0), text, config, data=data)
    print(ct.evaluate(suite, trained.crosscoder, text[:500])[["revision", "fve", "l0"]].to_string(index=False))

    # 4. Indirect effects: how much would the answer change if one feature were set to zero? RelIE is a checkpoint's
    #    share of the feature's effects, RelDec its share of the feature's decoder norms. Features are selected on one
    #    half of the prompts, and everything that is said about them is measured on the other.
    attribution = ct.attribute(suite, trained.crosscoder, task)
    selection, held_out = attribution.halves()
    top = selection.top(5)
    table = held_out.table(top)
    print(table[["feature", "revision", "ie", "low", "high", "relie", "reldec", "class_ie"]].to_string(index=False))

    # 5. A test of the claim: without these features, is the model worse at the task?
    print(ct.ablate(suite, trained.crosscoder, held_out.decomposed, {"top": top}).to_string(index=False))

    # 6. Charts for a paper or a slide. In a notebook, an attribution or a chart displays itself.
    save_chart(accuracy_chart(accuracy, suite.revisions), folder / "accuracy")
    save_chart(effects_chart(table, suite.revisions), folder / "effects")
    save_chart(ternary_chart(table, suite.revisions), folder / "ternary")
    print(f"The charts are in {folder}.")
    return attribution


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
