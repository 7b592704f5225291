"""Hostile files, each into a child as the exchange has it: what became of them, and what is wrong."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from catalog import InvalidUpload
from catalog.ingest import Limits, TableReport, ingest_table
from tests.catalog.hostile import CANARY, FILES, File, files

LIMITS = Limits(expanded_bytes=128 << 20, rows=5_000_000, memory_bytes=1_500 << 20, seconds=30)
_AT_ONCE = 2


@dataclass
class Found:
    """How files ended, by code ("taken" is one), and what was wrong with whom."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def try_files(seed: int, count: int, folder: Path) -> Found:
    """Take in so many files made from a seed; ``wrong`` names each that ended as it must not."""
    found = Found()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for made, code, wrong, took_s in pool.map(
            lambda one: _try(*one, folder), enumerate(files(seed, count))
        ):
            found.ended[code] += 1
            found.slowest_s = max(found.slowest_s, took_s)
            found.wrong += [f"{made.family} ({made.name}) ended as {code}: {text}" for text in wrong]
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    if most > LIMITS.memory_bytes:
        found.wrong.append(f"a child held {most:,} bytes")
    return found


def _try(number: int, made: File, folder: Path) -> tuple[File, str, list[str], float]:
    place = folder / str(number)
    place.mkdir()
    source, out = place / made.name, place / "out"
    source.write_bytes(made.content)
    began = time.monotonic()
    try:
        report = ingest_table(
            source, table="t", unit=None, out=out, limits=LIMITS, confinement="privacy.confinement"
        )
    except InvalidUpload as refusal:
        code, wrong = refusal.code, _wrong_refusal(made, refusal, out)
    else:
        code, wrong = "taken", _wrong_table(made, report)
    took_s = time.monotonic() - began
    if took_s > LIMITS.seconds + 5:
        wrong.append(f"took {took_s:.0f} s")
    if sorted(path.name for path in place.iterdir()) != sorted({made.name, "out"}):
        wrong.append("left something behind")
    return made, code, wrong, took_s


def _wrong_refusal(made: File, refusal: InvalidUpload, out: Path) -> list[str]:
    wrong = []
    if refusal.code not in made.codes:
        wrong.append("is no refusal that was expected")
    if CANARY in f"{refusal}{refusal.hint}{refusal.broken_rows!r}{refusal.column}":
        wrong.append("shows a cell")
    if list(out.iterdir()):
        wrong.append("left a part")
    return wrong


def _wrong_table(made: File, report: TableReport) -> list[str]:
    if not made.may_pass:
        return ["was taken"]
    tables = [pq.read_table(part.path) for part in report.parts]
    wrong = []
    if sum(table.num_rows for table in tables) != report.rows:
        wrong.append("has other rows than it says")
    if any(tuple(table.column_names) != tuple(report.schema.types) for table in tables):
        wrong.append("has other columns than it says")
    return wrong


def main(seed: int, folder: Path, count: int = FILES) -> int:
    """Print how the files ended; 1 where one ended as it must not."""
    began = time.monotonic()
    found = try_files(seed, count, folder)
    print(f"files: {count} hostile files, seed {seed}")
    for code, number in found.ended.most_common():
        print(f"  {code:24}{number:>6,}")
    print(f"  {'slowest, seconds':24}{found.slowest_s:>6.1f}")
    print(f"  {'seconds':24}{time.monotonic() - began:>6,.0f}")
    for text in found.wrong:
        print(text, file=sys.stderr)
    return 1 if found.wrong else 0
