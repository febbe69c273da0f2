"""Estimators of indirect effects against exact effects: ranks, largest features, completeness, and cost in passes.

The reference is `exact`, which replaces one feature at a time. `ig 4` has four Gauss-Legendre nodes, `ig` as many as
completeness asks for. RelP, GIM and the correction of AtP* (`qk`) are one gradient each, with the rules of
`benchmarks.gradient_rules`; they are compared with `atp`, the plain gradient. Passes are forward and backward passes
of the blocks above the site for each prompt, without the two passes that score the ends of the path.

``python -m benchmarks.cases.effects_quality SUITES DATA [CSV]`` measures the suites of a folder on corpus and pairs of
another, prints the table of ``docs/design.md``, and writes the figures of every checkpoint to a file.
`python -m benchmarks effects_quality` needs neither and trains small suites on a generated grammar.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

import crosstime as ct
from benchmarks.gradient_rules import RULES, Rules, applied
from benchmarks.result import Result, Row
from crosstime.crosscoders.decompose import prepare_task
from crosstime.training.topk_config import BatchTopKConfig
from interventions import Baseline, Decomposition, Effects, Estimator, Model, Prompts, Site, indirect_effects
from interventions.budget import for_each_batch
from interventions.path import FEWEST_STEPS
from interventions.prompts import Batch
from interventions.upward import Upward
from tasks.agreement import sentences

TOP = 10
"""How many of the largest effects are compared with those of `exact`."""
ESTIMATORS = {
    "atp": Estimator("atp"),
    "ig 2": Estimator("ig", steps=2),
    "ig 4": Estimator("ig", steps=4),
    "ig 10": Estimator("ig", steps=10),
    "ig": Estimator("ig"),
}
"""The estimators of `interventions` that are compared; the rules of `RULES` come beside them."""
ARCHITECTURES = ("gpt_neox", "olmo", "bloom")
SITE = Site(1)


@dataclass(frozen=True)
class Problem:
    """A suite with its crosscoder, and a task with a baseline.

    Attributes:
        name: of the suite, for the table.
        suite, crosscoder: the checkpoints and the features.
        task: the minimal pairs.
        baseline: name of the baseline.
    """

    name: str
    suite: ct.Suite
    crosscoder: ct.CrossCoder
    task: ct.tasks.Task
    baseline: str


@dataclass(frozen=True)
class Quality:
    """How near one estimator comes to `exact` at one checkpoint.

    Attributes:
        suite, task, baseline, revision, method: what was measured.
        rank_correlation: Spearman's, over the features that fire.
        overlap: share of the `TOP` largest effects that are among the `TOP` largest of `exact`.
        completeness_error: see `Effects.completeness_error`.
        passes: forward and backward passes for each prompt.
    """

    suite: str
    task: str
    baseline: str
    revision: str
    method: str
    rank_correlation: float
    overlap: float
    completeness_error: float
    passes: float

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Where all estimators are compared."""
        return self.suite, self.task, self.baseline, self.revision


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure every estimator at every checkpoint of small suites of three architectures; of one, if quick."""
    with tempfile.TemporaryDirectory() as folder:
        problems = trained_problems(Path(folder), ARCHITECTURES[:1] if quick else ARCHITECTURES, quick=quick)
        qualities = [quality for problem in problems for quality in measure(problem)]
    sizes = {"site": str(SITE), "top": TOP, "suites": "trained on the grammar of tasks.agreement"}
    return Result("effects_quality", device.type, sizes, rows(qualities))


def trained_problems(folder: Path, architectures: Sequence[str], *, quick: bool) -> Iterator[Problem]:
    """Train a suite and a crosscoder of each architecture on a generated grammar."""
    text = list(sentences(2_000 if quick else 60_000, seed=0, attractor_share=0.05))
    checkpoints = (0, 8) if quick else (0, 64, 256)
    config = sparse(64 if quick else 256, k=8, steps=20 if quick else 300)
    for architecture in architectures:
        tiny = ct.TinyConfig(architecture=architecture, steps=checkpoints[-1], checkpoints=checkpoints)
        suite = ct.train_tiny_suite(folder / architecture, text, tiny)
        data = ct.DataConfig(batch_size=512, sequence_length=32, buffer_tokens=16_384)
        crosscoder = ct.train(suite, SITE, text, config, data=data).crosscoder
        task = ct.tasks.load("agreement/attractor", limit=8 if quick else 60)
        for baseline in ("zero", "patch"):
            yield Problem(architecture, suite, crosscoder, task, baseline)


def sparse(n_features: int, *, k: int, steps: int) -> BatchTopKConfig:
    """Return hyper-parameters of a BatchTopK crosscoder whose features become sparse in half of the steps.

    With the dense features that training starts with, each effect is small, and every estimator is right.
    """
    start = min(8 * k, n_features)
    return BatchTopKConfig(
        n_features=n_features, k=k, k_start=start, k_steps=steps // 2, steps=steps, lr=2e-3, dead_after=20_000
    )


def opened_problems(suites: Path, data: Path) -> Iterator[Problem]:
    """Open every suite of a folder and train a crosscoder for it."""
    corpus = [str(data / "corpus" / name) for name in ("tinystories_train_head_a.txt.gz", "tatoeba_en.txt.gz")]
    for folder in sorted(path for path in suites.iterdir() if path.is_dir()):
        suite = ct.Suite.open(folder)
        config = sparse(512, k=16, steps=1_000)
        crosscoder = ct.train(
            suite, SITE, corpus, config, data=ct.DataConfig(batch_size=512, sequence_length=64)
        ).crosscoder
        for name, baseline in (
            ("blimp/regular_plural_subject_verb_agreement_1", "zero"),
            ("pairs/nounpp_test", "zero"),
            ("pairs/simple_test", "patch"),
        ):
            yield Problem(folder.name, suite, crosscoder, ct.tasks.load(name, data, limit=60), baseline)


def measure(problem: Problem) -> list[Quality]:
    """Compare all estimators with `exact` at every checkpoint of a problem."""
    checkpoints, decomposed = prepare_task(problem.suite, problem.crosscoder, problem.task, baseline=problem.baseline)
    qualities: list[Quality] = []

    def at_checkpoint(index: int, model: Model) -> None:
        # Estimate the effects in every way
        clean, prompts, site = decomposed.clean[index], decomposed.prompts, problem.crosscoder.origin.site
        baseline = decomposed.baseline(problem.baseline, index, seed=0)
        effects = {
            name: indirect_effects(model, prompts, site, clean, replace(estimator, baseline=baseline))
            for name, estimator in (*ESTIMATORS.items(), ("exact", Estimator("exact")))
        }
        for name, rules in RULES.items():
            effects[name] = ruled_effects(model, prompts, site, clean, baseline, rules, effects["atp"])

        # Compare them
        for name, estimate in effects.items():
            qualities.append(
                Quality(
                    problem.name,
                    problem.task.name,
                    problem.baseline,
                    checkpoints.revisions[index],
                    name,
                    *agreement(estimate, effects["exact"]),
                    estimate.completeness_error(),
                    passes(name, effects["exact"]),
                )
            )

    ct.Compute().each(checkpoints, at_checkpoint)
    return qualities


def ruled_effects(
    model: Model,
    prompts: Prompts,
    site: Site,
    clean: Decomposition,
    baseline: Baseline,
    rules: Rules,
    atp: Effects,
) -> Effects:
    """Return the effects with one gradient under `rules`: those of `atp` with another gradient.

    Args:
        model, prompts, site, clean, baseline: as in `indirect_effects`.
        rules: the rules of the gradient.
        atp: the effects by `atp`, whose entries and metrics are the same.
    """
    upward = Upward(model, prompts, site, "logit_difference")
    gradient = ruled_gradient(upward, clean.x, baseline.x, rules)

    # Project the gradient onto features and error term
    change = baseline.change(clean)
    value = change.inner(gradient.to(change.value), clean.directions.to(change.value))
    error_by_token = (gradient * (baseline.error - clean.error).to(gradient)).sum(1)
    error = torch.zeros(len(prompts)).index_add(0, prompts.sequence_of_token, error_by_token)
    return replace(atp, value=value, error=error)


def ruled_gradient(
    upward: Upward, start: Float[Tensor, "T D"], end: Float[Tensor, "T D"], rules: Rules
) -> Float[Tensor, "T D"]:
    """Return dm/dx at the clean state under `rules`; where they need it, the baseline runs in the same batch."""
    model, prompts = upward.model, upward.prompts
    gradient = torch.zeros(prompts.n_tokens, model.d_model)
    nodes, weights = (
        (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])) if rules.pairs else (torch.zeros(1), torch.ones(1))
    )

    def work(batch: Batch, budget: int) -> None:
        ends = upward.pad(batch, start), upward.pad(batch, end)
        with applied(model.module, rules):
            slope = upward.gradient(batch, *ends, nodes, weights)
        batch.unpad(slope, gradient)

    for_each_batch(prompts, model.max_tokens // len(nodes), work, equal_lengths=model.equal_lengths)
    return gradient


def agreement(estimate: Effects, exact: Effects) -> tuple[float, float]:
    """Return rank correlation and overlap of the largest effects with those of `exact`."""
    firing = torch.unique(exact.feature)
    ours, theirs = estimate.per_feature()[firing], exact.per_feature()[firing]
    n = min(TOP, len(firing))
    largest = (set(effects.abs().topk(n).indices.tolist()) for effects in (ours, theirs))
    return float(spearmanr(ours, theirs).statistic), len(set.intersection(*largest)) / n


def passes(method: str, exact: Effects) -> float:
    """Return the forward and backward passes that a method takes for each prompt.

    `ig` without a fixed number of nodes is counted with the nodes that every prompt starts with, the least it takes;
    `exact` with one pass for each feature that fires.
    """
    if method == "exact":
        return len(exact.value) / len(exact.clean)
    if method in RULES:
        return 3.0 if RULES[method].pairs else 2.0
    estimator = ESTIMATORS[method]
    return 2.0 * (1 if estimator.method == "atp" else estimator.steps or FEWEST_STEPS)


def rows(qualities: Sequence[Quality]) -> tuple[Row, ...]:
    """Return means over suites, tasks and checkpoints for each baseline and estimator, compared with those of `atp`."""
    result = []
    groups = grouped(qualities)
    for (baseline, method), group in groups.items():
        atp, case = groups[baseline, "atp"], f"{baseline} baseline, {method}"
        ranks, plain_ranks = ([quality.rank_correlation for quality in part] for part in (group, atp))
        overlaps, plain_overlaps = ([quality.overlap for quality in part] for part in (group, atp))
        errors, plain_errors = ([quality.completeness_error for quality in part] for part in (group, atp))
        costs, plain_costs = ([quality.passes for quality in part] for part in (group, atp))
        result += [
            Row.more(case, "rank correlation with exact", mean(ranks), mean(plain_ranks), "atp"),
            Row.more(case, "the same, lowest of all checkpoints", min(ranks), min(plain_ranks), "atp"),
            Row.more(case, f"share of the top {TOP} of exact", mean(overlaps), mean(plain_overlaps), "atp"),
            Row.less(case, "completeness error", mean(errors), mean(plain_errors), "atp"),
            Row.less(case, "passes per prompt", mean(costs), mean(plain_costs), "atp"),
        ]
    return tuple(result)


def grouped(qualities: Sequence[Quality]) -> dict[tuple[str, str], list[Quality]]:
    """Return the qualities of each baseline and estimator, in order of first appearance."""
    groups: dict[tuple[str, str], list[Quality]] = {}
    for quality in qualities:
        groups.setdefault((quality.baseline, quality.method), []).append(quality)
    return groups


def table(qualities: Sequence[Quality]) -> str:
    """Return means over tasks and checkpoints as Markdown, with the rank correlations of every suite."""
    suites = tuple(dict.fromkeys(quality.suite for quality in qualities))
    plain = {quality.place: quality.rank_correlation for quality in qualities if quality.method == "atp"}
    ranks = " | ".join(f"ranks, {suite}" for suite in suites)
    lines = [
        f"| baseline | estimator | passes | {ranks} | lowest | above `atp` | top {TOP} | completeness error |",
        f"|---|---|{'--:|' * (len(suites) + 5)}",
    ]
    for (baseline, method), group in grouped(qualities).items():
        above = sum(quality.rank_correlation > plain[quality.place] for quality in group)
        cells = [baseline, f"`{method}`", f"{mean(quality.passes for quality in group):.0f}"]
        cells += [f"{mean(q.rank_correlation for q in group if q.suite == suite):.3f}" for suite in suites]
        cells += [f"{min(quality.rank_correlation for quality in group):.2f}", f"{above} of {len(group)}"]
        cells += [f"{mean(quality.overlap for quality in group):.2f}"]
        cells += [f"{mean(quality.completeness_error for quality in group):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or not all(Path(argument).is_dir() for argument in sys.argv[1:3]):
        print(
            "effects_quality: give a folder of suites and a folder with corpus and pairs: SUITES DATA [CSV]",
            file=sys.stderr,
        )
        sys.exit(2)
    problems = opened_problems(Path(sys.argv[1]), Path(sys.argv[2]))
    measured = [quality for problem in problems for quality in measure(problem)]
    if len(sys.argv) == 4:
        pd.DataFrame(measured).round(4).to_csv(sys.argv[3], index=False)
    print(table(measured))
