"""What planning takes: from text to a plan with SQL, cost and columns, over every statement of the fixtures.

    python -m bench.planning [ROUNDS]

Each statement is planned once to warm up, then ROUNDS times; its figure is the median. Beside the plans stand
the refusals, with and without the search for the nearest statement that is answered.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

import privacy
from bench import report
from privacy.query import statement

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET_MS = 30
"""Planning is to take at most so long, at the 95th percentile over the accepted statements."""


def main(rounds: int) -> None:
    """Measure every statement and print the table."""
    known = worlds()
    accepted = {name: seconds(found, rounds) for name, found in known.items() if name != "refused"}
    refused = seconds(known["refused"], rounds)
    with patch.object(statement, "nearest", lambda *_: None):
        plain = seconds(known["refused"], rounds)
    every = [taken for found in accepted.values() for taken in found.values()]
    figures = {"accepted": accepted, "refused": refused, "refused without the nearest": plain}
    rows = [line(name, list(found.values())) for name, found in accepted.items()]
    rows.append(line("all accepted", every))
    rows.append(line("refused", list(refused.values())))
    rows.append(line("refused without the nearest", list(plain.values())))
    report.show(
        f"Planning a statement, medians of {rounds} rounds (target: p95 under {TARGET_MS} ms)",
        ("statements", "number", "median ms", "p95 ms", "slowest ms"),
        rows,
    )
    report.save("planning", figures)


def worlds() -> dict[str, list[tuple[str, privacy.Policy]]]:
    """The statements with the policy that each is written for, by the file they stand in."""
    from tests.privacy import mutants

    found: dict[str, list[tuple[str, privacy.Policy]]] = {"refused": []}
    for world in mutants.worlds():
        for sql in world.statements:
            name = world.name if is_planned(sql, world.policy) else "refused"
            found.setdefault(name, []).append((sql, world.policy))
    return found


def is_planned(sql: str, policy: privacy.Policy) -> bool:
    """Whether the statement is answered."""
    try:
        planned(sql, policy)
    except privacy.Refused:
        return False
    return True


def planned(sql: str, policy: privacy.Policy) -> None:
    """All that is known of a statement before anything is read."""
    plan = privacy.plan(sql, policy, rho=0.01)
    assert plan.sql
    assert plan.public_sql
    assert plan.columns
    assert plan.digest


def seconds(statements: list[tuple[str, privacy.Policy]], rounds: int) -> dict[str, float]:
    """The median time of each statement."""
    return {sql: timed(partial(is_planned, sql, policy), rounds) for sql, policy in statements}


def timed(run: Callable[[], object], rounds: int) -> float:
    """The median of so many runs, after one that is thrown away."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return report.p50(taken[1:])


def line(name: str, taken: list[float]) -> tuple[str, ...]:
    """A row of the table."""
    figures = (report.p50(taken), report.p95(taken), max(taken))
    return (name, str(len(taken)), *(f"{figure * 1000:.1f}" for figure in figures))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
