"""Train a crosscoder on the activations of a suite's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from crosstime.activations.store import ActivationStore
from crosstime.crosscoders.crosscoder import CrossCoder, Origin
from crosstime.machine.processes import joined, own_device
from crosstime.machine.progress import track
from crosstime.shown import Shown
from crosstime.suites.compute import Compute
from crosstime.suites.corpus import TextSource
from crosstime.suites.suite import Suite
from crosstime.training.data import Feed
from crosstime.training.loggers import Metrics
from crosstime.training.loop import fit
from crosstime.training.resume import Keeper
from crosstime.training.trainer import TrainerConfig
from interventions import Site


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Shown):
    """A trained crosscoder and how its losses went.

    Attributes:
        crosscoder: ready for evaluation, on the CPU.
        log: about a hundred rows, evenly over the steps: step, loss, l2, sparsity, l0, dead; with a validation share
            also held_out_loss, held_out_l2 (see `crosstime.training.held_out.HeldOut`).
        tokens: tokens whose activations were harvested.
    """

    crosscoder: CrossCoder
    log: pd.DataFrame
    tokens: int

    def headline(self) -> str:
        """What was trained."""
        return f"{self.crosscoder.headline()}; {self.tokens:,} tokens were harvested"

    def tables(self) -> dict[str, pd.DataFrame]:
        """How the losses ended."""
        return {"the end of its log": self.log.tail(5)}


def train(
    suite: Suite,
    site: Site,
    corpus: TextSource | Iterable[str] | ActivationStore,
    config: TrainerConfig,
    *,
    batch_size: int = 4096,
    sequence_length: int = 1024,
    buffer_tokens: int = 1 << 18,
    buffer_dtype: str = "float32",
    validation: float = 0.0,
    precision: str | None = None,
    state: str | Path | None = None,
    save_every: int = 1_000,
    metrics: str | Path | None = None,
    loggers: Sequence[str] = (),
    seed: int = 0,
    compute: Compute = Compute(),
) -> Trained:
    """Train one crosscoder for all checkpoints of `suite`, on activations made on the fly.

    Sees ``config.steps * batch_size`` tokens. A local corpus with fewer is read again, in another order; a
    Hub data set is streamed once. Batch and sequence length are CTT's; a short corpus or a small model
    wants smaller ones.

    With `state`, everything that training depends on is saved there every `save_every` steps, atomically, and
    a run that finds such a file goes on from it: on the CPU, to the same weights bit for bit. The file holds the
    buffer too (buffer_tokens x C x D numbers).

    Under ``torchrun`` the processes train together: each harvests its share of the text and takes its share of every
    batch. The losses are those of one process. The first one writes the files.

    Args:
        suite: the C checkpoints to compare; name them with `Suite.select`.
        site: where activations are read.
        corpus: text files, a Hub data set (``hf:ORG/NAME``), an iterable of documents, or a store of
            activations (`crosstime.activations.harvest.harvest`).
        config: kind, dictionary size and hyper-parameters: `L1Config`, `TopKConfig`, `BatchTopKConfig` or
            `JumpReLUConfig`.
        batch_size: tokens of one step.
        sequence_length: tokens of one sequence of text; a store has its own.
        buffer_tokens: tokens that are held in memory and shuffled together.
        buffer_dtype: float32, bfloat16 or float16: how they are held.
        validation: share of the documents that training does not see; a batch of them is measured in the log.
        precision: of the matrix products, float32 or bfloat16; None takes bfloat16 on a GPU that has it. Weights
            are float32 always, and products in float32 use TF32 where a GPU has it.
        state: file in which an interrupted training is kept; removed by nobody but the caller.
        save_every: steps between two savings.
        metrics: folder in which ``metrics.jsonl`` gets a line whenever something is logged.
        loggers: "tensorboard", "wandb": write there as well; both are extras.
        seed: of the order of text and tokens; `config.seed` is that of the initialisation.
        compute: how the checkpoints are run; the crosscoder is trained on the same device.

    Raises:
        CrosscoderError: a corpus, sequence or batch too short; a loss that explodes or is not a number, with
            the step; a `state` left by another configuration, with the differences; an option out of range.
        SuiteError: checkpoints whose width or tokenizer differ.
        CorpusError: text that cannot be read.

    Examples:
        >>> config = L1Config(n_features=1024, steps=500, lr=1e-3)  # doctest: +SKIP
        >>> trained = train(suite, Site(1), "corpus.txt.gz", config, sequence_length=64)  # doctest: +SKIP
        >>> trained.crosscoder.save("crosscoder.safetensors")  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 3.3.
    """
    if isinstance(corpus, ActivationStore):
        sequence_length = corpus.sequence_length
    device = own_device(compute.torch_device)
    precision = precision or _best_precision(device)
    options = {
        "buffer_tokens": buffer_tokens, "buffer_dtype": buffer_dtype, "validation": validation, "precision": precision
    }  # fmt: skip
    keeper = Keeper(None if state is None else Path(state), save_every, options)
    processes = joined(device)
    feed = Feed(
        suite=suite, site=site.resolve(suite.n_layers), corpus=corpus, batch_size=batch_size,
        sequence_length=sequence_length, buffer_tokens=buffer_tokens, buffer_dtype=buffer_dtype,
        validation=validation, limit=config.steps * batch_size, seed=seed,
        compute=replace(compute, device=str(device)), processes=processes,
    )  # fmt: skip
    settings = asdict(config) | {
        "trainer": config.title, "batch_size": batch_size, "sequence_length": sequence_length, "data_seed": seed
    }  # fmt: skip
    origin = Origin(suite.name, suite.revisions, feed.site, suite.d_model, settings)
    found = keeper.load(origin)
    start = found.step if found else 0
    with Metrics(metrics if processes.first else None, loggers if processes.first else (), start=start) as writer:
        batches = feed.batches(found.buffer if found else None)
        crosscoder = CrossCoder(
            origin, config.n_features, batches.scales, activation=config.activation(), n_shared=config.n_shared,
            decoder_norm=config.decoder_norm, seed=config.seed,
        )  # fmt: skip
        trainer = config.trainer(crosscoder.to(device), processes=processes, precision=precision)
        if found is not None:
            found.put_into(trainer)
        with track("Training the crosscoder", config.steps) as bar, _tensor_cores(device):
            log = fit(
                trainer, batches, keeper, writer, start=start, log=found.log if found else None,
                held_out=feed.held_out(), bar=bar,
            )  # fmt: skip
    return Trained(crosscoder.cpu().eval(), pd.DataFrame(log), batches.tokens)


def _best_precision(device: torch.device) -> str:
    """Half precision for the products where the device is made for it."""
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


@contextmanager
def _tensor_cores(device: torch.device) -> Iterator[None]:
    """Let float32 products on a GPU use TF32 while a crosscoder is trained."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.set_float32_matmul_precision(before)
