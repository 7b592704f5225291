"""Attacks whose outcome is certain: what must be equal on neighbours is equal, without any noise to hide it.

Each returns how many things it compared, and what it found to differ.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import privacy
from privacy.mechanisms import discrete_gaussian
from tests.statistics.cases import BY_CODE, BY_WARD, CASES, caps
from tests.statistics.databases import POLICY, crowd, everywhere, million, neighbours, tables, visit
from tests.statistics.laboratory import Laboratory
from tests.statistics.sampling import SALT, Engine, Exact, cells

FORKS = 24


@dataclass(frozen=True)
class Finding:
    """What was compared, and what differs that must not: empty when the attack tells nothing."""

    comparisons: int
    differing: tuple[str, ...] = ()


def _finding(compared: Iterator[tuple[str, bool]]) -> Finding:
    """From (what was compared, whether it is as it must be)."""
    pairs = list(compared)
    return Finding(len(pairs), tuple(name for name, equal in pairs if not equal))


# The exact part

TOTALS = [
    "SELECT sum(score) AS s, avg(score) AS a, count(*) AS n FROM visits",
    "SELECT ward, day, sum(score) AS s, sum(cost * score) AS t FROM visits GROUP BY ward, day",
    "SELECT code, avg(score) AS a, count(DISTINCT person) AS n FROM visits GROUP BY code",
    "SELECT w.city, sum(v.score) AS s FROM visits v JOIN wards w ON v.ward = w.ward GROUP BY w.city",
    # where many rows of a unit tie
    "SELECT sum(a.cost - b.score) AS s FROM visits a JOIN visits b ON a.person = b.person AND a.day = b.day",
    "SELECT code, count(*) AS n FROM (SELECT person, code, row_number() OVER (PARTITION BY person "
    "ORDER BY day) AS k FROM visits) AS t WHERE k <= 2 GROUP BY code",
    "SELECT sum(step) AS s FROM (SELECT person, score - lag(score) OVER (PARTITION BY person ORDER BY day) "
    "AS step FROM visits) AS t",
    "SELECT count(*) AS n FROM (SELECT person, avg(score) AS x FROM visits GROUP BY person) AS t "
    "WHERE x > 0.3",
]


def totals_do_not_depend_on_the_layout(laboratory: Laboratory) -> Finding:
    """Order of rows, row groups, files and threads: every total is the same to the last bit."""
    drawn = random.Random(3)
    rows = [
        {**row, "day": drawn.choice([1, 2]), "score": drawn.uniform(-2, 3), "code": f"c{drawn.randrange(9)}"}
        for row in crowd(60) * 4
    ]

    def compared() -> Iterator[tuple[str, bool]]:
        for sql in TOTALS:
            plan = privacy.plan(sql, POLICY, rho=0.5)
            first = [cells(one) for one in Engine().exact(plan, tables(rows))]
            for group, threads in ((7, 4), (100, 2), (10_000, 4)):
                visits = tables(drawn.sample(rows, len(rows)))["visits"]
                paths = (
                    laboratory.folder / f"one-{group}.parquet",
                    laboratory.folder / f"rest-{group}.parquet",
                )
                for path, part in zip(paths, (visits.slice(0, 50), visits.slice(50)), strict=True):
                    pq.write_table(part, path, row_group_size=group)
                yield f"{sql} in row groups of {group}", _exact_of_files(plan, paths, threads) == first

    return _finding(compared())


def _exact_of_files(plan: privacy.Plan, paths: Iterable[Path], threads: int) -> list[dict[Any, int]]:
    engine = Engine(threads)
    names = ", ".join(f"'{path}'" for path in paths)
    engine.view("visits", f"FROM read_parquet([{names}])")
    return [cells(one) for one in engine.exact(plan, {"wards": tables([])["wards"]})]


def no_unit_moves_more_than_is_charged(laboratory: Laboratory) -> Finding:
    """For every statement of the table of cases, and a unit of a million rows joined to 32 each."""

    def compared() -> Iterator[tuple[str, bool]]:
        for case in CASES:
            pair = case.pair()
            for plan, salt in case.plans():
                larger, smaller = (
                    laboratory.engine.exact(plan, side, salt) for side in (pair.larger, pair.smaller)
                )
                for one, other in zip(larger, smaller, strict=True):
                    yield f"{case.name}", within(one, other)

    return _finding(compared())


def within(larger: Exact, smaller: Exact) -> bool:
    """Whether neighbours differ by no more than the sensitivity that the release is charged for."""
    one, other = cells(larger), cells(smaller)
    for measure in larger.release.measures:
        named = [cell for cell in one.keys() | other.keys() if cell[1] == measure.name]
        moved = sum((one.get(cell, 0) - other.get(cell, 0)) ** 2 for cell in named)
        if moved > measure.sensitivity_squared:
            return False
    return True


def repeats_see_the_same_numbers(laboratory: Laboratory) -> Finding:
    """Which groups and rows of a unit count is chosen once for a version: repeats average the noise alone."""

    def compared() -> Iterator[tuple[str, bool]]:
        side = everywhere(cost=25).larger
        for sql in (*TOTALS, BY_WARD, BY_CODE):
            plan = privacy.plan(sql, POLICY, rho=0.5)
            first = [cells(one) for one in laboratory.engine.exact(plan, side)]
            for _ in range(3):
                yield sql, first == [cells(one) for one in Engine(4).exact(plan, side)]

    return _finding(compared())


# What is told beside the numbers


def outliers_move_no_bound(laboratory: Laboratory) -> Finding:
    """Columns, types, metadata, sigma and the width of intervals are the same with an outlier of 2^62."""
    pair = neighbours([visit(cost=2**62, score=1e300, ward="zzz")] * 50)
    options = caps(intervals=True)

    def compared() -> Iterator[tuple[str, bool]]:
        for sql in (
            BY_WARD,
            "SELECT sum(cost) AS s, sum(score) AS t, count(DISTINCT person) AS n FROM visits",
        ):
            plan = privacy.plan(sql, POLICY, rho=0.5, options=options)
            one, other = (
                laboratory.answer(plan, laboratory.files("outlier", side)).table
                for side in (pair.larger, pair.smaller)
            )
            yield f"schema of {sql}", one.schema.equals(other.schema, check_metadata=True)
            yield f"rows of {sql}", one.num_rows == other.num_rows
            yield f"intervals of {sql}", _widths(one) == _widths(other)

    return _finding(compared())


def _widths(table: pa.Table) -> list[list[float]]:
    names = [name.removesuffix("_low") for name in table.column_names if name.endswith("_low")]
    return [
        [
            round(high - low, 6)
            for low, high in zip(
                table[f"{name}_low"].to_pylist(), table[f"{name}_high"].to_pylist(), strict=True
            )
        ]
        for name in names
    ]


HEAVY = [
    "SELECT ward, count(*) AS n, sum(cost) AS s FROM visits GROUP BY ward",
    "SELECT count(*) AS n FROM visits a JOIN visits b USING (person) JOIN visits c ON b.person = c.person",
    "SELECT sum(step) AS s FROM (SELECT person, cost - lag(cost) OVER (PARTITION BY person ORDER BY day) "
    "AS step FROM visits) AS t",
    "SELECT corr(cost, score) AS r FROM visits",
]
TIGHT: Mapping[str, privacy.Limits] = {
    "time": privacy.Limits(timeout_s=-1.0),
    "memory": privacy.Limits(memory_bytes=2**20),
    "processor": privacy.Limits(cpu_s=0, timeout_s=5),
    "result": privacy.Limits(result_bytes=16),
}


def a_heavy_unit_fails_no_answer(laboratory: Laboratory) -> Finding:
    """A unit of a million rows: answered with and without it, and where limits are too tight for anyone, one
    failure is shown, whichever limit it was."""
    pair = million(cost=25)
    sides = [
        laboratory.files(name, side) for name, side in (("with", pair.larger), ("without", pair.smaller))
    ]

    def compared() -> Iterator[tuple[str, bool]]:
        for sql in HEAVY:
            plan = privacy.plan(sql, POLICY, rho=0.5)
            shown = [_status(laboratory.sandbox, plan, side) for side in sides]
            yield sql, shown[0] == shown[1] == "answered"
        plan = privacy.plan(BY_WARD, POLICY, rho=0.5)
        seen = set()
        for name, limits in TIGHT.items():
            with privacy.Sandbox(limits, workers=1) as sandbox:
                shown = [_status(sandbox, plan, side) for side in sides]
            seen |= set(shown)
            yield f"limit on {name}", shown[0] == shown[1] != "answered"
        yield "one failure for all limits", len(seen) == 1

    return _finding(compared())


def _status(sandbox: privacy.Sandbox, plan: privacy.Plan, files: Mapping[str, Path]) -> str:
    try:
        privacy.answer(plan, files, salt=SALT, sandbox=sandbox)
    except privacy.EngineFailed as failed:
        shown = failed.for_buyer()
        return f"{shown.code}: {shown} {shown.hint}"
    return "answered"


# What is not answered

ABOUT_OTHERS = [
    "SELECT count(*) AS n FROM visits WHERE cost > (SELECT avg(cost) FROM visits)",
    "SELECT count(*) AS n FROM visits v WHERE cost > (SELECT max(cost) FROM visits w WHERE w.ward = v.ward)",
    "SELECT count(*) AS n FROM visits WHERE ward IN (SELECT ward FROM visits GROUP BY 1 HAVING count(*) > 9)",
    "SELECT count(*) AS n FROM visits WHERE EXISTS (SELECT 1 FROM visits WHERE cost > 24)",
    "SELECT count(*) AS n FROM visits a JOIN visits b ON a.ward = b.ward",
    "SELECT count(*) AS n FROM visits a JOIN visits b ON a.note = b.note AND a.person <> b.person",
    "SELECT sum(share) AS s FROM (SELECT person, cost / sum(cost) OVER () AS share FROM visits) AS t",
    "SELECT count(*) AS n FROM (SELECT person, rank() OVER (ORDER BY cost) AS r FROM visits) t WHERE r < 5",
    "SELECT count(*) AS n FROM (SELECT person, cost FROM visits ORDER BY cost DESC LIMIT 3) AS t",
    "SELECT count(*) AS n FROM (SELECT DISTINCT ward FROM visits) AS t",
    "SELECT count(*) AS n FROM visits QUALIFY row_number() OVER (ORDER BY cost) < 10",
    "SELECT count(*) AS n FROM wards WHERE ward IN (SELECT ward FROM visits)",
    "SELECT w.city, count(*) AS n FROM wards w LEFT JOIN visits v ON v.ward = w.ward GROUP BY w.city",
    "SELECT ward, count(*) AS n FROM visits GROUP BY ward HAVING max(note) > 'm'",
    "SELECT first(cost) AS f FROM visits",
    "SELECT mode(ward) AS m FROM visits",
]
METADATA = [
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM duckdb_tables()",
    "SELECT estimated_size FROM duckdb_tables() WHERE table_name = 'visits'",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM parquet_metadata('visits.parquet')",
    "SELECT * FROM parquet_file_metadata('visits.parquet')",
    "SELECT * FROM read_parquet('visits.parquet')",
    "SELECT * FROM 'visits.parquet'",
    "SELECT stats(cost) FROM visits",
    "PRAGMA storage_info('visits')",
    "SUMMARIZE visits",
    "DESCRIBE visits",
    "SHOW TABLES",
    "EXPLAIN ANALYZE SELECT count(*) FROM visits",
    "SELECT approx_count_distinct(person) AS n FROM visits",
    "SELECT count(*) AS n FROM visits WHERE rowid < 10",
    "SELECT current_setting('memory_limit') AS m",
    "CALL duckdb_memory()",
    "SELECT getenv('HOME') AS h",
]


def filters_on_other_units_are_refused(_laboratory: Laboratory | None = None) -> Finding:
    """A row may be kept for what its own unit has, never for what others have."""
    return _finding((sql, _refused(sql)) for sql in ABOUT_OTHERS)


def metadata_is_not_a_table(_laboratory: Laboratory | None = None) -> Finding:
    """Row counts, file statistics, settings and catalogues answer nobody."""
    return _finding((sql, _refused(sql)) for sql in METADATA)


def _refused(sql: str) -> bool:
    try:
        privacy.plan(sql, POLICY, rho=0.5)
    except privacy.Refused as refused:
        return bool(refused.code and refused.hint)
    return False


# Workers


def forked_workers_draw_different_noise(_laboratory: Laboratory | None = None) -> Finding:
    """Processes forked from one that has drawn before: no two draw the same, nor does their parent."""
    discrete_gaussian([0] * 8, 1e6)
    draws = [_draw_in_a_fork() for _ in range(FORKS)] + [_draw()]
    return _finding((f"draw {place}", draws.index(draw) == place) for place, draw in enumerate(draws))


def _draw() -> str:
    return ",".join(map(str, discrete_gaussian([0] * 8, 1e6)))


def _draw_in_a_fork() -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, _draw().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        drawn = told.read()
    os.waitpid(child, 0)
    return drawn


CERTAIN: dict[str, Callable[[Laboratory], Finding]] = {
    "totals under any layout": totals_do_not_depend_on_the_layout,
    "sensitivity of every case": no_unit_moves_more_than_is_charged,
    "repeats": repeats_see_the_same_numbers,
    "bounds beside an outlier": outliers_move_no_bound,
    "limits on time and memory": a_heavy_unit_fails_no_answer,
    "filters on other units": filters_on_other_units_are_refused,
    "metadata": metadata_is_not_a_table,
    "forked workers": forked_workers_draw_different_noise,
}
