"""Quantiles from histograms: exact without noise, within the edges, growing with the share, never NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.accounting import ParameterInvalid
from privacy.quantiles import Quantiles, quantiles
from privacy.tree import Tree, best_tree, leaf_estimates, noised_tree

SHARES = [0.1, 0.25, 0.5, 0.75, 0.9]


def released(counts: Sequence[Sequence[int]], sigma: float, asked: Sequence[float] = SHARES) -> Quantiles:
    exact = np.array(counts, np.int64)
    shape = best_tree(exact.shape[1])
    leaves = leaf_estimates(noised_tree(exact, shape, sigma), shape)
    return quantiles(leaves, list(range(exact.shape[1] + 1)), asked, shape, sigma)


def test_without_noise_the_crossing_is_interpolated_within_its_leaf() -> None:
    found = released([[100, 200, 100, 0]], 0.001, [0.5, 0.125, 0.9])
    assert found.values == pytest.approx(np.array([[1.5, 0.5, 2.6]]))


def test_the_interval_without_noise_is_the_leaf() -> None:
    found = released([[100, 200, 100, 0]], 0.001, [0.5])
    assert (found.low.item(), found.high.item()) == (1.0, 2.0)


def test_edges_are_kept_in_their_own_scale() -> None:
    shape = Tree(4, 2)
    counts = np.array([[0, 0, 10, 0]], np.float64)
    found = quantiles(counts, [-100, -10, 0, 5, 1000], [0.5], shape, 0.001)
    assert found.values.item() == pytest.approx(2.5)


@given(st.integers(1, 40), st.integers(0, 10**6), st.floats(0.01, 1e6), st.integers(1, 6))
def test_whatever_the_noise_quantiles_are_ordered_finite_and_within_the_edges(
    leaves: int, seed: int, sigma: float, groups: int
) -> None:
    generator = np.random.default_rng(seed)
    estimates = generator.normal(0, sigma, (groups, leaves)) + generator.integers(0, 50, (groups, leaves))
    edges = np.cumsum(generator.uniform(0.1, 3, leaves + 1)).tolist()
    found = quantiles(estimates, edges, SHARES, best_tree(leaves), sigma)
    for column in found:
        assert column.shape == (groups, len(SHARES))
        assert ((column >= edges[0]) & (column <= edges[-1])).all()
        assert (np.diff(column, axis=1) >= 0).all()
    assert ((found.low <= found.values) & (found.values <= found.high)).all()


@given(st.integers(0, 10**6), st.floats(0.1, 100))
def test_quantiles_asked_apart_are_ordered_too(seed: int, sigma: float) -> None:
    generator = np.random.default_rng(seed)
    estimates, shape = generator.normal(1, sigma, (20, 32)), best_tree(32)
    apart = [quantiles(estimates, range(33), [q], shape, sigma).values[:, 0] for q in SHARES]
    assert (np.diff(np.array(apart), axis=0) >= 0).all()
    together = quantiles(estimates, range(33), SHARES[::-1], shape, sigma)
    assert (np.array(apart) == together.values[:, ::-1].T).all()


def test_an_empty_group_has_an_interval_over_everything_it_could_be() -> None:
    found = released([[0] * 64] * 50, 10.0, [0.5])
    widths: NDArray[np.float64] = found.high - found.low
    assert float(np.median(widths)) > 32


def test_many_groups_are_answered_as_each_alone() -> None:
    shape = Tree(2048, 8)
    estimates = np.random.default_rng(3).normal(1, 3, (5000, 2048))
    together = quantiles(estimates, range(2049), [0.3], shape, 3.0)
    for row in (0, 1, 2046, 2047, 4999):
        alone = quantiles(estimates[row : row + 1], range(2049), [0.3], shape, 3.0)
        assert all(one[row] == other[0] for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("q", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_lies_within(q: float) -> None:
    with pytest.raises(ParameterInvalid):
        released([[1, 2, 3]], 1.0, [q])


@pytest.mark.parametrize("edges", [[0, 1, 2], [0, 1, 1, 2], [0, 2, 1, 3], [0, 1, 2, float("inf")]])
def test_edges_increase_and_are_one_more_than_leaves(edges: list[float]) -> None:
    with pytest.raises(ParameterInvalid):
        quantiles(np.zeros((1, 3)), edges, [0.5], Tree(3, 2), 1.0)
    with pytest.raises(ParameterInvalid):
        quantiles(np.zeros((1, 2)), [0, 1, 2, 3], [0.5], Tree(3, 2), 1.0)


def test_no_groups_no_quantiles() -> None:
    found = quantiles(np.zeros((0, 8)), range(9), SHARES, Tree(8, 2), 1.0)
    assert all(column.shape == (0, len(SHARES)) for column in found)
