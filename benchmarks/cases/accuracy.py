"""Scoring a task: prompts in batches by length against transformers with one prompt at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from benchmarks.result import Result, Row
from benchmarks.setting import QUICK, Sizes, build, sizes_for
from benchmarks.timing import medians
from interventions import MAX_TOKENS, Prompts, Sequences, log_likelihoods, score


def benchmark(quick: bool, device: torch.device) -> Result:
    """Measure prompts per second at the answer token and for whole sentences; on a CPU, with a tiny model."""
    on_gpu = device.type != "cpu"
    workload: dict[str, Any] = {
        **{"checkpoints": 1, "features": 256, "active": 8, "prompts": 64 if quick else 500},
        **{"shortest": 4, "longest": 16, "max_tokens": 16_384 if on_gpu else MAX_TOKENS, "runs": 2 if quick else 3},
    }
    settings = [replace(sizes, **workload) for sizes in (sizes_for(device, quick=quick) if on_gpu else [QUICK])]
    rows = [row for sizes in settings for row in measure(sizes, device)]
    sizes = settings[0].as_dict() | {"dtypes": [sizes.dtype for sizes in settings]}
    for unused in ("features", "active", "site"):
        del sizes[unused]
    return Result("accuracy", device.type, sizes, tuple(rows))


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
