# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""The exact part: bounded integer sums. Its rows never leave the release step."""

from __future__ import annotations

from privacy.algebra import Aggregate, Bound, Key, Sum, columns_of
from privacy.engines.duckdb.relations import Relations, keyed_rank
from privacy.engines.duckdb.scalars import named, normalised, quoted, scalar
from privacy.values import MAX_KEY_BYTES

SMALLEST, LARGEST = -(2**62), 2**62


def exact_sql(aggregate: Aggregate) -> str:
    """Exact integer sums: keys ``k0``.. and one BIGINT for each sum, in key order. Never leaves the
    release step."""
    bound = aggregate.input
    keys = [quoted(key.name) for key in bound.keys]
    steps = [f"unit_rows AS ({_unit_rows(aggregate)})", f"parts AS ({_parts(aggregate)})"]
    if bound.ranked:
        steps.append(f"ranked AS ({_ranked(bound)})")
    kept = f"(SELECT * FROM ranked WHERE place <= {bound.groups}) AS kept" if bound.ranked else "parts"
    sums = ", ".join([*keys, *(f"{_total(one, bound)} AS {quoted(one.name)}" for one in aggregate.sums)])
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    steps.append(f"exact AS (SELECT {sums} FROM {kept}{grouped})")
    return f"WITH {', '.join(steps)} {_result(aggregate)}"


def _unit_rows(aggregate: Aggregate) -> str:
    """One row for each row that may count: its unit, keys, and what is summed of it."""
    bound = aggregate.input
    columns = [f"{named(bound.unit)} AS u"]
    columns += [f"{_key(key)} AS {quoted(key.name)}" for key in bound.keys]
    for one in aggregate.sums:
        columns.append(f"{scalar(one.condition)} AS {quoted('if_' + one.name)}")
        if one.argument is not None:
            columns.append(f"{scalar(one.argument)} AS {quoted('of_' + one.name)}")
    relation = Relations(columns_of(aggregate)).sql(bound.input)
    rows = f"SELECT {', '.join(columns)} FROM ({relation}) AS q"
    texts = [quoted(key.name) for key in bound.keys if key.scalar.type == "text"]
    if texts:
        short = ", ".join(
            f"CASE WHEN strlen({key}) <= {MAX_KEY_BYTES} THEN {key} END AS {key}" for key in texts
        )
        rows = f"SELECT * REPLACE ({short}) FROM ({rows}) AS q"
    allowed = [
        f"{quoted(key.name)} IN ({', '.join(scalar(value) for value in key.domain)})"
        for key in bound.keys
        if key.domain is not None
    ]
    return f"SELECT * FROM ({rows}) AS q WHERE {' AND '.join(allowed)}" if allowed else rows


def _key(key: Key) -> str:
    sql = scalar(key.scalar)
    return normalised(sql, key.scalar.type) if key.scalar.type in ("float", "decimal") else sql


def _parts(aggregate: Aggregate) -> str:
    """What each unit contributes to each group."""
    keys = [quoted(key.name) for key in aggregate.input.keys]
    columns = ["u", *keys]
    for one in aggregate.sums:
        condition = f"FILTER (WHERE {quoted('if_' + one.name)})"
        columns.append(f"CAST(count(*) {condition} AS HUGEINT) AS {quoted('n_' + one.name)}")
        if one.argument is not None:
            total = f"sum({quoted('of_' + one.name)}) {condition}"
            columns.append(f"coalesce({total}, CAST(0 AS HUGEINT)) AS {quoted('t_' + one.name)}")
    return f"SELECT {', '.join(columns)} FROM unit_rows GROUP BY {', '.join(['u', *keys])}"


def _ranked(bound: Bound) -> str:
    """Each unit's groups in an order that only the salt and the names of unit and group decide."""
    rank = keyed_rank(["u", *(quoted(key.name) for key in bound.keys)])
    return f"SELECT *, row_number() OVER (PARTITION BY u ORDER BY {rank}) AS place FROM parts"


def _total(one: Sum, bound: Bound) -> str:
    """The sum over units of what each may contribute, as a BIGINT."""
    count = quoted("n_" + one.name)
    if one.kind == "units":
        part = f"least({count}, CAST(1 AS HUGEINT))"
    elif one.kind == "rows":
        part = f"least({count}, {_huge(bound.rows)})"
    else:
        total = quoted("t_" + one.name)
        if one.kind == "centred":
            centred = f"({total} - {count} * {_huge(one.middle)})"
            shrunk = f"({centred} * {_huge(bound.rows)}) // {count}"
            total = f"CASE WHEN {count} <= {_huge(bound.rows)} THEN {centred} ELSE {shrunk} END"
        part = f"greatest(least({total}, {_huge(one.high)}), {_huge(one.low)})"
    whole = f"coalesce(sum({part}), CAST(0 AS HUGEINT))"
    return f"CAST(greatest(least({whole}, {_huge(LARGEST)}), {_huge(SMALLEST)}) AS BIGINT)"


def _huge(number: int) -> str:
    return f"CAST('{number}' AS HUGEINT)"


def _result(aggregate: Aggregate) -> str:
    """The groups that are there; with public keys every combination, present or not."""
    bound = aggregate.input
    keys = [quoted(key.name) for key in bound.keys]
    order = f" ORDER BY {', '.join(f'{key} NULLS LAST' for key in keys)}" if keys else ""
    if not bound.grid:
        return f"SELECT * FROM exact{order}"
    grids = " CROSS JOIN ".join(_domain(key) for key in bound.keys)
    columns = [f"grid.{key} AS {key}" for key in keys]
    columns += [
        f"coalesce(exact.{quoted(one.name)}, CAST(0 AS BIGINT)) AS {quoted(one.name)}"
        for one in aggregate.sums
    ]
    same = " AND ".join(f"grid.{key} = exact.{key}" for key in keys)
    order = f" ORDER BY {', '.join(f'grid.{key}' for key in keys)}"
    return (
        f"SELECT {', '.join(columns)} FROM (SELECT * FROM {grids}) AS grid LEFT JOIN exact ON {same}{order}"
    )


def _domain(key: Key) -> str:
    assert key.domain is not None
    values = ", ".join(f"({scalar(value)})" for value in key.domain)
    return f"(VALUES {values}) AS {quoted('d_' + key.name)}({quoted(key.name)})"
