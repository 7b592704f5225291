"""The epsilon of Gaussian noise: never below what discrete noise really has, never above what rho stands
for."""

from __future__ import annotations

import math

import pytest

from privacy.accounting import ParameterInvalid, epsilon, rho_nano_for_epsilon
from privacy.conversion import gaussian_epsilon, rho_nano_for_gaussian_epsilon


def _probabilities(sigma: float, reach: int) -> list[float]:
    weights = [math.exp(-(x * x) / (2 * sigma * sigma)) for x in range(-reach, reach + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _delta(sigma: float, moved: tuple[int, ...], epsilon_: float) -> float:
    """The delta of one or two numbers that move by so much, by summing over all outcomes."""
    reach = int(40 * sigma) + max(moved)
    chances = _probabilities(sigma, reach)
    first = [1.0]
    losses = [0.0]
    for step in moved:
        pairs = [
            (chance, (step * step - 2 * step * (place - reach)) / (2 * sigma * sigma))
            for place, chance in enumerate(chances)
        ]
        first, losses = (
            [one * chance for one in first for chance, _ in pairs],
            [loss + more for loss in losses for _, more in pairs],
        )
    return math.fsum(
        chance * -math.expm1(epsilon_ - loss)
        for chance, loss in zip(first, losses, strict=True)
        if loss > epsilon_
    )


@pytest.mark.parametrize(
    ("sigma", "moved"), [(0.8, (1,)), (2.5, (1,)), (4.3, (1,)), (30.0, (7,)), (2.0, (1, 1))]
)
@pytest.mark.parametrize("delta_pico", [10**3, 10**6, 10**9])
def test_discrete_noise_keeps_the_epsilon(sigma: float, moved: tuple[int, ...], delta_pico: int) -> None:
    squared = sum(one * one for one in moved)
    rho_nano = math.ceil(1e9 * squared / (2 * sigma * sigma))
    bound = gaussian_epsilon(rho_nano, delta_pico, 1)
    assert _delta(sigma, moved, bound) <= delta_pico / 1e12
    assert bound <= epsilon(rho_nano, delta_pico)


def test_fine_noise_has_the_epsilon_of_continuous_noise() -> None:
    """Of sigma = 4.2247 the literature's analytic Gaussian mechanism says epsilon 1 at delta 1e-6."""
    rho = rho_nano_for_gaussian_epsilon(1.0, 10**6, 2**40)
    assert math.sqrt(1e9 / (2 * rho)) == pytest.approx(4.2247, abs=1e-3)


@pytest.mark.parametrize("delta_pico", [10**3, 10**6, 10**9])
@pytest.mark.parametrize("asked", [0.01, 0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("squared", [1, 2**40])
def test_rho_for_an_epsilon_is_the_largest(asked: float, delta_pico: int, squared: int) -> None:
    rho = rho_nano_for_gaussian_epsilon(asked, delta_pico, squared)
    assert (
        gaussian_epsilon(rho, delta_pico, squared) <= asked < gaussian_epsilon(rho + 1, delta_pico, squared)
    )
    assert rho >= rho_nano_for_epsilon(asked, delta_pico)


def test_edges() -> None:
    assert gaussian_epsilon(0, 10**6, 1) == 0.0
    assert gaussian_epsilon(10**6, 0, 1) == math.inf
    assert rho_nano_for_gaussian_epsilon(0.0, 10**6, 1) == 0
    with pytest.raises(ParameterInvalid):
        rho_nano_for_gaussian_epsilon(math.nan, 10**6, 1)
