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

from privacy.engines.duckdb.exact import parts_sql, unit_rows_sql
from privacy.engines.duckdb.factors import (
    NARROW,
    Factors,
    big,
    huge,
    narrow,
    rows_held,
    same_in_all_groups,
    total_held,
)
from privacy.engines.duckdb.literals import quoted
from privacy.engines.duckdb.relations import Relations
from privacy.engines.duckdb.scalars import named, scalar
from privacy.engines.duckdb.values import leaves_sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from privacy.algebra import Aggregate, Column, Scalar, Scan, Sum
    from privacy.engines.duckdb.factors import Measured

OWNER, NUMBER = "#owner", "#unit"
STORED = "_stored"
"""The name under which the stored rows of a synopsis are handed to the engine."""
LENGTHS = "_lengths"
"""And those of the lengths of its units."""
GROUPS = "#groups"
LEAF, LEAF_ROWS = "b", "n"


@dataclass(frozen=True)
class Selected:
    """A SELECT whose rows are stored.

    Attributes:
        columns: names of its columns, without those that are added.
        order: columns by which the rows of a unit are ordered where they have their numbers already.
        of: names the stored rows that it reads, if it does: then units have their numbers already.
    """

    sql: str
    columns: tuple[str, ...]
    order: tuple[str, ...] = ()
    of: str = ""

    @cached_property
    def digest(self) -> str:
        """Names the stored rows."""
        return hashlib.sha256(f"{self.of}{self.sql}".encode()).hexdigest()

    def count_sql(self) -> str:
        """One row: how many rows there are."""
        return f"SELECT count(*) AS rows FROM ({self.sql}) AS q"

    def sorted_sql(self, *, after: bool = False) -> str:
        """The rows in the order of their units.

        Args:
            after: those of units alone that come after the ones of the stored rows.
        """
        owner = quoted(OWNER)
        later = f" WHERE {owner} > (SELECT max({owner}) FROM {quoted(STORED)})" if after else ""
        return f"SELECT * FROM ({self.sql}) AS q{later} ORDER BY {owner}"

    def numbered_sql(self) -> str:
        """Where it reads stored rows, its own, in the order of the numbers that their units have."""
        return f"{self.sql} ORDER BY {', '.join(map(quoted, [NUMBER, *self.order]))}"

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


def rows_of(scan: Scan, columns: Sequence[Column], fixed: Mapping[str, Scalar]) -> Selected:
    """The rows of a private table, as a scan shows them, with their unit, and numbers in fixed point."""
    assert scan.unit is not None
    shown = [f"{named(scan.unit)} AS {quoted(OWNER)}"]
    shown += [f"{named(one)} AS {quoted(one.name)}" for one in columns]
    shown += [f"{scalar(one)} AS {quoted(name)}" for name, one in fixed.items()]
    relation = Relations({*columns, scan.unit}).sql(scan)
    sql = f"SELECT {', '.join(shown)} FROM ({relation}) AS q"
    return Selected(sql, (*(one.name for one in columns), *fixed))


def synopsis_of(aggregate: Aggregate, rows: StoredRows | None = None) -> Selected:
    """What each unit contributes to each group, before anything is bounded. What is alike is kept once.

    Args:
        rows: the stored rows that it is taken from, whose units the aggregate has by their numbers.
    """
    keys = [key.name for key in aggregate.input.keys]
    numbers = list(dict.fromkeys(part_names(aggregate).values()))
    shown = [*map(quoted, keys)]
    shown += [f"CAST({quoted(name)} AS BIGINT) AS {quoted(name)}" for name in numbers]
    return _of_units(parts_sql(aggregate), shown, (*keys, *numbers), keys, rows)


@dataclass(frozen=True)
class StoredRows:
    """Stored rows of a table.

    Attributes:
        name: how a statement calls them.
        digest: names them.
    """

    name: str
    digest: str


def _of_units(
    parts: str, shown: Sequence[str], columns: tuple[str, ...], order: Sequence[str], rows: StoredRows | None
) -> Selected:
    """A SELECT of columns of parts, whose units are called ``u``."""
    listed = ", ".join(shown)
    if rows is None:
        return Selected(f"SELECT u AS {quoted(OWNER)}, {listed} FROM ({parts}) AS q", columns)
    number, owner = quoted(NUMBER), quoted(OWNER)
    owners = f"SELECT DISTINCT {number}, {owner} FROM {quoted(rows.name)}"
    sql = f"SELECT {number}, {owner}, {listed} FROM ({parts}) AS q JOIN ({owners}) AS o ON u = {number}"
    return Selected(sql, (NUMBER, *columns), tuple(order), rows.digest)


def part_names(aggregate: Aggregate) -> dict[tuple[str, str], str]:
    """The column of `parts_sql` that counts the rows which meet a condition, by its text and ``""``, or adds
    up an argument over them, by both texts."""
    names: dict[tuple[str, str], str] = {}
    for one in aggregate.sums + aggregate.limits:
        names.setdefault((one.condition.text, ""), f"n_{one.name}")
        if one.argument is not None and one.additive:
            names.setdefault((one.condition.text, one.argument.text), f"t_{one.name}")
    return names


def stored_parts_sql(aggregate: Aggregate, names: Mapping[str, str]) -> str:
    """The parts of an aggregate from the stored rows of a synopsis.

    Args:
        names: the synopsis' column for each column of the parts, keys included.
    """
    shown = [f"{quoted(_owner(aggregate))} AS u"]
    shown += [f"{quoted(stored)} AS {quoted(name)}" for name, stored in names.items()]
    return f"SELECT {', '.join(shown)} FROM {quoted(STORED)}"


@dataclass(frozen=True)
class StoredTotal:
    """A stored column that is the total of a sum, and the one that counts the rows of it."""

    column: str
    of: Sum
    counted: str

    def like(self, one: Sum) -> bool:
        """Whether a sum's totals are held within the same as these are."""
        return (rows_held(one), total_held(one, "")) == (rows_held(self.of), total_held(self.of, ""))


def lengths_of(
    synopsis: Selected, rows: str, counts: Sequence[str], totals: Sequence[StoredTotal]
) -> Selected:
    """Of each unit of stored rows what `Factors` measures, over its groups: their number, the sum ``l_`` and
    the sum of squares ``q_`` of each column, held as `held` does; and beside a total the sum ``x_`` of
    products with the count of its rows, and of the squares of that ``y_``.

    Squares of 2^46 of at most 2^31 groups fit 38 digits.

    Args:
        rows: a SELECT of one row for each unit and group of the stored rows.
        counts: columns of it that count rows.
        totals: what of it is added up.
    """
    owner, number = quoted(OWNER), quoted(NUMBER)
    made = {GROUPS: "count(*)"}
    for name in counts:
        within = f"least({quoted(name)}, {big(2**NARROW)})"
        made |= {f"l_{name}": _whole(within), f"q_{name}": _products(within, within)}
    for total in totals:
        name, within = total.column, total_held(total.of, quoted(total.column))
        counted = f"least({quoted(total.counted)}, {big(rows_held(total.of))})"
        made |= {f"l_{name}": _whole(within), f"q_{name}": _products(within, within)}
        made |= {f"x_{name}": _products(within, counted), f"y_{name}": _products(counted, counted)}
    shown = ", ".join([number, owner, *(f"{sql} AS {quoted(name)}" for name, sql in made.items())])
    sql = f"SELECT {shown} FROM ({rows}) AS q GROUP BY {number}, {owner}"
    return Selected(sql, (NUMBER, *made), (), synopsis.digest)


def _whole(value: str) -> str:
    return f"CAST(sum({value}) AS BIGINT)"


def _products(one: str, other: str) -> str:
    return f"CAST(sum(CAST({one} AS HUGEINT) * {other}) AS DECIMAL(38, 0))"


def measured_sql(
    aggregate: Aggregate, numbers: Mapping[str, str], totals: Sequence[StoredTotal]
) -> str | None:
    """What `Factors` measures, from stored lengths; None where one is not among them.

    Args:
        numbers: the stored column for each count and total of the parts.
        totals: as of `lengths_of`.
    """
    if not aggregate.input.scales:
        return None
    shown = [f"{quoted(NUMBER)} AS u"]
    for name, measured in Factors(aggregate).measures().items():
        sql = _measured(measured, numbers, totals)
        if sql is None:
            return None
        shown.append(f"{sql} AS {quoted(name)}")
    return f"SELECT {', '.join(shown)} FROM {quoted(LENGTHS)}"


def _measured(measured: Measured, numbers: Mapping[str, str], totals: Sequence[StoredTotal]) -> str | None:
    one = measured.of
    if not narrow(one):
        return None
    if one.kind == "units":
        return _stored(GROUPS) if same_in_all_groups(one) else None
    if one.kind not in ("total", "centred"):
        return _stored(f"{'q' if measured.squared else 'l'}_{numbers[f'n_{one.name}']}")
    column = numbers[f"t_{one.name}"]
    if not any(total.column == column and total.like(one) for total in totals):
        return None
    if one.kind == "total":
        signed = measured.sizes and one.low < 0
        return None if signed else _stored(f"{'q' if measured.squared else 'l'}_{column}")
    if not measured.squared:
        return None
    total, both, rows = (_stored(f"{kind}_{column}") for kind in "qxy")
    return f"({total} - {huge(2 * one.middle)} * {both} + {huge(one.middle**2)} * {rows})"


def _stored(name: str) -> str:
    return f"CAST({quoted(name)} AS HUGEINT)"


def leaves_of(aggregate: Aggregate, rows: StoredRows | None = None) -> Selected:
    """Rows of each unit in each leaf of its groups, of an aggregate that is one histogram.

    Args:
        rows: as of `synopsis_of`.
    """
    (one,) = aggregate.sums
    keys = [key.name for key in aggregate.input.keys]
    shown = [*map(quoted, keys), f"CAST(b AS INTEGER) AS {LEAF}", f"n AS {LEAF_ROWS}"]
    found = f"WITH unit_rows AS ({unit_rows_sql(aggregate)}) {leaves_sql(one, [*map(quoted, keys)])}"
    return _of_units(found, shown, (*keys, LEAF, LEAF_ROWS), (*keys, LEAF), rows)


def stored_leaves_sql(aggregate: Aggregate, keys: Mapping[str, str]) -> str:
    """`leaves_sql` of an aggregate from stored rows.

    Args:
        keys: the stored column for each key.
    """
    shown = [f"{quoted(_owner(aggregate))} AS u"]
    shown += [f"{quoted(stored)} AS {quoted(name)}" for name, stored in keys.items()]
    return f"SELECT {', '.join([*shown, LEAF, LEAF_ROWS])} FROM {quoted(STORED)}"


def parts_of_leaves_sql(aggregate: Aggregate, keys: Mapping[str, str], numbers: Mapping[str, str]) -> str:
    """The parts of an aggregate, whose numbers count the rows of a histogram, from its stored leaves."""
    counted = f"CAST(sum({LEAF_ROWS}) AS BIGINT)"
    shown = [f"{quoted(_owner(aggregate))} AS u"]
    shown += [f"{quoted(stored)} AS {quoted(name)}" for name, stored in keys.items()]
    shown += [f"{counted} AS {quoted(name)}" for name in numbers]
    grouped = ", ".join(str(place + 1) for place in range(1 + len(keys)))
    return f"SELECT {', '.join(shown)} FROM {quoted(STORED)} GROUP BY {grouped}"


def groups_of_leaves_sql(keys: Sequence[str]) -> str:
    """One row for each unit and group of stored leaves, with the number of its rows."""
    shown = ", ".join([quoted(NUMBER), quoted(OWNER), *map(quoted, keys)])
    counted = f"CAST(sum({LEAF_ROWS}) AS BIGINT) AS {LEAF_ROWS}"
    return f"SELECT {shown}, {counted} FROM {quoted(STORED)} GROUP BY {shown}"


def _owner(aggregate: Aggregate) -> str:
    """Groups are ranked by the unit itself; anything else only tells units apart."""
    return OWNER if aggregate.input.ranked else NUMBER
