"""Log-likelihoods by the evaluator of lm-eval, on request; runs in the environment of the other tools.

``python lm_eval_scores.py '{"folder": "...", "batch_size": 1}'``: the folder holds a model, a tokenizer and
``pairs.json``, a list of ``[prefix, rest of the right sentence, rest of the wrong sentence]`` in token ids. A request
is ``answers``, the log-likelihood of the first token of each rest after the prefix, or ``sentences``, that of
everything after the first token. The answer has the time and two log-likelihoods for each pair.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(sizes: dict[str, Any]) -> None:
    """Load the model, and score all pairs on every request."""
    # Keep the standard output for answers, whatever the tool prints
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    # Load the model; the requests have no text, because they are given in tokens
    folder = Path(sizes["folder"])
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    evaluator = HFLM(pretrained=module, tokenizer=tokenizer, batch_size=sizes["batch_size"], device="cpu")
    pairs = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    requests = {
        "answers": [(("", ""), prefix, rest[:1]) for prefix, *rests in pairs for rest in rests],
        "sentences": [(("", ""), prefix[:1], prefix[1:] + rest) for prefix, *rests in pairs for rest in rests],
    }
    facts = {"version": version("lm-eval"), "torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(facts), file=answers, flush=True)

    # Answer requests
    for command in iter(sys.stdin.readline, ""):
        started = time.perf_counter()
        scores = evaluator._loglikelihood_tokens(requests[command.strip()], disable_tqdm=True)
        seconds = time.perf_counter() - started
        values = [score for score, _ in scores]
        print(json.dumps({"seconds": seconds, "values": values}), file=answers, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
