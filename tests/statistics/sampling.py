"""Draws outcomes of a plan quickly: the exact part once for a database, the noise as often as asked.

The exact part is a function of plan, data and salt, so it runs once, in this process. Noise is drawn by the
product's own `perturb`, over many copies of the exact table at once: a copy's number is one more key.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

import privacy
from privacy.engines.duckdb import SALT_TABLE, released_table
from privacy.release import Release, perturb
from tests.statistics.databases import Tables

RUN = "_run"
MOST_ROWS = 100_000
"""Rows of one call of `perturb`: what is drawn of a plan is drawn in pieces of this size."""

SALT = b"a salt of the audit"


Show = Callable[[pa.Table], pa.Table]
"""From noisy sums to the columns that the public part reads; row by row, with the keys as they are."""


def parts(plan: privacy.Plan) -> list[tuple[str, str, Release, Show]]:
    """The releases of a plan: the name that the public part knows each by, its exact SQL, what is released,
    and what is made of it for the public part.

    The only function here that knows how a plan is built.
    """
    return [
        (released_table(place), one.sql, one.drawn, one.shown)
        for place, one in enumerate(plan.releases)
        if one.drawn is not None
    ]


@dataclass(frozen=True)
class Exact:
    """The exact table of one release of a plan, before noise."""

    name: str
    table: pa.Table
    release: Release
    show: Show


Cell = tuple[tuple[Any, ...], str]


class Engine:
    """Runs generated SQL in this process, set up as the product's own engine is."""

    def __init__(self, threads: int = 1) -> None:
        self._connection = duckdb.connect(config={"threads": threads})
        self._connection.execute("SET disabled_optimizers = 'top_n_window_elimination'; SET TimeZone = 'UTC'")

    def run(self, sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        for name, table in tables.items():
            self._connection.register(name, table)
        return self._connection.sql(sql).to_arrow_table()

    def view(self, name: str, sql: str) -> None:
        """Let a statement stand for a table."""
        self._connection.execute(f'CREATE VIEW "{name}" AS {sql}')

    def exact(
        self, plan: privacy.Plan, tables: Tables, salt: bytes = SALT, ran: privacy.Plan | None = None
    ) -> list[Exact]:
        """The exact tables of a plan, the one thing that nobody may see.

        A fault is planted by running (``ran``) the exact part of another plan of the same statement.
        """
        given = {**tables, SALT_TABLE: pa.table({"salt": [salt.hex()]})}
        return [
            Exact(name, self.run(sql, given), release, show)
            for (name, _, release, show), (_, sql, _, _) in zip(parts(plan), parts(ran or plan), strict=True)
        ]

    def shown(
        self, plan: privacy.Plan, released: Mapping[str, pa.Table], tables: Tables
    ) -> list[dict[str, Any]]:
        """What a buyer sees of released tables: the public part's rows, under the asked names."""
        public = {name: tables[name] for name in plan.public_tables}
        table = self.run(plan.public_sql, {**public, **released})
        names = {f"o{place}": column.name for place, column in enumerate(plan.columns)}
        return [{names[o]: value for o, value in row.items() if o in names} for row in table.to_pylist()]


def stacked(exact: Exact, runs: int) -> pa.Table:
    """So many independent releases of an exact table, in one table with the run's number as first column."""
    rows = exact.table.num_rows
    numbers = pa.array([run for run in range(runs) for _ in range(rows)], pa.int64())
    table = pa.concat_tables([exact.table] * runs).combine_chunks().add_column(0, RUN, numbers)
    keys = (RUN, *exact.release.keys)
    return perturb(table, dataclasses.replace(exact.release, keys=keys))


def pieces(rows: int, runs: int) -> Iterator[int]:
    """How many runs to draw at a time, so that no table becomes too large."""
    at_once = max(1, MOST_ROWS // max(rows, 1))
    for start in range(0, runs, at_once):
        yield min(at_once, runs - start)


def released(exacts: Sequence[Exact]) -> dict[str, pa.Table]:
    """The released tables of one answer, by the name that the public part knows them by."""
    return {one.name: one.show(perturb(one.table, one.release)) for one in exacts}


# What tells neighbours apart best


@dataclass(frozen=True)
class Ruler:
    """Measures how much more an outcome looks like D than like D'.

    Up to a constant this is the logarithm of the likelihood ratio of Gaussian noise, so that no event tells
    more than one of its half-lines. A key that only D has is proof, and counts as infinite.

    Attributes:
        weights: for each cell that differs, its difference over the variance.
        middles: the value half way between D and D'.
        hidden: what a cell counts that the threshold hides: as the largest value that it would hide.
        alone: keys that one of the two alone has, and the proof that they are.
    """

    release: Release
    weights: Mapping[Cell, float]
    middles: Mapping[Cell, float]
    hidden: Mapping[Cell, float]
    alone: Mapping[tuple[Any, ...], float]

    @classmethod
    def between(cls, larger: Exact, smaller: Exact) -> Ruler:
        release = larger.release
        one, other = cells(larger), cells(smaller)
        weights, middles, hidden = {}, {}, {}
        sigmas = {measure.name: measure.sigma for measure in release.measures}
        for cell in one.keys() & other.keys():
            if one[cell] != other[cell]:
                weights[cell] = (one[cell] - other[cell]) / sigmas[cell[1]] ** 2
                middles[cell] = (one[cell] + other[cell]) / 2
                bar = release.threshold
                decides = bar is not None and bar.measure == cell[1]
                hidden[cell] = weights[cell] * (bar.value - 1 - middles[cell]) if bar and decides else 0.0
        alone = {key: math.inf for key, _ in one.keys() - other.keys()}
        alone |= {key: -math.inf for key, _ in other.keys() - one.keys()}
        return cls(release, weights, middles, hidden, alone)

    @property
    def blind(self) -> bool:
        """Whether the neighbours are the same to it."""
        return not self.weights and not self.alone

    def read(self, table: pa.Table, runs: int) -> list[float]:
        """One number for each run of a stacked table."""
        start = sum(self.hidden.values())
        scores: list[float] = [start] * runs
        if not table.num_rows:
            return scores
        numbers = table.column(RUN).to_pylist()
        keys = list(zip(*(table.column(key).to_pylist() for key in self.release.keys), strict=True))
        keys = keys or [()] * table.num_rows
        for run, key in zip(numbers, keys, strict=True) if self.alone else ():
            if key in self.alone:
                scores[run] = self.alone[key]
        for measure in self.release.measures:
            if any(name == measure.name for _, name in self.weights):
                values = table.column(measure.name).to_pylist()
                for run, key, value in zip(numbers, keys, values, strict=True):
                    weight = self.weights.get((key, measure.name))
                    if weight is not None:
                        cell = (key, measure.name)
                        scores[run] += weight * (value - self.middles[cell]) - self.hidden[cell]
        return scores


def cells(exact: Exact) -> dict[Cell, int]:
    """Every number of an exact table, by its key and column."""
    names = [measure.name for measure in exact.release.measures]
    return {
        (tuple(row[key] for key in exact.release.keys), name): int(row[name])
        for row in exact.table.to_pylist()
        for name in names
    }


def scores(exacts: Sequence[Exact], rulers: Sequence[Ruler], runs: int) -> list[float]:
    """What a buyer learns of all the releases together, one number for each of the runs."""
    found: list[float] = [0.0] * runs
    for exact, ruler in zip(exacts, rulers, strict=True):
        start = 0
        for size in pieces(exact.table.num_rows, runs):
            for place, score in enumerate(ruler.read(stacked(exact, size), size), start):
                found[place] += score
            start += size
    return found


def contrast(exacts: Sequence[Exact], factors: Sequence[float], runs: int) -> list[float]:
    """The sum of the numbers that each release shows alone, each times its factor."""
    found = [0.0] * runs
    for exact, factor in zip(exacts, factors, strict=True):
        (measure,) = exact.release.measures
        values = stacked(exact, runs).column(measure.name).to_pylist()
        found = [total + factor * value for total, value in zip(found, values, strict=True)]
    return found


Reader = Callable[[list[dict[str, Any]]], Hashable]
"""From the rows of an answer to what an attack looks at."""
