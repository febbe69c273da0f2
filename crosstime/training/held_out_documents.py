"""Documents held out of training, and the losses of a crosscoder in training on their activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from crosstime.errors import CorpusError
from crosstime.training.trainer import Trainer

_HASH_BYTES = 8


def is_held_out(document: str, fraction: float, *, salt: str = "") -> bool:
    """Whether a document belongs to the held-out fraction of a text, decided by a hash of its content.

    The decision depends on nothing but the document, so it is the same in every epoch and every process, and duplicates
    of a document are on the same side of the split.

    Args:
        document: the text of the document.
        fraction: expected fraction of documents that are held out.
        salt: prefix of what is hashed; another salt gives another, independent split.

    Examples:
        >>> sum(is_held_out(f"document {number}", 0.1) for number in range(1000))
        82
    """
    digest = hashlib.blake2b((salt + document).encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "little") < fraction * 256**_HASH_BYTES


def without_held_out(documents: Iterable[str], fraction: float, *, salt: str = "") -> Iterator[str]:
    """The documents to train on: those that `is_held_out` does not hold out."""
    return (document for document in documents if not is_held_out(document, fraction, salt=salt))


def held_out_documents(documents: Iterable[str], fraction: float, *, salt: str = "") -> Iterator[str]:
    """The documents that training does not see.

    Raises:
        CorpusError: no document is held out (raised when the iterator reaches the end).
    """
    n_documents = n_held_out = 0
    for document in documents:
        n_documents += 1
        if is_held_out(document, fraction, salt=salt):
            n_held_out += 1
            yield document
    if not n_held_out:
        raise CorpusError(
            f"none of the {n_documents:,} documents is held out by a fraction of {fraction:g}: hold out a larger one"
        )


class ValidationBatch:
    """One batch of activations of held-out text, on which losses are measured during training.

    Args:
        x: activations in the models' own scale.
    """

    def __init__(self, x: Float[Tensor, "B C D"]) -> None:
        self.x = x

    @torch.no_grad()
    def losses(self, trainer: Trainer, step: int) -> dict[str, float]:
        """Losses of the crosscoder on the batch.

        Returns:
            ``held_out_loss``, the training loss, and ``held_out_l2``, the squared error of the crosscoder as it is used
            after training. The two select features differently where a kind learns a threshold (BatchTopK).
        """
        crosscoder, processes = trainer.crosscoder, trainer.processes
        x = processes.rows(self.x).to(crosscoder.W_dec)
        loss = trainer.losses(x, step).over(processes).loss
        scaled = x * crosscoder.scales.unsqueeze(-1)
        l2 = trainer.error(scaled, crosscoder.decode_scaled(crosscoder.encode_scaled(scaled)))
        processes.mean_(l2)
        return {"held_out_loss": loss.item(), "held_out_l2": l2.item()}
