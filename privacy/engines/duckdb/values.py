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

from privacy.engines.duckdb.factors import PRECISION, as_bigint, huge
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
    value, condition = quoted("of_" + one.name), quoted("if_" + one.name)
    unit, groups = ", ".join(["u", *keys]), ", ".join(keys)
    rows = f"SELECT {unit}, {value} AS v FROM unit_rows WHERE {condition} AND {value} IS NOT NULL"
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


def histogram_sql(one: Sum, keys: Sequence[str], parts: str, weight: str) -> str:
    """The keys, and under the name of the sum a list of leaves ``b`` and their weights ``w``.

    Args:
        parts: the relation with one row for each unit and group that counts.
        weight: what each row of a unit in a group weighs, as columns of ``parts``.
    """
    leaf, condition = quoted("of_" + one.name), quoted("if_" + one.name)
    unit, groups = ", ".join(["u", *keys]), ", ".join(keys)
    found = f"SELECT {unit}, {leaf} AS b, count(*) AS n FROM unit_rows WHERE {condition} GROUP BY {unit}, b"
    weighed = f"SELECT p.*, {weight} AS row_weight FROM {parts} AS p"
    groups_and_leaf = ", ".join([*(f"l.{key}" for key in keys), "b"])
    joined = f"({found}) AS l JOIN ({weighed}) AS p ON {_same(['u', *keys])}"
    weight_of = f"{as_bigint('sum(n * row_weight)')} AS w"
    summed = f"SELECT {groups_and_leaf}, {weight_of} FROM {joined} GROUP BY {groups_and_leaf}"
    grouped = f" GROUP BY {groups}" if keys else ""
    listed = f"list({{'b': CAST(b AS INTEGER), 'w': w}}) AS {quoted(one.name)}"
    return f"SELECT {', '.join([*keys, listed])} FROM ({summed}) AS q{grouped}"


def capped_weight(one: Sum, bound: Bound) -> str:
    """What a row weighs where a unit has more of them than count."""
    count, whole = quoted("n_" + one.name), 2**one.shift
    less = f"{huge(bound.rows * whole)} // {count}"
    return f"CASE WHEN {count} <= {huge(bound.rows)} THEN {huge(whole)} ELSE {less} END"


def scaled_weight(one: Sum) -> str:
    """What a row weighs where a unit's numbers are scaled down."""
    return f"(({quoted('w_' + one.name)} * {huge(2**one.shift)}) // {huge(2**PRECISION)})"
