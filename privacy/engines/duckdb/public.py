# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""The public part, over released tables and public files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.algebra import Output, Scalar, columns_of
from privacy.engines.duckdb.literals import normalised
from privacy.engines.duckdb.relations import Relations, ordered
from privacy.engines.duckdb.scalars import scalar

if TYPE_CHECKING:
    from collections.abc import Sequence


def public_sql(
    output: Output,
    intervals: Sequence[tuple[Scalar, Scalar] | None],
) -> str:
    """The asked columns as ``o0``.., then the bounds of intervals as ``l0``, ``h0``.., in the asked order.

    Args:
        intervals: for each output column its lower and upper end, where it has one.
    """
    columns = [f"{_shown(one)} AS o{place}" for place, (_, one) in enumerate(output.columns)]
    for place, ends in enumerate(intervals):
        if ends is not None:
            columns += [f"{_shown(ends[0])} AS l{place}", f"{_shown(ends[1])} AS h{place}"]
    relation = Relations(columns_of(output) | columns_of(intervals)).sql(output.input)
    return f"SELECT {', '.join(columns)} FROM ({relation}) AS q{ordered(output.order)}"


def _shown(node: Scalar) -> str:
    sql = scalar(node)
    return normalised(sql, node.type) if node.type in ("float", "decimal") else sql
