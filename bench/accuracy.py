"""Accuracy at equal (epsilon, delta) against the peers, on skewed data: the error that an analyst sees.

    python -m bench.accuracy [--quick] [--peers opendp,smartnoise] [--only Q02,F1] [--runs 10]
                             [--kept | --fresh]

Every engine answers the same questions at epsilon 1 and delta 1e-6 each, protecting all rows of a unit.
The error is relative to the true answer, over groups and runs; a group missing from an answer has an error of
100%. A peer is given the caps in each of its ways of bounding, and its best way for the question is what
counts. Ours is listed as a user gets it (no caps given), and with the peers' caps by group or as an L2 norm.
Times are of a whole answer, as a multiple of the same statement in plain DuckDB.

What a peer answered is kept in ``.bench/answers`` until its runner, its requirements or the question change,
and what ran out of time is asked again by the next run; ``--fresh`` asks everything again, ``--kept``
nothing.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import duckdb

from bench import report
from bench.peers import runs, scores
from bench.peers.questions import QUESTIONS, Question
from bench.peers.runs import OURS, PEERS, Effort
from bench.peers.scores import Score

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL = Effort(runs=10, seconds=4.0, ways=4, limit_s=60.0, timeout_s=400.0)
QUICK = Effort(runs=3, seconds=2.0, ways=1, limit_s=20.0, timeout_s=60.0)
QUICK_PEERS = ("smartnoise", "opendp")
CHOSEN, SAME_CAPS = "ours", "ours, same caps"
OUR_WAYS = {"chosen": CHOSEN, "groups": SAME_CAPS, "clip": "ours, clip"}

Scores = dict[str, dict[str, Score]]
"""Engine -> question -> score."""


def main(arguments: Sequence[str]) -> None:
    """Measure, print the tables, write the figures."""
    asked = _arguments(arguments)
    os.environ.setdefault("COLUMNS", "180")  # the tables are wide, and a pipe has no width of its own
    effort = QUICK if asked.quick else FULL
    effort = replace(effort, runs=asked.runs or effort.runs)
    peers = asked.peers.split(",") if asked.peers else list(QUICK_PEERS if asked.quick else PEERS)
    questions = [one for one in QUESTIONS if (one.quick or not asked.quick) and _named(one, asked.only)]
    found: Scores = {}
    for dataset in dict.fromkeys(one.dataset for one in questions):
        members = [one for one in questions if one.dataset == dataset]
        truths = {one.id: truth(one) for one in members}
        for engine in (OURS, *(peer for peer in peers if peer != "none")):
            print(f"{dataset}: {engine}", file=sys.stderr, flush=True)
            records = runs.answers(engine, members, effort, plain_seconds, fresh=asked.fresh, kept=asked.kept)
            _collect(found, engine, records, truths)
    show(questions, found)
    report.save("accuracy", figures(found))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, and only what is quick")
    parser.add_argument("--peers", help=f"of {', '.join(PEERS)}, with commas between; or none")
    parser.add_argument("--only", help="beginnings of the questions' names, with commas between")
    parser.add_argument("--runs", type=int, help="answers to each question")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--fresh", action="store_true", help="ask the peers again instead of using kept answers"
    )
    which.add_argument("--kept", action="store_true", help="ask no peer: use kept answers alone")
    return parser.parse_args(arguments)


def _named(question: Question, only: str | None) -> bool:
    return only is None or any(question.id.startswith(f"{name} ") for name in only.split(","))


def _collect(
    found: Scores, engine: str, records: list[dict[str, Any]], truths: dict[str, scores.Truth]
) -> None:
    for name, true in truths.items():
        scored = [scores.score(true, one) for one in records if one["id"] == name]
        if engine == OURS:
            for way, shown in OUR_WAYS.items():
                found.setdefault(shown, {})[name] = scores.best(one for one in scored if one.way == way)
        else:
            found.setdefault(engine, {})[name] = scores.best(scored)


# The truth, and what it costs without privacy


def truth(question: Question) -> scores.Truth:
    """The exact answer: groups and their values."""
    size = len(question.keys)
    with _connection(question) as connection:
        rows = connection.execute(question.sql()).fetchall()
    return {
        tuple(scores.plain(key) for key in row[:size]): [float(value) for value in row[size:]]
        for row in rows
        if None not in row
    }


def plain_seconds(question: Question, rounds: int = 3) -> float:
    """Median seconds of the statement in plain DuckDB, on two threads, from the same file."""
    taken = []
    with _connection(question) as connection:
        for _ in range(rounds):
            started = time.perf_counter()
            connection.sql(question.sql()).to_arrow_table()
            taken.append(time.perf_counter() - started)
    return report.p50(taken)


def _connection(question: Question) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 2})
    file = question.data.file
    connection.execute(f"CREATE VIEW {question.dataset} AS SELECT * FROM read_parquet('{file}')")
    return connection


# Tables


def show(questions: Sequence[Question], found: Scores) -> None:
    """Errors, times, reasons and the comparison."""
    engines = list(found)
    peers = {name: listed for name, listed in found.items() if name not in OUR_WAYS.values()}
    rows = [_error_row(one.id, found, peers) for one in questions]
    title = "Median / p95 relative error in %, over groups and runs, at epsilon 1 and delta 1e-6 a question"
    report.show(title, ("question", *engines, "best peer / ours"), rows)
    report.show(
        "A whole answer, as a multiple of plain DuckDB (median)",
        ("question", *engines),
        [(one.id, *(_multiple(found[name][one.id]) for name in engines)) for one in questions],
    )
    reasons = [
        (name, each, listed[each].unable)
        for name, listed in found.items()
        for each in listed
        if listed[each].unable
    ]
    if reasons:
        report.show("Not answered", ("engine", "question", "why"), reasons)
    report.show(
        "Geometric means over the questions that a peer answers",
        (
            "engine",
            "questions",
            "median error",
            "peer / ours, median",
            "peer / ours, p95",
            "peer / same caps",
        ),
        [_summary(name, listed, found) for name, listed in peers.items()],
    )
    print(verdict(found, peers))


def _error_row(name: str, found: Scores, peers: Scores) -> tuple[str, ...]:
    cells = [_cell(listed[name]) for listed in found.values()]
    answered = [listed[name].median for listed in peers.values() if not listed[name].unable]
    ours = found[CHOSEN][name]
    if ours.unable or not answered:
        return (name, *cells, "-")
    return (name, *cells, f"{max(min(answered), scores.LEAST) / max(ours.median, scores.LEAST):.2f}")


def _cell(one: Score) -> str:
    if one.unable:
        return "refused" if one.unable.startswith("refused") else "-"
    share = f" ({one.released:.0%} of groups)" if one.released < 0.995 else ""
    return f"{_percent(one.median)} / {_percent(one.p95)}{share}"


def _percent(error: float) -> str:
    return "inf" if math.isinf(error) else f"{100 * error:.{1 if error < 0.1 else 0}f}"


def _multiple(one: Score) -> str:
    return "-" if one.unable else f"{report.p50(one.seconds) / one.plain_s:.1f}x"


def _summary(name: str, listed: dict[str, Score], found: Scores) -> tuple[str, ...]:
    answered = [one.median for one in listed.values() if not one.unable]
    median, shared = scores.over_shared(found[CHOSEN], listed, "median")
    tail, _ = scores.over_shared(found[CHOSEN], listed, "p95")
    capped, _ = scores.over_shared(found[SAME_CAPS], listed, "median")
    mean = scores.geometric_mean(answered)
    return (
        name,
        f"{len(answered)} ({shared} shared)",
        _percent(mean),
        f"{median:.2f}",
        f"{tail:.2f}",
        f"{capped:.2f}",
    )


def verdict(found: Scores, peers: Scores) -> str:
    """The best single peer and how its errors compare with ours, in a sentence."""
    single = scores.best_single(peers)
    if single is None:
        return "No peer answered."
    ratio, shared = scores.over_shared(found[CHOSEN], peers[single], "median")
    return (
        f"Best single peer: {single}. Its median errors are {ratio:.2f} times ours "
        f"in geometric mean over the {shared} questions that both answer."
    )


def figures(found: Scores) -> dict[str, Any]:
    """Everything that was measured, for the JSON file."""
    peers = {name: listed for name, listed in found.items() if name not in OUR_WAYS.values()}
    return {
        "epsilon": runs.EPSILON,
        "delta": runs.DELTA,
        "verdict": verdict(found, peers),
        "engines": {name: {each: asdict(listed[each]) for each in listed} for name, listed in found.items()},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
