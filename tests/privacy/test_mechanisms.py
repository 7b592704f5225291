"""The door to OpenDP: values are clamped, the larger of two maps is charged, no two draws are alike."""

from __future__ import annotations

import math
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import MAX_SIGMA, ParameterInvalid, gaussian_rho_nano
from privacy.mechanisms import CLAMP, charge_nano, discrete_gaussian

SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000


def test_noise_is_added_to_integers_one_by_one() -> None:
    values = [0, -3, 7, 10**15]
    assert discrete_gaussian(values, SILENT) == values
    assert all(isinstance(value, int) for value in discrete_gaussian(values, 5.0))


def test_nothing_in_nothing_out() -> None:
    assert discrete_gaussian([], 1.0) == []


@pytest.mark.parametrize("value", [2**62 + 1, 2**63, 2**64, 2**127, 10**40])
def test_values_beyond_the_clamp_are_clamped_and_never_wrap(value: int) -> None:
    assert discrete_gaussian([value, -value], SILENT) == [CLAMP, -CLAMP]


def test_the_widest_noise_stays_within_int64_without_saturating() -> None:
    noisy = discrete_gaussian([CLAMP, -CLAMP] * 200, MAX_SIGMA)
    assert all(-(2**63) < value < 2**63 - 1 for value in noisy)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, MAX_SIGMA * 2])
def test_an_unusable_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(ParameterInvalid):
        discrete_gaussian([1], sigma)
    with pytest.raises(ParameterInvalid):
        charge_nano(1, sigma)


@pytest.mark.parametrize(
    ("sensitivity_squared", "sigma", "charge"),
    [(1, 1.0, 500_000_000), (4, 2.0, 500_000_000), (400, 100.0, 20_000_001), (1, 3.0, 55_555_556)],
)
def test_the_charge_is_rho_rounded_up(sensitivity_squared: int, sigma: float, charge: int) -> None:
    # In the third case our exact map gives 20_000_000, and OpenDP's, rounded upward in f64, a little more.
    assert charge_nano(sensitivity_squared, sigma) == charge


@given(st.integers(0, 10**18), st.floats(0.01, 1e9))
def test_the_charge_is_never_below_the_exact_map_and_hardly_above(
    sensitivity_squared: int, sigma: float
) -> None:
    exact = gaussian_rho_nano(sensitivity_squared, sigma)
    assert exact <= charge_nano(sensitivity_squared, sigma) <= exact * (1 + 1e-12) + 1


def test_two_draws_differ() -> None:
    # 32 values of sigma 1e6 agree by chance with probability below 1e-190.
    assert discrete_gaussian([0] * 32, 1e6) != discrete_gaussian([0] * 32, 1e6)


def _noise_of_a_fork() -> tuple[int, ...]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, struct.pack("16q", *discrete_gaussian([0] * 16, 1e6)))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        noise = struct.unpack("16q", pipe.read())
    assert os.waitpid(child, 0)[1] == 0
    return noise


def test_forked_workers_never_draw_equal_noise() -> None:
    """False alarm below 1e-12: two values of sigma 1e6 agree one time in 3e6, two vectors never."""
    discrete_gaussian([0] * 16, 1e6)  # the generator is in use before the fork
    draws = [_noise_of_a_fork() for _ in range(8)] + [tuple(discrete_gaussian([0] * 16, 1e6))]
    assert len(set(draws)) == len(draws)
    for place in range(16):
        assert len({draw[place] for draw in draws}) >= len(draws) - 2
