# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""Sums that are no sums over units: numbers of different values, and histograms.

``distinct``
    The values that one unit has in its groups are put in order: first one of each group, then the second of
    each, and so on; which value comes first in a group and which group among equals is decided by keyed rank.
    The k-th value of a group costs 2k - 1, and the unit counts with values until their cost exceeds the
    length N^2 that its numbers may have. With p_g values in group g it has spent the sum of p_g^2. The union
    of the units' values grows by at most p_g in group g when the unit comes, and what other units count with
    does not change: the column moves by at most N in L2.

``histogram``
    All rows of a unit in a group weigh the same. The strategy leaves the unit's number of rows in group g at
    most at c_g, with the squares of the c_g summing to at most N^2; a row weighs c_g over the number of rows,
    rounded down, in steps of ``2 ** -shift``. So the leaves of group g move by at most c_g in L1. Scaled
    down, a row weighs as its unit's factor says, for which the number of rows is held in 2^31 or in 2^18
    times the length N and more: with more rows the factor is so small that they weigh 0, because ``N
    2^shift`` is less than what the number is held in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.algebra import TRUE
from privacy.engines.duckdb.factors import as_bigint, huge
from privacy.engines.duckdb.literals import quoted
from privacy.engines.duckdb.relations import keyed_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Bound, Sum


def distinct_sql(one: Sum, keys: Sequence[str], kept: str | None) -> str:
    """The keys, and the number of different values under the name of the sum.

    Args:
        kept: the relation with the groups of each unit that count, where not all do.
    """
    value = quoted("of_" + one.name)
    unit, groups = ", ".join(["u", *keys]), ", ".join(keys)
    rows = f"SELECT {unit}, {value} AS v FROM unit_rows WHERE {counts(one)} AND {value} IS NOT NULL"
    if kept is not None:
        rows = f"SELECT l.* FROM ({rows}) AS l SEMI JOIN {kept} AS p ON {_same(['u', *keys])}"
    values = f"SELECT DISTINCT * FROM ({rows}) AS q"
    place = f"row_number() OVER (PARTITION BY {unit} ORDER BY {keyed_rank(['u', *keys, 'v'])})"
    placed = f"SELECT *, {place} AS place FROM ({values}) AS q"
    order = f"PARTITION BY u ORDER BY place, {keyed_rank(['u', *keys])} ROWS UNBOUNDED PRECEDING"
    spent = f"SELECT *, sum(2 * place - 1) OVER ({order}) AS spent FROM ({placed}) AS q"
    counted = f"CAST(count(DISTINCT v) AS BIGINT) AS {quoted(one.name)}"
    grouped = f" GROUP BY {groups}" if keys else ""
    return (
        f"SELECT {', '.join([*keys, counted])} FROM ({spent}) AS q "
        f"WHERE spent <= {huge(one.norm_squared)}{grouped}"
    )


def _same(columns: Sequence[str]) -> str:
    return " AND ".join(f"l.{column} IS NOT DISTINCT FROM p.{column}" for column in columns)


def counts(one: Sum) -> str:
    """Whether a row of ``unit_rows`` is one that counts."""
    return "TRUE" if one.condition == TRUE else quoted("if_" + one.name)


def leaves_sql(one: Sum, keys: Sequence[str]) -> str:
    """Rows of each unit in each leaf of its groups: ``u``, the keys, the leaf ``b`` and the number ``n``."""
    found = ", ".join(["u", *keys, f"{quoted('of_' + one.name)} AS b"])
    grouped = ", ".join(["u", *keys, "b"])
    return f"SELECT {found}, count(*) AS n FROM unit_rows WHERE {counts(one)} GROUP BY {grouped}"


def histogram_sql(one: Sum, keys: Sequence[str], weighed: str) -> str:
    """The keys, and under the name of the sum a list of leaves ``b`` and their weights ``w``.

    Args:
        weighed: a SELECT of the keys, the leaf ``b``, how many rows ``n`` there are, and what each weighs,
            ``row_weight``.
    """
    groups_and_leaf = ", ".join([*keys, "b"])
    weight_of = f"{as_bigint('sum(n * row_weight)')} AS w"
    summed = f"SELECT {groups_and_leaf}, {weight_of} FROM ({weighed}) AS q GROUP BY {groups_and_leaf}"
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    listed = f"list({{'b': CAST(b AS INTEGER), 'w': w}}) AS {quoted(one.name)}"
    return f"SELECT {', '.join([*keys, listed])} FROM ({summed}) AS q{grouped}"


def capped_rows_sql(
    one: Sum, keys: Sequence[str], parts: str, bound: Bound, leaves: str | None = None
) -> str:
    """Of `histogram_sql`, what is weighed where a unit keeps so many rows in each of the groups it keeps.

    Args:
        parts: the relation with one row for each unit and group that counts.
        leaves: a SELECT as of `leaves_sql`, where that is known already.
    """
    shown = ", ".join([*(f"l.{key} AS {key}" for key in keys), "b", "n"])
    weight = f"{capped_weight(one, bound)} AS row_weight"
    same = _same(["u", *keys])
    return (
        f"SELECT {shown}, {weight} FROM ({leaves or leaves_sql(one, keys)}) AS l JOIN {parts} AS p ON {same}"
    )


def scaled_rows_sql(one: Sum, keys: Sequence[str], leaves: str | None = None) -> str:
    """Of `histogram_sql`, what is weighed where a unit's numbers are scaled down: by the same in all its
    groups, so that rows need not be put together first.

    Args:
        leaves: a SELECT as of `leaves_sql`, where that is known already.
    """
    rows = leaves
    if rows is None:
        found = ", ".join(["u", *keys, f"{quoted('of_' + one.name)} AS b", "1 AS n"])
        rows = f"SELECT {found} FROM unit_rows WHERE {counts(one)}"
    shown = ", ".join([*keys, "b", "n", f"{quoted('r_' + one.name)} AS row_weight"])
    return f"SELECT {shown} FROM ({rows}) AS l JOIN units USING (u)"


def capped_weight(one: Sum, bound: Bound) -> str:
    """What a row weighs where a unit has more of them than count."""
    count, whole = f"p.{quoted('n_' + one.name)}", 2**one.shift
    less = f"{huge(bound.rows * whole)} // {count}"
    return f"CASE WHEN {count} <= {huge(bound.rows)} THEN {huge(whole)} ELSE {less} END"
