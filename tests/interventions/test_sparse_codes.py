from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interventions import Codes, Decomposition, InterventionError, ShapeError, codes


def random_matrix(seed: int, n_tokens: int, n_features: int, density: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n_tokens, n_features, generator=generator)
    return values * (torch.rand(n_tokens, n_features, generator=generator) < density)


SIZES = {"seed": st.integers(0, 10_000), "n_tokens": st.integers(1, 9), "n_features": st.integers(1, 12)}


@given(**SIZES)
@settings(deadline=None)
def test_a_matrix_survives_a_round_trip(seed, n_tokens, n_features):
    dense = random_matrix(seed, n_tokens, n_features)
    sparse = Codes.from_dense(dense)
    assert torch.equal(sparse.dense(), dense)
    assert len(sparse.value) == int((dense != 0).sum())
    assert bool((sparse.token.diff() >= 0).all())
    assert torch.equal((-sparse).dense(), -dense)


@given(**SIZES)
@settings(deadline=None)
def test_decoding_is_the_matrix_product_also_for_tokens_on_which_nothing_fires(seed, n_tokens, n_features):
    dense = random_matrix(seed, n_tokens, n_features, density=0.15)
    directions = torch.randn(n_features, 5, generator=torch.Generator().manual_seed(seed + 1))
    torch.testing.assert_close(Codes.from_dense(dense).decode(directions), dense @ directions, rtol=1e-5, atol=1e-5)


@given(**SIZES)
@settings(deadline=None)
def test_a_sum_holds_entries_of_both_and_decodes_to_the_sum(seed, n_tokens, n_features):
    first, second = random_matrix(seed, n_tokens, n_features), random_matrix(seed + 1, n_tokens, n_features)
    directions = torch.randn(n_features, 4, generator=torch.Generator().manual_seed(seed))
    total = Codes.from_dense(first) + Codes.from_dense(second)
    torch.testing.assert_close(total.dense(), first + second)
    torch.testing.assert_close(total.decode(directions), (first + second) @ directions, rtol=1e-5, atol=1e-5)
    assert bool((total.token.diff() >= 0).all())


@pytest.mark.parametrize("chunk", [1, 40, codes.CHUNK])
def test_inner_products_are_those_of_a_loop_for_any_chunk(monkeypatch, chunk):
    monkeypatch.setattr(codes, "CHUNK", chunk)
    sparse = Codes.from_dense(random_matrix(0, 7, 11))
    generator = torch.Generator().manual_seed(3)
    gradient, directions = torch.randn(7, 6, generator=generator), torch.randn(11, 6, generator=generator)
    products = sparse.inner(gradient, directions)
    for entry in range(len(sparse.value)):
        token, feature = int(sparse.token[entry]), int(sparse.feature[entry])
        expected = float(sparse.value[entry]) * sum(
            float(gradient[token, d]) * float(directions[feature, d]) for d in range(6)
        )
        assert float(products[entry]) == pytest.approx(expected, abs=1e-5)


def test_codes_without_any_entry_decode_to_zero_and_have_no_inner_products():
    empty = Codes.from_dense(torch.zeros(3, 4))
    assert torch.equal(empty.decode(torch.randn(4, 2)), torch.zeros(3, 2))
    assert len(empty.inner(torch.randn(3, 2), torch.randn(4, 2))) == 0


@pytest.mark.parametrize("chunk", [1, 24, codes.CHUNK])
def test_encoding_in_chunks_gives_the_same_codes_and_bounds_the_chunks(monkeypatch, chunk):
    monkeypatch.setattr(codes, "CHUNK", chunk)
    monkeypatch.setattr(codes, "FEWEST_TOKENS", 1)
    generator = torch.Generator().manual_seed(0)
    weights, x = torch.randn(5, 12, generator=generator), torch.randn(9, 5, generator=generator)
    sizes = []

    def encoder(tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens))
        return (tokens @ weights).relu()

    encoded = Codes.encode(encoder, x, 12)
    torch.testing.assert_close(encoded.dense(), (x @ weights).relu())
    assert sum(sizes) == 9
    assert max(sizes) <= max(1, chunk // 12)


@given(**SIZES)
@settings(deadline=None)
def test_rows_selections_means_and_constants_are_those_of_the_matrix(seed, n_tokens, n_features):
    dense = random_matrix(seed, n_tokens, n_features)
    sparse, generator = Codes.from_dense(dense), torch.Generator().manual_seed(seed)
    tokens = torch.randint(n_tokens, (2 * n_tokens,), generator=generator)
    assert torch.equal(sparse.rows(tokens).dense(), dense[tokens])
    features = torch.randint(n_features, (2,), generator=generator).tolist()
    complement = [feature for feature in range(n_features) if feature not in features]
    expected = dense.clone()
    expected[:, complement] = 0.0
    assert torch.equal(sparse.select(features).dense(), expected)
    torch.testing.assert_close(sparse.mean(), dense.mean(0))
    assert torch.equal(Codes.constant(dense[0], 4).dense(), dense[0].expand(4, -1))
    assert bool((Codes.constant(dense[0], 4).token.diff() >= 0).all())
    assert torch.equal(Codes.empty(sparse).dense(), torch.zeros_like(dense))


@pytest.mark.parametrize("feature", [-1, 4])
def test_a_feature_that_does_not_exist_is_refused(feature):
    with pytest.raises(InterventionError, match=f"Feature {feature} does not exist: .* has features 0 to 3"):
        Codes.from_dense(torch.zeros(3, 4)).check(feature)


def test_codes_of_other_sizes_do_not_add():
    with pytest.raises(ShapeError, match="3 tokens and 4 features do not add to codes of 3 tokens and 5 features"):
        Codes.from_dense(torch.zeros(3, 4)) + Codes.from_dense(torch.zeros(3, 5))


def test_reconstruction_and_error_add_up_to_the_activation():
    dense, generator = random_matrix(0, 6, 8), torch.Generator().manual_seed(1)
    x, directions = torch.randn(6, 5, generator=generator), torch.randn(8, 5, generator=generator)
    bias = torch.randn(5, generator=generator)
    decomposition = Decomposition(x, Codes.from_dense(dense), directions, bias)
    expected = torch.stack(
        [bias + sum((dense[t, i] * directions[i] for i in range(8)), torch.zeros(5)) for t in range(6)]
    )
    torch.testing.assert_close(decomposition.reconstruction, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decomposition.reconstruction + decomposition.error, x)
    moved = decomposition.to("cpu")
    torch.testing.assert_close(moved.reconstruction, decomposition.reconstruction)


@pytest.mark.parametrize(("tokens", "directions"), [(5, (8, 4)), (6, (7, 4))])
def test_a_decomposition_of_sizes_that_do_not_fit_is_refused(tokens, directions):
    with pytest.raises(ShapeError, match=r"Activations of shape \(6, 4\) do not fit"):
        Decomposition(
            torch.zeros(6, 4), Codes.from_dense(torch.zeros(tokens, 8)), torch.zeros(*directions), torch.zeros(4)
        )
