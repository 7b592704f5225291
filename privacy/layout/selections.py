"""What is worth storing of a policy's private tables, and what of it serves a question."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.algebra import tables_of
from privacy.bounding import Options
from privacy.engines import duckdb
from privacy.plan import plan
from privacy.profiled import profiled_keys, profiled_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privacy.algebra import Aggregate, Literal, Scalar, Sum
    from privacy.engines.duckdb import Selected
    from privacy.plan import Plan
    from privacy.policy import Policy, Table

_LARGEST_REACH = 2**31
"""A unit's total of numbers so far from 0 fits 64 bits, whatever number of its rows a machine could hold."""


@dataclass(frozen=True)
class Selection:
    """A synopsis of one private table that is worth storing.

    Attributes:
        aggregate: whose parts it holds.
        reading: a plan that reads what it reads.
    """

    about: str
    tables: tuple[str, ...]
    selected: Selected
    aggregate: Aggregate
    reading: Plan

    @cached_property
    def digest(self) -> str:
        """Names the stored rows."""
        return hashlib.sha256(self.selected.sql.encode()).hexdigest()

    def serves(self, asked: Aggregate) -> bool:
        """Whether the parts of an aggregate are in this synopsis."""
        return self._names(asked) is not None

    def candidates_sql(self, asked: Aggregate) -> str:
        """The exact part of an aggregate that it `serves`."""
        names = self._names(asked)
        assert names is not None
        return duckdb.candidates_sql(asked, duckdb.stored_parts_sql(asked, names))

    def _names(self, asked: Aggregate) -> dict[str, str] | None:
        """The synopsis' column for each column of the parts; None where it does not have them all."""
        if asked.input.input != self.aggregate.input.input or len(asked.input.keys) != len(self.keys):
            return None
        names: dict[str, str] = {}
        for key in asked.input.keys:
            if (key.scalar, key.domain) not in self.keys:
                return None
            names[key.name] = self.keys[key.scalar, key.domain]
        for one in asked.sums + asked.limits:
            found = None if not one.additive else self._like(one)
            if found is None:
                return None
            names[f"n_{one.name}"] = f"n_{found.name}"
            if one.argument is not None:
                names[f"t_{one.name}"] = f"t_{found.name}"
        return names

    @cached_property
    def keys(self) -> dict[tuple[Scalar, tuple[Literal, ...] | None], str]:
        """The names of its keys, by what they are."""
        return {(key.scalar, key.domain): key.name for key in self.aggregate.input.keys}

    def _like(self, one: Sum) -> Sum | None:
        """A stored sum of the same argument over the same rows, before anything is taken off or bounded."""
        return next(
            (
                other
                for other in self.aggregate.sums + self.aggregate.limits
                if (other.argument, other.condition) == (one.argument, one.condition)
            ),
            None,
        )


def selections(policy: Policy) -> tuple[Selection, ...]:
    """What is worth storing: of each private table a synopsis for each key that is likely to be grouped by,
    and one without a key."""
    private = [table for table in policy.tables.values() if table.private]
    return tuple(one for table in private for one in _of(policy, table))


def _of(policy: Policy, table: Table) -> Iterator[Selection]:
    for key in [None, *(one.name for one in profiled_keys(table))]:
        reading = _everything(policy, table, key)
        (one,) = reading.releases
        aggregate = one.lowered.aggregate
        about = f"{table.name} by unit" + (f" and {key}" if key else "")
        tables = tuple(sorted(tables_of(aggregate.input.input)))
        yield Selection(about, tables, duckdb.synopsis_of(aggregate), aggregate, reading)


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
