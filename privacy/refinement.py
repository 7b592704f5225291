"""Asking again with more rho: pay the difference, get the best combination of both answers.

An earlier release of an integer vector f(x) with squared L2 sensitivity D2 cost rho_1 = D2 / (2 sigma_1^2);
the buyer now asks for rho > rho_1. A fresh release of the same vector is drawn at sigma_2 = sqrt(D2 / (2 (rho
- rho_1))) and both are averaged by precision:

    v = (y_1 / sigma_1^2 + y_2 / sigma_2^2) / (1 / sigma_1^2 + 1 / sigma_2^2).

Privacy. The two draws are independent Gaussian mechanisms of rho_1 and rho_2 = rho - rho_1, so that their
pair costs rho_1 + rho_2 = rho ([BS16], Lemma 2.3; the second scale depends on public numbers alone). v is
computed from the pair and from sigmas, which are public: post-processing. Whoever knows y_1 and v knows y_2
as well, and that is what was paid for.

Accuracy. v is unbiased with variance 1 / (1 / sigma_1^2 + 1 / sigma_2^2) = D2 / (2 (rho_1 + rho_2)): what one
release at the whole rho would have had. Nothing is lost by having asked twice, and by the same argument any
number of times.

Values are rounded to multiples of 2^-16, a grid that depends on no data, in exact rationals: no low bits of a
floating point sum, the same on every machine.

Where keys are private, each draw that shows keys pays a delta of its own, and a value is combined only for
keys that both draws show.

Sources:
    [BS16] Bun, Steinke, "Concentrated Differential Privacy", TCC 2016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from privacy.accounting import ParameterInvalid, half_width, sigma_for

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID = 2**16
"""Refined values are whole multiples of 1 / GRID."""


@dataclass(frozen=True)
class Estimate:
    """Released numbers with the precision of their noise.

    Attributes:
        values: multiples of 1 / GRID of the released unit.
        variance: of each value's noise, or an upper bound of it; exact.
        draws: how many releases were combined.
    """

    values: tuple[int, ...]
    variance: Fraction
    draws: int = 1

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, rounded up by less than one part in 1e12."""
        return math.sqrt(self.variance) * (1 + 1e-13)

    def half_width(self, confidence: float = 0.95) -> int:
        """A whole h with P(|noise| <= h) >= confidence.

        One draw is a discrete Gaussian. A combination is on a finer lattice than the integers and nearly
        normal; one more unit covers the difference, which matters where sigma is small (tests compute the
        exact law).
        """
        return half_width(self.sigma, confidence) + (self.draws > 1)


def released(values: Sequence[int], sigma: float) -> Estimate:
    """One release of integers with discrete Gaussian noise of scale `sigma`.

    Raises:
        ParameterInvalid: sigma is not a finite number above 0.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ParameterInvalid("sigma must be finite and above 0.")
    return Estimate(tuple(int(value) * GRID for value in values), Fraction(sigma) ** 2)


def difference_nano(earlier_nano: int, asked_nano: int) -> int:
    """Nano-rho to charge for a refinement: what is asked less what was paid, or 0 where that suffices
    already.

    Raises:
        ParameterInvalid: one of them is negative.
    """
    if min(earlier_nano, asked_nano) < 0:
        raise ParameterInvalid("rho must not be negative.")
    return max(0, asked_nano - earlier_nano)


def fresh_sigma(sensitivity_squared: int, earlier_nano: int, asked_nano: int) -> float:
    """Noise scale of the fresh draw, at which it costs at most the difference.

    Raises:
        ParameterInvalid: no more is asked than was paid, or there is no usable scale.
    """
    return sigma_for(sensitivity_squared, difference_nano(earlier_nano, asked_nano))


def refine(earlier: Estimate, fresh: Estimate) -> Estimate:
    """The inverse-variance combination of two estimates of the same numbers, in the same order.

    Raises:
        ParameterInvalid: they are not of equally many numbers.
    """
    if len(earlier.values) != len(fresh.values):
        raise ParameterInvalid("Only releases of the same numbers are combined.")
    whole = earlier.variance + fresh.variance
    first, second = fresh.variance / whole, earlier.variance / whole  # weights
    common = math.lcm(first.denominator, second.denominator)
    one, other = int(first * common), int(second * common)
    pairs = zip(earlier.values, fresh.values, strict=True)
    values = tuple(_nearest(a * one + b * other, common) for a, b in pairs)
    rounding = Fraction(1, 4 * GRID**2)  # at most half a step, squared: never understated
    variance = earlier.variance * fresh.variance / whole
    return Estimate(values, variance + rounding, earlier.draws + fresh.draws)


def _nearest(numerator: int, denominator: int) -> int:
    """The nearest integer, halves upward."""
    return (2 * numerator + denominator) // (2 * denominator)
