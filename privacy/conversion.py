"""Epsilon of an answer whose noise is all Gaussian: smaller than what its rho alone stands for.

rho says how a mechanism composes; of Gaussian noise more is known, the whole curve of (epsilon, delta). With
mu^2 = 2 rho, continuous noise is (epsilon, delta)-DP exactly where

    delta >= G(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)          [BW18], [DRS22]

however many numbers share rho. Our noise is discrete. Let neighbours differ by integers d_j, noised with
scales sigma_j >= s, so that sum_j d_j^2 / sigma_j^2 <= mu^2. Then with t = 12 + mu

    delta(epsilon) <= e^(mu^2/24) G(epsilon - t mu^2 / (4 s)) + 2^42 e^-72.

Proof. Numbers that are the same for both neighbours (d_j = 0) have the same noise and play no part; of the
others |d_j| >= 1. Let p be the probabilities of one discrete Gaussian and q those of a continuous one of its
scale, rounded to the nearest integer. With Z the sum of e^(-x^2 / 2 sigma^2) over the integers,

    q(x) / p(x) = Z / (sqrt(2 pi) sigma) * integral of e^(-x u / sigma^2 - u^2 / 2 sigma^2) over |u| <= 1/2.

(1) Z >= sqrt(2 pi) sigma (Poisson summation), and the integral is at least e^(-1 / 24 sigma^2) (Jensen). So p
<= q e^(1 / 24 sigma^2), and over all numbers that differ by at most e^(sum d_j^2 / 24 sigma_j^2) <=
e^(mu^2/24). (2) Let f = ln(q / p). f'(x) is -1 / sigma^2 times the mean of u under the normalised integrand;
that is 0 for x = 0, and changes with x by -1 / sigma^2 times the variance of u, which is at most 1/4. So
|f'(x)| <= |x| / (4 sigma^4). While |x| and |x - d| are at most t sigma, ln(p(x) / p(x - d)) exceeds
ln(q(x) / q(x - d)) by no more than |d| t / (4 sigma^3) <= d^2 t / (4 sigma^2 s): over all numbers by at
most t mu^2 / (4 s). (3) |d_j| <= mu sigma_j, so that (2) fails only where some |x_j| > 12 sigma_j, of
probability at most 2 e^-72 each (discrete Gaussians are subgaussian, [CKS20]) and 2^41 e^-72 for fewer than
2^40 numbers. (4) Rounding is post-processing: the rounded continuous noises are within G. Put together:
delta(epsilon) is the mean under p of (1 - e^(epsilon - loss))+, hence at most the probability of (3), and
elsewhere e^(mu^2/24) times that mean under q with a loss that is larger by the excess of (2).

A threshold's delta comes on top, as it does for rho (`privacy.accounting.threshold_for`).

Sources:
    [BW18]  Balle, Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, Theorem 8.
    [DRS22] Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022, Corollary 2.13.
    [CKS20] as in `privacy.accounting`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from privacy.accounting import MAX_RHO_NANO, NANO, PICO, epsilon, epsilon_asked, rho_nano_for_epsilon

if TYPE_CHECKING:
    from decimal import Decimal

_REACH = 12.0
_OUTSIDE = 2.0**42 * math.exp(-72.0)
_MARGIN = 1e-10
"""Far above the error of libm, relative to each term."""
_WIDEST = 40.0
_STEPS = 64


def gaussian_epsilon(rho_nano: int, delta_pico: int, sensitivity_squared: int) -> float:
    """The epsilon at `delta_pico` of discrete Gaussian noise that costs `rho_nano` in all, rounded up.

    Never larger than `privacy.accounting.epsilon`.

    Args:
        sensitivity_squared: the least of those of the numbers that are noised. None has a scale below
            sqrt(sensitivity_squared / (2 rho)), because none has more than all of rho.
    """
    bound = epsilon(rho_nano, delta_pico)
    if not 0.0 < bound < _WIDEST:
        return bound
    low, high = 0.0, bound
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _delta(rho_nano, middle, sensitivity_squared) <= delta_pico / PICO:
            high = middle
        else:
            low = middle
    return high


def rho_nano_for_gaussian_epsilon(
    asked: float | str | Decimal, delta_pico: int, sensitivity_squared: int
) -> int:
    """The largest nano-rho whose `gaussian_epsilon` at this delta is at most the one asked; 0 when none is.

    Raises:
        ParameterInvalid: epsilon is not a finite number >= 0, or delta does not lie in (0, 1).
    """
    return _largest_rho(epsilon_asked(asked), delta_pico, sensitivity_squared)


@lru_cache(maxsize=1024)
def _largest_rho(asked: float, delta_pico: int, sensitivity_squared: int) -> int:
    low = rho_nano_for_epsilon(asked, delta_pico)
    high = min(4 * low + 1, MAX_RHO_NANO + 1) if 0 < asked < _WIDEST else low
    while high - low > 1:
        middle = (low + high) // 2
        if _delta(middle, asked, sensitivity_squared) <= delta_pico / PICO:
            low = middle
        else:
            high = middle
    return low


def _delta(rho_nano: int, epsilon_: float, sensitivity_squared: int) -> float:
    """An upper bound of delta(epsilon), by the formula above."""
    squared = 2 * rho_nano / NANO
    mu = math.sqrt(squared)
    least = math.sqrt(sensitivity_squared) / mu
    left = epsilon_ - (_REACH + mu) * squared / (4 * least) * (1 + _MARGIN)
    if left <= 0:
        return 1.0
    above = _below(mu / 2 - left / mu) * (1 + _MARGIN)
    under = math.exp(left) * _below(-mu / 2 - left / mu) * (1 - _MARGIN)
    return math.exp(squared / 24) * (above - under) * (1 + _MARGIN) + _OUTSIDE


def _below(value: float) -> float:
    """The normal distribution function."""
    return math.erfc(-value / math.sqrt(2)) / 2
