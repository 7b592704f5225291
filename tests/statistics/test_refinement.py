"""A refined answer has the variance of one release at the whole price, and the pair no more loss than
that."""

from __future__ import annotations

from itertools import pairwise

import pytest

from privacy.accounting import sigma_for
from privacy.mechanisms import discrete_gaussian
from privacy.refinement import GRID, fresh_sigma, refine, released

DRAWS = 20_000
SQUARED = 9
RHO = [2_000_000, 3_000_000, 10_000_000]  # nano, asked one after the other


def spread(fault: float = 1.0) -> float:
    """Mean square of refined noise, over the variance D2 / (2 rho) of one release at the last rho."""
    truth = 1000
    first = sigma_for(SQUARED, RHO[0])
    estimate = released(discrete_gaussian([truth] * DRAWS, first), first)
    for earlier, asked in pairwise(RHO):
        sigma = fresh_sigma(SQUARED, earlier, asked)
        estimate = refine(estimate, released(discrete_gaussian([truth] * DRAWS, sigma * fault), sigma))
    mean = sum((value / GRID - truth) ** 2 for value in estimate.values) / DRAWS
    return mean / (SQUARED / (2 * RHO[-1] / 1e9))


def test_three_askings_are_as_good_as_one() -> None:
    """Chi-square with 20,000 degrees of freedom over 20,000: outside 1 +- 0.055 with probability below
    1e-7."""
    assert abs(spread() - 1) < 0.055


@pytest.mark.parametrize("fault", [0.8, 1.2])
def test_a_fresh_draw_at_another_scale_is_caught(fault: float) -> None:
    """The fresh draws carry four fifths of the precision: 20% off shows with certainty for all that
    matters."""
    assert abs(spread(fault) - 1) > 0.055
