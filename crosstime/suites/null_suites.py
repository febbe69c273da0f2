"""Suites of null models: the same checkpoint under every name, and checkpoints with re-randomised weights."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from crosstime.errors import SuiteError
from crosstime.machine.progress import track
from crosstime.machine.storage import atomic_path
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.suite import Suite
from interventions.load_model import load_model


def same_checkpoint(suite: Suite, revision: str) -> Suite:
    """A suite with the names of another, in which every name stands for one and the same checkpoint.

    Nothing differs between its checkpoints, so that every difference that is found between them is false.

    Args:
        suite: the suite whose names, steps and tokenizer are kept.
        revision: the checkpoint of it that all names stand for.

    Raises:
        SuiteError: the suite has no such checkpoint.

    Examples:
        >>> suite = Suite.open("EleutherAI/pythia-1b", ["step512", "main"])
        >>> same_checkpoint(suite, "main")["step512"].hub_revision
        'main'
    """
    original = suite[revision]
    copies = [
        replace(original, revision=checkpoint.revision, step=checkpoint.step, tokens=checkpoint.tokens)
        for checkpoint in suite
    ]
    return _with_tokenizer(replace(suite, checkpoints=tuple(copies), allow_equal_weights=True), suite)


def randomised_suite(suite: Suite, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Suite:
    """Write a suite whose weights are random numbers with the mean and the norm of those of each checkpoint.

    ::

        w'  =  mean(w) + std(w) z        for each tensor w, with z standard normal, centred, of variance 1

    z is the same at every checkpoint and differs between tensors: what training taught is gone, and how the size of
    each tensor changes over training is left. A tensor that is constant stays as it is.

    Args:
        suite: the checkpoints, whose weights can be read on this machine.
        folder: where the new checkpoints are written, all or none; if it exists, it is opened as it is.
        seed: seed of z.
        dtype: dtype of the weights.

    Raises:
        SuiteError: a checkpoint cannot be used, or a weight file of the folder is missing.
        CheckpointLoadError: the weights of a checkpoint cannot be read.
        RunError: the folder cannot be written.

    Examples:
        >>> randomised_suite(suite, Path("random"), seed=1).revisions  # doctest: +SKIP
        ('step512', 'main')

    Source: Heap et al. (arXiv 2501.17727), who train sparse autoencoders on re-randomised transformers.
    """
    if not folder.exists():
        suite.verify()
        with atomic_path(folder) as temporary, track("Re-randomising weights", len(suite), "checkpoints") as bar:
            temporary.mkdir()
            for index, checkpoint in enumerate(suite):
                bar.note(checkpoint.revision)
                _write_randomised(suite, checkpoint, temporary / _folder_name(index), seed=seed, dtype=dtype)
                bar.advance()

    checkpoints = [
        replace(checkpoint, source=str(folder / _folder_name(index)), hub_revision=None, model=None)
        for index, checkpoint in enumerate(suite)
    ]
    if missing := [checkpoint.source for checkpoint in checkpoints if not Path(checkpoint.source).is_dir()]:
        raise SuiteError(f"{missing[0]} is missing: remove {folder}, and it is made again")
    # Constant weights are equal at all checkpoints where nothing in them was trained
    return _with_tokenizer(replace(suite, checkpoints=tuple(checkpoints), allow_equal_weights=True), suite)


def _write_randomised(suite: Suite, checkpoint: Checkpoint, folder: Path, *, seed: int, dtype: torch.dtype) -> None:
    """Write one checkpoint with re-randomised weights, and the tokenizer of the suite."""
    if checkpoint.model is not None:
        model = copy.deepcopy(checkpoint.model)
        torch.nn.Module.to(model, dtype)
    else:
        model = load_model(
            checkpoint.source,
            checkpoint.hub_revision,
            device=torch.device("cpu"),
            dtype=dtype,
            trust_remote_code=suite.trust_remote_code,
        )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(_randomised(weight, f"{seed} {name}"))
    model.save_pretrained(folder)
    suite.tokenizer.save_pretrained(folder)


def _randomised(weight: torch.Tensor, name: str) -> torch.Tensor:
    """Random numbers of the mean and the standard deviation of a tensor; the name decides the draw."""
    if weight.numel() < 2:
        return weight
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") % 2**63
    z = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    z = (z - z.mean()) / z.std(correction=0)
    values = weight.float()
    return (values.mean() + values.std(correction=0) * z).to(weight.dtype)


def _folder_name(index: int) -> str:
    """Folder of a checkpoint; names of revisions on the Hub may have slashes."""
    return f"checkpoint-{index}"


def _with_tokenizer(suite: Suite, original: Suite) -> Suite:
    """The suite, which reads the tokenizer of the original no second time."""
    if "tokenizer" in vars(original):
        vars(suite)["tokenizer"] = original.tokenizer
    return suite
