"""Quantiles: from a histogram over public bins, released as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from privacy.measures.estimates import SIZES, Asked, Estimate, Facts
from privacy.measures.sums import Bins, tree_of
from privacy.measures.uncertain import NORMAL_95
from privacy.quantiles import quantiles
from privacy.tree import balance_variances, leaf_estimates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from privacy.algebra import Measure, Sum

_SHARES = (
    "as shares of the rows: the value lies between the quantiles at shares so much smaller and larger; where "
    "bins hold many rows the interval is of whole bins, and holds more often than 95%"
)


@dataclass(frozen=True)
class Quantile:
    """Quantiles at the shares that the measure's parameters name.

    Attributes:
        many: whether they are shown as a list.
        label: what is to be said of the value, whatever its error.
    """

    column: str
    many: bool = False
    label: str = ""

    interval = True

    def sums(self, measure: Measure) -> tuple[Sum, ...]:
        """The one histogram."""
        return (_bins(measure).sum(measure.condition),)

    def estimate(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> Estimate:
        """Values and intervals in each group; NULL where the noisy total is not positive."""
        measure, shape, bins = asked.measure, tree_of(asked.sums[0]), _bins(asked.measure)
        levels = np.split(columns[0].astype(np.float64), np.cumsum(shape.sizes)[:-1], axis=1)
        leaves = leaf_estimates(levels, shape)
        shares = [float(share) for share in measure.parameters]
        found = quantiles(leaves, bins.edges().tolist(), shares, shape, asked.sigmas[0])
        number = measure.numbers[0]
        least, most = (float(end) / 10.0**number.decimals for end in (number.low, number.high))
        counted = leaves.sum(axis=1, keepdims=True) > 0
        held = [np.where(counted, np.clip(bins.value(one), least, most), np.nan) for one in found]
        return Estimate(*(one if self.many else one[:, 0] for one in held))

    def facts(self, asked: Asked) -> Facts:
        """Its error in cells of a few sizes, as shares of their rows."""
        shape, bins = tree_of(asked.sums[0]), _bins(asked.measure)
        worst = max(
            float(balance_variances(shape, asked.sigmas[0], float(share)).max())
            for share in asked.measure.parameters
        )
        table = {size: min(NORMAL_95 * worst**0.5 / size, 1.0) for size in SIZES}
        width = bins.width / 10.0 ** asked.measure.numbers[0].decimals
        note = f"{self.label}; {_SHARES}" if self.label else _SHARES
        return Facts(table=table, note=note, resolution=width)


def _bins(measure: Measure) -> Bins:
    (number,) = measure.numbers
    return Bins(number, measure.leaves)


QUANTILES = {
    "quantile": Quantile("quantile"),
    "quantiles": Quantile("quantiles", many=True),
    "min": Quantile("approximate_min", label="the 1% quantile, not the least value"),
    "max": Quantile("approximate_max", label="the 99% quantile, not the greatest value"),
}
"""By kind of measure."""
