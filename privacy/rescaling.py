"""Making up for what a strategy leaves out: released sums times the ratio of two released totals.

Where units with many rows are scaled down, all groups come out too small, by about as much. Two more
numbers are released: what all units have in all groups together, each within a large cap (T), and what is
left of it (S), which is the sum over the groups where their keys are public. A group's c becomes c T / S.
That uses nothing but released numbers, so it costs nothing beyond them.

Its interval, by the delta method over independent noises, with R = T / S and p = c / S:

    S the sum of G noisy groups:  Var = R^2 sigma^2 (1 - 2 p + G p^2) + p^2 sigma_T^2
    S a number of its own:        Var = R^2 sigma^2 + (p sigma_T)^2 + (p R sigma_S)^2

Where a total is not clearly above its noise, or the ratio comes out below 1, nothing is scaled up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from privacy.measures.estimates import Estimate
from privacy.measures.uncertain import NORMAL_95

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLEAR = 4.0
"""Deviations of its noise above which a total is taken for one."""


@dataclass(frozen=True)
class Totals:
    """What of a sum all units have, and what is left of it, with the deviations of their noise; and how
    many noisy groups the latter is the sum of, or None where it is a number of its own. In the unit of what
    is summed."""

    whole: float
    whole_sigma: float
    kept: float
    kept_sigma: float
    groups: int | None

    @property
    def ratio(self) -> float:
        clear = self.whole > _CLEAR * self.whole_sigma and self.kept > _CLEAR * self.kept_sigma
        return max(self.whole / self.kept, 1.0) if clear else 1.0


def made_up(
    values: NDArray[Any], sigma: float, totals: Totals, decimals: int, *, whole_numbers: bool
) -> Estimate:
    """The values of groups scaled up, with their intervals.

    Args:
        values: released sums, in the unit of what is summed, as `sigma` is.
        decimals: by which sums are scaled back.
        whole_numbers: whether the column holds integers.
    """
    ratio = totals.ratio
    values = values.astype(np.float64)
    deviation = np.sqrt(_variance(values, sigma, totals, ratio))
    centre, half = values * ratio, NORMAL_95 * deviation
    if not whole_numbers:
        unit = float(10**decimals)
        return Estimate(centre / unit, (centre - half) / unit, (centre + half) / unit)
    most = float(2**62)
    rounded = np.rint(np.clip(centre, -most, most)).astype(np.int64)
    width = np.ceil(np.minimum(half, most) + 0.5).astype(np.int64)
    return Estimate(rounded, rounded - width, rounded + width)


def _variance(values: NDArray[Any], sigma: float, totals: Totals, ratio: float) -> NDArray[Any]:
    noise = (ratio * sigma) ** 2
    if ratio == 1.0:
        return np.full(len(values), noise)
    part = values / totals.kept
    whole = (part * totals.whole_sigma) ** 2
    if totals.groups is None:
        return noise + whole + (part * ratio * totals.kept_sigma) ** 2
    return np.maximum(noise * (1 - 2 * part + totals.groups * part**2), 0.0) + whole


def sum_sigma(sigma: float, groups: int) -> float:
    """The deviation of the noise of a sum of groups."""
    return sigma * math.sqrt(groups)
