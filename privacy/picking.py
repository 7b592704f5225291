"""The public part of most statements: columns of one released table, in the order of its keys.

Nothing is computed there, so that no engine is needed, nor a worker to run it in. Whatever else is asked of
released numbers goes to the sandbox; what is done here gives the same table, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from privacy.algebra import Column, Released

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Order, Scalar
    from privacy.plan import Plan

_COMPARED_ALIKE = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.bool_(), pa.string(), pa.date32())
"""Arrow types whose values the engine orders as Arrow does, text by its bytes, and gives back as they are."""


def picked(plan: Plan, shown: Sequence[pa.Table]) -> pa.Table | None:
    """What `Plan.public_sql` makes of the released relations; None where that is more than picking."""
    source = plan.query.output.input
    if not isinstance(source, Released):
        return None
    table, keys = shown[source.question], plan.releases[source.question].release.keys
    ordered = _ordered(plan.query.output.order, keys)
    wanted = _wanted(plan)
    if ordered is None or any(not isinstance(one, Column) for one in wanted.values()):
        return None
    if any(table.schema.field(key).type not in _COMPARED_ALIKE for key in ordered):
        return None
    if ordered:
        by = [(key, "ascending", "at_end") for key in ordered]
        table = table.take(pc.sort_indices(table, sort_keys=by))
    columns = {name: _value(table, one) for name, one in wanted.items()}
    return None if any(column is None for column in columns.values()) else pa.table(columns)


def _wanted(plan: Plan) -> dict[str, Scalar]:
    """The columns under the names that `Plan.public_sql` gives them."""
    wanted = {f"o{place}": scalar for place, (_, scalar) in enumerate(plan.query.output.columns)}
    for place, ends in enumerate(plan.interval_ends):
        if ends is not None:
            wanted |= {f"l{place}": ends[0], f"h{place}": ends[1]}
    return wanted


def _ordered(order: Sequence[Order], keys: Sequence[str]) -> list[str] | None:
    """The keys, which no two rows share, in the order that is asked; None where another is."""
    first = order[: len(keys)]
    if any(not isinstance(one.scalar, Column) or one.descending or one.nulls_first for one in first):
        return None
    named = [one.scalar.name for one in first if isinstance(one.scalar, Column)]
    return named if sorted(named) == sorted(keys) else None


def _value(table: pa.Table, one: Scalar) -> pa.ChunkedArray | None:
    """A column as the engine gives it back: of fractions, none is negative zero, and none is no number."""
    assert isinstance(one, Column)
    column = table.column(one.name)
    if one.type in ("float", "decimal"):
        if column.type != pa.float64():
            return None
        return pc.if_else(pc.is_finite(column), pc.add(column, 0.0), pa.scalar(None, pa.float64()))
    return column if column.type in _COMPARED_ALIKE else None
