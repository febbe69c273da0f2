"""On planted problems, whose lives are known, the rate that a null model states is that of the false claims."""

from __future__ import annotations

import pytest
import torch

from crosstime.activations.null_batches import NullBatches
from crosstime.crosscoders.crosscoder import CrossCoder
from crosstime.evolution.claims import decoder_claims
from crosstime.evolution.false_discoveries import false_discoveries
from crosstime.evolution.presence_test import presence_test
from crosstime.training.l1_config import L1Config
from crosstime.training.plant import PlantedProblem, plant
from crosstime.training.trainer_of import trainer_of

STEPS, BATCH, NOISE = 150, 128, 0.25
CONFIG = L1Config(n_features=48, steps=STEPS, lr=1e-2, l1=0.6)


def trained(planted: PlantedProblem, null: NullBatches, *, seed: int) -> tuple[CrossCoder, torch.Tensor]:
    """A crosscoder of the activations of a planted problem without noise, changed by `null`, and its live features."""
    generator = torch.Generator().manual_seed(seed)
    sample = planted.activations(planted.codes(1024, generator), generator)
    scales = planted.d_model**0.5 / sample.norm(dim=-1).mean(0)
    trainer = trainer_of(CONFIG, CONFIG.crosscoder(planted.origin, scales))
    for step in range(STEPS):
        batch = planted.activations(planted.codes(BATCH, generator), generator)
        trainer.update(step, null(batch, step * BATCH))
    crosscoder = trainer.crosscoder.eval()
    x = null(planted.activations(planted.codes(4096, generator), generator), STEPS * BATCH)
    alive = torch.unique(crosscoder.decompose(x.transpose(0, 1))[0].codes.feature)
    return crosscoder, alive


def answers_of(crosscoder: CrossCoder, alive: torch.Tensor, x: torch.Tensor):
    """Life cycles of the live features by the test of presence on activations ``T C D``, counted by hand."""
    table = presence_test(crosscoder, crosscoder.decompose(x.transpose(0, 1)), features=alive.tolist())
    counts: dict[str, int] = {}
    for _, rows in table.groupby("feature"):
        answers = tuple(rows.presence)
        counts[answers] = counts.get(answers, 0) + 1
    return counts


def claims_of(crosscoder: CrossCoder, alive: torch.Tensor):
    return decoder_claims(crosscoder.decoder_norms().T[alive], crosscoder.origin.revisions)


def test_the_rate_of_false_lives_is_within_the_interval_of_the_same_checkpoint_with_noise():
    """All planted features are at all checkpoints, so that every life but "always" is false in the run too."""
    run = plant(64, 3, 16, shared=1.0, density=3.0, noise=0.0, seed=1)
    noise = NullBatches(noise=(NOISE,) * 3, seed=7)
    observed = claims_of(*trained(run, noise, seed=1))
    nulls = [
        claims_of(*trained(run, NullBatches(noise=(NOISE,) * 3, seed=100 + seed), seed=50 + seed)) for seed in range(3)
    ]
    table = false_discoveries(observed, nulls, "same-checkpoint-noise").set_index(["source", "claim"])
    lives = table.loc["decoder norm"].loc[["emerging", "discontinued", "transient", "intermittent"]]
    assert lives.false.all()
    assert not table.loc[("decoder norm", "always")].false
    # The false claims of the run are as many as expected, within the interval and its own binomial spread
    for row in lives.itertuples():
        spread = 2.6 * max(1.0, row.expected * (1 - row.rate)) ** 0.5
        assert row.low - spread <= row.count <= row.high + spread


def test_specific_features_are_told_from_what_the_null_finds():
    """Half of the features are planted at one checkpoint; where there is one checkpoint three times, hardly any are."""
    run = plant(48, 3, 16, shared=0.5, density=3.0, noise=0.02, seed=2)
    same = PlantedProblem(run.directions[:, 2:].repeat(1, 3, 1), run.density, 0.0)
    unchanged = NullBatches()
    observed = claims_of(*trained(run, unchanged, seed=3))
    null = claims_of(*trained(same, unchanged, seed=3))
    table = false_discoveries(observed, [null], "same-checkpoint").set_index(["source", "claim"])
    specific = table.loc["RelDec"].loc[["c0 only", "c1 only", "c2 only"]]
    assert (specific["count"] >= 3).all()
    assert (specific.null_count == 0).all()
    assert (specific.fdr == 0).all()
    # The bound is that of no event among the null's features: 1 - .025^(1/m)
    m = specific.null_n.iloc[0]
    assert specific.rate_high.tolist() == pytest.approx([1 - 0.025 ** (1 / m)] * 3)


def test_between_permuted_tokens_no_feature_is_present_at_several_checkpoints():
    """By the test of presence on held-out tokens of the null model, a feature is where it was learned, and only there.

    On the tokens as they are, which pair the checkpoints, the same features would seem to be everywhere: each is
    correlated with the planted feature at all of them.
    """
    run = plant(32, 2, 16, shared=1.0, density=2.0, noise=0.02, seed=4)
    null = NullBatches(permuted=True, seed=5)
    crosscoder, alive = trained(run, null, seed=5)
    generator = torch.Generator().manual_seed(17)
    x = run.activations(run.codes(4096, generator), generator)
    permuted = answers_of(crosscoder, alive, null.held_out(x.transpose(0, 1)).transpose(0, 1))
    paired = answers_of(crosscoder, alive, x)
    both = ("present", "present")
    assert permuted.get(both, 0) <= 0.2 * len(alive)
    assert paired.get(both, 0) >= 3 * max(1, permuted.get(both, 0))

    # The features of a training on pairs are there at both checkpoints
    shared = answers_of(*trained(run, NullBatches(), seed=5), x)
    assert shared[both] > 0.9 * sum(shared.values())


def test_nothing_is_shared_between_permuted_tokens():
    """All planted features are shared; between permuted tokens hardly any feature can be."""
    run = plant(32, 2, 16, shared=1.0, density=2.0, noise=0.02, seed=4)
    observed = claims_of(*trained(run, NullBatches(), seed=5))
    null = claims_of(*trained(run, NullBatches(permuted=True, seed=5), seed=5))
    table = false_discoveries(observed, [null], "permuted-tokens").set_index(["source", "claim"])
    shared = table.loc[("RelDec", "shared")]
    assert shared.false
    assert shared["count"] > 0.9 * shared.n
    assert shared.null_count < 0.4 * shared.null_n
