"""Numbers the units of rows that come in their order, and cuts the rows into parts of whole units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privacy.engines.duckdb import NUMBER, OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Cut:
    """Rows as they come, as parts.

    Args:
        batches: rows in the order of their units; the first batch is empty.
        first: the number of the first unit.
        rows_in_part: a part ends with the unit that has its row of this place.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], first: int, rows_in_part: int) -> None:
        self._empty = _numbered(next(batches), np.empty(0, np.int64))
        self._rows_in_part = rows_in_part
        self._batches = _all_numbered(batches, first)
        self._held = next(self._batches, None)

    @property
    def more(self) -> bool:
        """Whether there are rows that no part has yet."""
        return self._held is not None

    def part(self) -> Iterator[pa.RecordBatch]:
        """The next part, an empty batch first. To be read to its end before the next is asked for."""
        yield self._empty
        left, last = self._rows_in_part, 0
        while self._held is not None:
            numbers = self._held.column(NUMBER).to_numpy()
            end = len(numbers)
            if left < end:
                last = numbers[left - 1] if left > 0 else last
                end = int(np.searchsorted(numbers, last, side="right"))
            left -= end
            if end:
                last = numbers[end - 1]
                yield self._held.slice(0, end)
            if end < len(numbers):
                self._held = self._held.slice(end)
                return
            self._held = next(self._batches, None)


def _all_numbered(batches: Iterator[pa.RecordBatch], first: int) -> Iterator[pa.RecordBatch]:
    number, before = first - 1, None
    for batch in batches:
        if not batch.num_rows:
            continue
        owners = _plain(batch.column(OWNER))
        others = np.ones(len(owners), np.int64)
        others[1:] = _differ(owners[1:], owners[:-1])
        if before is not None:
            others[0] = _differ(owners[:1], before)[0]
        numbers = number + np.cumsum(others)
        number, before = int(numbers[-1]), owners[-1:]
        yield _numbered(batch, numbers)


def _numbered(batch: pa.RecordBatch, numbers: NDArray[np.int64]) -> pa.RecordBatch:
    columns = [pa.array(numbers, pa.int64()).cast(pa.int32()), *batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=[NUMBER, *batch.schema.names])


def _plain(owners: pa.Array) -> pa.Array:
    return owners.storage if isinstance(owners, pa.ExtensionArray) else owners


def _differ(these: pa.Array, those: pa.Array) -> NDArray[np.bool_]:
    """Where values differ, as the engine tells them apart: what is not a number is one value."""
    differ = pc.not_equal(these, those)
    if pa.types.is_floating(these.type):
        differ = pc.and_not(differ, pc.and_(pc.is_nan(these), pc.is_nan(those)))
    found: NDArray[np.bool_] = differ.to_numpy(zero_copy_only=False)
    return found
