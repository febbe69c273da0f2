"""Train a small suite of checkpoints from text in seconds, for the demo and for tests.

1. Hold out every twentieth document, and train a tokenizer on the others.
2. Train one language model with AdamW, a linear warm-up and a cosine decay.
3. Save the model and the tokenizer at the steps of the configuration, each in a folder of its own, and record the
   validation loss.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from crosstime.errors import SuiteError
from crosstime.machine.progress import track
from crosstime.machine.storage import atomic_path, write_json
from crosstime.suites.checkpoints import INDEX
from crosstime.suites.corpus import corpus_hash, sequences
from crosstime.suites.suite import Suite
from crosstime.suites.tiny_config import DEMO, TinyConfig
from crosstime.suites.tiny_model import tiny_model
from crosstime.suites.train_tokenizer import train_tokenizer
from interventions.load_model import no_progress_bars

_HELD_OUT_EVERY = 20
_VALIDATION_BATCHES = 8


def train_tiny_suite(
    folder: str | os.PathLike[str],
    lines: Iterable[str],
    config: TinyConfig = DEMO,
) -> Suite:
    """Train a tokenizer and a model on text, save checkpoints along the way, and open them as a suite.

    Every twentieth document is held out; ``suite.json`` records the mean cross-entropy on it, in nats per token, for
    each checkpoint. Weights are float32. The folder appears only when training is complete. The same text and
    configuration give the same weights on the same machine with the same number of threads.

    Args:
        folder: where the suite is written; must be empty or not exist.
        lines: documents of text, held in memory.
        config: what to train.

    Returns:
        The suite of the saved checkpoints.

    Raises:
        SuiteError: the folder is not empty, or the text is too short.
        CorpusError: the text does not fill one sequence.

    Examples:
        >>> from tasks.agreement import sentences
        >>> suite = train_tiny_suite("tiny", sentences(50_000, seed=0))  # doctest: +SKIP
        >>> suite.revisions  # doctest: +SKIP
        ('step0', 'step16', 'step32', 'step64', 'step128', 'step256', 'step512')
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SuiteError(f"{target} exists already: choose another folder, or remove it to train again")

    # Split the text
    documents = list(lines)
    training = [line for index, line in enumerate(documents) if index % _HELD_OUT_EVERY]
    held_out = documents[::_HELD_OUT_EVERY]
    if not training:
        raise SuiteError(f"a corpus of {len(documents)} documents is too short to train and validate on")

    # Tokenize it, and initialize the model
    tokenizer = train_tokenizer(training, config.vocab_size, config.sequence_length)
    length, batch_size = config.sequence_length, config.batch_tokens // config.sequence_length
    stream = sequences(training, tokenizer, length, seed=config.seed, repeat=True, shuffle=True)
    validation = list(islice(sequences(held_out, tokenizer, length), _VALIDATION_BATCHES * batch_size))
    model = tiny_model(config, tokenizer)

    # Train, and save checkpoints
    revisions: list[dict[str, Any]] = []
    with atomic_path(target) as temporary, no_progress_bars():
        temporary.mkdir()

        def save(step: int) -> None:
            revision = f"step{step}"
            model.save_pretrained(temporary / revision)
            tokenizer.save_pretrained(temporary / revision)
            loss = _validation_loss(model, validation, batch_size)
            tokens = step * config.batch_tokens
            revisions.append({"revision": revision, "step": step, "tokens": tokens, "val_loss": loss})

        _train(model, _batches(stream, batch_size), config, save)

        # Write the index
        index = {
            "name": target.resolve().name,
            "tokens_per_step": config.batch_tokens,
            "vocab": len(tokenizer),
            "corpus": corpus_hash(documents),
            "config": config,
            "revisions": revisions,
        }
        write_json(temporary / INDEX, index)
    return Suite.open(target)


def _train(
    model: PreTrainedModel,
    batches: Iterator[Int[Tensor, "B S"]],
    config: TinyConfig,
    save: Callable[[int], None],
) -> None:
    """Train until the last checkpoint, and call `save` with each step of `config.checkpoints`."""
    # Decay matrices, but not biases and norms
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.lr,
        betas=(0.9, 0.95),
        fused=True,
    )

    with track("Training", config.checkpoints[-1], "steps") as bar:
        if 0 in config.checkpoints:
            save(0)
        model.train()
        start = time.perf_counter()
        for step in range(1, config.checkpoints[-1] + 1):
            # Take one step
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _learning_rate_factor(step, config)
            loss = _loss(model, next(batches))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

            # Show progress
            bar.advance()
            speed = step * config.batch_tokens / (time.perf_counter() - start)
            bar.note(f"loss {loss.item():.3f}, {speed:,.0f} tokens/s")

            if step in config.checkpoints:
                save(step)


def _learning_rate_factor(step: int, config: TinyConfig) -> float:
    """The learning rate of a step, counted from 1, as a share of the largest."""
    if step <= config.warmup:
        return step / config.warmup
    decayed = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * decayed))


def _loss(model: PreTrainedModel, ids: Int[Tensor, "B S"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of next-token prediction, in nats per token."""
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def _validation_loss(model: PreTrainedModel, held_out: Sequence[Int[Tensor, " S"]], batch_size: int) -> float:
    """Mean cross-entropy on the held-out sequences, in nats per token."""
    model.eval()
    batches = _batches(iter(held_out), batch_size)
    losses = [_loss(model, batch).item() * len(batch) for batch in batches]
    model.train()
    return sum(losses) / len(held_out)


def _batches(stream: Iterator[Int[Tensor, " S"]], batch_size: int) -> Iterator[Int[Tensor, "B S"]]:
    while batch := list(islice(stream, batch_size)):
        yield torch.stack(batch)
