"""Noisy trees: the shape is public, the estimates least squares, the stated variances the true ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.accounting import ParameterInvalid
from privacy.mechanisms import CLAMP
from privacy.tree import (
    MAX_LEAVES,
    Tree,
    balance_variances,
    best_tree,
    leaf_estimates,
    noised_tree,
    prefix_variances,
)

SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000
SHAPES = [
    (1, 2),
    (2, 2),
    (3, 2),
    (7, 2),
    (8, 2),
    (9, 3),
    (10, 3),
    (16, 4),
    (17, 4),
    (23, 5),
    (30, 30),
    (50, 7),
]
shapes = st.builds(Tree, st.integers(1, 60), st.integers(2, 12))


def design(shape: Tree) -> NDArray[np.float64]:
    """Which leaves each node sums, built node by node from the definition, top level first."""
    rows: list[list[float]] = []
    span = shape.branching ** (shape.levels - 1)
    for size in shape.sizes:
        for node in range(size):
            rows.append([float(node * span <= leaf < (node + 1) * span) for leaf in range(shape.leaves)])
        span //= shape.branching
    return np.array(rows)


def covariance(shape: Tree) -> NDArray[np.float64]:
    """Of the least-squares leaves at sigma 1, by the textbook formula."""
    matrix = design(shape)
    return np.asarray(np.linalg.inv(matrix.T @ matrix), np.float64)


@pytest.mark.parametrize(
    ("leaves", "branching", "sizes"),
    [(1, 2, (1,)), (4, 4, (4,)), (5, 4, (2, 5)), (17, 4, (2, 5, 17)), (8, 2, (2, 4, 8)), (100, 100, (100,))],
)
def test_levels_are_as_few_as_the_branching_allows(
    leaves: int, branching: int, sizes: tuple[int, ...]
) -> None:
    shape = Tree(leaves, branching)
    assert shape.sizes == sizes
    assert (shape.levels, shape.nodes) == (len(sizes), sum(sizes))


@pytest.mark.parametrize(("leaves", "branching"), [(0, 2), (-1, 2), (MAX_LEAVES + 1, 2), (4, 1), (4, 0)])
def test_a_tree_needs_leaves_and_children(leaves: int, branching: int) -> None:
    with pytest.raises(ParameterInvalid):
        Tree(leaves, branching)


@given(shapes, st.data())
def test_one_units_change_is_within_the_stated_sensitivity_and_attains_it(shape: Tree, data: Any) -> None:
    """A unit with rows in several groups and leaves: the squared change of all nodes against levels * D2."""
    leaf = st.lists(st.integers(-5, 5), min_size=shape.leaves, max_size=shape.leaves)
    change = np.array(data.draw(st.lists(leaf, min_size=1, max_size=4)), np.int64)
    level_squared = int((np.abs(change).sum(axis=1) ** 2).sum())
    nodes = change @ design(shape).T
    assert (nodes**2).sum() <= shape.sensitivity_squared(level_squared)
    lone = np.zeros_like(change)
    lone[:, 0] = np.abs(change).sum(axis=1)  # all of it in one bin
    assert ((lone @ design(shape).T) ** 2).sum() == shape.sensitivity_squared(level_squared)


@pytest.mark.parametrize(("leaves", "branching"), SHAPES)
def test_every_node_is_the_sum_of_its_leaves(leaves: int, branching: int) -> None:
    shape = Tree(leaves, branching)
    counts = np.random.default_rng(1).integers(-1000, 1000, (5, leaves))
    levels = noised_tree(counts, shape, SILENT)
    assert [level.shape for level in levels] == [(5, size) for size in shape.sizes]
    assert (np.concatenate(levels, axis=1) == counts @ design(shape).T.astype(np.int64)).all()
    assert np.allclose(leaf_estimates(levels, shape), counts)


def test_huge_leaves_are_clamped_and_never_wrap() -> None:
    shape = Tree(8, 2)
    counts = np.array([[2**63 - 1] * 8, [-(2**63)] * 8])
    levels = noised_tree(counts, shape, SILENT)
    assert levels[0].tolist() == [[CLAMP // 2] * 2, [-CLAMP // 2] * 2]


@pytest.mark.parametrize("counts", [np.zeros((2, 3), np.int32), np.zeros((2, 4)), np.zeros(4, np.int64)])
def test_counts_of_another_form_are_refused(counts: NDArray[Any]) -> None:
    with pytest.raises(ParameterInvalid):
        noised_tree(counts, Tree(4, 2), 1.0)


def test_no_groups_no_noise() -> None:
    shape = Tree(9, 3)
    levels = noised_tree(np.zeros((0, 9), np.int64), shape, 1.0)
    assert leaf_estimates(levels, shape).shape == (0, 9)


@pytest.mark.parametrize(("leaves", "branching"), SHAPES)
def test_the_estimates_are_least_squares(leaves: int, branching: int) -> None:
    shape = Tree(leaves, branching)
    nodes = np.random.default_rng(2).normal(0, 100, (6, shape.nodes))
    levels = np.split(nodes, np.cumsum(shape.sizes)[:-1], axis=1)
    textbook = np.linalg.lstsq(design(shape), nodes.T, rcond=None)[0].T
    assert np.allclose(leaf_estimates(levels, shape), textbook)


@given(shapes, st.floats(0.05, 0.95))
def test_stated_variances_are_those_of_linear_algebra(shape: Tree, q: float) -> None:
    sums = np.tril(np.ones((shape.leaves + 1, shape.leaves)), -1)
    spread = covariance(shape)
    assert np.allclose(prefix_variances(shape, 3.0), 9 * np.diag(sums @ spread @ sums.T))
    balance = sums - q
    assert np.allclose(balance_variances(shape, 3.0, q), 9 * np.diag(balance @ spread @ balance.T))


@pytest.mark.parametrize("leaves", [1, 2, 3, 10, 16, 64, 100, 256, 1000])
def test_the_best_tree_is_near_the_least_variance_and_no_bush(leaves: int) -> None:
    def cost(shape: Tree) -> float:
        return shape.levels * float(balance_variances(shape, 1.0, 0.5).mean())

    best = best_tree(leaves)
    assert best.leaves == leaves
    others = [Tree(leaves, width) for width in range(2, max(3, leaves + 1))]
    assert cost(best) <= 1.05 * min(map(cost, others)) + 1e-12
    assert best.nodes <= 2 * leaves


def test_a_tree_beats_a_flat_histogram_many_times() -> None:
    """At equal rho and 256 bins: 8 against 64 in the variance of the balance at the median."""
    tree, flat = best_tree(256), Tree(256, 256)
    assert (
        tree.levels * balance_variances(tree, 1.0, 0.5).mean() < balance_variances(flat, 1.0, 0.5).mean() / 7
    )
