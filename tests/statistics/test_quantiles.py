"""Intervals of quantiles cover as often as they say, and the noise of a tree is the one stated.

Each test fails by chance with probability at most 1e-6; beside each kind stands a planted fault that it
catches.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.quantiles import Quantiles, quantiles
from privacy.tree import best_tree, leaf_estimates, noised_tree, prefix_variances
from tests.statistics.chance import too_many

RUNS = 4000
LEAVES = 64
SIGMA = 20.0
SHARES = [0.25, 0.5, 0.9]


def bell(total: int) -> NDArray[np.int64]:
    weights = np.exp(-(((np.arange(LEAVES) - 26) / 9) ** 2) / 2)
    below = np.round(np.cumsum(weights) / weights.sum() * total).astype(np.int64)
    return np.asarray(np.diff(below, prepend=0), np.int64)


def even(total: int) -> NDArray[np.int64]:
    return np.full(LEAVES, total // LEAVES, np.int64)


def two_peaks(total: int) -> NDArray[np.int64]:
    """Half of the rows in one leaf, half in another, nothing between: the median is anywhere there."""
    counts = np.zeros(LEAVES, np.int64)
    counts[[12, 45]] = total // 2
    return counts


@lru_cache(maxsize=1)
def noise() -> NDArray[np.float64]:
    """Leaf estimates of RUNS empty groups. Estimates are linear, so that they serve any counts."""
    shape = best_tree(LEAVES)
    return leaf_estimates(noised_tree(np.zeros((RUNS, LEAVES), np.int64), shape, SIGMA), shape)


def released(counts: NDArray[np.int64], stated: float = SIGMA) -> Quantiles:
    return quantiles(noise() + counts, range(LEAVES + 1), SHARES, best_tree(LEAVES), stated)


def spread_evenly(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The quantiles when each leaf's rows are spread evenly over it."""
    below = np.append(0, np.cumsum(counts))
    return np.asarray(np.interp(np.array(SHARES) * below[-1], below, np.arange(LEAVES + 1)), np.float64)


def misses(found: Quantiles, truth: NDArray[np.float64]) -> list[int]:
    outside = (found.low > truth + 1e-9) | (found.high < truth - 1e-9)
    return [int(count) for count in outside.sum(axis=0)]


def heaped(total: int, every: int) -> NDArray[np.int64]:
    """All rows at multiples, nothing between."""
    counts = np.zeros(LEAVES, np.int64)
    counts[every // 2 :: every] = total * every // LEAVES
    return counts


NOISY = [bell(300), bell(450), bell(600), even(960), even(1280)]
SPIKY = [two_peaks(200), two_peaks(10_000), heaped(600, 8), heaped(2400, 8), heaped(600, 4), heaped(2400, 4)]
PLAIN = [bell(5_000), even(6_400), bell(100_000)]


@pytest.mark.parametrize("counts", [*NOISY, *SPIKY, *PLAIN])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_intervals_cover_wherever_rows_lie_and_however_they_heap(
    counts: NDArray[np.int64], place: float
) -> None:
    """All rows of a leaf at one place of it. 126 comparisons, false alarm below 1e-6 together."""
    below = np.cumsum(counts)
    truth = np.searchsorted(below, np.array(SHARES) * below[-1]) + place
    for missed in misses(released(counts), truth):
        assert not too_many(missed, RUNS, 0.05, 1e-6 / 126)


@pytest.mark.parametrize("counts", [bell(300), bell(450), bell(600)])
def test_where_noise_exceeds_a_leaf_they_hardly_cover_more_than_they_say(counts: NDArray[np.int64]) -> None:
    """Hits are binomial: 9 comparisons with 99%, false alarm below 1e-6 together."""
    for missed in misses(released(counts), spread_evenly(counts)):
        assert not too_many(RUNS - missed, RUNS, 0.99, 1e-6 / 9)


def test_intervals_for_half_of_the_noise_are_caught() -> None:
    """They cover 75 to 90%: missed far below 1e-6."""
    counts = bell(450)
    found = misses(released(counts, SIGMA / 2), spread_evenly(counts))
    assert all(too_many(missed, RUNS, 0.05, 1e-6 / 126) for missed in found)


def deviates(stated: float) -> bool:
    """Mean squares of 4,000 prefix sums over their variance: beyond 1 +- 0.13 with probability below 1e-7."""
    sums = np.cumsum(noise(), axis=1)[:, [0, 10, 31, 40, 63]]
    ratios = (sums**2).mean(axis=0) / prefix_variances(best_tree(LEAVES), stated)[[1, 11, 32, 41, 64]]
    return bool((abs(ratios - 1) > 0.13).any())


def test_prefix_sums_have_the_stated_variance() -> None:
    """Chi-square with 4,000 degrees of freedom over 4,000, five of them: false alarm below 1e-6."""
    assert not deviates(SIGMA)


@pytest.mark.parametrize("fault", [0.9, 1.1])
def test_a_variance_that_is_off_by_a_fifth_is_caught(fault: float) -> None:
    assert deviates(SIGMA * fault)


def test_estimates_of_different_groups_are_independent() -> None:
    """The correlation of 2,000 pairs of groups' totals: beyond 0.12 with probability below 1e-7."""
    totals = noise().sum(axis=1)
    assert abs(np.corrcoef(totals[0::2], totals[1::2])[0, 1]) < 0.12
