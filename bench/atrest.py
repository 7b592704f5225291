"""What encryption at rest costs: the same private answers from plain and from encrypted files, in turns.

    python -m bench.atrest [--rows 1m] [--tpch 1] [--flights] [--only Q02,U05] [--rounds 5] [--markdown]

The files of a world are written twice as ingest writes them, once under a key of their own, and a layout is
built of each. A question is answered from all four, one after the other, so that a noisy machine troubles
them alike; the first round is thrown away, the ratio of each pair is kept, and its median is the figure.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

import privacy
from bench import overhead, report, watching
from catalog.rewrite import ROW_GROUP_ROWS
from privacy.sealed import KEY_BYTES, SealedFile, writing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from bench.worlds import Question, World

FILES, LAYOUT = "files", "layout"


@dataclass(frozen=True)
class Stored:
    """One copy of a world."""

    files: Mapping[str, str]
    layout: privacy.Layout


@dataclass
class Measured:
    """One question; seconds round by round, by where it was read from: plain, then encrypted."""

    id: str
    title: str
    world: str
    seconds: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    def ratio(self, place: str) -> float:
        """Encrypted to plain, the median over the rounds."""
        plain, sealed = self.seconds[place]
        return statistics.median(two / one for one, two in zip(plain, sealed, strict=True))


def main(arguments: Sequence[str]) -> None:
    """Measure every question, print the table, write the figures."""
    asked = _arguments(arguments)
    found: list[Measured] = []
    with privacy.Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        for world in overhead.worlds_of(asked):
            copies = [_copy(world, Path(folder), key) for key in (None, secrets.token_bytes(KEY_BYTES))]
            found += [
                measure(world, one, copies, sandbox, asked.rounds) for one in overhead.chosen(world, asked)
            ]
    headings = ("question", "files ms", "encrypted", "ratio", "laid out ms", "encrypted", "ratio")
    report.show("Encrypted against plain", headings, [_row(one) for one in found], asked.markdown)
    for place in (FILES, LAYOUT):
        mean = statistics.geometric_mean(one.ratio(place) for one in found)
        print(f"{place}: geometric mean {report.multiple(mean)}")
    report.save("atrest", [asdict(one) for one in found])


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = overhead.of_questions("atrest", __doc__, rows="1m", tpch="none")
    parser.set_defaults(strategy=None)
    return parser.parse_args(arguments)


def _copy(world: World, folder: Path, key: bytes | None) -> Stored:
    """The world's files as ingest writes them, and their layout."""
    place = folder / f"{world.name}-{'plain' if key is None else 'sealed'}"
    place.mkdir()
    made: dict[str, str] = {}
    for name, source in world.files.items():
        path = place / f"{name}.parquet"
        _rewrite(source, path, writing(key))
        made[name] = str(path) if key is None else SealedFile(path, key)
    return Stored(made, privacy.layout(world.policy, made, place / "layout"))


def _rewrite(source: Path, path: Path, options: dict[str, Any]) -> None:
    table = pq.read_table(source)
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=3,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
        **options,
    )


def measure(
    world: World, question: Question, copies: Sequence[Stored], sandbox: privacy.Sandbox, rounds: int
) -> Measured:
    """All ways in turn, so many times after one that is thrown away."""
    print(f"{world.name}: {question.id} {question.title}", file=sys.stderr, flush=True)
    plan = world.plan(question)
    found = Measured(question.id, question.title, world.name, {place: ([], []) for place in (FILES, LAYOUT)})
    for turn in range(rounds + 1):
        for place, kept in found.seconds.items():
            for copy, seconds in zip(copies, kept, strict=True):
                took = _timed(plan, copy, sandbox, laid=place == LAYOUT)
                if turn:
                    seconds.append(took)
    return found


def _timed(plan: privacy.Plan, copy: Stored, sandbox: privacy.Sandbox, *, laid: bool) -> float:
    watching.settle()
    files = {table: copy.files[table] for table in plan.tables}
    started = time.perf_counter()
    privacy.answer(plan, files, salt=bytes(32), sandbox=sandbox, layout=copy.layout if laid else None)
    return time.perf_counter() - started


def _row(one: Measured) -> tuple[str, ...]:
    cells = [f"{one.world}: {one.id} {one.title}"]
    for place in (FILES, LAYOUT):
        plain, sealed = (report.milliseconds(statistics.median(some)) for some in one.seconds[place])
        cells += [plain, sealed, report.multiple(one.ratio(place))]
    return tuple(cells)


if __name__ == "__main__":
    main(sys.argv[1:])
