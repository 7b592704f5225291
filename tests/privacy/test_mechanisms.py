"""The door to noise: values are clamped, the larger of two maps is charged, no two draws are alike."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import (
    MAX_SIGMA,
    ParameterInvalid,
    choice_rho_nano,
    gaussian_rho_nano,
    laplace_rho_nano,
)
from privacy.mechanisms import (
    CLAMP,
    MAX_LAPLACE,
    charge_choice_nano,
    charge_laplace_nano,
    charge_nano,
    choose_largest,
    discrete_gaussian,
    discrete_laplace,
)

SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000


def test_noise_is_added_to_integers_one_by_one() -> None:
    values = [0, -3, 7, 10**15]
    assert discrete_gaussian(values, SILENT) == values
    assert all(isinstance(value, int) for value in discrete_gaussian(values, 5.0))


def test_nothing_in_nothing_out() -> None:
    assert discrete_gaussian([], 1.0) == []
    assert discrete_laplace([], 1.0) == []
    assert discrete_gaussian(np.zeros((0, 3), np.int64), 1.0).shape == (0, 3)


@pytest.mark.parametrize("size", [3, 4_999, 10_000, 30_001])
def test_noise_is_added_to_arrays_of_any_size_in_place(size: int) -> None:
    values = np.random.default_rng(1).integers(-(10**9), 10**9, size)
    noisy = discrete_gaussian(values.reshape(1, size), SILENT)
    assert noisy.dtype == np.int64
    assert noisy.shape == (1, size)
    assert (noisy[0] == values).all()
    assert discrete_gaussian(values.tolist(), SILENT) == values.tolist()
    assert discrete_gaussian(np.array([2**63 - 1, -(2**63)]), SILENT).tolist() == [CLAMP, -CLAMP]


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros(3, np.int32), np.array([True])])
def test_an_array_of_another_type_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ParameterInvalid):
        discrete_gaussian(values, 1.0)


def test_a_number_that_is_no_integer_is_not_rounded() -> None:
    with pytest.raises(TypeError):
        discrete_gaussian([1.5], 1.0)  # type: ignore[list-item]


@pytest.mark.parametrize("value", [2**62 + 1, 2**63, 2**64, 2**127, 10**40])
def test_values_beyond_the_clamp_are_clamped_and_never_wrap(value: int) -> None:
    assert discrete_gaussian([value, -value], SILENT) == [CLAMP, -CLAMP]
    assert discrete_laplace([value, -value], 0.001) == [CLAMP, -CLAMP]


def test_the_widest_noise_stays_within_int64_without_saturating() -> None:
    for noisy in (
        discrete_gaussian([CLAMP, -CLAMP] * 200, MAX_SIGMA),
        discrete_laplace([CLAMP, -CLAMP] * 200, MAX_LAPLACE),
    ):
        assert all(-(2**63) < value < 2**63 - 1 for value in noisy)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, MAX_SIGMA * 2])
def test_an_unusable_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(ParameterInvalid):
        discrete_gaussian([1], sigma)
    with pytest.raises(ParameterInvalid):
        charge_nano(1, sigma)
    for of_scale in (charge_laplace_nano, charge_choice_nano):
        with pytest.raises(ParameterInvalid):
            of_scale(1, sigma)
    with pytest.raises(ParameterInvalid):
        discrete_laplace([1], sigma)
    with pytest.raises(ParameterInvalid):
        choose_largest([1, 2], sigma)


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


@given(st.integers(0, 10**17), st.floats(0.01, 1e9))
def test_laplace_is_charged_half_of_epsilon_squared(sensitivity: int, scale: float) -> None:
    exact = 10**9 * (Fraction(sensitivity) / Fraction(scale)) ** 2 / 2
    assert 0 <= laplace_rho_nano(sensitivity, scale) - exact < 1
    assert exact <= charge_laplace_nano(sensitivity, scale) <= exact * (1 + Fraction(1, 10**12)) + 2


@given(st.integers(0, 10**17), st.floats(0.01, 1e9), st.integers(1, 5))
def test_choices_are_charged_an_eighth_of_the_squared_range(spread: int, scale: float, choices: int) -> None:
    exact = 10**9 * choices * (Fraction(spread) / Fraction(scale)) ** 2 / 8
    assert 0 <= choice_rho_nano(spread, scale, choices) - exact < 1
    assert exact <= charge_choice_nano(spread, scale, choices) <= exact * (1 + Fraction(1, 10**12)) + 2


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-3, 2)), min_size=2, max_size=8),
    st.floats(0.5, 20),
    st.floats(1.01, 50),
)
def test_the_charge_of_a_choice_bounds_the_divergence_of_its_two_laws(
    candidates: list[tuple[int, int]], scale: float, alpha: float
) -> None:
    """Renyi's divergence from the formula of the exponential mechanism, in both directions, at any order."""
    before = [score / scale for score, _ in candidates]
    after = [(score + change) / scale for score, change in candidates]
    changes = [change for _, change in candidates]
    rho = choice_rho_nano(max(0, *changes) - min(0, *changes), scale) / 1e9
    for one, other in ((before, after), (after, before)):
        p, q = (np.array(scores) - np.logaddexp.reduce(scores) for scores in (one, other))  # logarithms
        divergence = float(np.logaddexp.reduce(alpha * p + (1 - alpha) * q)) / (alpha - 1)
        assert divergence <= alpha * rho + 1e-9


def test_a_candidate_far_ahead_is_chosen_and_the_order_is_that_of_the_scores() -> None:
    assert choose_largest([0, 10**6, 10**30, -(10**40)], 1.0, 3) == [2, 1, 0]
    assert choose_largest([-5], 1.0) == [0]
    assert sorted(choose_largest([7] * 20, 3.0, 20)) == list(range(20))


@pytest.mark.parametrize(("scores", "choices"), [([], 1), ([1, 2], 3), ([1, 2], 0), ([], 0)])
def test_no_more_are_chosen_than_there_are(scores: list[int], choices: int) -> None:
    with pytest.raises(ParameterInvalid):
        choose_largest(scores, 1.0, choices)


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
    discrete_gaussian([0] * 16, 1e6)  # something was drawn before the fork
    draws = [_noise_of_a_fork() for _ in range(8)] + [tuple(discrete_gaussian([0] * 16, 1e6))]
    assert len(set(draws)) == len(draws)
    for place in range(16):
        assert len({draw[place] for draw in draws}) >= len(draws) - 2


def test_parts_of_one_release_never_draw_equal_noise() -> None:
    """60,000 values of sigma 1e12 in several batches: two of them agree with probability below 1e-3, runs
    never."""
    noise = discrete_gaussian(np.zeros(60_000, np.int64), 1e12)
    assert len(np.unique(noise)) > 59_990
    assert len(np.unique(np.lib.stride_tricks.sliding_window_view(noise, 2), axis=0)) == 59_999


def test_spawned_workers_never_draw_equal_noise() -> None:
    """False alarm below 1e-12, as for forks: fresh interpreters share no state at all."""
    script = "from privacy.mechanisms import discrete_gaussian as noise; print(noise([0] * 16, 1e6))"
    started = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    printed = [process.communicate()[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    assert len(set(printed)) == 4


def test_forks_of_a_process_that_drew_much_differ() -> None:
    discrete_gaussian(np.zeros(20_000, np.int64), 1e6)
    draws = {_noise_of_a_fork() for _ in range(4)} | {tuple(discrete_gaussian([0] * 16, 1e6))}
    assert len(draws) == 5


def test_noise_for_a_hundred_thousand_groups_takes_a_tenth_of_what_one_at_a_time_does() -> None:
    """Beside OpenDP's sampler in this process, in processor time: it is fifty times as fast."""
    theirs = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64"), 1000.0)
    start = time.process_time()
    theirs([0] * 10_000)
    middle = time.process_time()
    discrete_gaussian(np.zeros(100_000, np.int64), 1000.0)
    assert time.process_time() - middle < middle - start
