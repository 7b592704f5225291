"""The only door to noise: OpenDP's discrete Gaussian on int64, with its privacy map recomputed by us.

Of OpenDP nothing else is used: float mechanisms and threshold constructions of 0.16 under-report their loss,
and noise on floating point numbers shows the data in its low bits. Integers in, integers out.
"""

from __future__ import annotations

import math
import os
from array import array
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import opendp.prelude as dp

from privacy.accounting import MAX_SIGMA, MIN_SIGMA, NANO, ParameterInvalid, gaussian_rho_nano

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

dp.enable_features("contrib")

CLAMP = 2**62
"""Values are clamped to +-CLAMP before noise, so that int64 leaves room for it."""

_SHARE = 5_000
"""Values worth a thread: 50 ms of drawing."""


@overload
def discrete_gaussian(values: Sequence[int], sigma: float) -> list[int]:
    """A sequence gives a list."""


@overload
def discrete_gaussian(values: Integers, sigma: float) -> Integers:
    """An array gives an array."""


def discrete_gaussian(values: Sequence[int] | Integers, sigma: float) -> list[int] | Integers:
    """The values, each clamped to +-2^62, plus independent discrete Gaussian noise of scale `sigma`.

    About 10 us a value and core. OpenDP draws without Python's lock, so that long vectors are shared among as
    many threads as the process has cores. Every draw comes from the operating system's secure generator, in
    whatever thread, and stays independent after a fork.

    Args:
        values: integers of any size, or an array of int64.
        sigma: noise scale, in the unit of the values.

    Returns:
        A list for a sequence, an array of the same shape for an array.

    Raises:
        ParameterInvalid: sigma does not lie in [0.0001, 2^58], or the array is not of int64.
    """
    if not isinstance(values, np.ndarray):
        clamped = array("q", (min(max(value, -CLAMP), CLAMP) for value in values))  # takes integers alone
        noisy: list[int] = _noised(np.frombuffer(clamped, np.int64), _usable(sigma)).tolist()
        return noisy
    if values.dtype != np.int64:
        raise ParameterInvalid("Only int64 is noised.")
    flat = np.clip(values, -CLAMP, CLAMP).ravel()
    return _noised(flat, _usable(sigma)).reshape(values.shape)


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


def _noised(values: Integers, sigma: float) -> Integers:
    if not len(values):
        return values
    measurement = _measurement(sigma)
    workers = min(len(os.sched_getaffinity(0)), len(values) // _SHARE)
    if workers < 2:
        return np.array(measurement(values), np.int64)
    parts = np.array_split(values, 4 * workers)  # small enough that no core waits long for another
    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate([np.array(part, np.int64) for part in pool.map(measurement, parts)])


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
