"""Somebody's resource bombs, one after another, and what they cost everybody else's questions.

    python -m bench.bombs [--rows 1m] [--seconds 10] [--rounds 3] [--timeout 5]

One organisation keeps its share of two query workers busy with statements that no planner of ours would let
through: they are given to the sandbox as they are. Another asks the same question again and again, as fast as
it is answered, in turns alone and beside them; the first round is thrown away. Time is until the answer, and
of a bomb until it is told to have failed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import concurrency, report
from exchange.turns import Shares, Turns
from privacy.errors import EngineFailed
from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORKERS, LONGEST_BEHIND_S, SLOWER = 2, 1.5, 2.0
BOMBS = {
    "a cross join": "SELECT count(*) FROM range(10000000000) a, range(1000) b"
    " WHERE hash(a.range, b.range) = 7",
    "no interrupt is heeded": "SELECT levenshtein(repeat('ab', 99000), repeat('ba', 99000))",
    "endless recursion": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
    " SELECT count(*) FROM r",
    "memory": "SELECT max(n) FROM (SELECT row_number() OVER (PARTITION BY r % 1000 ORDER BY h) AS n"
    " FROM (SELECT hash(range) AS h, range AS r FROM range(100000000)))",
}


@dataclass
class Measured:
    """Seconds of each answer to the other, and of each bomb after its time limit."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.bombs", description=__doc__)
    parser.add_argument("--rows", default="1m", help="events")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds until a statement is ended")
    parser.add_argument("--markdown", action="store_true", help="tables as they stand in documents")
    asked = parser.parse_args(arguments)
    found = measure(asked)
    report.show("Beside resource bombs", ("what", "count", "p50 ms", "p99 ms", "goal"), lines(found))
    report.save("bombs", {"arguments": vars(asked), **vars(found)})


def measure(asked: argparse.Namespace) -> Measured:
    """Both in turns, so many rounds after one that is thrown away."""
    ((world, question),) = [one for one in concurrency.questions(asked.rows, "none") if one[1].id == "Q02"]
    plan, _ = world.plan(question), world.layout
    turns, found = Turns(Shares.of(WORKERS)), Measured()
    with Sandbox(Limits(threads=1, timeout_s=asked.timeout), WORKERS) as sandbox:
        ask = partial(concurrency.answered, (world, question), plan, sandbox)
        for turn in range(asked.rounds + 1):
            print(f"round {turn}", file=sys.stderr, flush=True)
            alone = _answers(turns, ask, asked.seconds)
            with _Bomber(turns, sandbox, asked.timeout) as bomber:
                beside = _answers(turns, ask, asked.seconds)
            if turn:
                found.alone += alone
                found.beside += beside
                found.behind += bomber.behind
    return found


def _answers(turns: Turns, ask: Callable[[], Any], seconds: float) -> list[float]:
    taken, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        with turns.enter("other") as turn:
            turn.wait(seconds)
            ask()
        taken.append(time.perf_counter() - began)
    return taken


class _Bomber:
    """Sends one bomb after another until the block is left, and the last has failed."""

    def __init__(self, turns: Turns, sandbox: Sandbox, timeout_s: float) -> None:
        self.behind: list[float] = []
        self._turns, self._sandbox, self._timeout_s = turns, sandbox, timeout_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(WORKERS)]

    def __enter__(self) -> _Bomber:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        for statement in itertools.cycle(BOMBS.values()):
            with self._turns.enter("bomber") as turn:
                turn.wait(10 * self._timeout_s)
                if self._over.is_set():
                    return
                began = time.perf_counter()
                try:
                    self._sandbox.run(Task(statement))
                except EngineFailed:
                    self.behind.append(time.perf_counter() - began - self._timeout_s)


def lines(found: Measured) -> list[tuple[str, ...]]:
    """The table."""
    alone, beside = report.p99(found.alone), report.p99(found.beside)
    slower, late = beside / alone, max(found.behind)
    return [
        ("another's question, alone", *_told(found.alone), "-"),
        (
            "beside bombs",
            *_told(found.beside),
            f"p99 <= {SLOWER:.0f}x: {_verdict(slower <= SLOWER)} ({report.multiple(slower)})",
        ),
        (
            "a bomb, after its time limit",
            *_told([max(0.0, one) for one in found.behind]),
            f"longest <= {LONGEST_BEHIND_S} s: {_verdict(late <= LONGEST_BEHIND_S)} ({late:.2f} s)",
        ),
    ]


def _told(seconds: Sequence[float]) -> tuple[str, str, str]:
    return (
        str(len(seconds)),
        report.milliseconds(report.p50(seconds)),
        report.milliseconds(report.p99(seconds)),
    )


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main(sys.argv[1:])
