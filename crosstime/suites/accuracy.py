"""How well each checkpoint of a suite does a task: at the answer token, and by whole sentences."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.machine.progress import track
from crosstime.machine.tensors import read_tensors, write_tensors
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Bootstrap, Model, Prompts, Sequences, bootstrap_interval, log_likelihoods, score
from interventions.metrics import answered_right
from tasks import SentencePairs, Task, TokenizedTask, whole_sentences

# Part of every cache key: raise it when the same inputs would give other scores.
_FORMAT = 1
# Metrics whose means are resampled together: 256 of them take 40 MB at 10,000 resamples.
_AT_ONCE = 256


def accuracy(
    suite: Suite,
    tasks: Sequence[Task | TokenizedTask] | Task | TokenizedTask,
    *,
    sentences: bool = False,
    cache: Path | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    compute: Compute = Compute(),
) -> pd.DataFrame:
    """Minimal-pair accuracy of every checkpoint on every task, one checkpoint in memory at a time.

    A prompt is answered right when the right answer's logit is above the wrong one's; a tie counts one half. With
    `sentences`, a pair also counts as right when its acceptable sentence has the higher summed log-likelihood after
    BOS, else EOS: the accuracy of lm-evaluation-harness on BLiMP, but for ties, which it counts as right. Tasks
    whose sentences share no prompt have this accuracy only.

    Args:
        suite: whose checkpoints.
        tasks: one or several, in token ids or not. Whole sentences are scored of every pair of a task; of a task
            in token ids, or with quotas, of the pairs that were kept.
        sentences: also score whole sentences: two more sequences a pair.
        cache: a folder in which the scores of each checkpoint and task are kept, so that what was measured once is
            not measured again, nor after an interruption.
        resamples, seed: of the bootstrap over pairs.
        compute: how the checkpoints are run.

    Returns:
        One row for each checkpoint and task: revision, step, tokens, task, n, accuracy, low, high (95 % bootstrap
        interval), logit_difference (right minus wrong, mean; the same number as the mean difference of
        log-probabilities, in nats), difference_low, difference_high. With `sentences` also sentence_n,
        sentence_accuracy, sentence_low, sentence_high, sentence_difference (nats, right minus wrong, mean).

    Raises:
        SuiteError: the checkpoints' tokenizers differ.
        EmptyTaskError: a task of which no pair is left.
        NoSharedPromptError: a task without prompts, and `sentences` is false.
        RunError: the cache cannot be written, or holds a damaged file.

    Examples:
        >>> accuracy(suite, tasks.load("agreement/simple", limit=200))  # doctest: +SKIP
    """
    listed = [tasks] if isinstance(tasks, Task | TokenizedTask) else list(tasks)
    asked = [_Asked.of(task, suite.tokenizer, sentences) for task in listed]
    files = [_cache_files(cache, suite.select([revision]), asked, compute) for revision in suite.revisions]
    scores = [[_kept(file) for file in of_one] for of_one in files]
    missing = [c for c, of_one in enumerate(scores) if None in of_one]
    with track("Accuracy", len(missing) * len(asked)) as bar:

        def measure(place: int, model: Model) -> None:
            c = missing[place]
            for index, each in enumerate(asked):
                if scores[c][index] is None:
                    bar.note(f"{suite.revisions[c]}, {each.name}")
                    scores[c][index] = each.scores(model)
                    if (file := files[c][index]) is not None:
                        write_tensors(file, scores[c][index], {"revision": suite.revisions[c], "task": each.name})
                bar.advance()

        if missing:
            compute.each(suite.select([suite.revisions[c] for c in missing]), measure)
    rows = [
        {"revision": checkpoint.revision, "step": checkpoint.step, "tokens": checkpoint.tokens, "task": each.name}
        for checkpoint in suite
        for each in asked
    ]
    measured = [found for of_one in scores for found in of_one]
    at_answer = [found.get("metric", torch.empty(0)) for found in measured]
    columns = [pd.DataFrame(rows), pd.DataFrame(_means(at_answer, resamples, seed))]
    if sentences:
        whole = pd.DataFrame(_means([found["wrong"] - found["right"] for found in measured], resamples, seed))
        columns.append(whole[list(_SENTENCE)].rename(columns=_SENTENCE))
    return pd.concat(columns, axis=1).astype({"step": "Int64", "tokens": "Int64"})


@dataclass(frozen=True, eq=False)
class _Asked:
    """A task as its checkpoints are asked it: prompts, whole sentences, or both."""

    name: str
    prompts: Prompts | None
    sentences: SentencePairs | None

    @classmethod
    def of(cls, task: Task | TokenizedTask, tokenizer: Any, sentences: bool) -> _Asked:
        tokenized = task if isinstance(task, TokenizedTask) else None
        if isinstance(task, Task) and (task.shared_prefix or not sentences):
            tokenized = task.tokenize(tokenizer)
        whole = None
        if sentences:
            kept = task.pairs
            if tokenized is not None and (isinstance(task, TokenizedTask) or task.quotas is not None):
                kept = tokenized.pairs
            whole = whole_sentences(Task(task.name, "und", "these pairs", kept), tokenizer)
        return cls(task.name, None if tokenized is None else Prompts.of(tokenized), whole)

    def scores(self, model: Model) -> dict[str, Tensor]:
        """The metric of every prompt, and the log-likelihood of every sentence."""
        found = {}
        if self.prompts is not None:
            found["metric"] = score(model, self.prompts)
        if self.sentences is not None:
            both = Sequences((*self.sentences.right, *self.sentences.wrong))
            right, wrong = log_likelihoods(model, both).split(len(self.sentences))
            found |= {"right": right, "wrong": wrong}
        return found

    @cached_property
    def digest(self) -> str:
        """Of everything that a model is shown and asked."""
        prompts, whole = self.prompts, self.sentences
        content = [
            None if prompts is None else [prompts.ids, list(prompts.right), list(prompts.wrong)],
            None if whole is None else [whole.right, whole.wrong],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _cache_files(cache: Path | None, checkpoint: Suite, asked: Sequence[_Asked], compute: Compute) -> list[Path | None]:
    """Where the scores of each task at one checkpoint, the only one of its suite, are kept."""
    if cache is None:
        return [None] * len(asked)
    contents = [[_FORMAT, checkpoint.fingerprint, compute.precision, each.digest] for each in asked]
    names = (hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24] for content in contents)
    return [cache / f"{name}.safetensors" for name in names]


def _kept(file: Path | None) -> dict[str, Tensor] | None:
    return read_tensors(file)[0] if file is not None and file.is_file() else None


_MEANS = ("accuracy", "low", "high", "logit_difference", "difference_low", "difference_high")
_SENTENCE = {
    "n": "sentence_n",
    "accuracy": "sentence_accuracy",
    "low": "sentence_low",
    "high": "sentence_high",
    "logit_difference": "sentence_difference",
}


def _means(metrics: Sequence[Float[Tensor, " _"]], resamples: int, seed: int) -> list[dict[str, float | int]]:
    """Accuracy and mean difference of pairs, from each metric, wrong minus right; NaN where there is no pair.

    Which pairs a resample draws depends on their number alone: metrics of as many pairs share the draws, which cost
    far more than the means.
    """
    found = [{"n": len(metric)} | dict.fromkeys(_MEANS, float("nan")) for metric in metrics]
    for places in _alike(len(metric) for metric in metrics):
        both = [torch.stack([answered_right(metrics[i]), -metrics[i].double()], 1) for i in places]
        values = torch.stack(both, 1)
        low, high = bootstrap_interval(values, Bootstrap(resamples, seed))
        bounds = torch.stack([values.mean(0), low, high], -1).flatten(1)
        for i, numbers in zip(places, bounds.tolist(), strict=True):
            found[i] |= dict(zip(_MEANS, numbers, strict=True))
    return found


def _alike(sizes: Iterable[int]) -> list[list[int]]:
    """Places of equal sizes, at most `_AT_ONCE` together; those of size 0 left out."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, size in enumerate(sizes):
        if size:
            places[size].append(place)
    return [group[start : start + _AT_ONCE] for group in places.values() for start in range(0, len(group), _AT_ONCE)]
