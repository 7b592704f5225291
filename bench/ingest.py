"""What a layout costs when it is built: its rows per second against DuckDB's COPY of the same rows.

    python -m bench.ingest [--rows 1m,10m] [--rounds 3] [--markdown]

Each runs in a process of its own, on two threads, and both take turns. Memory is the high-water mark of the
process and, for a layout, of its largest worker beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

import privacy
from bench import events, report, watching, worlds
from bench.watching import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

COPY, LAYOUT = "copy", "layout"
HEADINGS = (
    *("events", "COPY rows/s", "layout rows/s", "layout / COPY", "COPY MiB", "layout MiB", "its worker MiB"),
    *("source bytes", "layout / source"),
)


def main(arguments: Sequence[str]) -> None:
    """Measure every size, print the tables, write the figures."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(one(*arguments[1:])))
        return
    asked = _arguments(arguments)
    figures = {rows: measure(rows, asked.rounds) for rows in asked.rows.split(",")}
    report.show(
        f"Building a layout against COPY of the same rows, medians of {asked.rounds} interleaved rounds",
        HEADINGS,
        [row(rows, found) for rows, found in figures.items()],
        asked.markdown,
    )
    parts = [
        (rows, about, f"{size:,}", f"{size / found['source_bytes']:.0%}")
        for rows, found in figures.items()
        for about, size in found[LAYOUT][-1]["stored"].items()
    ]
    report.show("What a layout holds", ("events", "part", "bytes", "of the source"), parts, asked.markdown)
    report.save("ingest", figures)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--rows", default="1m,10m", help="sizes of events, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true", help="tables as they stand in documents")
    return parser.parse_args(arguments)


def measure(rows: str, rounds: int) -> dict[str, Any]:
    """Both in turn, so many times."""
    world = worlds.events_world(events.size_of(events.rows_in(rows)))
    (source,) = world.files.values()
    found: dict[str, Any] = {"source_bytes": source.stat().st_size, "rows": world.rows, COPY: [], LAYOUT: []}
    for place in range(rounds):
        for kind in (COPY, LAYOUT):
            print(f"{rows}: {kind}, round {place + 1}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "bench.ingest", "--one", kind, rows]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[kind].append(json.loads(done.stdout))
    return found


def one(kind: str, rows: str) -> dict[str, Any]:
    """One of them in this process: seconds and bytes."""
    world = worlds.events_world(events.size_of(events.rows_in(rows)))
    worlds.LAYOUTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=worlds.LAYOUTS) as folder:
        run = _copied if kind == COPY else _laid_out
        started, stored = time.perf_counter(), {}

        def timed() -> None:
            stored.update(run(world, Path(folder)))

        worker = watching.worker_peak(timed, every_s=0.02)
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak_bytes": watching.own_peak(),
        "worker_peak_bytes": worker,
        "stored": stored,
    }


def _copied(world: worlds.World, folder: Path) -> dict[str, int]:
    ((name, path),) = world.files.items()
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
        connection.execute(f"COPY (SELECT * FROM {name}) TO '{folder}/copy.parquet' (FORMAT parquet)")
    return {"copy": (folder / "copy.parquet").stat().st_size}


def _laid_out(world: worlds.World, folder: Path) -> dict[str, int]:
    made = privacy.layout(world.policy, world.files, folder)
    return {one.about: sum(part.size for part in one.parts) for one in made.stored.values()}


def row(rows: str, found: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    speeds = {
        kind: report.p50([found["rows"] / each["seconds"] for each in found[kind]]) for kind in (COPY, LAYOUT)
    }
    pairs = zip(found[COPY], found[LAYOUT], strict=True)
    ratio = report.p50([copy["seconds"] / layout["seconds"] for copy, layout in pairs])

    def most(kind: str, name: str) -> str:
        return f"{max(each[name] for each in found[kind]) / MIB:.0f}"

    size = sum(found[LAYOUT][-1]["stored"].values())
    return (
        rows,
        *(f"{speeds[kind]:,.0f}" for kind in (COPY, LAYOUT)),
        f"{ratio:.0%}",
        *(most(COPY, "peak_bytes"), most(LAYOUT, "peak_bytes"), most(LAYOUT, "worker_peak_bytes")),
        *(f"{found['source_bytes']:,}", f"{size / found['source_bytes']:.2f}x"),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
