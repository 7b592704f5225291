"""Counts and sums: one integer sum each, with the same error in every group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from privacy.algebra import Sum
from privacy.measures.estimates import Asked, Estimate, Facts, integers, scaled
from privacy.policy import LARGEST_CAPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from privacy.algebra import Measure


@dataclass(frozen=True)
class Counted:
    """A released sum, shown as it is.

    Of different values, the first parameter of the measure says how many there can be, where that is public.
    """

    column: str
    kind: str

    interval = True

    def sums(self, measure: Measure) -> tuple[Sum, ...]:
        """The one sum it is."""
        if self.kind == "distinct":
            most = int(measure.parameters[0]) if measure.parameters else LARGEST_CAPS["max_groups"]
            return (Sum("", "distinct", measure.value, measure.condition, 0, most),)
        if self.kind != "total":
            return (Sum("", self.kind, None, measure.condition, 0, 1),)
        (number,) = measure.numbers
        low, high = min(number.low, 0), max(number.high, 0)
        return (Sum("", "total", number.scalar, measure.condition, low, high),)

    def decimals(self, measure: Measure) -> int:
        """Decimals by which the released sum is scaled back."""
        return measure.numbers[0].decimals if self.kind == "total" else 0

    def estimate(self, asked: Asked, columns: Sequence[NDArray[Any]]) -> Estimate:
        """Its value and interval in each group."""
        decimals = self.decimals(asked.measure)
        if decimals:
            return scaled(columns[0], asked.widths[0], decimals)
        return integers(columns[0], asked.widths[0])

    def facts(self, asked: Asked) -> Facts:
        """Its error, the same in every group."""
        unit = 10 ** self.decimals(asked.measure)
        return Facts(asked.sigmas[0] / unit, asked.widths[0] / unit)


COUNTS = {
    "rows": Counted("count", "rows"),
    "units": Counted("count_distinct", "units"),
    "distinct": Counted("count_distinct", "distinct"),
    "sum": Counted("sum", "total"),
}
"""By kind of measure."""
