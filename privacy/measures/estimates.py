"""What is made of released sums: values with their 95% intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from privacy.algebra import Measure, Sum

    Integers = NDArray[np.int64]

SIZES = (100, 1_000, 10_000)
"""Rows of the cells for which the error of a statistic is stated before the run."""


@dataclass(frozen=True)
class Asked:
    """A measure as it was lowered: its sums, and how each of them is noised.

    Attributes:
        sigmas, widths: noise scale and 95% half-width of each sum, in the unit of what it sums (not shifted).
    """

    measure: Measure
    sums: tuple[Sum, ...]
    sigmas: tuple[float, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Estimate:
    """A released column and the ends of its 95% interval, one value for each group, or one row of values for
    each. Not a number is NULL. Arrow arrays are taken as they are."""

    value: Any
    low: Any
    high: Any

    def arrays(self) -> list[pa.Array]:
        """As Arrow, with NULL for what is no finite number."""
        return [_present(column) for column in (self.value, self.low, self.high)]


def _present(column: NDArray[Any] | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    if column.ndim == 2:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
        missing = pa.array(~np.isfinite(column).all(axis=1))
        return pc.if_else(missing, pa.scalar(None, lists.type), lists).cast(pa.list_(pa.float64()))
    if column.dtype.kind != "f":
        return pa.array(column)
    return pa.array(column, mask=~np.isfinite(column))


@dataclass(frozen=True)
class Facts:
    """What is known of a column's error before anything is read.

    Attributes:
        sigma: noise scale, in the column's own unit.
        half_width: half of its 95% interval.
        table: half of its 95% interval by the size of the cell.
        note: what the figures hold for, where that needs saying.
        resolution: width of the bins that a quantile was found among.
    """

    sigma: float | None = None
    half_width: float | None = None
    table: Mapping[int, float] | None = None
    note: str | None = None
    resolution: float | None = None


def unshifted(column: pa.ChunkedArray, one: Sum) -> NDArray[Any]:
    """A released sum in the unit of what it sums: fractions where they were kept. Of a histogram, one row of
    nodes for each group."""
    values: NDArray[Any]
    if pa.types.is_fixed_size_list(column.type):
        values = pc.list_flatten(column).to_numpy().reshape(len(column), column.type.list_size)
    else:
        values = column.to_numpy()
    return values if one.shift == 0 else values / float(1 << one.shift)


def integers(values: NDArray[Any], width: int) -> Estimate:
    """Whole numbers with the same half-width everywhere, held within 64 bits; fractions are rounded, for
    which the half-width has room."""
    if values.dtype.kind == "f":
        values = np.rint(values).astype(np.int64)
    most = np.iinfo(np.int64).max - width
    held = np.clip(values, -most, most)
    return Estimate(values, held - width, held + width)


def scaled(values: NDArray[Any], width: int, decimals: int) -> Estimate:
    """Fixed point numbers with the same half-width everywhere."""
    unit = float(10**decimals)
    centre = values.astype(np.float64)
    return Estimate(centre / unit, (centre - width) / unit, (centre + width) / unit)
