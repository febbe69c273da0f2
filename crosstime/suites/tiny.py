"""Train a small suite of checkpoints from text in seconds: the demo's models, and tests' models."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from crosstime.errors import SuiteError
from crosstime.machine.progress import Bar, track
from crosstime.machine.storage import atomic_path, write_json
from crosstime.suites.checkpoints import INDEX
from crosstime.suites.corpus import corpus_hash, sequences
from crosstime.suites.suite import Suite
from interventions.model import no_progress_bars
from user_input.nearest import nearest

Architecture = Literal["gpt_neox", "olmo", "olmo2", "bloom"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)
END = "<|endoftext|>"

_BYTES = 256
_VALIDATION_SHARE = 20
_VALIDATION_BATCHES = 8


@dataclass(frozen=True)
class TinyConfig:
    """What to train, and for how long; lengths are in tokens.

    Attributes:
        architecture: one of `ARCHITECTURES`; pre-norm with parallel, serial or post-norm blocks, rotary
            positions or ALiBi: block outputs are tensors in three and a tuple in BLOOM.
        d_model: width of the residual stream.
        n_layers: decoder blocks.
        n_heads: attention heads; divides `d_model`.
        vocab_size: most tokens the byte-level BPE may have; fewer when the text runs out of merges.
        sequence_length: tokens of a training sequence.
        batch_tokens: tokens of a step; a multiple of `sequence_length`.
        steps: optimizer steps of AdamW(.9, .95) that the schedule is made for.
        checkpoints: steps after which the model is kept, increasing; training ends with the last one.
        lr: highest learning rate, reached after `warmup` steps; then a cosine down to a tenth of it.
        warmup: steps of linear increase.
        weight_decay: of weight matrices, not of biases and norms.
        seed: of the initial weights and the order of the text.

    Raises:
        SuiteError: an architecture that is not in the list, or numbers that do not fit each other.
    """

    architecture: str = "gpt_neox"
    d_model: int = 64
    n_layers: int = 4
    n_heads: int = 4
    vocab_size: int = 512
    sequence_length: int = 32
    batch_tokens: int = 1024
    steps: int = 512
    checkpoints: tuple[int, ...] = (0, 16, 32, 64, 128, 256, 512)
    lr: float = 3e-3
    warmup: int = 16
    weight_decay: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise SuiteError(f"unknown architecture {self.architecture!r}: {nearest(self.architecture, ARCHITECTURES)}")
        for field in ("d_model", "n_layers", "n_heads", "sequence_length", "batch_tokens", "steps"):
            if getattr(self, field) < 1:
                raise SuiteError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.d_model % (2 * self.n_heads):
            raise SuiteError(f"d_model {self.d_model} must be a multiple of 2 * n_heads = {2 * self.n_heads}")
        if self.batch_tokens % self.sequence_length:
            raise SuiteError(
                f"batch_tokens {self.batch_tokens} must be a multiple of sequence_length {self.sequence_length}"
            )
        if self.vocab_size <= _BYTES:
            raise SuiteError(f"vocab_size must be above {_BYTES}, one a byte, not {self.vocab_size}")
        if not self.checkpoints or list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise SuiteError(f"checkpoints must be increasing steps, not {list(self.checkpoints)}")
        if self.checkpoints[0] < 0 or self.checkpoints[-1] > self.steps:
            raise SuiteError(f"checkpoints must lie between 0 and steps = {self.steps}")
        if self.lr <= 0 or self.warmup < 0 or self.weight_decay < 0:
            raise SuiteError("lr must be positive, warmup and weight_decay not negative")


DEMO = TinyConfig(lr=3e-3, steps=512, checkpoints=(0, 16, 32, 64, 128, 256, 512))
DEMO_SENTENCES = 60_000
DEMO_ATTRACTOR_SHARE = 0.05
"""The demo's training text is ``tasks.agreement.sentences`` of this count and share.

An attractor in three sentences of a hundred makes the nearest noun a good guide for long: with seeds 0, 1
and 2 the model agrees with it at step 64 (no attractor pair right, every simple pair), starts to leave it at
about step 128, and agrees with the subject at step 256 (every pair right).
"""


def train_tiny_suite(
    folder: str | os.PathLike[str],
    lines: Iterable[str],
    config: TinyConfig = DEMO,
) -> Suite:
    """Train a tokenizer and a model on text, keep checkpoints on the way, and open them as a suite.

    Every twentieth document is held out; the mean cross-entropy on it, in nats a token, stands in
    ``suite.json`` for each checkpoint. Weights are float32. The folder appears when training is done and
    not before. The same text and configuration give the same weights on the same machine with the same
    number of threads.

    Args:
        folder: where the suite is written; must not exist, or be empty.
        lines: documents of text, kept in memory.
        config: what to train.

    Raises:
        SuiteError: the folder is taken, or the text is too short.

    Examples:
        >>> from tasks.agreement import sentences
        >>> suite = train_tiny_suite("tiny", sentences(50_000, seed=0))  # doctest: +SKIP
        >>> suite.revisions  # doctest: +SKIP
        ('step0', 'step16', 'step32', 'step64', 'step128', 'step256', 'step512')
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SuiteError(f"{target} exists already: choose another folder, or remove it to train again")
    documents = list(lines)
    training = [line for index, line in enumerate(documents) if index % _VALIDATION_SHARE]
    held_out = documents[::_VALIDATION_SHARE]
    if not training:
        raise SuiteError(f"a corpus of {len(documents)} documents is too short to train and validate on")

    tokenizer = train_tokenizer(training, config.vocab_size, config.sequence_length)
    length, size = config.sequence_length, config.batch_tokens // config.sequence_length
    stream = sequences(training, tokenizer, length, seed=config.seed, repeat=True, shuffle=True)
    validation = list(islice(sequences(held_out, tokenizer, length), _VALIDATION_BATCHES * size))
    model = _new_model(config, tokenizer)

    records: list[dict[str, Any]] = []
    with (
        atomic_path(target) as temporary,
        no_progress_bars(),
        track("Training", config.checkpoints[-1]) as bar,
    ):
        temporary.mkdir()

        def keep(step: int) -> None:
            revision = f"step{step}"
            model.save_pretrained(temporary / revision)
            tokenizer.save_pretrained(temporary / revision)
            records.append(
                {
                    "revision": revision,
                    "step": step,
                    "tokens": step * config.batch_tokens,
                    "val_loss": _validation_loss(model, validation, size),
                }
            )

        _train(model, _batches(stream, size), config, keep, bar)
        write_json(
            temporary / INDEX,
            {
                "name": target.resolve().name,
                "tokens_per_step": config.batch_tokens,
                "vocab": len(tokenizer),
                "corpus": corpus_hash(documents),
                "config": config,
                "revisions": records,
            },
        )
    return Suite.open(target)


def train_tokenizer(lines: Sequence[str], vocab_size: int, model_max_length: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; ``<|endoftext|>`` is its first token and serves as bos, eos and pad.

    Every text can be tokenized and comes back unchanged.

    Args:
        lines: the text to learn merges from.
        vocab_size: most tokens, end token and 256 bytes included.
        model_max_length: what the tokenizer reports as the longest input.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )


def _new_model(config: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    # Forked, so that the caller's random state is as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AutoModelForCausalLM.from_config(_model_config(config, tokenizer), dtype=torch.float32)
    return model


def _model_config(config: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    from transformers import BloomConfig, GPTNeoXConfig, Olmo2Config, OlmoConfig

    end = tokenizer.eos_token_id
    shared = {"vocab_size": len(tokenizer), "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if config.architecture == "bloom":
        return BloomConfig(hidden_size=config.d_model, n_layer=config.n_layers, n_head=config.n_heads, **shared)
    shape = {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": 4 * config.d_model,
        "max_position_embeddings": max(256, config.sequence_length),
    }
    family = {"gpt_neox": GPTNeoXConfig, "olmo": OlmoConfig, "olmo2": Olmo2Config}[config.architecture]
    return family(**shape, **shared)


def _train(
    model: PreTrainedModel,
    batches: Iterator[Int[Tensor, "B S"]],
    config: TinyConfig,
    keep: Callable[[int], None],
    bar: Bar,
) -> None:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.lr,
        betas=(0.9, 0.95),
        fused=True,
    )
    kept = set(config.checkpoints)
    if 0 in kept:
        keep(0)
    model.train()
    started = time.perf_counter()
    for step in range(1, config.checkpoints[-1] + 1):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * _rate(step, config)
        loss = _loss(model, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        bar.advance()
        speed = step * config.batch_tokens / (time.perf_counter() - started)
        bar.note(f"loss {loss.item():.3f}, {speed:,.0f} tokens/s")
        if step in kept:
            keep(step)


def _rate(step: int, config: TinyConfig) -> float:
    """Share of the highest learning rate at a step, counted from 1."""
    if step <= config.warmup:
        return step / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _loss(model: PreTrainedModel, ids: Int[Tensor, "B S"]) -> Float[Tensor, ""]:
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def _validation_loss(model: PreTrainedModel, held_out: Sequence[Tensor], size: int) -> float:
    model.eval()
    losses = [
        _loss(model, batch).item() * len(batch)
        for start in range(0, len(held_out), size)
        for batch in [torch.stack(list(held_out[start : start + size]))]
    ]
    model.train()
    return sum(losses) / len(held_out)


def _batches(stream: Iterator[Tensor], size: int) -> Iterator[Int[Tensor, "B S"]]:
    while batch := list(islice(stream, size)):
        yield torch.stack(batch)
