"""What privacy costs: a whole private answer against the same statement in plain DuckDB, side by side.

    python -m bench.overhead [--rows 1m,10m] [--tpch 1] [--flights] [--only Q02,U05] [--rounds 5]
                             [--strategy caps | --profile] [--markdown]

Plain DuckDB reads the provider's own Parquet in this process, on two threads. The private answer is measured
on the same files and on a layout of them, each with all that belongs to it, and its exact part alone ("no
noise"). All of them take turns, so that a noisy machine troubles them alike; none begins before the workers
that replace used ones are ready. The first round is thrown away, the ratio of each pair is kept, and its
median is the figure. Memory is measured in a round of its own. Layouts are built once, in ``.bench/layouts``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import privacy
from bench import events, report, watching, worlds
from bench.watching import MIB, Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.worlds import Question, World

PLACES = {"files": "plain files", "layout": "laid out"}
"""Where a private answer reads from."""
PLAIN, NOISY, EXACT = "plain", "", ", no noise"


@dataclass
class Measured:
    """One question in one world.

    Attributes:
        seconds: round by round: of ``plain``, of whole answers from ``files`` and ``layout``, and of their
            exact parts alone.
        peak_bytes: of plain DuckDB's process and of the largest worker.
        served: what the layout answered from.
        failed: why a way has no figures.
    """

    id: str
    title: str
    kind: str
    world: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    served: str = ""
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, way: str) -> float:
        """Of a way to plain DuckDB, the median over the rounds; NaN where it failed."""
        pairs = zip(self.seconds.get(way, []), self.seconds[PLAIN], strict=False)
        ratios = [one / other for one, other in pairs]
        return statistics.median(ratios) if ratios else math.nan

    def median(self, way: str) -> float:
        """Median seconds; NaN where it failed."""
        return statistics.median(self.seconds[way]) if self.seconds.get(way) else math.nan


def main(arguments: Sequence[str]) -> None:
    """Measure every question, print the tables, write the figures."""
    asked = _arguments(arguments)
    found: list[Measured] = []
    sandbox = Watched()
    with sandbox:
        for world in worlds_of(asked):
            measured = [
                measure(world, one, sandbox, asked.rounds, profiled=asked.profile)
                for one in chosen(world, asked)
            ]
            report.show(
                _title(world, asked.rounds), HEADINGS, [_row(one) for one in measured], asked.markdown
            )
            found += measured
    show_means(found, asked.markdown)
    report.save("overhead", [asdict(one) for one in found])


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = of_questions("overhead", __doc__, rows="1m,10m", tpch="1")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--strategy", help="how units are bounded, instead of what the planner chooses")
    which.add_argument(
        "--profile", action="store_true", help="plan with a contribution profile, without caps"
    )
    return parser.parse_args(arguments)


def of_questions(program: str, about: str | None, *, rows: str, tpch: str) -> argparse.ArgumentParser:
    """What a benchmark over the worlds' questions is asked for, with these worlds where none are named."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{program}", description=about)
    parser.add_argument("--rows", default=rows, help="sizes of events, with commas between; or none")
    parser.add_argument("--tpch", default=tpch, help="scale factors of TPC-H, with commas between; or none")
    parser.add_argument("--flights", action="store_true", help="the questions of the demo as well")
    parser.add_argument("--only", help="names of questions, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true", help="tables as they stand in documents")
    return parser


def worlds_of(asked: argparse.Namespace) -> list[World]:
    """The worlds that were asked for."""
    sizes = (
        [] if asked.rows == "none" else [events.size_of(events.rows_in(one)) for one in asked.rows.split(",")]
    )
    scales = [] if asked.tpch == "none" else [int(one) for one in asked.tpch.split(",")]
    found = [*map(worlds.events_world, sizes), *map(worlds.tpch_world, scales)]
    return [*found, worlds.flights_world()] if asked.flights else found


def chosen(world: World, asked: argparse.Namespace) -> list[Question]:
    """The questions that were asked for, bounded as was asked for."""
    named = None if asked.only is None else asked.only.split(",")
    questions = [one for one in world.questions if named is None or one.id in named]
    if asked.strategy is None:
        return questions
    return [
        replace(one, options=replace(one.options or privacy.Options(), strategy=asked.strategy))
        for one in questions
    ]


# Measuring


def measure(
    world: World,
    question: Question,
    sandbox: Watched,
    rounds: int,
    *,
    memory: bool = True,
    profiled: bool = False,
) -> Measured:
    """All ways in turn, so many times after one that is thrown away; then their memory."""
    found = Measured(question.id, question.title, question.kind, world.name)
    print(f"{world.name}: {question.id} {question.title}", file=sys.stderr, flush=True)
    plan = world.plan(question, profiled=profiled)
    try:
        found.served = served(plan, world.layout, world)
    except privacy.EngineFailed as failed:
        found.failed["layout"] = failed.code
    sandbox.places = world.private_files | {str(world.folder.resolve())}
    with world.connection() as connection:
        ways: dict[str, Callable[[], object]] = {
            PLAIN: lambda: connection.sql(question.sql).to_arrow_table(),
            "files": lambda: answered(plan, world, sandbox, None),
            "layout": lambda: answered(plan, world, sandbox, world.layout),
        }
        for turn in range(rounds + 1):
            for way, run in ways.items():
                if way not in found.failed:
                    _timed(found, way, run, sandbox, kept=turn > 0)
        if memory:
            _weigh(found, world, question, ways)
    return found


def _weigh(
    found: Measured, world: World, question: Question, ways: Mapping[str, Callable[[], object]]
) -> None:
    found.peak_bytes[PLAIN] = watching.plain_peak(world.files, question.sql)
    for way in PLACES:
        if way not in found.failed:
            found.peak_bytes[way] = watching.worker_peak(ways[way])


def answered(
    plan: privacy.Plan, world: World, sandbox: Watched, layout: privacy.Layout | None
) -> privacy.Answer:
    """A whole private answer."""
    files = {table: world.files[table] for table in plan.tables}
    return privacy.answer(plan, files, salt=bytes(32), sandbox=sandbox, layout=layout)


def _timed(found: Measured, way: str, run: Callable[[], object], sandbox: Watched, *, kept: bool) -> None:
    watching.settle()
    sandbox.taken_s()
    started = time.perf_counter()
    try:
        run()
    except (privacy.Refused, privacy.EngineFailed) as failed:
        found.failed[way] = failed.code
        return
    whole, exact = time.perf_counter() - started, sandbox.taken_s()
    if kept:
        found.seconds.setdefault(way + NOISY, []).append(whole)
        if way != PLAIN:
            found.seconds.setdefault(way + EXACT, []).append(exact)


def served(plan: privacy.Plan, layout: privacy.Layout, world: World) -> str:
    """What of the layout answers each release, for people."""
    files = {name: (str(world.files[name]),) for name in plan.tables}
    shapes = [layout.serving(one.lowered.aggregate, files) for one in plan.releases]
    return "; ".join(dict.fromkeys("plain files" if one is None else one.about for one in shapes))


# Tables

HEADINGS = (
    *("question", "plain ms", "files ms", "ratio", "no noise", "laid out ms", "ratio", "no noise"),
    *("plain MiB", "files MiB", "laid out MiB", "served by"),
)


def _title(world: World, rounds: int) -> str:
    return f"Private answers against plain DuckDB, {world.name}, medians of {rounds} interleaved rounds"


def _row(one: Measured) -> tuple[str, ...]:
    cells = [f"{one.id} {one.title}", report.milliseconds(one.median(PLAIN))]
    for way in PLACES:
        if way in one.failed:
            cells += [one.failed[way], "-", "-"]
        else:
            cells += [report.milliseconds(one.median(way))]
            cells += [report.multiple(one.ratio(way + part)) for part in (NOISY, EXACT)]
    memory = [
        f"{one.peak_bytes[way] / MIB:.0f}" if way in one.peak_bytes else "-" for way in (PLAIN, *PLACES)
    ]
    return (*cells, *memory, one.served)


def show_means(found: Sequence[Measured], markdown: bool) -> None:
    """Geometric mean and worst of each class in each world."""
    rows = []
    for world, kind in dict.fromkeys((one.world, one.kind) for one in found):
        members = [one for one in found if (one.world, one.kind) == (world, kind)]
        for way, shown in PLACES.items():
            rows.append((f"{world}, {kind}, {shown}", *_means(members, way)))
    report.show(
        "Ratios to plain DuckDB",
        ("class", "questions", "geometric mean", "no noise", "worst", "its question", "failed"),
        rows,
        markdown,
    )


def _means(members: Sequence[Measured], way: str) -> tuple[str, ...]:
    answered = [one for one in members if way not in one.failed]
    failed = str(len(members) - len(answered))
    if not answered:
        return ("0", "-", "-", "-", "-", failed)
    means = [statistics.geometric_mean(one.ratio(way + part) for one in answered) for part in (NOISY, EXACT)]
    worst = max(answered, key=lambda one: one.ratio(way))
    shown = (*map(report.multiple, means), report.multiple(worst.ratio(way)), worst.id)
    return (str(len(answered)), *shown, failed)


if __name__ == "__main__":
    main(sys.argv[1:])
