"""Many clients at once: how many private answers a second, against plain DuckDB with the same workers.

    python -m bench.concurrency [--rows 10m] [--tpch 1] [--clients 16] [--queries 48] [--workers 2]
                                [--rounds 3] [--markdown]

Each client takes the next question of a fixed mix until all are asked. Private answers read laid-out files.
Plain DuckDB runs the same statements on the original files, once in the same limited workers, as an exchange
without noise would run them, and once in this process, on as many connections of one thread each. The three
take turns; the first round is thrown away.
"""

from __future__ import annotations

import argparse
import itertools
import queue
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import privacy
from bench import events, report, watching, worlds
from privacy.sandbox import Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import duckdb

    from bench.worlds import Question, World

MIX = ("Q02", "Q05", "Q03", "Q09", "Q06", "Q11")
PRIVATE, WORKERS, PROCESS = "private, laid out", "plain, in workers", "plain, in process"
Ask = tuple["World", "Question"]


def main(arguments: Sequence[str]) -> None:
    """Measure all ways, print the table, write the figures."""
    asked = _arguments(arguments)
    mix = questions(asked.rows, asked.tpch)
    work = list(itertools.islice(itertools.cycle(mix), asked.queries))
    seconds = measure(work, asked)
    report.show(
        f"{asked.queries} questions of {asked.clients} clients on {asked.workers} workers, "
        f"medians of {asked.rounds} interleaved rounds",
        ("way", "answers a second", "private / this"),
        [line(way, seconds, asked.queries) for way in seconds],
        asked.markdown,
    )
    report.save("concurrency", {"arguments": vars(asked), "mix": MIX, "seconds": seconds})


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.concurrency", description=__doc__)
    parser.add_argument("--rows", default="10m", help="events")
    parser.add_argument("--tpch", default="1", help="scale factor of TPC-H, or none")
    for name, number in (("clients", 16), ("queries", 48), ("workers", 2), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--markdown", action="store_true", help="tables as they stand in documents")
    return parser.parse_args(arguments)


def questions(rows: str, tpch: str) -> list[Ask]:
    """The mix, each with its world."""
    found = [worlds.events_world(events.size_of(events.rows_in(rows)))]
    found += [] if tpch == "none" else [worlds.tpch_world(int(tpch))]
    known = {one.id: (world, one) for world in found for one in world.questions}
    return [known[name] for name in MIX if name in known]


def measure(work: Sequence[Ask], asked: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds for all of the work, round by round."""
    plans = {one.id: world.plan(one) for world, one in work}
    for world, _ in work:
        _ = world.layout  # built before anything is timed
    seconds: dict[str, list[float]] = {PRIVATE: [], WORKERS: [], PROCESS: []}
    with Sandbox(watching.LIMITS, asked.workers) as sandbox:
        idle = connections(work, asked.workers)
        ways: dict[str, Callable[[Ask], object]] = {
            PRIVATE: lambda ask: answered(ask, plans[ask[1].id], sandbox),
            WORKERS: lambda ask: sandbox.run(_task(ask)),
            PROCESS: partial(in_process, idle=idle),
        }
        for turn, (way, run) in itertools.product(range(asked.rounds + 1), ways.items()):
            print(f"round {turn}: {way}", file=sys.stderr, flush=True)
            taken = timed(work, run, asked.clients)
            seconds[way] += [taken] if turn else []
    return seconds


def timed(work: Sequence[Ask], run: Callable[[Ask], object], clients: int) -> float:
    """Seconds until so many clients have asked everything."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for _ in pool.map(run, work):
            pass
    return time.perf_counter() - started


def answered(ask: Ask, plan: privacy.Plan, sandbox: Sandbox) -> privacy.Answer:
    """A whole private answer."""
    world, _ = ask
    files = {table: world.files[table] for table in plan.tables}
    return privacy.answer(plan, files, salt=bytes(32), sandbox=sandbox, layout=world.layout)


def _task(ask: Ask) -> Task:
    world, question = ask
    return Task(question.sql, {name: (str(path),) for name, path in world.files.items()})


Idle = queue.SimpleQueue[dict[str, "duckdb.DuckDBPyConnection"]]


def connections(work: Sequence[Ask], count: int) -> Idle:
    """So many connections to each world, of one thread each."""
    known = {world.name: world for world, _ in work}
    idle: Idle = queue.SimpleQueue()
    for _ in range(count):
        idle.put({name: world.connection(threads=1) for name, world in known.items()})
    return idle


def in_process(ask: Ask, idle: Idle) -> None:
    """The plain statement, once a connection is free."""
    world, question = ask
    held = idle.get()
    try:
        held[world.name].sql(question.sql).to_arrow_table()
    finally:
        idle.put(held)


def line(way: str, seconds: dict[str, list[float]], queries: int) -> tuple[str, ...]:
    """A row of the table; the ratio is of throughputs, pair by pair."""
    pairs = zip(seconds[way], seconds[PRIVATE], strict=True)
    ratio = report.p50([other / private for other, private in pairs])
    return (way, f"{queries / report.p50(seconds[way]):.1f}", f"{ratio:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
