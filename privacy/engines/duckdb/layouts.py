# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""SQL of what is stored beside a table so that questions are answered sooner: its rows in the order of their
units, and synopses, which hold what each unit contributes to each group.

What is stored is a SELECT with a column ``#owner``, the unit. It is stored in parts: each holds all rows of
its units, in their order. ``#unit`` numbers the units of all parts, from 0 on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.engines.duckdb.exact import part_columns, parts_sql
from privacy.engines.duckdb.literals import quoted
from privacy.engines.duckdb.relations import Relations
from privacy.engines.duckdb.scalars import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Aggregate, Column, Scan

OWNER, NUMBER = "#owner", "#unit"
STORED = "_stored"
"""The name under which the stored rows of a synopsis are handed to the engine."""


@dataclass(frozen=True)
class Selected:
    """A SELECT whose rows are stored.

    Attributes:
        columns: names of its columns, without those that are added.
        order: columns by which the rows of a unit are ordered.
    """

    sql: str
    columns: tuple[str, ...]
    order: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Names the stored rows."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def count_sql(self) -> str:
        """One row: how many rows there are."""
        return f"SELECT count(*) AS rows FROM ({self.sql}) AS q"

    def part_sql(self, place: int, parts: int, first: int) -> str:
        """The rows of one of so many parts; the numbers of its units begin with ``first``."""
        owner, number = quoted(OWNER), quoted(NUMBER)
        mine = f"SELECT * FROM ({self.sql}) AS q WHERE hash({owner}) % {parts} = {place}"
        units = f"SELECT DISTINCT {owner} FROM mine"
        numbered = f"CAST({first - 1} + row_number() OVER (ORDER BY {owner}) AS INTEGER)"
        order = ", ".join([number, *(f"mine.{quoted(name)}" for name in self.order)])
        return (
            f"WITH mine AS MATERIALIZED ({mine}), "
            f"numbers AS (SELECT {owner}, {numbered} AS {number} FROM ({units}) AS q) "
            f"SELECT numbers.{number}, mine.* FROM mine JOIN numbers USING ({owner}) ORDER BY {order}"
        )

    def fingerprint_sql(self, source: str | None = None) -> str:
        """One row: the number of rows and a sum of their hashes, of the SELECT or of its stored rows."""
        columns = ", ".join(map(quoted, [OWNER, *self.columns]))
        rows = f"({self.sql})" if source is None else quoted(source)
        hashed = f"CAST(coalesce(sum(hash({columns})), 0) AS VARCHAR)"
        return f"SELECT count(*) AS rows, {hashed} AS hashed FROM {rows} AS q"

    @staticmethod
    def numbering_sql(source: str) -> str:
        """One row with one truth, ``fit``: a number stands for one unit, a unit for one number, none is
        left out."""
        owner, number = quoted(OWNER), quoted(NUMBER)
        pairs = f"SELECT DISTINCT {owner}, {number} FROM {quoted(source)}"
        counted = f"count(DISTINCT {owner}) = count(*) AND count(DISTINCT {number}) = count(*)"
        whole = f"coalesce(min({number}) = 0 AND max({number}) = count(*) - 1, TRUE)"
        return f"SELECT {counted} AND {whole} AS fit FROM ({pairs}) AS q"


def rows_of(scan: Scan, columns: Sequence[Column], order: Sequence[str]) -> Selected:
    """The rows of a private table, as a scan shows them, with their unit."""
    assert scan.unit is not None
    shown = [f"{named(one)} AS {quoted(one.name)}" for one in columns]
    relation = Relations({*columns, scan.unit}).sql(scan)
    sql = f"SELECT {', '.join([f'{named(scan.unit)} AS {quoted(OWNER)}', *shown])} FROM ({relation}) AS q"
    return Selected(sql, tuple(one.name for one in columns), tuple(order))


def synopsis_of(aggregate: Aggregate) -> Selected:
    """What each unit contributes to each group, before anything is bounded."""
    keys = [key.name for key in aggregate.input.keys]
    numbers = part_columns(aggregate)
    shown = [f"u AS {quoted(OWNER)}", *map(quoted, keys)]
    shown += [f"CAST({quoted(name)} AS BIGINT) AS {quoted(name)}" for name in numbers]
    sql = f"SELECT {', '.join(shown)} FROM ({parts_sql(aggregate)}) AS q"
    return Selected(sql, (*keys, *numbers), tuple(keys))


def stored_parts_sql(aggregate: Aggregate, names: dict[str, str]) -> str:
    """The parts of an aggregate from the stored rows of a synopsis.

    Args:
        names: the synopsis' column for each column of the parts, keys included.
    """
    owner = OWNER if aggregate.input.ranked else NUMBER
    keys = {key.name for key in aggregate.input.keys}
    shown = [f"{quoted(owner)} AS u"]
    for name, stored in names.items():
        value = quoted(stored) if name in keys else f"CAST({quoted(stored)} AS HUGEINT)"
        shown.append(f"{value} AS {quoted(name)}")
    return f"SELECT {', '.join(shown)} FROM {quoted(STORED)}"
