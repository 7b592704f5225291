"""Making up for what a strategy leaves out: released sums times the ratio of two released totals.

Where units with many rows are scaled down, all groups come out too small, by about as much. Two more
numbers are released: what all units have in all groups together, each within a large cap (T), and what is
left of it (S), which is the sum over the groups where their keys are public. A group's c becomes c T / S.
That uses nothing but released numbers, so it costs nothing beyond them.

Its interval, by the delta method over independent noises, with R = T / S and p = c / S:

    S the sum of G noisy groups:  Var = R^2 sigma^2 (1 - 2 p + G p^2) + p^2 sigma_T^2
    S a number of its own:        Var = R^2 sigma^2 + (p sigma_T)^2 + (p R sigma_S)^2

Where the ratio comes out below 1, nothing is scaled up; the noise of the ratio counts all the same.

Where a total is not clearly above its noise, nothing is scaled up either, and the ratio may be anything from
1 to (T + z sigma_T) / (S - z sigma_S): the interval is that of the product with each of them, and where S
may be 0 there is none. So it is where totals are only there in case that more is missing than expected, and
do not differ by more than noise may.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from privacy.measures.estimates import Estimate
from privacy.measures.uncertain import NORMAL_95

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLEAR = 4.0
"""Deviations of its noise above which a total is taken for one."""
_APART = 2.5
"""Deviations of the noise of their difference that totals in reserve must be apart to differ."""
RESERVE_BELOW = 1.1
"""Totals are in reserve where they are expected to have a smaller ratio than this."""


@dataclass(frozen=True)
class Totals:
    """What of a sum all units have, and what is left of it, with the deviations of their noise; and how
    many noisy groups the latter is the sum of, or None where it is a number of its own. In the unit of what
    is summed. In reserve they are where they are not expected to differ."""

    whole: float
    whole_sigma: float
    kept: float
    kept_sigma: float
    groups: int | None
    reserve: bool = False

    @property
    def clear(self) -> bool:
        """Whether both are clearly above their noise and, in reserve, clearly differ."""
        noise = math.hypot(self.whole_sigma, self.kept_sigma)
        apart = not self.reserve or self.whole - self.kept > _APART * noise
        return apart and self.whole > _CLEAR * self.whole_sigma and self.kept > _CLEAR * self.kept_sigma

    @property
    def ratio(self) -> float:
        """By what groups are scaled up."""
        return max(self.whole / self.kept, 1.0) if self.clear else 1.0

    @property
    def largest_ratio(self) -> float:
        """What the ratio may be at most, as far as the noise of the totals tells."""
        kept = self.kept - NORMAL_95 * self.kept_sigma
        whole = self.whole + NORMAL_95 * self.whole_sigma
        return max(whole / kept, 1.0) if kept > 0 else math.inf


def made_up(
    values: NDArray[Any], sigma: float, totals: Totals, decimals: int, *, whole_numbers: bool
) -> Estimate:
    """The values of groups scaled up, with their intervals.

    Args:
        values: released sums, in the unit of what is summed, as `sigma` is.
        decimals: by which sums are scaled back.
        whole_numbers: whether the column holds integers.
    """
    values = values.astype(np.float64)
    centre = values * totals.ratio
    low, high = _interval(values, sigma, totals)
    if not whole_numbers:
        unit = float(10**decimals)
        return Estimate(centre / unit, low / unit, high / unit)
    most = float(2**62)
    held = np.rint(np.clip(centre, -most, most)).astype(np.int64)
    return Estimate(held, _whole(np.floor(low - 0.5)), _whole(np.ceil(high + 0.5)))


def _whole(ends: NDArray[Any]) -> pa.Array:
    """Ends of intervals as integers; NULL where there is none."""
    most, there = float(2**62), np.isfinite(ends)
    held = np.clip(np.where(there, ends, 0.0), -most, most)
    return pa.array(held.astype(np.int64), mask=~there)


def _interval(values: NDArray[Any], sigma: float, totals: Totals) -> tuple[NDArray[Any], NDArray[Any]]:
    if totals.clear:
        half = NORMAL_95 * np.sqrt(_variance(values, sigma, totals))
        return values * totals.ratio - half, values * totals.ratio + half
    low, high, most = values - NORMAL_95 * sigma, values + NORMAL_95 * sigma, totals.largest_ratio
    if math.isinf(most):
        unknown = np.full(len(values), np.nan)
        return unknown, unknown
    return np.minimum(low, low * most), np.maximum(high, high * most)


def _variance(values: NDArray[Any], sigma: float, totals: Totals) -> NDArray[Any]:
    ratio = totals.ratio
    noise = (ratio * sigma) ** 2
    part = values / totals.kept
    whole = (part * totals.whole_sigma) ** 2
    if totals.groups is None:
        return noise + whole + (part * ratio * totals.kept_sigma) ** 2
    shared = 1 - 2 * part + totals.groups * part**2
    return noise * np.maximum(shared, 1.0 if ratio == 1.0 else 0.0) + whole


def sum_sigma(sigma: float, groups: int) -> float:
    """The deviation of the noise of a sum of groups."""
    return sigma * math.sqrt(groups)
