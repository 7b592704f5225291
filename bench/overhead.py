"""What privacy costs: a whole private answer against the same statement in plain DuckDB, side by side.

    python bench/overhead.py [ROUNDS]

Private and plain runs alternate, so that a noisy machine troubles both alike; the ratio of each pair is
kept and its median is the figure. Two plain ones stand beside ours: DuckDB in this process, the bare minimum,
and DuckDB in the same limited worker as ours, which an exchange without noise would still have to pay.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

import privacy
from bench import report
from catalog.manifest import read_manifest
from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parent.parent / "examples" / "flights"
TABLES = ("flights", "weather", "planes")
QUESTIONS = {
    "count": "SELECT count(*) AS n FROM flights",
    "count by public key": "SELECT origin, count(*) AS n FROM flights GROUP BY origin",
    "sum by public key": "SELECT carrier, sum(distance) AS miles FROM flights GROUP BY carrier",
    "avg by two keys": "SELECT origin, month, avg(arr_delay) AS d FROM flights GROUP BY origin, month",
    "count by private key": "SELECT dest, count(*) AS n FROM flights GROUP BY dest",
    "distinct units": "SELECT origin, count(DISTINCT tailnum) AS n FROM flights GROUP BY origin",
    "filter and case": "SELECT origin, sum(CASE WHEN dep_delay > 15 THEN 1 ELSE 0 END) AS late FROM flights "
    "WHERE month BETWEEN 6 AND 8 GROUP BY origin",
    "join with public": "SELECT f.origin, avg(f.dep_delay) AS d FROM flights f JOIN weather w "
    "ON f.origin = w.origin AND f.time_hour = w.time_hour WHERE w.visib < 3 GROUP BY f.origin",
}


def main(rounds: int) -> None:
    """Measure every question and print the table."""
    files = data()
    policy = privacy.Policy.from_document(read_manifest(EXAMPLE / "listing.toml").policy, schemas(files))
    plain = duckdb.connect(config={"threads": 2})
    for table, path in files.items():
        plain.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{path}')")
    rows, figures = [], {}
    with Sandbox(Limits(), workers=2) as sandbox:
        for name, sql in QUESTIONS.items():
            figures[name] = measure(sql, policy, files, plain, sandbox, rounds)
            rows.append(line(name, figures[name]))
    report.show(
        f"Private answer against plain DuckDB, flights, medians of {rounds} alternating rounds",
        ("question", "private ms", "plain ms", "ratio", "plain in a worker ms", "ratio"),
        rows,
    )
    report.save("overhead", figures)


def measure(
    sql: str,
    policy: privacy.Policy,
    files: dict[str, Path],
    plain: duckdb.DuckDBPyConnection,
    sandbox: Sandbox,
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of each way, round by round; the first round of each is thrown away."""
    plan = privacy.plan(sql, policy, rho=0.01)
    task = Task(sql, {table: (str(path),) for table, path in files.items()})
    ways: dict[str, Callable[[], object]] = {
        "private": lambda: privacy.answer(plan, files, salt=bytes(32), sandbox=sandbox),
        "plain": lambda: plain.sql(sql).to_arrow_table(),
        "worker": lambda: sandbox.run(task),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - started)
    return {way: taken[1:] for way, taken in seconds.items()}


def line(name: str, seconds: dict[str, list[float]]) -> tuple[str, ...]:
    """A row of the table: medians, and medians of the ratios pair by pair."""
    private, plain, worker = seconds["private"], seconds["plain"], seconds["worker"]
    ratios = [report.p50([a / b for a, b in zip(private, other, strict=True)]) for other in (plain, worker)]
    return (
        name,
        f"{report.p50(private) * 1000:.0f}",
        f"{report.p50(plain) * 1000:.1f}",
        f"{ratios[0]:.1f}x",
        f"{report.p50(worker) * 1000:.0f}",
        f"{ratios[1]:.1f}x",
    )


def data() -> dict[str, Path]:
    """The example's Parquet files, made if they are not there."""
    folder = EXAMPLE / "data"
    if not (folder / "flights.parquet").exists():
        runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](folder)
    return {table: folder / f"{table}.parquet" for table in TABLES}


def schemas(files: dict[str, Path]) -> dict[str, dict[str, str]]:
    """The types of the example's columns, as an ingest would find them."""
    kinds = {"BIGINT": "integer", "DOUBLE": "float", "VARCHAR": "text"}
    found = {}
    for table, path in files.items():
        columns = duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()
        found[table] = {name: kinds.get(kind, "timestamp") for name, kind, *_ in columns}
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
