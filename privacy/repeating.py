"""What is drawn when numbers were released before: nothing for a repeat, the difference for a refinement.

The same bounded sum over the same version of the data has the same exact numbers, so that noisy ones bought
earlier serve again. Asked with no more rho than was paid they are the answer; asked with more, a fresh draw
pays the difference and both are combined by precision (`privacy.refinement`); a sum that was not released
before is drawn at its whole price. Where keys are private, earlier numbers serve only if they are all that
is asked: with more rho other keys are shown, which is another release with a delta of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from privacy.refinement import GRID, difference_nano, fresh_sigma, refine, released
from privacy.release import Release
from privacy.released import ReleasedInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.refinement import Estimate
    from privacy.release import Noised
    from privacy.released import ReleasedMeasure, ReleasedTable

_ROUNDING = 0.25
"""Combined values are rounded to whole numbers: at most half a unit, squared."""


@dataclass(frozen=True)
class Repeat:
    """A release that is asked, and earlier numbers over the same bounded rows.

    Attributes:
        asked: what would be drawn without the earlier numbers.
        sums: digest of the sum behind each measure of it, by column.
    """

    asked: Release
    sums: Mapping[str, str]
    earlier: ReleasedTable

    @cached_property
    def saves(self) -> bool:
        """Whether the earlier numbers spare anything."""
        if self.asked.threshold is not None:
            return self.earlier.threshold is not None and not self._drawn_measures
        return any(self._paid(one) is not None for one in self.asked.noised)

    @cached_property
    def drawn(self) -> Release | None:
        """What is drawn beside the earlier numbers to come to what is asked; None when they suffice."""
        drawn = {one.name: one for one in self._drawn_measures}
        measures, totals = (
            tuple(drawn[one.name] for one in asked if one.name in drawn)
            for asked in (self.asked.measures, self.asked.totals)
        )
        return Release(self.asked.keys, measures, None, totals) if drawn else None

    @cached_property
    def stated(self) -> Release:
        """The asked release with the noise that the combined numbers have."""
        fresh = {one.name: one.sigma for one in self._drawn_measures}
        measures, totals = (
            tuple(replace(one, sigma=_combined_sigma(self._paid(one), fresh.get(one.name))) for one in asked)
            for asked in (self.asked.measures, self.asked.totals)
        )
        return replace(self.asked, measures=measures, totals=totals)

    def combined(self, fresh: pa.Table | None) -> pa.Table:
        """The asked table: keys and int64 measures, from the earlier table and the draw.

        Raises:
            ReleasedInvalid: the draw has other groups: the earlier numbers are of other data.
        """
        columns = {key: self.earlier.table.column(key) for key in self.asked.keys}
        if fresh is not None and any(not fresh.column(key).equals(one) for key, one in columns.items()):
            raise ReleasedInvalid("The earlier numbers have other groups.")
        columns |= {one.name: self._column(one, fresh) for one in self.asked.noised}
        return pa.table(columns)

    @cached_property
    def _drawn_measures(self) -> tuple[Noised, ...]:
        return tuple(found for one in self.asked.noised if (found := self._drawn(one)) is not None)

    def _drawn(self, one: Noised) -> Noised | None:
        paid = self._paid(one)
        if paid is None:
            return one
        rest = difference_nano(paid.rho_nano, one.rho_nano)
        if rest == 0:
            return None
        sigma = fresh_sigma(one.sensitivity_squared, paid.rho_nano, one.rho_nano)
        return replace(one, sigma=sigma, rho_nano=rest)

    def _paid(self, one: Noised) -> ReleasedMeasure | None:
        return self.earlier.find(self.sums[one.name])

    def _column(self, one: Noised, fresh: pa.Table | None) -> pa.ChunkedArray:
        paid, draw = self._paid(one), self._drawn(one)
        if draw is None:
            assert paid is not None
            return self.earlier.table.column(paid.name)
        assert fresh is not None
        if paid is None:
            return fresh.column(one.name)
        before, after = self.earlier.table.column(paid.name), fresh.column(one.name)
        combined = refine(
            released(_numbers(before).to_pylist(), paid.sigma),
            released(_numbers(after).to_pylist(), draw.sigma),
        )
        whole = _whole(combined)
        if pa.types.is_fixed_size_list(after.type):
            whole = pa.FixedSizeListArray.from_arrays(whole, after.type.list_size)
        return pa.chunked_array([whole])


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The integers of a column, of a histogram all its nodes."""
    return pc.list_flatten(column) if pa.types.is_fixed_size_list(column.type) else column


def _combined_sigma(paid: ReleasedMeasure | None, fresh: float | None) -> float:
    if paid is None or fresh is None:
        one = fresh if paid is None else paid.sigma
        assert one is not None
        return one
    both: float = (refine(released([0], paid.sigma), released([0], fresh)).sigma ** 2 + _ROUNDING) ** 0.5
    return both


def _whole(estimate: Estimate) -> pa.Array:
    return pa.array([(2 * value + GRID) // (2 * GRID) for value in estimate.values], pa.int64())
