"""Scoring a task: prompts in batches by length against one prompt at a time, and against the evaluator of lm-eval.

lm-eval runs in a process of its own, on the same model, pairs and threads, with its default batch size of 1 and with
32, the fastest of 1, 8, 32 and 128. It is given token ids, so that its time is that of its forward passes and sums. At
the answer token, ours needs two rows of the unembedding where lm-eval computes all logits of all tokens.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from benchmarks.peers.peer import MISSING, Peer, environment
from benchmarks.result import Result, Row
from benchmarks.setting import FULL, QUICK, Sizes, build, random_model, random_tokenizer, sizes_for
from benchmarks.timing import medians
from interventions import MAX_TOKENS, Model, Prompts, Sequences, log_likelihoods, pair_log_likelihoods, score

Pair = tuple[list[int], list[int], list[int]]
"""What two sentences share from their start, and the rest of each."""
PAIRS = 128
BATCH_SIZES = (1, 32)
"""Batch sizes of lm-eval: its default, and its fastest."""


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure prompts per second at the answer token and for whole sentences; on a CPU, with a tiny model."""
    on_gpu = device.type != "cpu"
    workload: dict[str, Any] = {
        **{"checkpoints": 1, "features": 256, "active": 8, "prompts": 64 if quick else 500},
        **{"shortest": 4, "longest": 16, "max_tokens": 16_384 if on_gpu else MAX_TOKENS, "runs": 2 if quick else 3},
    }
    settings = [replace(sizes, **workload) for sizes in (sizes_for(device, quick=quick) if on_gpu else [QUICK])]
    rows = [row for sizes in settings for row in measure(sizes, device)]
    python = environment()
    if quick or on_gpu:
        note = {"lm-eval": "on a CPU at full size only"}
    elif python is None:
        note = {"lm-eval": MISSING}
    else:
        rows += compare_with_lm_eval(python, replace(FULL, runs=3))
        note = {
            "lm-eval": f"{PAIRS} pairs, d_model {FULL.d_model}, n_layers {FULL.n_layers}, vocabulary {FULL.vocabulary}"
        }
    sizes = settings[0].as_dict() | {"dtypes": [sizes.dtype for sizes in settings]}
    for unused in ("features", "active", "site"):
        del sizes[unused]
    return Result("accuracy", device.type, sizes | note, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """Measure one setting."""
    setting = build(sizes, device)
    (model,), prompts = setting.models, setting.prompts
    sentences = Sequences(prompts.ids)

    # Time both implementations on both tasks
    calls = {
        "answer token": lambda: score(model, prompts),
        "answer token, one by one": lambda: metrics(model.module, prompts),
        "whole sentences": lambda: log_likelihoods(model, sentences),
        "whole sentences, one by one": lambda: likelihoods(model.module, sentences),
    }
    times = medians(calls, sizes.runs)

    # Compare results and speed
    rows = []
    for case in ("answer token", "whole sentences"):
        title = f"{case}, {sizes.dtype}"
        difference = float((calls[case]() - calls[f"{case}, one by one"]()).abs().max())
        exact = sizes.dtype == "float32"
        metric = "largest difference"
        rows.append(Row.within(title, metric, difference, 1e-4) if exact else Row.alone(title, metric, difference))
        ours, other = (sizes.prompts / times[name] for name in (case, f"{case}, one by one"))
        rows.append(Row.more(title, "prompts/s", ours, other, "one by one", target=3))
    return rows


def compare_with_lm_eval(python: Path, sizes: Sizes) -> list[Row]:
    """Compare log-likelihoods, judgements and speed with lm-eval, which the `python` of the other tools has."""
    pairs = random_pairs(sizes.vocabulary, PAIRS, seed=0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        # Save the model for both, with the pairs
        module, tokenizer = random_model(sizes, 0), random_tokenizer()
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (Path(folder) / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
        model = Model.wrap(module, tokenizer)
        ours: dict[str, Callable[[], Tensor]] = {
            "answers": partial(score, model, prompts_of(pairs)),
            "sentences": partial(sentence_differences, model, pairs),
        }

        # Interleave both, for each batch size
        for batch_size in BATCH_SIZES:
            with Peer(python, "lm_eval_scores.py", {"folder": folder, "batch_size": batch_size}) as peer:
                name = f"lm-eval {peer.versions['version']}, batch size {batch_size}"
                theirs = {command: partial(peer.request, command) for command in ours}
                calls = {
                    f"{who} {what}": call
                    for who, all_calls in (("our", ours), ("their", theirs))
                    for what, call in all_calls.items()
                }
                times = medians(calls, sizes.runs)
                for what in ours:
                    right, wrong = torch.tensor(theirs[what]()["values"]).view(-1, 2).unbind(1)
                    mine, other = ours[what]().double(), (wrong - right).double()
                    rows.append(
                        Row.within(
                            f"{what}, {name}", "largest difference of a pair", float((mine - other).abs().max()), 1e-3
                        )
                    )
                    rows.append(
                        Row.alone(f"{what}, {name}", "pairs judged otherwise", int(((mine < 0) != (other < 0)).sum()))
                    )
                    rates = (len(pairs) / times[f"{who} {what}"] for who in ("our", "their"))
                    rows.append(
                        Row.more(f"{what}, {name}", "pairs/s", *rates, name, target=3 if batch_size == 1 else None)
                    )
    return rows


def random_pairs(vocabulary: int, count: int, seed: int) -> list[Pair]:
    """Return pairs of sentences of random tokens that differ in one token, with up to four tokens after it."""
    generator = random.Random(seed)

    def tokens(least: int, most: int) -> list[int]:
        return [generator.randrange(1, vocabulary) for _ in range(generator.randint(least, most))]

    pairs = []
    for _ in range(count):
        prefix, (right, wrong), rest = [0, *tokens(4, 12)], generator.sample(range(1, vocabulary), 2), tokens(0, 4)
        pairs.append((prefix, [right, *rest], [wrong, *rest]))
    return pairs


def prompts_of(pairs: list[Pair]) -> Prompts:
    """Return the shared beginnings as prompts, with the tokens in which the sentences differ as answers."""
    return Prompts(
        tuple(tuple(prefix) for prefix, _, _ in pairs),
        tuple(right[0] for _, right, _ in pairs),
        tuple(wrong[0] for _, _, wrong in pairs),
    )


def sentence_differences(model: Model, pairs: list[Pair]) -> Float[Tensor, " P"]:
    """Return the log-likelihood of each wrong sentence minus that of the right one."""
    right = Sequences(tuple((*prefix, *rest) for prefix, rest, _ in pairs))
    wrong = Sequences(tuple((*prefix, *rest) for prefix, _, rest in pairs))
    of_right, of_wrong = pair_log_likelihoods(model, right, wrong)
    return of_wrong - of_right


@torch.no_grad()
def metrics(module: GPTNeoXForCausalLM, prompts: Prompts) -> Float[Tensor, " P"]:
    """Return ``logit(wrong) - logit(right)`` of each prompt from a pass of its own that computes no other logits."""
    differences = []
    for ids, right, wrong in zip(prompts.ids, prompts.right, prompts.wrong, strict=True):
        last = module(torch.tensor([ids], device=module.device), logits_to_keep=1).logits[0, -1].float()
        differences.append(last[wrong] - last[right])
    return torch.stack(differences).cpu()


@torch.no_grad()
def likelihoods(module: GPTNeoXForCausalLM, sentences: Sequences) -> Float[Tensor, " P"]:
    """Return the log-likelihood of each sentence after its first token, from a pass of its own."""
    sums = []
    for ids in sentences.ids:
        row = torch.tensor(ids, device=module.device)
        log_probs = module(row[None]).logits[0, :-1].float().log_softmax(-1)
        sums.append(log_probs.gather(1, row[1:, None]).sum())
    return torch.stack(sums).cpu()
