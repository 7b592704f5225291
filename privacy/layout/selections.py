"""What is worth storing of a policy's private tables."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, renamed, scans_of, tables_of
from privacy.bounding import Options
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.layout.rows import LaidRows, over_rows
from privacy.layout.synopses import Leaves, Sums, Synopsis, lengths_of
from privacy.plan import plan
from privacy.profiled import profiled_keys, profiled_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from privacy.algebra import Aggregate
    from privacy.layout.wanted import Wanted
    from privacy.plan import Plan
    from privacy.policy import Policy, Table

MAX_HISTOGRAMS = 4
"""Of a table: each may have about as many rows as the table has."""
_LARGEST_REACH = 2**31
"""A unit's total of numbers so far from 0 fits 64 bits, whatever number of its rows a machine could hold."""


def selections(policy: Policy) -> tuple[Wanted, ...]:
    """What is worth storing: of each private table its rows, synopses without a key and for each key that is
    likely to be grouped by, and histograms for keys with public values and without a key."""
    private = [table for table in policy.tables.values() if table.private]
    return tuple(one for table in private for one in _of(policy, table))


def with_instead(wanted: Iterable[Wanted]) -> Iterator[Wanted]:
    """What is wanted, and what is stored in its place where there is no room for what it is of."""
    for one in wanted:
        yield one
        if one.instead is not None:
            yield one.instead


def _of(policy: Policy, table: Table) -> Iterator[Wanted]:
    """The rows come first: the rest is taken from them, where they can be stored."""
    rows = None
    with contextlib.suppress(Refused):
        rows = _rows(policy, table)
    if rows is not None:
        yield rows
    for key in [None, *(one.name for one in profiled_keys(table))]:
        with contextlib.suppress(Refused):  # no buyer can ask it, as where a key names another table's units
            yield from _with_lengths(_sums(policy, table, key, rows))
    few = [one.name for one in profiled_keys(table) if one.keys is not None]
    for key, number in itertools.islice(itertools.product([*few, None], _numbers(table)), MAX_HISTOGRAMS):
        with contextlib.suppress(Refused):
            yield from _with_lengths(_leaves(policy, table, key, number, rows))


def _with_lengths(synopsis: Synopsis) -> Iterator[Wanted]:
    """The synopsis, and what the parts of each of its units come to in all groups."""
    yield synopsis
    yield lengths_of(synopsis)


def _rows(policy: Policy, table: Table) -> LaidRows | None:
    """All columns of known type; none where a column is called as another table's unit is, or as what is
    added to the columns."""
    known = [one for one in table.columns.values() if one.type is not None]
    if {one.name.lower() for one in known} & {duckdb.OWNER, duckdb.NUMBER}:
        return None
    named = " AND ".join(f"{duckdb.quoted(one.name)} IS NOT NULL" for one in known) or "TRUE"
    sql = f"SELECT count(*) FROM {duckdb.quoted(table.name)} WHERE {named}"  # noqa: S608 - a policy's names
    reading = plan(sql, policy, rho_nano=policy.max_rho_per_query_nano)
    question = reading.releases[0].question
    (scan,) = scans_of(question.input)
    if table.path and table.column(question.unit.name) is not None:
        return None
    columns = [Column(scan.source, one.name, one.type or "text") for one in known]
    fixed = _fixed(policy, table, scan.source)
    selected = duckdb.rows_of(scan, columns, fixed)
    about, read = f"rows of {table.name}", tuple(sorted(tables_of(scan)))
    return LaidRows(about, read, selected, reading, table=table.name, source=scan.source, fixed=fixed)


def _fixed(policy: Policy, table: Table, source: str) -> dict[str, Call]:
    """Declared numbers in fixed point, as questions have them, by names of columns that are free for them."""
    taken = {one.name.lower() for one in table.columns.values()}
    found: dict[str, Call] = {}
    for one in profiled_numbers(table):
        _, aggregate = _planned(policy, table, None, [f"sum({duckdb.quoted(one.name)})"])
        (scan,) = scans_of(aggregate.input.input)
        for number in {made.argument for made in aggregate.sums}:
            if (
                isinstance(number, Call)
                and number.operation == "clamp"
                and f"#{one.name}".lower() not in taken
            ):
                found[f"#{one.name}"] = renamed(number, {scan.source: source})
    return found


def _numbers(table: Table) -> list[str]:
    """Names of declared numbers, as they are quoted, whose totals a unit's rows cannot make too large."""
    return [
        duckdb.quoted(one.name)
        for one in profiled_numbers(table)
        if max(abs(one.low or 0), abs(one.high or 0)) <= _LARGEST_REACH
    ]


def _sums(policy: Policy, table: Table, key: str | None, rows: LaidRows | None) -> Sums:
    """All that one statement may ask of a table's declared numbers: planned as any question is."""
    asked = ["count(*)", *(f"{of}({name})" for name in _numbers(table) for of in ("count", "sum"))]
    if not table.path:
        asked.append(f"count(DISTINCT {duckdb.quoted(policy.unit_column(table)[0])})")
    reading, aggregate = _planned(policy, table, key, asked)
    about = f"synopsis of {table.name} by unit" + (f" and {key}" if key else "")
    plain = Sums(about, _read_of(aggregate), duckdb.synopsis_of(aggregate), reading, aggregate=aggregate)
    if rows is None:
        return plain
    selected = duckdb.synopsis_of(*_over(aggregate, rows))
    return replace(plain, selected=selected, of=rows, instead=plain)


def _leaves(policy: Policy, table: Table, key: str | None, number: str, rows: LaidRows | None) -> Leaves:
    """The histogram that quantiles of a declared number are taken from."""
    reading, aggregate = _planned(policy, table, key, [f"median({number})"])
    grouped = f" and {key}" if key else ""
    about = f"histogram of {number} of {table.name} by unit{grouped}"
    plain = Leaves(about, _read_of(aggregate), duckdb.leaves_of(aggregate), reading, aggregate=aggregate)
    if rows is None:
        return plain
    selected = duckdb.leaves_of(*_over(aggregate, rows))
    return replace(plain, selected=selected, of=rows, instead=plain)


def _over(aggregate: Aggregate, rows: LaidRows) -> tuple[Aggregate, duckdb.StoredRows]:
    """The aggregate over stored rows."""
    unranked = replace(aggregate, input=replace(aggregate.input, ranked=False))
    moved = over_rows(unranked, {rows.table: rows})
    return moved, duckdb.StoredRows(rows.table, rows.selected.digest)


def _planned(policy: Policy, table: Table, key: str | None, asked: Sequence[str]) -> tuple[Plan, Aggregate]:
    keyed = [] if key is None else [duckdb.quoted(key)]
    sql = f"SELECT {', '.join([*keyed, *asked])} FROM {duckdb.quoted(table.name)}"  # noqa: S608 - quoted
    sql += f" GROUP BY {keyed[0]}" if keyed else ""
    planned = plan(sql, policy, rho_nano=policy.max_rho_per_query_nano, options=Options(strategy="caps"))
    (one,) = planned.releases
    return planned, one.lowered.aggregate


def _read_of(aggregate: Aggregate) -> tuple[str, ...]:
    return tuple(sorted(tables_of(aggregate.input.input)))
