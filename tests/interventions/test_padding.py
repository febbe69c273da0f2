"""Flat tokens and left-padded batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interventions import Prompts, Sequences, ShapeError
from interventions.budget import for_each_batch, split_by_tokens
from interventions.prompts import Batch

ROWS = st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=9), min_size=1, max_size=12)


def batches(sequences: Sequences, max_tokens: int, rows: torch.Tensor | None = None) -> list[Batch]:
    collected: list[Batch] = []
    for_each_batch(sequences, max_tokens, lambda batch, budget: collected.append(batch), rows)
    return collected


@given(ROWS)
@settings(deadline=None)
def test_flat_indices_run_through_one_sequence_after_another(rows):
    sequences = Sequences(rows)
    flat = [(sequence, position, token) for sequence, row in enumerate(rows) for position, token in enumerate(row)]
    assert sequences.n_tokens == len(flat)
    assert sequences.sequence_of_token.tolist() == [sequence for sequence, _, _ in flat]
    assert sequences.position_of_token.tolist() == [position for _, position, _ in flat]
    assert sequences.tokens.tolist() == [token for _, _, token in flat]
    assert [flat[start][:2] for start in sequences.starts.tolist()] == [(row, 0) for row in range(len(rows))]


@given(ROWS, st.integers(1, 40), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_token_is_in_one_slot_and_batches_stay_within_the_budget(rows, max_tokens, random):
    sequences = Sequences(rows)
    selected = sorted(random.sample(range(len(rows)), random.randint(1, len(rows))))
    rows_of_batches = []
    for batch in batches(sequences, max_tokens, torch.tensor(selected)):
        assert batch.mask.numel() <= max_tokens or len(batch.rows) == 1
        width = max(len(rows[row]) for row in batch.rows.tolist())
        for line, row in enumerate(batch.rows.tolist()):
            padding = width - len(rows[row])
            assert batch.input_ids[line].tolist() == [0] * padding + rows[row]
            assert batch.mask[line].tolist() == [False] * padding + [True] * len(rows[row])
            start = int(sequences.starts[row])
            assert batch.flat[line].tolist() == [-1] * padding + list(range(start, start + len(rows[row])))
            rows_of_batches.append(row)
    assert sorted(rows_of_batches) == selected


@given(ROWS, st.integers(1, 40))
@settings(deadline=None)
def test_unpadding_restores_what_was_padded(rows, max_tokens):
    sequences = Sequences(rows)
    x = torch.arange(1.0, 1.0 + 2 * sequences.n_tokens).view(-1, 2)
    out = torch.full_like(x, torch.nan)
    for batch in batches(sequences, max_tokens):
        padded = batch.pad(x)
        assert bool((padded[~batch.mask] == 0).all())
        batch.unpad(torch.where(batch.mask.unsqueeze(-1), padded, torch.nan), out)
    assert torch.equal(out, x)


def test_a_nan_of_one_token_does_not_reach_padding():
    x = torch.tensor([[torch.nan], [1.0], [2.0]])
    padded = Sequences(((5,), (6, 7))).batch(torch.tensor([0, 1])).pad(x)
    assert padded[0, 0].item() == 0.0
    assert padded[0, 1].isnan().item()


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_positions_are_all_tokens_the_last_or_a_span_of_each_sequence(rows, random):
    sequences = Sequences(rows)
    starts = [random.randrange(len(row)) for row in rows]
    spans = [(start, random.randint(start + 1, len(row))) for start, row in zip(starts, rows, strict=True)]
    assert sequences.at("all").tolist() == [True for row in rows for _ in row]
    assert sequences.at("last").tolist() == [position == len(row) - 1 for row in rows for position in range(len(row))]
    assert sequences.at(spans).tolist() == [
        start <= position < end for (start, end), row in zip(spans, rows, strict=True) for position in range(len(row))
    ]


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ("first", "all, last, or a span for each sequence, not 'first'"),
        ([(0, 1)], "2 sequences need as many token spans; got 1"),
        ([(0, 2), (0, 2)], r"Span \(0, 2\) does not lie in sequence 1, which has 1 tokens"),
        ([(1, 1), (0, 1)], r"Span \(1, 1\) does not lie in sequence 0"),
        ([(-1, 2), (0, 1)], r"Span \(-1, 2\) does not lie in sequence 0"),
    ],
)
def test_invalid_positions_are_rejected(positions, message):
    with pytest.raises(ShapeError, match=message):
        Sequences(((5, 6), (7,))).at(positions)


def test_a_repeated_batch_contains_all_rows_several_times():
    batch = Sequences(((5,), (6, 7))).batch(torch.tensor([0, 1])).repeat(3)
    assert batch.rows.tolist() == [0, 1, 0, 1, 0, 1]
    assert batch.input_ids.tolist() == [[0, 5], [6, 7]] * 3


@given(st.lists(st.integers(1, 30), max_size=30).map(sorted), st.integers(1, 60))
def test_runs_cover_all_lengths_in_order_and_are_as_long_as_the_budget_allows(lengths, max_tokens):
    runs = list(split_by_tokens(torch.tensor(lengths, dtype=torch.long), max_tokens))
    assert [index for run in runs for index in range(run.start, run.stop)] == list(range(len(lengths)))
    for run in runs:
        assert (run.stop - run.start) * lengths[run.stop - 1] <= max_tokens or run.stop - run.start == 1
        if run.stop < len(lengths):
            assert (run.stop - run.start + 1) * lengths[run.stop] > max_tokens


@pytest.mark.parametrize("rows", [(), ((1, 2), ())])
def test_empty_sequences_are_rejected(rows):
    with pytest.raises(ShapeError, match="at least one"):
        Sequences(rows)


def test_prompts_with_another_number_of_answers_are_rejected():
    with pytest.raises(ShapeError, match="2 prompts need as many answers; got 1 right and 2 wrong"):
        Prompts(((5, 6), (7,)), right=(1,), wrong=(3, 4))


def test_a_patch_prompt_of_another_length_is_named():
    with pytest.raises(ShapeError, match="Prompt 1 has 1 tokens, but its patch prompt has 2"):
        Prompts(((5, 6), (7,)), right=(1, 2), wrong=(3, 4), patch=((5, 6), (7, 8)))


def test_another_number_of_patch_prompts_is_rejected():
    with pytest.raises(ShapeError, match="2 prompts need as many patch prompts; got 1"):
        Prompts(((5, 6), (7,)), right=(1, 2), wrong=(3, 4), patch=((5, 6),))


def test_patch_prompts_are_sequences_and_missing_ones_are_an_error():
    with_patch = Prompts(((5, 6),), right=(1,), wrong=(3,), patch=((8, 9),))
    assert with_patch.patched.tokens.tolist() == [8, 9]
    with pytest.raises(ShapeError, match="no patch prompts; use the zero baseline"):
        _ = Prompts(((5, 6),), right=(1,), wrong=(3,)).patched


def test_any_object_with_prompts_and_answers_becomes_prompts():
    class Pairs:
        prompts = ((5, 6), (7,))
        right = (1, 2)
        wrong = (3, 4)
        patch = None

    converted = Prompts.of(Pairs())
    assert converted.ids == ((5, 6), (7,))
    right, wrong = converted.answers(torch.tensor([1, 0]))
    assert (right.tolist(), wrong.tolist()) == ([2, 1], [4, 3])
    assert Prompts.of(converted) is converted
