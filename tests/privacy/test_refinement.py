"""Refinement: the difference is charged, the combination is exact, and it is as good as one dear release."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import ParameterInvalid, sigma_for
from privacy.mechanisms import charge_nano
from privacy.refinement import GRID, Estimate, difference_nano, fresh_sigma, refine, released

SIGMAS = st.floats(0.01, 1e9)
VALUES = st.lists(st.integers(-(2**62), 2**62), max_size=5)


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(1, 10**10))
def test_both_draws_together_cost_what_is_asked_and_no_more(earlier: int, asked: int, squared: int) -> None:
    more = difference_nano(earlier, asked)
    assert more == max(0, asked - earlier)
    if more:
        paid = charge_nano(squared, sigma_for(squared, earlier))
        assert paid + charge_nano(squared, fresh_sigma(squared, earlier, asked)) <= asked


def test_what_was_paid_for_is_not_drawn_again() -> None:
    assert difference_nano(10, 10) == 0
    assert difference_nano(10, 3) == 0
    for refused in ((10, 10), (10, 3)):
        with pytest.raises(ParameterInvalid):
            fresh_sigma(1, *refused)
    with pytest.raises(ParameterInvalid):
        difference_nano(-1, 5)


@given(VALUES, SIGMAS, SIGMAS)
def test_the_combination_is_the_exact_one_rounded_to_the_grid(
    values: list[int], one: float, other: float
) -> None:
    fresh = [value // 2 - 7 for value in values]
    found = refine(released(values, one), released(fresh, other))
    weight = Fraction(other) ** 2 / (Fraction(one) ** 2 + Fraction(other) ** 2)
    for value, a, b in zip(found.values, values, fresh, strict=True):
        assert abs(Fraction(value, GRID) - (weight * a + (1 - weight) * b)) <= Fraction(1, 2 * GRID)


@given(st.integers(1, 10**9), st.lists(st.integers(1, 10**9), min_size=2, max_size=5))
def test_variance_and_cost_are_those_of_one_release(squared: int, parts: list[int]) -> None:
    """D2 / (2 rho), to the rounding of the grid and the margin of sigma_for."""
    found = released([0], sigma_for(squared, parts[0]))
    for part in parts[1:]:
        found = refine(found, released([0], sigma_for(squared, part)))
    once = Fraction(squared * 10**9, 2 * sum(parts))
    assert once <= found.variance <= once * (1 + Fraction(5, 10**12)) + Fraction(len(parts), 4 * GRID**2)
    assert found.variance <= Fraction(found.sigma) ** 2 <= found.variance * (1 + Fraction(1, 10**12))
    assert found.draws == len(parts)


def test_equal_parts_are_averaged_and_an_earlier_certainty_prevails() -> None:
    assert refine(released([10, -3], 2.0), released([20, -4], 2.0)).values == (15 * GRID, -7 * GRID // 2)
    assert refine(released([10], 0.01), released([10**6], 1e9)).values[0] == 10 * GRID


def test_only_like_is_combined_with_like() -> None:
    with pytest.raises(ParameterInvalid):
        refine(released([1, 2], 1.0), released([1], 1.0))
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ParameterInvalid):
            released([1], sigma)


def pmf(sigma: float) -> dict[int, float]:
    reach = math.ceil(10 * sigma)
    weights = {k: math.exp(-k * k / (2 * sigma * sigma)) for k in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {k: weight / total for k, weight in weights.items()}


@pytest.mark.parametrize("one", [0.05, 0.3, 0.5, 0.7, 1.0, 1.7, 4.0, 11.3])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 1.0, 1.3, 3.0, 20.0])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_half_width_covers_by_the_exact_law(one: float, ratio: float, confidence: float) -> None:
    other = one * ratio
    found: Estimate = refine(released([0], one), released([0], other))
    width = found.half_width(confidence)
    weight = other**2 / (one**2 + other**2)
    inside = math.fsum(
        p * q
        for a, p in pmf(one).items()
        for b, q in pmf(other).items()
        if abs(weight * a + (1 - weight) * b) <= width
    )
    assert inside >= confidence
    assert width <= 3.5 * found.sigma + 2
    assert released([0], one).half_width(confidence) <= 3.5 * one + 1
