"""The noise is the one that is paid for: its law, its independence of data, its intervals, its threshold.

Each test fails by chance with probability at most 1e-6; beside each stands a planted fault that it catches.
"""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from privacy.accounting import epsilon, half_width, sigma_for, threshold_for
from privacy.mechanisms import charge_nano, choose_largest, discrete_gaussian, discrete_laplace
from privacy.release import Measure, Release, Threshold, perturb
from tests.statistics.chance import (
    differs_from,
    discrete_gaussian_pmf,
    probability_at_least,
    probability_at_most,
    refutes,
    too_many,
)

DRAWS = 50_000


def noisy_counts(count: int, sigma: float, draws: int = DRAWS) -> list[int]:
    """The same true count, released `draws` times, as buyers see it."""
    release = Release(("k",), (Measure("n", 1, sigma, charge_nano(1, sigma)),), None)
    exact = pa.table({"k": pa.array(range(draws), pa.int64()), "n": pa.array([count] * draws, pa.int64())})
    counts: list[int] = perturb(exact, release).column("n").to_pylist()
    return counts


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.7, 25.0])
def test_noise_has_the_law_of_the_discrete_gaussian(sigma: float) -> None:
    """Chi-square, false alarm 1e-6."""
    assert not differs_from(discrete_gaussian([0] * DRAWS, sigma), discrete_gaussian_pmf(sigma))


def laplace_pmf(scale: float) -> dict[int, float]:
    reach = math.ceil(60 * scale)
    weights = {k: math.exp(-abs(k) / scale) for k in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {k: weight / total for k, weight in weights.items()}


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_laplace_noise_has_its_law(scale: float) -> None:
    """Chi-square, false alarm 1e-6."""
    assert not differs_from(discrete_laplace([0] * DRAWS, scale), laplace_pmf(scale))


@pytest.mark.parametrize("fault", [0.9, 1.1])
def test_laplace_noise_of_another_scale_is_caught(fault: float) -> None:
    """50,000 draws miss a tenth with probability far below 1e-6."""
    assert differs_from(discrete_laplace([0] * DRAWS, 3.0 * fault), laplace_pmf(3.0))


def exponential_pmf(scores: list[int], scale: float) -> dict[int, float]:
    """Of two choices without replacement, as 10 * first + second, from the definition."""
    weights = [math.exp(score / scale) for score in scores]
    places = range(len(scores))
    return {
        10 * i + j: weights[i] / sum(weights) * weights[j] / (sum(weights) - weights[i])
        for i in places
        for j in places
        if i != j
    }


def pairs_chosen(scores: list[int], scale: float) -> list[int]:
    return [10 * i + j for i, j in (choose_largest(scores, scale, 2) for _ in range(DRAWS // 4))]


SCORES = [0, -2, 3, 1, 3]


def test_choices_have_the_law_of_the_exponential_mechanism() -> None:
    """Chi-square over the 20 ordered pairs, false alarm 1e-6."""
    assert not differs_from(pairs_chosen(SCORES, 2.0), exponential_pmf(SCORES, 2.0))


@pytest.mark.parametrize("fault", [0.5, 0.8])
def test_choices_at_another_scale_are_caught(fault: float) -> None:
    """12,500 pairs miss a fifth with probability far below 1e-6."""
    assert differs_from(pairs_chosen(SCORES, 2.0 * fault), exponential_pmf(SCORES, 2.0))


@pytest.mark.parametrize("fault", [0.5, 0.95, 1.05])
def test_noise_of_another_scale_is_caught(fault: float) -> None:
    """With 50,000 draws a scale 5% off is missed with probability far below 1e-6."""
    assert differs_from(discrete_gaussian([0] * DRAWS, 3.7 * fault), discrete_gaussian_pmf(3.7))


def test_wide_noise_fills_every_residue_alike() -> None:
    """Its low bits tell nothing: at sigma 1000 residues mod 16 are uniform up to 1e-100; false alarm 1e-6."""
    residues = [value % 16 for value in discrete_gaussian([3] * DRAWS, 1000.0)]
    assert not differs_from(residues, dict.fromkeys(range(16), 1 / 16))


@pytest.mark.parametrize("count", [0, 1, 10**6, 2**61])
def test_noise_does_not_depend_on_the_value(count: int) -> None:
    """Chi-square of the released counts less the true one, false alarm 1e-6."""
    noise = [value - count for value in noisy_counts(count, 5.0, 20_000)]
    assert not differs_from(noise, discrete_gaussian_pmf(5.0))


@pytest.mark.parametrize(("sigma", "confidence"), [(0.6, 0.95), (4.0, 0.95), (4.0, 0.5), (300.0, 0.95)])
def test_intervals_cover_as_often_as_they_say(sigma: float, confidence: float) -> None:
    """Misses are binomial with probability <= 1 - confidence; too many has false alarm 1e-6."""
    width = half_width(sigma, confidence)
    misses = sum(1 for value in noisy_counts(100, sigma, 20_000) if abs(value - 100) > width)
    assert not too_many(misses, 20_000, 1 - confidence)


def test_an_interval_that_is_too_short_is_caught() -> None:
    """One step shorter at sigma 4 covers 93.9%: 60,000 draws miss that with probability below 1e-8."""
    width = half_width(4.0) - 1
    misses = sum(1 for value in noisy_counts(100, 4.0, 60_000) if abs(value - 100) > width)
    assert too_many(misses, 60_000, 0.05)


def lone_keys_shown(sigma: float, l0: int, delta_pico: int, keys: int) -> int:
    value = threshold_for(sigma, l0, delta_pico)
    measure = Measure("n", l0, sigma, charge_nano(l0, sigma))
    release = Release(("k",), (measure,), Threshold("n", value, delta_pico))
    exact = pa.table({"k": pa.array(range(keys), pa.int64()), "n": pa.array([1] * keys, pa.int64())})
    return int(perturb(exact, release).num_rows)


@pytest.mark.parametrize(
    ("sigma", "l0", "delta"), [(2.0, 3, 0.05), (10.0, 8, 0.01), (0.7, 1, 0.02), (40.0, 2, 0.02)]
)
def test_a_key_of_one_unit_appears_no_more_often_than_delta_pays_for(
    sigma: float, l0: int, delta: float
) -> None:
    """Shown keys are binomial with probability <= delta / l0; too many has false alarm 1e-6."""
    shown = lone_keys_shown(sigma, l0, round(delta * 1e12), 60_000)
    assert not too_many(shown, 60_000, delta / l0)


def test_no_key_of_one_unit_appears_at_a_usual_delta() -> None:
    """100,000 lone keys at delta 1e-11 each: one is shown with probability at most 1e-6."""
    assert lone_keys_shown(10.0, 1, 10, 100_000) == 0


def test_a_threshold_one_too_low_is_caught() -> None:
    """At sigma 2 the step from T to T - 1 more than doubles the chance: missed far below 1e-6."""
    sigma, share = 2.0, 0.05 / 3
    value = threshold_for(sigma, 3, round(0.05 * 1e12)) - 1
    shown = sum(1 for count in discrete_gaussian([1] * 60_000, sigma) if count >= value)
    assert too_many(shown, 60_000, share)


def test_averaging_repeats_gains_what_it_costs_and_no_more() -> None:
    """The mean of k releases has variance sigma^2 / k: what one release of k times the rho would have.

    The squared errors of 2,000 means of 25, over their expectation, are chi-square with 2,000 degrees of
    freedom, over 2,000: outside 1 +- 0.17 with probability below 2e-7.
    """
    sigma, repeats = 8.0, 25
    draws = discrete_gaussian([1000] * (2000 * repeats), sigma)
    means = [sum(draws[i : i + repeats]) / repeats for i in range(0, len(draws), repeats)]
    spread = sum((mean - 1000) ** 2 for mean in means) / len(means)
    at_the_joint_cost = sigma_for(1, repeats * charge_nano(1, sigma)) ** 2
    assert abs(spread / at_the_joint_cost - 1) < 0.17


RHO_NANO = 500_000_000
CLAIMS = [(epsilon(RHO_NANO, delta), delta / 1e12) for delta in (10**9, 10**10, 5 * 10**10, 10**11)]


def test_counts_of_neighbours_do_not_refute_the_claim() -> None:
    """Two databases one unit apart, counted 50,000 times each. False alarm 1e-6."""
    sigma = sigma_for(1, RHO_NANO)
    assert not refutes(noisy_counts(100, sigma), noisy_counts(101, sigma), CLAIMS)


@pytest.mark.parametrize("fault", [0.5, 0.7])
def test_too_little_noise_refutes_the_claim(fault: float) -> None:
    """Half of the noise (four times the rho) and 70% of it are caught; missed far below 1e-6."""
    sigma = sigma_for(1, RHO_NANO) * fault
    one, other = (discrete_gaussian([count] * DRAWS, sigma) for count in (100, 101))
    assert refutes(one, other, CLAIMS)


def test_a_missing_clamp_refutes_the_claim() -> None:
    """A unit that moves the count by two instead of one is caught; missed far below 1e-6."""
    sigma = sigma_for(1, RHO_NANO)
    assert refutes(noisy_counts(100, sigma), noisy_counts(102, sigma), CLAIMS)


def test_the_bounds_used_here_are_right() -> None:
    """Against values that can be computed by hand: the guard itself is guarded."""
    assert probability_at_most(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-6)
    assert probability_at_least(100, 100, 0.05) == pytest.approx(0.05 ** (1 / 100), rel=1e-6)
    assert too_many(40, 100, 0.1)
    assert not too_many(12, 100, 0.1)
    assert math.fsum(discrete_gaussian_pmf(0.4).values()) == pytest.approx(1)
