"""Which documents are held out of training, and the losses on them."""

from __future__ import annotations

import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CorpusError
from crosstime.training.held_out_documents import ValidationBatch, held_out_documents, is_held_out, without_held_out
from crosstime.training.kinds import KINDS
from crosstime.training.trainer_of import trainer_of
from interventions import Site

TEXT = [f"document number {number}" for number in range(2000)]


def test_every_document_is_on_one_side_and_the_fraction_is_about_right():
    training, validation = list(without_held_out(TEXT, 0.2)), list(held_out_documents(TEXT, 0.2))
    assert sorted(training + validation) == sorted(TEXT)
    assert len(validation) / len(TEXT) == pytest.approx(0.2, abs=0.03)


def test_a_documents_side_does_not_depend_on_the_others():
    out = set(held_out_documents(TEXT, 0.2))
    assert set(held_out_documents(reversed(TEXT[500:] + TEXT[600:700]), 0.2)) == out & set(TEXT[500:])


def test_a_larger_fraction_holds_out_the_same_and_more():
    assert set(held_out_documents(TEXT, 0.1)) < set(held_out_documents(TEXT, 0.3))


def test_another_salt_holds_out_others_independently():
    first, second = set(held_out_documents(TEXT, 0.3)), set(held_out_documents(TEXT, 0.3, salt="evaluation"))
    assert len(first & second) / len(TEXT) == pytest.approx(0.09, abs=0.03)


def test_a_fraction_of_zero_holds_out_nothing():
    assert not any(is_held_out(document, 0.0) for document in TEXT)
    with pytest.raises(CorpusError, match=r"none of the 2,000 documents is held out by a fraction of 0"):
        list(held_out_documents(TEXT, 0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_losses_are_the_training_loss_and_the_squared_error_after_training(kind: str):
    options = {"k": 3} if kind == "topk" else {"k": 3, "k_start": 5, "k_steps": 4} if kind == "batchtopk" else {}
    config = KINDS[kind](n_features=16, steps=20, lr=1e-2, decoder_norm=0.5, **options)
    crosscoder = CrossCoder(
        Origin("mine", ("a", "b"), Site(0), 6), 16, torch.tensor([0.5, 2.0]), activation=config.activation()
    )
    trainer = trainer_of(config, crosscoder)
    for step in range(10):
        trainer.update(step, torch.randn(32, 2, 6, generator=torch.Generator().manual_seed(step)))
    before = {name: tensor.clone() for name, tensor in crosscoder.state_dict().items()}
    x = torch.randn(32, 2, 6, generator=torch.Generator().manual_seed(99))
    losses = ValidationBatch(x).losses(trainer, 10)
    error = (x - crosscoder(x)) * crosscoder.scales.unsqueeze(-1)
    # The error of a gate per checkpoint is a mean over the two checkpoints
    share = 0.5 if crosscoder.activation.gate_per_checkpoint else 1.0
    assert losses["held_out_l2"] == pytest.approx(share * error.square().sum((1, 2)).mean().item(), rel=1e-4)
    assert losses["held_out_loss"] == pytest.approx(trainer.loss(x, 10).item(), rel=1e-5)
    for name, tensor in crosscoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
