"""What is worth storing of a policy's private tables."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from privacy.algebra import Column, scans_of, tables_of
from privacy.bounding import Options
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.layout.rows import LaidRows
from privacy.layout.synopses import Synopsis
from privacy.plan import plan
from privacy.profiled import profiled_keys, profiled_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privacy.layout.wanted import Wanted
    from privacy.plan import Plan
    from privacy.policy import Policy, Table

_LARGEST_REACH = 2**31
"""A unit's total of numbers so far from 0 fits 64 bits, whatever number of its rows a machine could hold."""


def selections(policy: Policy) -> tuple[Wanted, ...]:
    """What is worth storing: of each private table its rows, a synopsis without a key, and one for each key
    that is likely to be grouped by."""
    private = [table for table in policy.tables.values() if table.private]
    return tuple(one for table in private for one in _of(policy, table))


def _of(policy: Policy, table: Table) -> Iterator[Wanted]:
    with contextlib.suppress(Refused):
        rows = _rows(policy, table)
        if rows is not None:
            yield rows
    for key in [None, *(one.name for one in profiled_keys(table))]:
        try:
            reading = _everything(policy, table, key)
        except Refused:
            continue  # no buyer can ask this either, as where the key names another table's units
        (one,) = reading.releases
        aggregate = one.lowered.aggregate
        about = f"synopsis of {table.name} by unit" + (f" and {key}" if key else "")
        tables = tuple(sorted(tables_of(aggregate.input.input)))
        yield Synopsis(about, tables, duckdb.synopsis_of(aggregate), reading, aggregate)


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
    order = [one.name for one in profiled_keys(table) if one in known]
    tables = tuple(sorted(tables_of(scan)))
    return LaidRows(
        f"rows of {table.name}", tables, duckdb.rows_of(scan, columns, order), reading, table.name
    )


def _everything(policy: Policy, table: Table, key: str | None) -> Plan:
    """All that one statement may ask of a table's declared numbers: planned as any question is."""
    numbers = [
        duckdb.quoted(one.name)
        for one in profiled_numbers(table)
        if max(abs(one.low or 0), abs(one.high or 0)) <= _LARGEST_REACH
    ]
    asked = ["count(*)", *(f"{function}({name})" for name in numbers for function in ("count", "sum"))]
    if not table.path:
        asked.append(f"count(DISTINCT {duckdb.quoted(policy.unit_column(table)[0])})")
    keyed = [] if key is None else [duckdb.quoted(key)]
    sql = f"SELECT {', '.join([*keyed, *asked])} FROM {duckdb.quoted(table.name)}"  # noqa: S608 - quoted
    sql += f" GROUP BY {keyed[0]}" if keyed else ""
    return plan(sql, policy, rho_nano=policy.max_rho_per_query_nano, options=Options(strategy="caps"))
