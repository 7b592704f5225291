"""The only door to noise: integer mechanisms, whose privacy maps are both OpenDP's and ours.

Discrete Gaussian and Laplace noise on int64, and the exponential mechanism on integer scores. The Gaussian is
drawn by `privacy.sampling`, the others by OpenDP. Of OpenDP nothing but these and their maps is used: float
mechanisms and threshold constructions of 0.16 under-report their loss, and noise on floating point numbers
shows the data in its low bits. Integers in, integers out; what is charged is the larger of two maps.
"""

from __future__ import annotations

import math
from array import array
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import opendp.prelude as dp

from privacy.accounting import (
    MAX_SIGMA,
    MIN_SIGMA,
    NANO,
    ParameterInvalid,
    choice_rho_nano,
    gaussian_rho_nano,
    laplace_rho_nano,
)
from privacy.sampling import add_discrete_gaussian

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

dp.enable_features("contrib")

CLAMP = 2**62
"""Values are clamped to +-CLAMP before noise, so that int64 leaves room for it."""

MAX_LAPLACE = 2.0**55
"""Up to this scale Laplace noise on clamped values saturates int64 with probability < 1e-50."""


@overload
def discrete_gaussian(values: Sequence[int], sigma: float) -> list[int]:
    """A sequence gives a list."""


@overload
def discrete_gaussian(values: Integers, sigma: float) -> Integers:
    """An array gives an array."""


def discrete_gaussian(values: Sequence[int] | Integers, sigma: float) -> list[int] | Integers:
    """The values, each clamped to +-2^62, plus independent discrete Gaussian noise of scale `sigma`.

    About 0.2 us a value of an array, 0.5 us of a list, drawn exactly (`privacy.sampling`). Every draw comes
    from the operating system's secure generator, in whatever thread, and stays independent after a fork.

    Args:
        values: integers of any size, or an array of int64.
        sigma: noise scale, in the unit of the values.

    Returns:
        A list for a sequence, an array of the same shape for an array.

    Raises:
        ParameterInvalid: sigma does not lie in [0.0001, 2^58], or the array is not of int64.
    """
    if not isinstance(values, np.ndarray):
        noisy: list[int] = add_discrete_gaussian(_clamped(values), _usable(sigma)).tolist()
        return noisy
    if values.dtype != np.int64:
        raise ParameterInvalid("Only int64 is noised.")
    flat = np.clip(values, -CLAMP, CLAMP).ravel()
    return add_discrete_gaussian(flat, _usable(sigma)).reshape(values.shape)


def discrete_laplace(values: Sequence[int], scale: float) -> list[int]:
    """The values, each clamped to +-2^62, plus independent discrete Laplace noise: P(k) ~ exp(-|k| / scale).

    Raises:
        ParameterInvalid: scale does not lie in [0.0001, 2^55].
    """
    measurement = _laplace(_usable_laplace(scale))
    noisy: list[int] = measurement(_clamped(values)) if len(values) else []
    return noisy


def choose_largest(scores: Sequence[int], scale: float, choices: int = 1) -> list[int]:
    """Places of candidates with large scores: the exponential mechanism, exact, without replacement.

    The first is candidate i with probability proportional to exp(score_i / scale), the next likewise among
    the rest. Scores are clamped to +-2^62, which widens no change. How long it takes depends on the scores.

    Args:
        scores: integers of any size, one for each candidate.
        scale: in the unit of the scores.
        choices: how many to choose, at most as many as there are.

    Raises:
        ParameterInvalid: scale does not lie in [0.0001, 2^58], or choices not in [1, number of scores].
    """
    if not 1 <= choices <= len(scores):
        raise ParameterInvalid("At least one candidate is chosen, and at most all of them.")
    chosen: list[int] = _choice(_usable(scale), choices)(_clamped(scores))
    return chosen


def charge_nano(sensitivity_squared: int, sigma: float) -> int:
    """Nano-rho to charge: the larger of our exact map and OpenDP's own, each rounded up.

    Args:
        sensitivity_squared: square of the L2 sensitivity of the integer vector.
        sigma: noise scale.

    Raises:
        ParameterInvalid: sigma does not lie in [0.0001, 2^58], or the sensitivity is negative.
    """
    return _charge(sensitivity_squared, _usable(sigma))


def charge_laplace_nano(sensitivity: int, scale: float) -> int:
    """Nano-rho to charge for `discrete_laplace`: the larger of our exact map and OpenDP's epsilon^2 / 2.

    Args:
        sensitivity: L1 sensitivity of the integer vector, below 2^63.
        scale: noise scale.

    Raises:
        ParameterInvalid: scale does not lie in [0.0001, 2^55], or the sensitivity is negative.
    """
    ours = laplace_rho_nano(sensitivity, _usable_laplace(scale))
    theirs = Fraction(_laplace(scale).map(sensitivity))
    return max(ours, math.ceil(NANO * theirs**2 / 2))


def charge_choice_nano(spread: int, scale: float, choices: int = 1) -> int:
    """Nano-rho to charge for `choose_largest`: the larger of our exact map and OpenDP's own.

    OpenDP's exponential mechanism (its output measure is rho of zCDP; under pure DP it runs another one,
    which its map of 0.15 confused: opendp#2911) takes scores that move one way by at most `spread`. To it, as
    to its map, only differences of scores matter, so that rise plus fall comes to the same.

    Args:
        spread: the most by which a unit raises a score plus the most by which it lowers one, below 2^63.
        scale: of the scores.
        choices: how many are chosen.

    Raises:
        ParameterInvalid: scale does not lie in [0.0001, 2^58], or spread or choices are out of range.
    """
    ours = choice_rho_nano(spread, _usable(scale), choices)
    theirs = Fraction(_choice(scale, choices).map(spread))
    return max(ours, math.ceil(theirs * NANO))


@lru_cache(maxsize=4096)
def _charge(sensitivity_squared: int, sigma: float) -> int:
    ours = gaussian_rho_nano(sensitivity_squared, sigma)
    theirs = Fraction(_gaussian(sigma).map(_root_above(sensitivity_squared)))
    return max(ours, math.ceil(theirs * NANO))


def _clamped(values: Sequence[int]) -> Integers:
    within = array("q", (min(max(value, -CLAMP), CLAMP) for value in values))  # takes integers alone
    return np.frombuffer(within, np.int64)


@lru_cache(maxsize=512)
def _gaussian(sigma: float) -> Any:
    return _in_rho(dp.m.make_gaussian(_integers(), _l2(), sigma))


@lru_cache(maxsize=64)
def _laplace(scale: float) -> Any:
    measurement = dp.m.make_laplace(_integers(), dp.l1_distance(T="i64"), scale)
    if measurement.output_measure != dp.max_divergence():
        raise AssertionError("OpenDP's Laplace no longer accounts in epsilon of pure DP")
    return measurement


@lru_cache(maxsize=64)
def _choice(scale: float, choices: int) -> Any:
    distance = dp.linf_distance(monotonic=True, T="i64")
    return _in_rho(dp.m.make_noisy_top_k(_integers(), distance, _rho(), choices, scale))


@lru_cache(maxsize=1)
def _integers() -> Any:
    return dp.vector_domain(dp.atom_domain(T="i64"))


@lru_cache(maxsize=1)
def _l2() -> Any:
    return dp.l2_distance(T="f64")


@lru_cache(maxsize=1)
def _rho() -> Any:
    return dp.zero_concentrated_divergence()


def _in_rho(measurement: Any) -> Any:
    if measurement.output_measure != _rho():
        raise AssertionError("OpenDP no longer accounts for it in rho of zCDP")
    return measurement


def _usable(sigma: float) -> float:
    if not (math.isfinite(sigma) and MIN_SIGMA <= sigma <= MAX_SIGMA):
        raise ParameterInvalid("sigma must lie between 0.0001 and 2^58.")
    return float(sigma)


def _usable_laplace(scale: float) -> float:
    if not (math.isfinite(scale) and MIN_SIGMA <= scale <= MAX_LAPLACE):
        raise ParameterInvalid("The scale must lie between 0.0001 and 2^55.")
    return float(scale)


def _root_above(square: int) -> float:
    """The square root as f64, never below the true one; exact where the root is an integer below 2^53."""
    root = math.sqrt(square)
    return root if Fraction(root) ** 2 >= square else math.nextafter(root, math.inf)
