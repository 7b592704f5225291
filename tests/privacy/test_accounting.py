"""Costs: exact, rounded to the safe side, and tight where tightness is claimed."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import (
    MAX_SIGMA,
    ParameterInvalid,
    delta_to_pico,
    epsilon,
    gaussian_rho_nano,
    half_width,
    laplace_half_width,
    rho_nano_for_epsilon,
    rho_to_nano,
    sigma_for,
    threshold_for,
)
from privacy.mechanisms import charge_nano

RHO_NANOS = st.integers(1, 10**12)
DELTA_PICOS = st.integers(1, 10**11)


def discrete_tail(sigma: float, m: int) -> Decimal:
    """P(Z >= m), m >= 0, to 40 digits by summing until the terms vanish."""
    with localcontext() as context:
        context.prec = 60
        twice = 2 * Decimal(sigma) ** 2
        reach = math.ceil(15 * sigma) + 2
        weights = [(-(Decimal(k) ** 2) / twice).exp() for k in range(m + reach)]
        return sum(weights[m:], Decimal(0)) / (2 * sum(weights, Decimal(0)) - 1)


@pytest.mark.parametrize(
    ("value", "cost", "budget"),
    [
        (0.1, 100_000_000, 100_000_000),
        ("0.0000000001", 1, 0),
        (Decimal("0.0123456789"), 12_345_679, 12_345_678),
        (Fraction(1, 3), 333_333_334, 333_333_333),
        (5, 5_000_000_000, 5_000_000_000),
        (0.0, 0, 0),
    ],
)
def test_rho_is_read_as_written_and_rounded_to_the_safe_side(
    value: float | str, cost: int, budget: int
) -> None:
    assert rho_to_nano(value) == cost
    assert rho_to_nano(value, budget=True) == budget


def test_delta_is_read_in_pico() -> None:
    assert delta_to_pico(1e-6) == 1_000_000
    assert delta_to_pico("0.0000000000001") == 1
    assert delta_to_pico("0.0000000000001", budget=True) == 0


@pytest.mark.parametrize("value", [-1, "-0.1", "nan", math.inf, "ten", "", True, 1e7, "1e999999999"])
def test_what_is_not_a_sensible_rho_is_refused(value: float | str) -> None:
    with pytest.raises(ParameterInvalid) as caught:
        rho_to_nano(value)
    assert caught.value.code == "parameter_invalid"


@given(RHO_NANOS, DELTA_PICOS)
def test_epsilon_covers_the_continuous_gaussian_and_beats_the_classic_bound(rho: int, delta: int) -> None:
    bound = epsilon(rho, delta)
    mu = math.sqrt(2 * rho / 1e9)  # the Gaussian mechanism that is exactly rho-zCDP
    normal = NormalDist()
    if bound < 500:
        needed = normal.cdf(mu / 2 - bound / mu) - math.exp(bound) * normal.cdf(-mu / 2 - bound / mu)
        assert needed <= delta / 1e12 * (1 + 1e-6) + 1e-15
    assert bound <= rho / 1e9 + 2 * math.sqrt(rho / 1e9 * math.log(1e12 / delta)) + 1e-12


@pytest.mark.parametrize("rho", [1, 10**5, 10**7, 10**8, 5 * 10**8, 10**10])
@pytest.mark.parametrize("delta", [1, 10**3, 10**6, 10**9])
def test_epsilon_is_never_below_and_hardly_above_the_best_alpha_of_a_fine_grid(rho: int, delta: int) -> None:
    best = math.inf
    for step in range(1, 20_000):
        alpha = 1 + 1e-4 * 1.0016**step
        best = min(
            best,
            alpha * rho / 1e9
            + math.log1p(-1 / alpha)
            - (math.log(alpha) + math.log(delta / 1e12)) / (alpha - 1),
        )
    found = epsilon(rho, delta)
    assert found <= max(best, 0) + 1e-12
    assert found >= max(best, 0) - 1e-5 * abs(best) - 1e-6


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 20.0])
def test_epsilon_agrees_with_opendp(sigma: float) -> None:
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    approximate: Any = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*space, sigma))
    theirs = approximate.map(1.0).epsilon(delta=1e-6)
    assert epsilon(gaussian_rho_nano(1, sigma), 10**6) == pytest.approx(theirs, rel=1e-5)


def test_epsilon_at_the_ends_of_its_range() -> None:
    assert epsilon(0, 10**6) == 0.0
    assert epsilon(0, 0) == 0.0
    assert epsilon(1, 0) == math.inf
    assert epsilon(10**9, 10**12) == 0.0
    with pytest.raises(ParameterInvalid):
        epsilon(-1, 10**6)


@given(RHO_NANOS, RHO_NANOS, DELTA_PICOS)
def test_epsilon_grows_with_rho(one: int, other: int, delta: int) -> None:
    low, high = sorted((one, other))
    assert epsilon(low, delta) <= epsilon(high, delta)


@given(st.floats(1e-3, 50), DELTA_PICOS)
def test_the_rho_for_an_epsilon_is_the_largest_that_keeps_it(asked: float, delta: int) -> None:
    rho = rho_nano_for_epsilon(asked, delta)
    assert epsilon(rho, delta) <= asked < epsilon(rho + 1, delta)


def test_no_rho_is_bought_for_nothing() -> None:
    assert epsilon(rho_nano_for_epsilon(0.0, 10**6), 10**6) == 0.0
    for asked, delta in ((-1.0, 10**6), (math.nan, 10**6), (1.0, 0), (1.0, 10**12)):
        with pytest.raises(ParameterInvalid):
            rho_nano_for_epsilon(asked, delta)


@given(st.integers(1, 10**20), st.integers(1, 10**12))
def test_sigma_costs_what_was_allowed_by_both_maps_and_is_hardly_larger_than_needed(
    sensitivity_squared: int, rho: int
) -> None:
    sigma = sigma_for(sensitivity_squared, rho)
    assert charge_nano(sensitivity_squared, sigma) <= rho
    assert 2 * rho * Fraction(sigma) ** 2 <= sensitivity_squared * 10**9 * (1 + Fraction(5, 10**12))


@given(st.integers(0, 10**20), st.floats(1e-3, 1e12))
def test_the_gaussian_map_is_the_exact_rational_rounded_up(sensitivity_squared: int, sigma: float) -> None:
    exact = Fraction(sensitivity_squared * 10**9) / (2 * Fraction(sigma) ** 2)
    assert 0 <= gaussian_rho_nano(sensitivity_squared, sigma) - exact < 1


@pytest.mark.parametrize(("sensitivity_squared", "rho"), [(0, 1), (1, 0), (-4, 10), (10**40, 1)])
def test_no_sigma_where_there_is_no_privacy_or_no_room(sensitivity_squared: int, rho: int) -> None:
    with pytest.raises(ParameterInvalid):
        sigma_for(sensitivity_squared, rho)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2 * MAX_SIGMA])
def test_an_unusable_sigma_is_refused_everywhere(sigma: float) -> None:
    with pytest.raises(ParameterInvalid):
        gaussian_rho_nano(1, sigma)
    with pytest.raises(ParameterInvalid):
        half_width(sigma)
    with pytest.raises(ParameterInvalid):
        threshold_for(sigma, 1, 1)


@pytest.mark.parametrize("sigma", [0.001, 0.2, 0.3, 0.5, 0.9, 1.0, 2.5, 7.0, 13.37, 31.9])
@pytest.mark.parametrize("confidence", [0.05, 0.5, 0.95, 0.999999])
def test_the_half_width_is_the_least_one_that_covers(sigma: float, confidence: float) -> None:
    width = half_width(sigma, confidence)
    outside = Decimal(1 - confidence)
    assert 2 * discrete_tail(sigma, width + 1) <= outside
    assert width == 0 or 2 * discrete_tail(sigma, width) > outside


@pytest.mark.parametrize("sigma", [32.5, 47.0, 64.0, 90.5])
@pytest.mark.parametrize("confidence", [0.3, 0.95, 0.9999])
def test_a_wide_half_width_covers_and_wastes_at_most_one(sigma: float, confidence: float) -> None:
    width = half_width(sigma, confidence)
    assert 2 * discrete_tail(sigma, width + 1) <= Decimal(1 - confidence)
    assert 2 * discrete_tail(sigma, width - 1) > Decimal(1 - confidence)


def test_a_huge_half_width_is_the_normal_one() -> None:
    assert half_width(1e12) == pytest.approx(1.959963984540054e12, rel=1e-8)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0, 14.2, 31.0])
@pytest.mark.parametrize(("l0", "delta"), [(1, 10**6), (8, 10**6), (20, 5 * 10**10), (1000, 1)])
def test_the_threshold_hides_a_lone_unit_and_is_the_least_that_does(
    sigma: float, l0: int, delta: int
) -> None:
    threshold = threshold_for(sigma, l0, delta)
    share = Decimal(delta) / 10**12
    assert l0 * discrete_tail(sigma, threshold - 1) <= share
    assert threshold == 2 or l0 * discrete_tail(sigma, threshold - 2) > share


@given(st.floats(33, 1e9), st.integers(1, 10**4), st.integers(1, 10**9))
def test_a_wide_threshold_is_close_to_the_formula_of_the_normal_law(
    sigma: float, l0: int, delta: int
) -> None:
    formula = 1 - sigma * NormalDist().inv_cdf(delta / 1e12 / l0)
    assert formula <= threshold_for(sigma, l0, delta) <= formula * (1 + 1e-6) + 2


@pytest.mark.parametrize(("l0", "delta"), [(0, 10**6), (1, 0), (1, 10**12), (-1, 10)])
def test_a_threshold_needs_groups_and_a_delta(l0: int, delta: int) -> None:
    with pytest.raises(ParameterInvalid):
        threshold_for(1.0, l0, delta)


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 7.5, 1000.0, 1e12])
@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.95, 0.999999])
def test_the_half_width_of_laplace_covers_and_wastes_at_most_one(scale: float, confidence: float) -> None:
    """Against P(|Z| > h) = 2 p^(h + 1) / (1 + p), in 50 digits."""

    def outside(width: int) -> Decimal:
        with localcontext() as context:
            context.prec = 50
            p = (-1 / Decimal(scale)).exp()
            return 2 * ((width + 1) * (-1 / Decimal(scale))).exp() / (1 + p)

    width = laplace_half_width(scale, confidence)
    assert outside(width) <= 1 - Decimal(confidence)
    slack = 2 + round(width * 1e-8)
    assert width < slack or outside(width - slack) > 1 - Decimal(confidence)
    for refused in ((0.0, 0.95), (scale, 1.0), (scale, 0.0)):
        with pytest.raises(ParameterInvalid):
            laplace_half_width(*refused)
