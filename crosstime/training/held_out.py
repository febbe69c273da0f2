"""Documents that training does not see, and what a crosscoder in training makes of their activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CorpusError
from crosstime.training.trainer import Trainer, squared_error

_BYTES = 8


def kept_out(document: str, share: float, *, salt: str = "") -> bool:
    """Whether a document is one of the held-out ones: a fixed `share` of all, chosen by what it says.

    A document is on the same side whatever stands before it, in every round and in every process, and so is its twin.
    Another `salt` chooses others, independently.

    Examples:
        >>> sum(kept_out(f"document {number}", 0.1) for number in range(1000))
        107
    """
    digest = hashlib.blake2b((salt + document).encode(), digest_size=_BYTES).digest()
    return int.from_bytes(digest, "little") < share * 256**_BYTES


def without_held_out(documents: Iterable[str], share: float, *, salt: str = "") -> Iterator[str]:
    """The documents for training."""
    return (document for document in documents if not kept_out(document, share, salt=salt))


def held_out(documents: Iterable[str], share: float, *, salt: str = "") -> Iterator[str]:
    """The documents that training does not see.

    Raises:
        CorpusError: while reading, at the end, if there was none.
    """
    none, count = True, 0
    for document in documents:
        count += 1
        if kept_out(document, share, salt=salt):
            none = False
            yield document
    if none:
        raise CorpusError(f"none of the {count:,} documents is held out by a share of {share:g}: hold out a larger one")


class HeldOut:
    """Activations of held-out text, to see during training what it does on text that it was not fitted to.

    Args:
        x: a batch, in the models' own scale.
    """

    def __init__(self, x: Float[Tensor, "B C D"]) -> None:
        self.x = x

    @torch.no_grad()
    def measure(self, trainer: Trainer, step: int) -> dict[str, float]:
        """Losses on the held-out batch.

        Returns:
            held_out_loss: what training minimises. held_out_l2: the squared error of the crosscoder as it would be
            used after training, with its thresholds; the training of BatchTopK chooses features otherwise.
        """
        crosscoder, processes = trainer.crosscoder, trainer.processes
        x = processes.rows(self.x).to(crosscoder.W_dec)
        loss = trainer.losses(x, step).over(processes).loss
        scaled = x * crosscoder.scales.unsqueeze(-1)
        l2 = squared_error(scaled, crosscoder.decode_scaled(crosscoder.encode_scaled(scaled)))
        processes.mean_(l2)
        return {"held_out_loss": loss.item(), "held_out_l2": l2.item()}
