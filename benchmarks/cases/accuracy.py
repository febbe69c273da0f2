"""Scoring a task: prompts batched by length against one prompt at a time through plain transformers."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from benchmarks.result import Result, Row
from benchmarks.setting import QUICK, Sizes, build, sizes_for
from benchmarks.timing import medians
from interventions import MAX_TOKENS, Prompts, Sequences, log_likelihoods, score


def benchmark(quick: bool, device: torch.device) -> Result:
    """Prompts a second at the answer token and by whole sentences; on a CPU with a model of a tiny suite's size."""
    on_gpu = device.type != "cpu"
    listed = [
        replace(sizes, checkpoints=1, features=256, active=8, prompts=64 if quick else 500, shortest=4, longest=16,
                max_tokens=16_384 if on_gpu else MAX_TOKENS, runs=2 if quick else 3)
        for sizes in (sizes_for(device, quick=quick) if on_gpu else [QUICK])
    ]  # fmt: skip
    rows = [row for sizes in listed for row in measure(sizes, device)]
    sizes = listed[0].as_dict() | {"dtypes": [each.dtype for each in listed]}
    for unused in ("features", "active", "site"):
        del sizes[unused]
    return Result("accuracy", device.type, sizes, tuple(rows))


def measure(sizes: Sizes, device: torch.device) -> list[Row]:
    """The rows of one setting."""
    setting = build(sizes, device)
    (model,), prompts = setting.models, setting.prompts
    sentences = Sequences(prompts.ids)
    ways = {
        "answer token": lambda: score(model, prompts),
        "answer token, one by one": lambda: metrics(model.module, prompts),
        "whole sentences": lambda: log_likelihoods(model, sentences),
        "whole sentences, one by one": lambda: likelihoods(model.module, sentences),
    }
    times = medians(ways, sizes.runs)
    rows = []
    for case in ("answer token", "whole sentences"):
        name = f"{case}, {sizes.dtype}"
        difference = float((ways[case]() - ways[f"{case}, one by one"]()).abs().max())
        exact = sizes.dtype == "float32"
        metric = "largest difference"
        rows.append(Row.within(name, metric, difference, 1e-4) if exact else Row.alone(name, metric, difference))
        ours, other = (sizes.prompts / times[way] for way in (case, f"{case}, one by one"))
        rows.append(Row.more(name, "prompts/s", ours, other, "one by one", target=3))
    return rows


@torch.no_grad()
def metrics(module: GPTNeoXForCausalLM, prompts: Prompts) -> Float[Tensor, " P"]:
    """``logit(wrong) - logit(right)`` at the last token of each prompt, run alone, with no other logits made."""
    found = []
    for ids, right, wrong in zip(prompts.ids, prompts.right, prompts.wrong, strict=True):
        last = module(torch.tensor([ids], device=module.device), logits_to_keep=1).logits[0, -1].float()
        found.append(last[wrong] - last[right])
    return torch.stack(found).cpu()


@torch.no_grad()
def likelihoods(module: GPTNeoXForCausalLM, sentences: Sequences) -> Float[Tensor, " P"]:
    """Summed log-likelihood of each sentence after its first token, run alone."""
    found = []
    for ids in sentences.ids:
        row = torch.tensor(ids, device=module.device)
        log_probs = module(row[None]).logits[0, :-1].float().log_softmax(-1)
        found.append(log_probs.gather(1, row[1:, None]).sum())
    return torch.stack(found).cpu()
