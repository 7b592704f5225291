"""Statistics of first and second moments: averages, variances, correlation and regression lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from privacy.measures.estimates import SIZES, Asked, Estimate, Facts
from privacy.measures.sums import Centred, Product, count_of
from privacy.measures.uncertain import Uncertain, noisy, ratio_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from privacy.algebra import Measure, Sum

    Floats = NDArray[np.float64]

_SPREAD = "columns in the middle of their bounds, uncorrelated, with a deviation of a quarter of their width"


@dataclass(frozen=True)
class Moments:
    """Count, sums and products of a measure's numbers around their middles, in the numbers' own units."""

    count: Uncertain
    first: dict[int, Uncertain]
    second: dict[tuple[int, int], Uncertain]

    def spread(self, one: int, other: int) -> Uncertain:
        """``count`` times the covariance of two numbers."""
        return self.second[one, other] - self.first[one] * self.first[other] / self.count


Ratio = Callable[["Measure", Moments], tuple[Uncertain, Uncertain]]


@dataclass(frozen=True)
class Statistic:
    """A ratio of moments.

    Attributes:
        needs: the moments beside the count: places of numbers, and pairs of them.
        ratio: numerator and denominator; the statistic is NULL where the latter is not positive.
        held: the least and the greatest value that the statistic can have.
        offset: what is added to the ratio.
        transformed: what is shown of it: ``itself``, its ``root`` or its ``square``.
        stated: the cell for which the error is stated: ``edge``, where it is widest, or ``spread``.
    """

    column: str
    needs: tuple[tuple[int, ...], ...]
    ratio: Ratio
    held: Callable[[Measure], tuple[float, float]]
    offset: Callable[[Measure], float] = lambda _measure: 0.0
    transformed: str = "itself"
    stated: str = "edge"

    interval = True

    def sums(self, measure: Measure) -> tuple[Sum, ...]:
        """The integer sums it is computed from, the count first."""
        parts = [_moment(measure, need).sum(measure.condition) for need in self.needs]
        return (count_of(measure.condition), *parts)

    def estimate(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> Estimate:
        """Its value and interval in each group."""
        with np.errstate(all="ignore"):
            value, low, high = self._ratio(asked, columns)
            least, most = self.held(asked.measure)
            held = [np.clip(one + self.offset(asked.measure), least, most) for one in (value, low, high)]
            counted = np.isfinite(value)
            value, low, high = (
                np.where(counted, one, np.nan) for one in _transformed(self.transformed, held)
            )
        return Estimate(value, low, high)

    def facts(self, asked: Asked) -> Facts:
        """Its error in cells of a few sizes."""
        with np.errstate(all="ignore"):
            _, low, high = self._ratio(asked, self._cells(asked))
            least, most = self.held(asked.measure)
            half = np.minimum((high - low) / 2, (most - least) / 2)
        if self.transformed == "root":  # widest where the variance is as large as its own half-width
            half = np.sqrt(half / 2)
        if self.transformed == "square":
            half = np.minimum(half, 1.0) ** 2 / 2
        table = {size: float(width) for size, width in zip(SIZES, half, strict=True)}
        return Facts(table=table, note=_SPREAD if self.stated == "spread" else None)

    def _ratio(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> tuple[Floats, Floats, Floats]:
        top, bottom = self.ratio(asked.measure, self._moments(asked, columns))
        low, high = ratio_interval(top, bottom)
        value = np.where(bottom.value > 0, top.value / bottom.value, np.nan)
        return value, low, high

    def _moments(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> Moments:
        """A sum may be taken around another middle than a number's own: as many counts are given back."""
        names = [one.name for one in asked.sums]
        count, *others = noisy(columns, asked.sigmas, names)
        first, second = {}, {}
        for need, column, one in zip(self.needs, others, asked.sums[1:], strict=True):
            made = _moment(asked.measure, need)
            if isinstance(made, Product):
                unit = made.units[0] * made.units[1] / 10 ** (made.left.decimals + made.right.decimals)
                second[need[0], need[1]] = (column + count * float(one.middle)) * unit
            else:
                first[need[0]] = (column + count * float(one.middle - made.middle)) * (1 / 10**made.decimals)
        second |= {(other, one): moment for (one, other), moment in second.items()}
        return Moments(count, first, second)

    def _cells(self, asked: Asked) -> list[Floats]:
        """The sums of the cells for which the error is stated."""
        sizes = np.array(SIZES, np.float64)
        columns = [sizes]
        for need, one in zip(self.needs, asked.sums[1:], strict=True):
            made = _moment(asked.measure, need)
            if isinstance(made, Centred):
                edge = one.middle + max(one.low, one.high, key=abs)
                each = edge if self.stated == "edge" else made.middle
            elif self.stated == "edge":
                each = made.largest
            else:
                each = made.largest // 4 if made.square else 0
            columns.append(sizes * float(each - one.middle))
        return columns


def _moment(measure: Measure, need: tuple[int, ...]) -> Centred | Product:
    sides = [Centred(measure.numbers[place]) for place in need]
    return sides[0] if len(sides) == 1 else Product(sides[0], sides[1])


def _transformed(how: str, held: Sequence[Floats]) -> Sequence[Floats]:
    value, low, high = held
    if how == "root":
        return [np.sqrt(value), np.sqrt(low), np.sqrt(high)]
    if how == "square":
        least = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(low**2, high**2))
        return [value**2, least, np.maximum(low**2, high**2)]
    return [value, low, high]


# The statistics


def _average(_measure: Measure, moments: Moments) -> tuple[Uncertain, Uncertain]:
    return moments.first[0], moments.count


def _variance(less: int) -> Ratio:
    return lambda _measure, moments: (moments.spread(0, 0), moments.count - float(less))


def _covariance(less: int) -> Ratio:
    return lambda _measure, moments: (moments.spread(0, 1), moments.count - float(less))


def _correlation(_measure: Measure, moments: Moments) -> tuple[Uncertain, Uncertain]:
    """Nothing where a spread came out as none: two of those would make a positive product."""
    own, others = moments.spread(0, 0), moments.spread(1, 1)
    both = (own * others).root()
    there = (own.value > 0) & (others.value > 0)
    return moments.spread(0, 1), Uncertain(np.where(there, both.value, np.nan), both.spread)


def _slope(_measure: Measure, moments: Moments) -> tuple[Uncertain, Uncertain]:
    return moments.spread(0, 1), moments.spread(1, 1)


def _intercept(measure: Measure, moments: Moments) -> tuple[Uncertain, Uncertain]:
    """mean(y) - slope * mean(x), over the denominator of the slope."""
    y, x = (moments.first[place] / moments.count + _middle(measure, place) for place in (0, 1))
    below = moments.spread(1, 1)
    return y * below - x * moments.spread(0, 1), below


def _middle(measure: Measure, place: int) -> float:
    side = Centred(measure.numbers[place])
    return float(side.middle) / 10.0**side.decimals


def _in_bounds(measure: Measure) -> tuple[float, float]:
    (number,) = measure.numbers
    return number.low / 10**number.decimals, number.high / 10**number.decimals


def _half(measure: Measure, place: int) -> float:
    number = measure.numbers[place]
    return float(number.high - number.low) / 2 / 10.0**number.decimals


def _variances(times: int) -> Callable[[Measure], tuple[float, float]]:
    """A variance is at most the square of half the width of the bounds; a sample's at most twice that."""
    return lambda measure: (0.0, times * _half(measure, 0) ** 2)


def _covariances(times: int) -> Callable[[Measure], tuple[float, float]]:
    def held(measure: Measure) -> tuple[float, float]:
        most = times * _half(measure, 0) * _half(measure, 1)
        return -most, most

    return held


def _anything(_measure: Measure) -> tuple[float, float]:
    return -np.inf, np.inf


def _correlations(_measure: Measure) -> tuple[float, float]:
    return -1.0, 1.0


_PAIR = ((0,), (1,), (0, 1))
_LINE = (*_PAIR, (1, 1))
_BOTH = (*_LINE, (0, 0))
_ONE = ((0,), (0, 0))

STATISTICS = {
    "avg": Statistic("avg", ((0,),), _average, _in_bounds, lambda measure: _middle(measure, 0)),
    "var_pop": Statistic("var_pop", _ONE, _variance(0), _variances(1)),
    "var_samp": Statistic("var_samp", _ONE, _variance(1), _variances(2)),
    "stddev_pop": Statistic("stddev_pop", _ONE, _variance(0), _variances(1), transformed="root"),
    "stddev_samp": Statistic("stddev_samp", _ONE, _variance(1), _variances(2), transformed="root"),
    "covar_pop": Statistic("covar_pop", _PAIR, _covariance(0), _covariances(1)),
    "covar_samp": Statistic("covar_samp", _PAIR, _covariance(1), _covariances(2)),
    "corr": Statistic("corr", _BOTH, _correlation, _correlations, stated="spread"),
    "regr_r2": Statistic(
        "regr_r2", _BOTH, _correlation, _correlations, transformed="square", stated="spread"
    ),
    "regr_slope": Statistic("regr_slope", _LINE, _slope, _anything, stated="spread"),
    "regr_intercept": Statistic("regr_intercept", _LINE, _intercept, _anything, stated="spread"),
}
"""By kind of measure. Of two numbers the first is the dependent one, as in SQL's ``regr_slope(y, x)``."""
