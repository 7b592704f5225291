# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""The exact part: bounded integer sums. Its rows never leave the release step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from privacy.algebra import TRUE, Aggregate, Bound, Key, Scalar, Sum, columns_of
from privacy.arithmetic import presence
from privacy.engines.duckdb.factors import (
    Factors,
    as_bigint,
    huge,
    not_small,
    same_in_all_groups,
    scaled,
    uncut,
)
from privacy.engines.duckdb.literals import normalised, quoted
from privacy.engines.duckdb.relations import Relations, keyed_rank
from privacy.engines.duckdb.scalars import named, scalar
from privacy.engines.duckdb.values import capped_rows_sql, distinct_sql, histogram_sql, scaled_rows_sql
from privacy.values import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Known:
    """What is stored of an aggregate, so that it need not be worked out.

    Attributes:
        parts: a SELECT of what each unit contributes to each group.
        lengths: a SELECT of what `Factors` measures of each unit.
        leaves: by the name of a histogram, a SELECT of the rows of each unit in each of its leaves.
    """

    parts: str
    lengths: str | None = None
    leaves: Mapping[str, str] = field(default_factory=dict)


def exact_sql(aggregate: Aggregate, known: Known | None = None) -> str:
    """Exact integer sums: keys ``k0``.. and one BIGINT for each sum, in key order. Never leaves the
    release step."""
    bound = aggregate.input
    steps = [f"unit_rows AS ({unit_rows_sql(aggregate)})", f"parts AS ({_parts(aggregate)})"]
    if known is not None:
        steps = [f"parts AS ({known.parts})"]
    kept = "parts"
    if bound.ranked:
        steps.append(f"ranked AS ({_ranked(bound)})")
        steps.append(f"kept AS (SELECT * FROM ranked WHERE place <= {bound.groups})")
        kept = "kept"
    if bound.scales:
        factors = Factors(aggregate)
        steps.append(f"units AS ({factors.sql(kept, known.lengths if known else None)})")
        steps.append(f"weighed AS (SELECT p.*, units.* EXCLUDE (u) FROM {kept} AS p JOIN units USING (u))")
        kept = "weighed"
        if aggregate.totals:
            steps.append(f"totals AS ({factors.totals_sql()})")
    steps.append(f"summed AS ({_summed(aggregate, kept)})")
    steps.append(f"exact AS ({_beside(aggregate, kept, known.leaves if known else {})})")
    return f"WITH {', '.join(steps)} {_result(aggregate)}"


def candidates_sql(aggregate: Aggregate, known: Known | None = None) -> str:
    """The exact sums of the groups that may be shown. Those to which nobody adds anything never are, and one
    unit with many keys of its own has any number of them: whether they fit must not hang on it."""
    sql = exact_sql(aggregate, known)
    if aggregate.shown_by is None:
        return sql
    return f"SELECT * FROM ({sql}) AS q WHERE {quoted(aggregate.shown_by)} > 0"


def parts_sql(aggregate: Aggregate) -> str:
    """What each unit contributes to each group, before it is bounded: ``u``, the keys, counts ``n_<sum>`` and
    totals ``t_<sum>``."""
    return f"WITH unit_rows AS ({unit_rows_sql(aggregate)}) {_parts(aggregate)}"


def _summed(aggregate: Aggregate, kept: str) -> str:
    """The groups with their sums over units."""
    keys = [quoted(key.name) for key in aggregate.input.keys]
    sums = [f"{_total(one, aggregate)} AS {quoted(one.name)}" for one in aggregate.sums if one.additive]
    if not keys and not sums:
        return "SELECT 0 AS nothing"
    if not sums and aggregate.input.grid:
        return f"SELECT * FROM {_grid(aggregate.input)}"
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join([*keys, *sums])} FROM {kept}{grouped}"


def _beside(aggregate: Aggregate, kept: str, leaves: Mapping[str, str]) -> str:
    """The groups with all they have: also what is no sum over units."""
    bound = aggregate.input
    keys = [quoted(key.name) for key in bound.keys]
    columns, joined = [f"summed.{key} AS {key}" for key in keys], "summed"
    for one in aggregate.sums:
        name, source = quoted(one.name), quoted("s_" + one.name)
        if one.additive:
            columns.append(f"summed.{name} AS {name}")
            continue
        if one.kind == "distinct":
            sql, shown = (
                distinct_sql(one, keys, kept if bound.ranked else None),
                f"coalesce({source}.{name}, CAST(0 AS BIGINT))",
            )
        else:
            known = leaves.get(one.name)
            if bound.scales:
                rows = scaled_rows_sql(one, keys, known)
            else:
                rows = capped_rows_sql(one, keys, kept, bound, known)
            sql, shown = histogram_sql(one, keys, rows), f"{source}.{name}"
        same = " AND ".join(f"summed.{key} IS NOT DISTINCT FROM {source}.{key}" for key in keys) or "TRUE"
        joined += f" LEFT JOIN ({sql}) AS {source} ON {same}"
        columns.append(f"{shown} AS {name}")
    return f"SELECT {', '.join(columns)} FROM {joined}"


def unit_rows_sql(aggregate: Aggregate) -> str:
    """One row for each row that may count: its unit, keys, and what is summed of it."""
    bound, filled = aggregate.input, _filled(aggregate)
    columns = [f"{named(bound.unit)} AS u"]
    columns += [f"{_value(key.scalar)} AS {quoted(key.name)}" for key in bound.keys]
    for one in aggregate.sums + aggregate.limits:
        if one.condition != TRUE and (one.condition.text not in filled or not one.additive):
            columns.append(f"{scalar(one.condition)} AS {quoted('if_' + one.name)}")
        if one.argument is not None:
            columns.append(f"{_value(one.argument)} AS {quoted('of_' + one.name)}")
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


def _value(node: Scalar) -> str:
    """A value by which rows are told apart: equal numbers are one, and what is none is NULL."""
    sql = scalar(node)
    return normalised(sql, node.type) if node.type in ("float", "decimal") else sql


def _parts(aggregate: Aggregate) -> str:
    """What each unit contributes to each group."""
    keys, filled = [quoted(key.name) for key in aggregate.input.keys], _filled(aggregate)
    columns = ["u", *keys]
    for one in aggregate.sums + aggregate.limits:
        rows, condition = "*", ""
        if one.condition.text in filled and one.additive:
            rows = quoted(filled[one.condition.text])
        elif one.condition != TRUE:
            condition = f" FILTER (WHERE {quoted('if_' + one.name)})"
        columns.append(f"count({rows}){condition} AS {quoted('n_' + one.name)}")
        if one.argument is not None and one.additive:
            own = "" if one.condition == presence(one.argument) else condition
            total = f"sum({quoted('of_' + one.name)}){own}"
            columns.append(f"coalesce({total}, CAST(0 AS HUGEINT)) AS {quoted('t_' + one.name)}")
    return f"SELECT {', '.join(columns)} FROM unit_rows GROUP BY {', '.join(['u', *keys])}"


def _filled(aggregate: Aggregate) -> dict[str, str]:
    """The column of `unit_rows_sql` that has a value in just the rows that meet a condition, by its text."""
    return {
        one.condition.text: f"of_{one.name}"
        for one in aggregate.sums
        if one.additive and one.argument is not None and one.condition == presence(one.argument)
    }


def _ranked(bound: Bound) -> str:
    """Each unit's groups in an order that only the salt and the names of unit and group decide."""
    rank = keyed_rank(["u", *(quoted(key.name) for key in bound.keys)])
    return f"SELECT *, row_number() OVER (PARTITION BY u ORDER BY {rank}) AS place FROM parts"


def _total(one: Sum, aggregate: Aggregate) -> str:
    """The sum over units of what each may contribute, as a BIGINT."""
    bound = aggregate.input
    if not bound.scales:
        return as_bigint(f"sum({_capped(one, bound)})")
    if same_in_all_groups(one):
        return as_bigint(f"sum({quoted('p_' + one.name)})")
    part = scaled(one)
    return as_bigint(f"sum({not_small(part, one, bound.groups) if one.name == aggregate.shown_by else part})")


def _capped(one: Sum, bound: Bound) -> str:
    """A unit's part in a group, held in what ``bound.rows`` rows may add."""
    part = uncut(one)
    if one.kind == "centred":
        count = quoted("n_" + one.name)
        shrunk = f"({part} * {huge(bound.rows)}) // {count}"
        part = f"CASE WHEN {count} <= {huge(bound.rows)} THEN {part} ELSE {shrunk} END"
    if not one.by_rows:
        return part
    return f"greatest(least({part}, {huge(one.high * bound.rows)}), {huge(one.low * bound.rows)})"


def _result(aggregate: Aggregate) -> str:
    """The groups that are there; with public keys every combination, present or not."""
    bound = aggregate.input
    keys = [quoted(key.name) for key in bound.keys]
    order = f" ORDER BY {', '.join(f'q.{key} NULLS LAST' for key in keys)}" if keys else ""
    groups = "exact"
    if bound.grid:
        columns = [f"grid.{key} AS {key}" for key in keys]
        columns += [_none_missing(one) for one in aggregate.sums]
        same = " AND ".join(f"grid.{key} = exact.{key}" for key in keys)
        joined = f"(SELECT * FROM {_grid(bound)}) AS grid LEFT JOIN exact ON {same}"
        groups = f"(SELECT {', '.join(columns)} FROM {joined})"
    whole = " CROSS JOIN totals" if aggregate.totals else ""
    return f"SELECT * FROM {groups} AS q{whole}{order}"


def _none_missing(one: Sum) -> str:
    """A column of the exact table where a group has no rows; a list without pairs is NULL."""
    name = quoted(one.name)
    return f"exact.{name} AS {name}" if one.leaves else f"coalesce(exact.{name}, CAST(0 AS BIGINT)) AS {name}"


def _grid(bound: Bound) -> str:
    """Every combination of the public keys."""
    return " CROSS JOIN ".join(_domain(key) for key in bound.keys)


def _domain(key: Key) -> str:
    assert key.domain is not None
    values = ", ".join(f"({scalar(value)})" for value in key.domain)
    return f"(VALUES {values}) AS {quoted('d_' + key.name)}({quoted(key.name)})"
