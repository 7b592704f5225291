"""How long the peers take for whole answers, beside ours and plain DuckDB: those that protect whole users.

    python -m bench.peers.times [--rows 10m] [--peers qrlew,opendp] [--only Q02,Q05] [--limit 300]
                                [--rounds 3] [--kept | --fresh] [--markdown]

Each peer answers each question once, in its first way of bounding, after it loaded the data; of a million
events its fastest way counts. A time is shown in seconds and as a multiple of plain DuckDB, measured next to
it: by the multiples they are compared. What a peer took is kept in ``.bench/answers``, as for its accuracy.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from bench import accuracy, events, overhead, report, worlds
from bench.peers import runs
from bench.peers.questions import QUESTIONS
from bench.peers.runs import PEERS, Effort
from bench.watching import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.overhead import Measured
    from bench.peers.questions import Question

Times = dict[str, dict[str, dict[str, Any]]]
"""Peer -> question -> its record."""


def main(arguments: Sequence[str]) -> None:
    """Ask the peers, measure ours, print the table, write the figures."""
    asked = _arguments(arguments)
    rows = events.rows_in(asked.rows)
    questions = [
        replace(one, rows=rows) for one in QUESTIONS if one.dataset == "events" and _named(one, asked.only)
    ]
    found: Times = {}
    for peer in asked.peers.split(","):
        print(f"{asked.rows}: {peer}", file=sys.stderr, flush=True)
        given = {"fresh": asked.fresh, "kept": asked.kept}
        effort = _effort(rows, len(questions), asked.limit)
        records = runs.answers(peer, questions, effort, accuracy.plain_seconds, **given)
        named = {one.id: [each for each in records if each["id"] == one.id] for one in questions}
        found[peer] = {name.split()[0]: fastest(each) for name, each in named.items()}
    ours = _ours(rows, [one.id.split()[0] for one in questions], asked.rounds)
    report.show(
        f"Whole answers about {asked.rows} events: seconds, and multiples of plain DuckDB",
        ("question", "plain", "ours, plain files", "ours, laid out", *found, "fastest peer / ours laid out"),
        [row(one, found) for one in ours],
        asked.markdown,
    )
    report.save(f"peers-{asked.rows}", {"ours": [asdict(one) for one in ours], "peers": found})


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.times", description=__doc__)
    parser.add_argument("--rows", default="1m", help="events")
    parser.add_argument("--peers", default=",".join(PEERS), help="with commas between")
    parser.add_argument("--only", help="names of questions, with commas between")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one question")
    parser.add_argument("--rounds", type=int, default=3, help="of ours")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fresh", action="store_true", help="ask the peers again")
    which.add_argument("--kept", action="store_true", help="ask no peer: use kept answers alone")
    parser.add_argument("--markdown", action="store_true", help="tables as they stand in documents")
    return parser.parse_args(arguments)


def _effort(rows: int, questions: int, limit_s: float) -> Effort:
    """Of a million events the peers are asked as for their accuracy, so that one run serves both."""
    if rows == events.MILLION:
        return accuracy.FULL
    return Effort(1, 1.0, 1, limit_s, 60.0 + limit_s * questions)


def fastest(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The way of bounding that takes the least time."""
    return min(records, key=lambda one: report.p50(one["seconds"]) if "seconds" in one else math.inf)


def _named(question: Question, only: str | None) -> bool:
    return only is None or question.id.split()[0] in only.split(",")


def _ours(rows: int, names: Sequence[str], rounds: int) -> list[Measured]:
    world = worlds.events_world(events.size_of(rows))
    sandbox = Watched()
    with sandbox:
        return [
            overhead.measure(world, one, sandbox, rounds, memory=False)
            for one in world.questions
            if one.id in names
        ]


def row(ours: Measured, found: Times) -> tuple[str, ...]:
    """A row of the table."""
    multiples = {peer: multiple(records.get(ours.id, {})) for peer, records in found.items()}
    known = [one for one in multiples.values() if not math.isnan(one)]
    cells = [
        f"{ours.median('plain'):.3f}",
        *(_cell(ours.median(way), ours.ratio(way)) for way in overhead.PLACES),
    ]
    for peer, records in found.items():
        record = records.get(ours.id, {})
        shown = "-" if "seconds" not in record else _cell(report.p50(record["seconds"]), multiples[peer])
        cells.append("too late" if str(record.get("unable", "")).startswith(runs.TOO_LATE) else shown)
    fastest = report.multiple(min(known) / ours.ratio("layout")) if known else "-"
    return (f"{ours.id} {ours.title}", *cells, fastest)


def multiple(record: dict[str, Any]) -> float:
    """Of plain DuckDB; NaN where there is no answer."""
    return report.p50(record["seconds"]) / record["plain_s"] if "seconds" in record else math.nan


def _cell(seconds: float, of_plain: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds:.3g} s ({report.multiple(of_plain)})"


if __name__ == "__main__":
    main(sys.argv[1:])
