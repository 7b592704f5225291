"""The only door to noise: OpenDP's discrete Gaussian on int64, with its privacy map recomputed by us.

Of OpenDP nothing else is used: float mechanisms and threshold constructions of 0.16 under-report their loss,
and noise on floating point numbers shows the data in its low bits. Integers in, integers out.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import opendp.prelude as dp

from privacy.accounting import MAX_SIGMA, MIN_SIGMA, NANO, ParameterInvalid, gaussian_rho_nano

if TYPE_CHECKING:
    from collections.abc import Sequence

dp.enable_features("contrib")

CLAMP = 2**62
"""Values are clamped to +-CLAMP before noise, so that int64 leaves room for it."""


def discrete_gaussian(values: Sequence[int], sigma: float) -> list[int]:
    """The values, each clamped to +-2^62, plus independent discrete Gaussian noise of scale `sigma`.

    One vectorised call, about 12 us a value. The noise comes from the operating system's secure generator and
    stays independent after a fork.

    Args:
        values: integers of any size.
        sigma: noise scale, in the unit of the values.

    Raises:
        ParameterInvalid: sigma does not lie in [0.0001, 2^58].
    """
    if not values:
        return []
    clamped = [min(max(value, -CLAMP), CLAMP) for value in values]
    noisy: list[int] = _measurement(_usable(sigma))(clamped)
    return noisy


def charge_nano(sensitivity_squared: int, sigma: float) -> int:
    """Nano-rho to charge: the larger of our exact map and OpenDP's own, each rounded up.

    Args:
        sensitivity_squared: square of the L2 sensitivity of the integer vector.
        sigma: noise scale.

    Raises:
        ParameterInvalid: sigma does not lie in [0.0001, 2^58], or the sensitivity is negative.
    """
    ours = gaussian_rho_nano(sensitivity_squared, _usable(sigma))
    theirs = Fraction(_measurement(sigma).map(_root_above(sensitivity_squared)))
    return max(ours, math.ceil(theirs * NANO))


@lru_cache(maxsize=512)
def _measurement(sigma: float) -> Any:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    measurement = dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), sigma)
    if measurement.output_measure != dp.zero_concentrated_divergence():
        raise AssertionError("OpenDP's Gaussian no longer accounts in rho of zCDP")
    return measurement


def _usable(sigma: float) -> float:
    if not (math.isfinite(sigma) and MIN_SIGMA <= sigma <= MAX_SIGMA):
        raise ParameterInvalid("sigma must lie between 0.0001 and 2^58.")
    return float(sigma)


def _root_above(square: int) -> float:
    """The square root as f64, never below the true one; exact where the root is an integer below 2^53."""
    root = math.sqrt(square)
    return root if Fraction(root) ** 2 >= square else math.nextafter(root, math.inf)
