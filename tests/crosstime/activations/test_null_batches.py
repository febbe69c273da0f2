from __future__ import annotations

import pytest
import torch

from crosstime.activations.buffer import ShuffledBuffer
from crosstime.activations.data_config import DataConfig
from crosstime.activations.null_batches import NullBatches
from crosstime.activations.read_ahead import Position, Reading
from crosstime.activations.token_rows import Share
from crosstime.errors import CrosscoderError


class NumberedTokens(ShuffledBuffer):
    """A source of tokens whose activations at each of two checkpoints are the number of the token."""

    def __init__(self, data: DataConfig, n_tokens: int, state=None) -> None:
        super().__init__(("a", "b"), 1, data, limit=n_tokens)
        self._n_read = 0
        if state is not None:
            self._restore(state)
            self._n_read = state.sequences
        else:
            self._refill()
            self.scales = self._measure_scales()

    def _read(self, n_tokens: int) -> Reading:
        numbers = torch.arange(self._n_read, self._n_read + n_tokens, dtype=torch.float32)
        self._n_read += n_tokens
        return Reading(Share(numbers.reshape(-1, 1, 1).repeat(1, 2, 1)), Position(self._n_read, ""))


def data(null: NullBatches | None) -> DataConfig:
    return DataConfig(batch_size=8, buffer_tokens=16, seed=1, null=null)


def test_permuted_batches_have_the_tokens_of_each_checkpoint_and_no_pairing():
    plain, permuted = NumberedTokens(data(None), 64), NumberedTokens(data(NullBatches(permuted=True, seed=3)), 64)
    paired = 0
    for batch, other in zip(plain, permuted, strict=True):
        for c in range(2):
            assert sorted(other[:, c].flatten().tolist()) == sorted(batch[:, c].flatten().tolist())
        paired += int((other[:, 0] == other[:, 1]).sum())
    # An independent permutation leaves one token of a batch in its place on average: 8 of the 64 tokens
    assert paired < 20


def test_held_out_text_is_changed_like_a_batch_with_draws_of_its_own():
    x = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    permuted = NullBatches(permuted=True, seed=3)
    batch, text = permuted(x.transpose(0, 1), served=0).transpose(0, 1), permuted.held_out(x)
    assert not torch.equal(text, batch)
    assert torch.equal(text, permuted.held_out(x))
    for c in range(2):
        assert sorted(text[c].tolist()) == sorted(x[c].tolist())

    # The noise of the text is independent of that of the first batch
    noise, zeros = NullBatches(noise=(1.0, 2.0), seed=3), torch.zeros(2, 20_000, 1)
    of_text, of_batch = noise.held_out(zeros), noise(zeros.transpose(0, 1), served=0).transpose(0, 1)
    torch.testing.assert_close(of_text.std((1, 2)), torch.tensor([1.0, 2.0]), rtol=0.02, atol=0)
    assert abs(float((of_text[0] * of_batch[0]).mean())) < 0.03


def test_no_batch_is_permuted_like_another():
    permuted = NumberedTokens(data(NullBatches(permuted=True)), 64)
    orders = {tuple((batch[:, 0] - batch[:, 1]).flatten().tolist()) for batch in permuted}
    assert len(orders) == 8


def test_noise_has_the_given_deviation_at_each_checkpoint_and_is_independent():
    x = torch.zeros(20_000, 3, 2)
    noisy = NullBatches(noise=(0.5, 0.0, 2.0), seed=1)(x, served=0)
    deviations = noisy.std((0, 2))
    torch.testing.assert_close(deviations, torch.tensor([0.5, 0.0, 2.0]), rtol=0.02, atol=0)
    correlation = (noisy[:, 0] * noisy[:, 2]).mean() / (0.5 * 2.0)
    assert abs(correlation.item()) < 0.03


@pytest.mark.parametrize("null", [NullBatches(permuted=True, seed=2), NullBatches(noise=(1.0, 3.0), seed=2)])
def test_batches_of_a_resumed_training_are_those_of_an_uninterrupted_one(null):
    whole = list(NumberedTokens(data(null), 64))
    first = NumberedTokens(data(null), 64)
    served = [next(first) for _ in range(3)]
    resumed = NumberedTokens(data(null), 64, state=first.state())
    assert torch.equal(torch.stack([*served, *resumed]), torch.stack(whole))


def test_null_batches_leave_the_dtype_of_the_buffer():
    x = torch.zeros(4, 1, 2, dtype=torch.bfloat16)
    assert NullBatches(noise=(1.0,))(x, 0).dtype == torch.bfloat16


def test_noise_is_not_negative():
    with pytest.raises(CrosscoderError, match="noise is a standard deviation of at least 0, not -1"):
        NullBatches(noise=(-1.0,))
