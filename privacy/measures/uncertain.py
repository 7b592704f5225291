"""Numbers that carry first-order noise, and intervals of their ratios.

A statistic over released sums is a function of independent noises. Its first-order response to them is
computed beside its value (forward differentiation), and its interval is Fieller's: with N and D the released
numerator and denominator, the ratios r that the test (N - r D)^2 <= z^2 Var(N - r D) does not reject. Unlike
the delta method this holds where the noise is not small against the denominator; where the denominator may be
zero the interval is unbounded, and so says nothing.

Source: E. C. Fieller, "Some Problems in Interval Estimation", J. R. Stat. Soc. B 16 (1954).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NORMAL_95 = 1.959963984540054
"""Half-width of a 95% interval in standard deviations."""


@dataclass(frozen=True)
class Uncertain:
    """Numbers, one for each group, and their response to each noise at its standard deviation.

    Attributes:
        value: shape (groups).
        spread: shape (noises, groups): derivative in each noise times its scale.
    """

    value: Floats
    spread: Floats

    def __add__(self, other: Uncertain | float) -> Uncertain:
        if isinstance(other, Uncertain):
            return Uncertain(self.value + other.value, self.spread + other.spread)
        return Uncertain(self.value + other, self.spread)

    def __sub__(self, other: Uncertain | float) -> Uncertain:
        return self + (other * -1.0)

    def __mul__(self, other: Uncertain | float) -> Uncertain:
        if isinstance(other, Uncertain):
            spread = self.spread * other.value + other.spread * self.value
            return Uncertain(self.value * other.value, spread)
        return Uncertain(self.value * other, self.spread * other)

    def __truediv__(self, other: Uncertain) -> Uncertain:
        ratio = self.value / other.value
        return Uncertain(ratio, (self.spread - ratio * other.spread) / other.value)

    def root(self) -> Uncertain:
        """The square root."""
        root = np.sqrt(self.value)
        return Uncertain(root, self.spread / (2 * root))


def noisy(columns: Sequence[NDArray[Any]], sigmas: Sequence[float], names: Sequence[str]) -> list[Uncertain]:
    """Released columns, each with its own independent noise of that scale; one name is one noise."""
    found = []
    for column, sigma, name in zip(columns, sigmas, names, strict=True):
        spread = np.zeros((len(columns), len(column)))
        spread[names.index(name)] = sigma
        found.append(Uncertain(column.astype(np.float64), spread))
    return found


def ratio_interval(top: Uncertain, bottom: Uncertain) -> tuple[Floats, Floats]:
    """95% interval of ``top / bottom``: the whole line where the denominator may be zero."""
    squared = NORMAL_95**2
    variance, shared = (bottom.spread**2).sum(axis=0), (bottom.spread * top.spread).sum(axis=0)
    first = bottom.value**2 - squared * variance
    second = top.value * bottom.value - squared * shared
    third = top.value**2 - squared * (top.spread**2).sum(axis=0)
    root = np.sqrt(np.maximum(second**2 - first * third, 0.0))
    known = first > 0
    low = np.where(known, (second - root) / first, -np.inf)
    high = np.where(known, (second + root) / first, np.inf)
    return low, high
