"""Accuracy of every checkpoint of a suite on minimal pairs: at the answer token, and by whole sentences."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.machine.progress import track
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.suites.checkpoints import COLUMN_DTYPES
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, Model, Prompts, Sequences, bootstrap_interval, pair_log_likelihoods, score
from interventions.metrics import answered_right
from tasks import SentencePairs, Task, TokenizedTask, whole_sentences
from tasks.registry import as_task

_CACHE_VERSION = 3
"""Part of every cache key; increase it when the same inputs would give other scores."""
_RESAMPLED_TOGETHER = 256
"""Metrics whose means are resampled together; 256 of them take 40 MB with 10,000 resamples."""


def accuracy(
    suite: Suite,
    tasks: Sequence[Task | TokenizedTask | str] | Task | TokenizedTask | str,
    *,
    sentences: bool = False,
    cache: Path | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Measure the accuracy of every checkpoint on every task, with one checkpoint in memory at a time.

    A prompt is answered correctly if the logit of the right answer is above that of the wrong answer; a tie counts one
    half. With `sentences`, a pair is also scored by the summed log-likelihoods of its two sentences after BOS (EOS if
    the tokenizer has no BOS), and counts as correct if that of the acceptable sentence is higher. This is the accuracy
    that lm-evaluation-harness reports on BLiMP, except that there a tie counts as correct. Tasks whose sentences share
    no prompt have only this accuracy.

    Args:
        suite: the checkpoints.
        tasks: one or several tasks, by name, as pairs or tokenized. Whole sentences are scored for every pair of a
            task, but only for the kept pairs if the task is tokenized or has quotas.
        sentences: also score whole sentences, at the cost of two more sequences per pair.
        cache: folder in which the scores of each checkpoint and task are saved, so that they are not measured again,
            even after an interruption.
        bootstrap: bootstrap over pairs that gives the intervals.
        compute: how the checkpoints are run.

    Returns:
        One row for each checkpoint and task: revision, step, tokens, task, pairs (how many pairs have a prompt and why
        others have none, as text), n, accuracy, low, high (bootstrap interval of the accuracy), logit_difference (mean
        of right minus wrong; equal to the mean difference of log-probabilities, in nats), difference_low,
        difference_high. With `sentences` also sentence_n,
        sentence_accuracy, sentence_low, sentence_high, sentence_difference (mean of right minus wrong, in nats).

    Raises:
        SuiteError: a checkpoint cannot be used, or two do not fit together or have the same weights.
        EmptyTaskError: no pair of a task is left.
        NoSharedPromptError: a task has no prompts, and `sentences` is false.
        RunError: the cache cannot be written, or holds a damaged file.

    Examples:
        >>> accuracy(suite, tasks.load("agreement/simple", limit=200))  # doctest: +SKIP
    """
    # Check the checkpoints, and tokenize the tasks
    compute.verify(suite)
    requests = [tasks] if isinstance(tasks, Task | TokenizedTask | str) else list(tasks)
    task_list = [as_task(task) for task in requests]
    texts = [_TaskText.of(task, suite, sentences=sentences) for task in task_list]

    # Read the scores of earlier measurements
    files: dict[tuple[int, int], Path] = {}
    if cache is not None:
        for c, revision in enumerate(suite.revisions):
            checkpoint = suite.select([revision])
            files |= {(c, t): cache / _cache_name(checkpoint, text, compute) for t, text in enumerate(texts)}
    scores = {key: read_tensors(file)[0] for key, file in files.items() if file.is_file()}

    # Run the checkpoints that lack scores
    missing = [c for c in range(len(suite)) if any((c, t) not in scores for t in range(len(texts)))]
    with track("Accuracy", len(missing) * len(texts)) as bar:

        def measure(index: int, model: Model) -> None:
            c = missing[index]
            for t, text in enumerate(texts):
                if (c, t) not in scores:
                    bar.note(f"{suite.revisions[c]}, {text.name}")
                    scores[c, t] = text.scores(model)
                    if (c, t) in files:
                        write_tensors(files[c, t], scores[c, t], {"revision": suite.revisions[c], "task": text.name})
                bar.advance()

        if missing:
            compute.each(suite.select([suite.revisions[c] for c in missing]), measure)

    # Average over pairs
    ordered = [scores[c, t] for c in range(len(suite)) for t in range(len(texts))]
    rows = [checkpoint.as_row() | {"task": text.name, "pairs": text.summary} for checkpoint in suite for text in texts]
    at_answer = _means([score.get("metric", torch.empty(0)) for score in ordered], bootstrap)
    columns = [pd.DataFrame(rows), pd.DataFrame(at_answer)]
    if sentences:
        by_sentence = pd.DataFrame(_means([score["wrong"] - score["right"] for score in ordered], bootstrap))
        columns.append(by_sentence[list(_SENTENCE_COLUMNS)].rename(columns=_SENTENCE_COLUMNS))
    return pd.concat(columns, axis=1).astype(COLUMN_DTYPES)


@dataclass(frozen=True, eq=False)
class _TaskText:
    """What checkpoints read of a task: its prompts, its whole sentences, or both."""

    name: str
    summary: str
    prompts: Prompts | None
    sentences: SentencePairs | None

    @classmethod
    def of(cls, task: Task | TokenizedTask, suite: Suite, *, sentences: bool) -> _TaskText:
        # Find the prompts
        tokenized = None
        if isinstance(task, TokenizedTask):
            tokenized = task
        elif task.shared_prefix or not sentences:
            # A pair needs no patch prompt to be answered
            tokenized = task.tokenize(suite.tokenizer, patch=False)
        prompts = None if tokenized is None else Prompts.of(tokenized)
        summary = f"{len(task):,} without prompts" if tokenized is None else tokenized.summary()
        if not sentences:
            return cls(task.name, summary, prompts, None)

        # Find the sentences of the same pairs
        pairs = task.pairs
        if tokenized is not None and isinstance(task, Task) and task.quotas is not None:
            pairs = tokenized.pairs
        whole = whole_sentences(Task(task.name, "und", "these pairs", pairs), suite.tokenizer)
        return cls(task.name, summary, prompts, whole)

    def scores(self, model: Model) -> dict[str, Tensor]:
        """The metric of every prompt, and the log-likelihoods of every right and every wrong sentence."""
        scores = {}
        if self.prompts is not None:
            scores["metric"] = score(model, self.prompts)
        if self.sentences is not None:
            right, wrong = Sequences(self.sentences.right), Sequences(self.sentences.wrong)
            scores["right"], scores["wrong"] = pair_log_likelihoods(model, right, wrong)
        return scores

    @cached_property
    def digest(self) -> str:
        """Hash of all token ids that a model reads, and of the answers."""
        prompts, whole = self.prompts, self.sentences
        content = [
            None if prompts is None else [prompts.ids, list(prompts.right), list(prompts.wrong)],
            None if whole is None else [whole.right, whole.wrong],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _cache_name(checkpoint: Suite, text: _TaskText, compute: Compute) -> str:
    """Name of the file with the scores of one task at one checkpoint, which is given as a suite of its own."""
    content = [_CACHE_VERSION, checkpoint.fingerprint, compute.precision, text.digest]
    return f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]}.safetensors"


_MEAN_COLUMNS = ("accuracy", "low", "high", "logit_difference", "difference_low", "difference_high")
_SENTENCE_COLUMNS = {
    "n": "sentence_n",
    "accuracy": "sentence_accuracy",
    "low": "sentence_low",
    "high": "sentence_high",
    "logit_difference": "sentence_difference",
}


def _means(metrics: Sequence[Float[Tensor, " _"]], bootstrap: Bootstrap) -> list[dict[str, float | int]]:
    """Accuracy and mean difference with their intervals, for each metric (wrong minus right); NaN where it is empty.

    The pairs that a resample draws depend only on the number of pairs. Metrics of equal length therefore share the
    draws, which cost far more than the means.
    """
    rows: list[dict[str, float | int]] = [
        {"n": len(metric)} | dict.fromkeys(_MEAN_COLUMNS, float("nan")) for metric in metrics
    ]
    for group in _groups_of_equal_size([len(metric) for metric in metrics]):
        # Resample all metrics of the group at once
        values = torch.stack([torch.stack([answered_right(metrics[i]), -metrics[i].double()], 1) for i in group], 1)
        low, high = bootstrap_interval(values, bootstrap)

        # Fill their rows
        bounds = torch.stack([values.mean(0), low, high], -1).flatten(1)
        for i, numbers in zip(group, bounds.tolist(), strict=True):
            rows[i] |= dict(zip(_MEAN_COLUMNS, numbers, strict=True))
    return rows


def _groups_of_equal_size(sizes: Iterable[int]) -> list[list[int]]:
    """Indices of equal sizes, at most `_RESAMPLED_TOGETHER` in a group; those of size 0 are in none."""
    indices: defaultdict[int, list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        if size:
            indices[size].append(index)
    step = _RESAMPLED_TOGETHER
    return [equal[start : start + step] for equal in indices.values() for start in range(0, len(equal), step)]
