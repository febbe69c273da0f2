"""Kinds of features that are known, since their codes follow from the tokens by a rule; no model is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.crosscoders.decompose import DecomposedText
from crosstime.crosscoders.origin import Origin
from crosstime.errors import CorpusError
from crosstime.features import feature_kinds as feature_kinds_module
from crosstime.features.activation_statistics import explained_by
from crosstime.features.feature_kinds import feature_kinds
from crosstime.features.language_shares import language_shares
from crosstime.suites.checkpoints import Checkpoint
from crosstime.suites.suite import Suite
from interventions import Codes, Decomposition, Sequences, Site

RULES = ("token", "previous token", "induction", "context", "silent")


def codes_of(text: Sequences) -> torch.Tensor:
    """One feature for each rule: fires on even tokens, after even tokens, on tokens seen before, by position, never."""
    rows = []
    for ids in text.ids:
        for position, token in enumerate(ids):
            previous = ids[position - 1] if position else 1
            rows.append(
                [
                    token % 2 == 0,
                    previous % 2 == 0,
                    token in ids[:position],
                    (position * 7919 + len(rows)) % 5 == 0,
                    False,
                ]
            )
    return torch.tensor(rows).float()


def read(text: Sequences) -> DecomposedText:
    token_mask = text.position_of_token > 0
    dense = codes_of(text)[token_mask]
    codes = Codes.from_dense(dense)
    width = 2
    decomposition = Decomposition(torch.zeros(len(dense), width), codes, torch.zeros(5, width), torch.zeros(width))
    return DecomposedText(text, (decomposition,), token_mask)


@pytest.fixture
def scored(monkeypatch):
    monkeypatch.setattr(feature_kinds_module, "decompose_text", lambda suite, crosscoder, text, **options: read(text))
    suite = Suite("none", (Checkpoint("main", None, None, "nowhere", None),))
    crosscoder = CrossCoder(Origin("none", ("main",), Site(0), 2), 5)
    generator = np.random.default_rng(0)
    # Text in which a token is followed by one of the other parity, so that token and previous token go together.
    starts = generator.integers(0, 100, 60)
    natural = Sequences([[int(start + step * 3) % 200 for step in range(32)] for start in starts])
    return feature_kinds(suite, crosscoder, read(natural), seed=1)


def test_every_rule_is_recognised(scored):
    assert scored.kind.tolist() == list(RULES)


def test_token_and_previous_token_are_told_apart_although_text_confounds_them(scored):
    table = scored.set_index("kind")
    assert table.current_token["token"] == pytest.approx(1)
    assert table.previous_token["token"] < 0.1
    assert table.previous_token["previous token"] == pytest.approx(1)
    assert table.current_token["previous token"] < 0.1


def test_induction_counts_what_was_seen_before_and_nothing_else(scored):
    table = scored.set_index("kind")
    assert table.induction["induction"] == pytest.approx(1)
    assert table.induction["token"] == pytest.approx(0)
    assert table.induction[["previous token"]].abs().max() < 0.15
    assert np.isnan(table.induction["silent"])


def test_explained_variance_is_that_of_a_loop_over_groups():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(60, 4, generator=generator) * (torch.rand(60, 4, generator=generator) < 0.5)
    group = torch.randint(0, 9, (60,), generator=generator)
    dense[:, 1] += group == 3
    shares = explained_by(Codes.from_dense(dense), group)
    for feature in range(4):
        values = dense[:, feature].double().numpy()
        within = sum(((values[group == g] - values[group == g].mean()) ** 2).sum() for g in group.unique())
        total = ((values - values.mean()) ** 2).sum()
        expected = 1 - (within / (60 - len(group.unique()))) / (total / 59)
        assert shares[feature].item() == pytest.approx(expected)


def test_a_random_grouping_explains_nothing_on_average():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(400, 200, generator=generator)
    shares = explained_by(Codes.from_dense(dense), torch.randint(0, 150, (400,), generator=generator))
    assert shares.mean().item() == pytest.approx(0, abs=0.02)


def test_what_cannot_be_explained_is_nan():
    codes = Codes.from_dense(torch.tensor([[1.0, 2.0], [1.0, 0.0]]))
    assert explained_by(codes, torch.tensor([0, 1])).isnan().all()
    assert explained_by(codes, torch.tensor([0, 0])).isnan().tolist() == [True, False]


def test_languages_are_compared_by_the_mean_of_a_token():
    english = Codes.from_dense(torch.tensor([[3.0, 1.0, 0.0], [3.0, 0.0, 0.0]]))
    french = Codes.from_dense(torch.tensor([[1.0, 0.5, 0.0]]))
    table = language_shares({"en": english, "fr": french}).set_index(["feature", "language"])
    assert table.share[0, "en"] == pytest.approx(0.75)
    assert table.share[1, "en"] == pytest.approx(0.5)
    assert np.isnan(table.share[2, "en"])
    assert table.specific.tolist() == [True, False, False, False, False, False]
    with pytest.raises(CorpusError, match="not 1 languages"):
        language_shares({"en": english})


def test_text_of_too_few_tokens_is_refused(monkeypatch):
    suite = Suite("none", (Checkpoint("main", None, None, "nowhere", None),))
    crosscoder = CrossCoder(Origin("none", ("main",), Site(0), 2), 5)
    with pytest.raises(CorpusError, match="at least 4 tokens, not 3"):
        feature_kinds(suite, crosscoder, read(Sequences([[1, 2, 3]])))
    with pytest.raises(CorpusError, match="2 different tokens"):
        feature_kinds(suite, crosscoder, read(Sequences([[1, 2, 1, 2]])))
