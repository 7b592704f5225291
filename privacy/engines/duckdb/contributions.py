# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""How units contribute to a table: exact counts for the contribution profile. Its rows never leave the
release step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.algebra import columns_of
from privacy.engines.duckdb.factors import as_bigint, huge
from privacy.engines.duckdb.literals import quoted
from privacy.engines.duckdb.relations import Relations
from privacy.engines.duckdb.scalars import named, scalar

if TYPE_CHECKING:
    from privacy.algebra import Column, Literal, Relation, Scalar

DIGITS_OF_ROWS = 40
"""Bins of what counts rows; the last one holds whatever is larger."""


@dataclass(frozen=True)
class CountedKey:
    """A key and its public values, where it has them."""

    column: Column
    domain: tuple[Literal, ...] | None


@dataclass(frozen=True)
class CountedNumber:
    """A fixed point number within public bounds, the middle that its means are taken around, how far from
    that one lies at most, and the centre that its sums are taken around."""

    scalar: Scalar
    middle: int
    reach: int
    centre: int

    @property
    def digits(self) -> int:
        """Bins for sums of it."""
        return (2 * self.reach + abs(self.middle)).bit_length() + DIGITS_OF_ROWS


@dataclass(frozen=True)
class Contributions:
    """The rows of one private table, and what of them is looked at."""

    relation: Relation
    unit: Column
    keys: tuple[CountedKey, ...]
    numbers: tuple[CountedNumber, ...]

    @property
    def digits(self) -> tuple[int, ...]:
        """Bins of each histogram, in their order: rows; of each key groups and lengths; of each number sums
        and deviations."""
        keys = [DIGITS_OF_ROWS] * (1 + 2 * len(self.keys))
        return (*keys, *(one.digits for one in self.numbers for _ in range(2)))

    def centres_sql(self) -> str:
        """One row: the number of units, and of each number the sum over units of their mean around the
        middle."""
        columns = ["CAST(count(*) AS BIGINT) AS units"]
        for place, one in enumerate(self.numbers):
            count, total = f"n{place}", f"s{place}"
            mean = f"({total} - {count} * {huge(one.middle)}) // greatest({count}, {huge(1)})"
            held = f"greatest(least({mean}, {huge(one.reach)}), {huge(-one.reach)})"
            columns.append(f"{as_bigint(f'sum({held})')} AS c{place}")
        return (
            f"WITH unit_rows AS ({self._rows()}) SELECT {', '.join(columns)} FROM ({self._units()}) AS units"
        )

    def histograms_sql(self) -> str:
        """For each histogram ``h`` and bin ``b`` the number of units ``n``, 0 included."""
        steps = [f"unit_rows AS ({self._rows()})", f"units AS ({self._units()})"]
        binned = [("units", _digits("n", DIGITS_OF_ROWS, 2))]
        for place, key in enumerate(self.keys):
            steps.append(f"key{place} AS ({_lengths(place, key)})")
            binned += [
                (f"key{place}", _digits("g", DIGITS_OF_ROWS, 2)),
                (f"key{place}", _digits("q", DIGITS_OF_ROWS, 4)),
            ]
        for place, one in enumerate(self.numbers):
            moved = f"abs(s{place} - n{place} * {huge(one.centre)})"
            binned += [
                ("units", _digits(f"abs(s{place})", one.digits, 2)),
                ("units", _digits(moved, one.digits, 2)),
            ]
        counts = " UNION ALL ".join(
            f"SELECT {place} AS h, {digits} AS b, count(*) AS n FROM {source} GROUP BY b"
            for place, (source, digits) in enumerate(binned)
        )
        bins = ", ".join(f"({h}, {b})" for h, most in enumerate(self.digits) for b in range(most))
        steps += [f"counted AS ({counts})", f"bins AS (SELECT * FROM (VALUES {bins}) AS v(h, b))"]
        shown = "SELECT bins.h AS h, bins.b AS b, CAST(coalesce(n, 0) AS BIGINT) AS n"
        return f"WITH {', '.join(steps)} {shown} FROM bins LEFT JOIN counted USING (h, b)"

    def _rows(self) -> str:
        columns = [f"{named(self.unit)} AS u"]
        columns += [f"{named(key.column)} AS k{place}" for place, key in enumerate(self.keys)]
        columns += [f"{scalar(one.scalar)} AS x{place}" for place, one in enumerate(self.numbers)]
        used = columns_of(
            [self.unit, [key.column for key in self.keys], [one.scalar for one in self.numbers]]
        )
        return f"SELECT {', '.join(columns)} FROM ({Relations(used).sql(self.relation)}) AS q"

    def _units(self) -> str:
        columns = ["u", "CAST(count(*) AS HUGEINT) AS n"]
        for place in range(len(self.numbers)):
            columns.append(f"CAST(count(x{place}) AS HUGEINT) AS n{place}")
            columns.append(f"coalesce(sum(x{place}), {huge(0)}) AS s{place}")
        return f"SELECT {', '.join(columns)} FROM unit_rows GROUP BY u"


def _lengths(place: int, key: CountedKey) -> str:
    name = quoted(f"k{place}")
    allowed = ""
    if key.domain is not None:
        allowed = f" WHERE {name} IN ({', '.join(scalar(value) for value in key.domain)})"
    counted = f"SELECT u, CAST(count(*) AS HUGEINT) AS n FROM unit_rows{allowed} GROUP BY u, {name}"
    return f"SELECT u, CAST(count(*) AS HUGEINT) AS g, sum(n * n) AS q FROM ({counted}) AS c GROUP BY u"


def _digits(value: str, most: int, base: int) -> str:
    """The number of digits of a whole number, below ``most``: b where it is less than ``base ** b``, but
    not than ``base ** (b - 1)``."""
    cases = " ".join(f"WHEN {value} < {huge(base**digits)} THEN {digits}" for digits in range(most - 1))
    return f"CASE {cases} ELSE {most - 1} END"
