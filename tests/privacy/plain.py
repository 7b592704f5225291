"""Compares an answer with plain SQL's, row by row, numbers up to rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

Row = tuple[Any, ...]


def rows(table: pa.Table) -> list[Row]:
    """The rows of a table, whose columns may have equal names."""
    named = table.rename_columns(list(map(str, range(table.num_columns))))
    return [tuple(row.values()) for row in named.to_pylist()]


def alike(left: Row, right: Row, widths: Sequence[float] | None = None) -> bool:
    """Whether two rows say the same, numbers of each column to within its width."""
    return len(left) == len(right) and all(map(_same, left, right, widths or [0.0] * len(left)))


def _same(left: Any, right: Any, width: float) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(*pair, width) for pair in zip(left, right, strict=True))
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return bool(left == right)
    if isinstance(left, str) or isinstance(right, str) or not hasattr(left, "__float__"):
        return bool(left == right)
    return math.isclose(float(left), float(right), rel_tol=1e-6, abs_tol=max(1e-6, width))
