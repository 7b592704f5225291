"""Shares of rho: whole, within the whole, in the stated proportion, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import ParameterInvalid
from privacy.shares import split

SQUARES = st.integers(1, 10**24)
WEIGHTS = st.fractions(Fraction(1, 10**12), 10**12) | st.floats(1e-12, 1e12)
MEASURES = st.lists(st.tuples(SQUARES, WEIGHTS), min_size=1, max_size=12)


def variance(shares: Sequence[int | Decimal], measures: Sequence[tuple[int, Fraction | float]]) -> Decimal:
    """The weighted sum of variances, in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        terms = [
            squared * _decimal(Fraction(weight)) * 10**9 / (2 * Decimal(share))
            for share, (squared, weight) in zip(shares, measures, strict=True)
        ]
        return sum(terms, Decimal(0))


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


@given(st.integers(12, 10**15), MEASURES)
def test_shares_are_whole_positive_and_within_the_whole(
    rho: int, measures: list[tuple[int, Fraction | float]]
) -> None:
    shares = split(rho, [squared for squared, _ in measures], [weight for _, weight in measures])
    assert len(shares) == len(measures)
    assert all(isinstance(share, int) and share >= 1 for share in shares)
    assert rho - len(measures) < sum(shares) <= rho


@given(st.integers(10**14, 10**15), MEASURES)
def test_the_weighted_sum_of_variances_is_the_least_there_is(
    rho: int, measures: list[tuple[int, Fraction | float]]
) -> None:
    """Against the closed form (sum of Delta sqrt(w))^2 / (2 rho), which no shares go below."""
    with localcontext() as context:
        context.prec = 60
        roots = [(squared * _decimal(Fraction(weight))).sqrt() for squared, weight in measures]
        least = sum(roots, Decimal(0)) ** 2 * 10**9 / (2 * Decimal(rho))
    shares = split(rho, [squared for squared, _ in measures], [weight for _, weight in measures])
    assert variance(shares, measures) >= least * (1 - Decimal("1e-20"))
    if min(shares) > 1:  # one that is raised to a nano costs the others nothing that matters, but itself less
        assert variance(shares, measures) <= least * (1 + Decimal(len(measures)) / min(shares))


def test_the_formula_of_two_measures() -> None:
    """Delta 1 and 3, weights 4 and 1: shares as 2 to 3, and sigma^2 as the formula says."""
    shares = split(5_000_000, [1, 9], [4, 1])
    assert shares == [2_000_000, 3_000_000]
    for delta, weight, share in ((1, 4, shares[0]), (3, 1, shares[1])):
        sigma_squared = delta**2 / (2 * share / 1e9)
        assert sigma_squared == pytest.approx(delta / math.sqrt(weight) * (2 + 3) / (2 * 0.005))


@given(st.integers(10, 10**12), st.lists(SQUARES, min_size=1, max_size=10))
def test_equal_relative_weights_give_equal_shares(rho: int, squares: list[int]) -> None:
    equal = [rho // len(squares)] * len(squares)
    assert split(rho, squares) == equal
    assert split(rho, squares, [Fraction(7, squared) for squared in squares]) == equal


@given(st.integers(12, 10**12), MEASURES, st.randoms(use_true_random=False))
def test_the_order_of_the_measures_does_not_matter(
    rho: int, measures: list[tuple[int, Fraction | float]], random: object
) -> None:
    one = split(rho, [squared for squared, _ in measures], [weight for _, weight in measures])
    places = list(range(len(measures)))
    random.shuffle(places)  # type: ignore[attr-defined]
    other = split(rho, [measures[place][0] for place in places], [measures[place][1] for place in places])
    assert other == [one[place] for place in places]


def test_a_share_is_never_nothing() -> None:
    assert split(1000, [1, 10**30], [1, 1]) == [1, 999]
    assert split(3, [1, 10**30, 10**60], [1, 1, 1]) == [1, 1, 1]


@pytest.mark.parametrize(
    ("rho", "squares", "weights"),
    [
        (10, [], []),
        (1, [1, 1], [1, 1]),
        (10, [1, 0], [1, 1]),
        (10, [1, 1], [1]),
        (10, [1], [0]),
        (10, [1], [-1.0]),
        (10, [1], [math.inf]),
        (10, [1], [math.nan]),
    ],
)
def test_what_cannot_be_shared_is_refused(rho: int, squares: list[int], weights: list[float]) -> None:
    with pytest.raises(ParameterInvalid):
        split(rho, squares, weights)
