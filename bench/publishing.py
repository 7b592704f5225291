"""How long an entry waits for a checkpoint that two witnesses have signed, on a served exchange under load.

    python -m bench.publishing [--seconds 60] [--clients 16] [--markdown]

Web processes and the worker run as `exchange serve` starts them, on PostgreSQL; two witnesses are programs of
their own, each with an archive. Clients ask all-new questions as fast as they are answered. The public
checkpoint is read twenty times a second: an entry has waited from its time to the first reading of a
checkpoint that has it, once with the log's own signature and once with both witnesses'. Entries that the
questions leave to the sweeper count as well.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg

from bench import books, load, report, road
from exchange import bootstrap
from exchange.audit.checkpoint import parse_checkpoint
from exchange.config import Settings
from exchange.worker import publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GOAL_S = 65.0
_WITNESSES = 2
_EVERY_S = 0.05
_SETTINGS = {
    "EXCHANGE_RATE_OF_CALLER": "0",
    "EXCHANGE_RATE_OF_NETWORK": "0",
    "EXCHANGE_QUERY_QUEUE_OF_ONE": "64",
    "EXCHANGE_WEB_WORKERS": "2",
    "EXCHANGE_WITNESS_NETWORKS": "127.0.0.1/32",
}


@dataclass
class Seen:
    """The sizes of public checkpoints in growing order, and when each was first read."""

    sizes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, size: int, now: float) -> None:
        """One reading; only what is larger than before is news."""
        if not self.sizes or size > self.sizes[-1]:
            self.sizes.append(size)
            self.times.append(now)

    def waited(self, entries: Sequence[tuple[int, float]]) -> list[float]:
        """Seconds from the time of each entry (number, time) to the first checkpoint that has it."""
        found = []
        for seq, made in entries:
            place = bisect_right(self.sizes, seq)
            found.append(self.times[place] - made if place < len(self.times) else float("inf"))
        return found


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.publishing", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in documents")
    asked = parser.parse_args(arguments)
    if not books.server_url():
        print("no PostgreSQL: run `make services`", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, books.postgresql() as database:
        figures = measure(Path(folder), database, asked.seconds, asked.clients)
    headings = ("in a checkpoint", "entries", "a second", "p50 s", "p99 s", "longest s", "goal")
    report.show("From an entry to its checkpoint", headings, [line(one) for one in figures], asked.markdown)
    report.save("publishing", {"arguments": vars(asked), "publishing": figures})


def measure(folder: Path, database: str, seconds: float, clients: int) -> list[dict[str, object]]:
    """How long entries waited: for the log's signature, and for those of all witnesses."""
    environ = {
        **os.environ,
        **_SETTINGS,
        "EXCHANGE_HOME": str(folder / "home"),
        "EXCHANGE_DATABASE_URL": database,
    }
    tokens = road.prepare(environ)
    log_key = _published_key(environ)
    with contextlib.ExitStack() as stack:
        witnesses = [
            stack.enter_context(_witness(folder / f"witness{n}", log_key)) for n in range(_WITNESSES)
        ]
        url = stack.enter_context(road.serving({**environ, "EXCHANGE_WITNESSES": ",".join(witnesses)}))
        road.trade(url, tokens)
        signed, witnessed, began = Seen(), Seen(), time.time()
        with _watching(url, signed, witnessed):
            served = load.Served(url, tokens["buyer"], database)
            load.run(served, load.Client.ask, itertools.count(1), seconds=seconds, clients=clients)
            entries = _entries(database, began)
            with contextlib.suppress(TimeoutError):  # what is not there by then has waited for ever
                road.wait(lambda: witnessed.sizes[-1:] > [entries[-1][0]], 2 * GOAL_S)
    return [
        _figure(name, seen.waited(entries), seconds)
        for name, seen in (("signed", signed), (f"signed by {_WITNESSES} witnesses", witnessed))
    ]


def _published_key(environ: dict[str, str]) -> str:
    """The log's public key, which is beside the first checkpoint."""
    settings = Settings.from_env(environ, worker=True)
    market = bootstrap.open_market(settings)
    publish(market, settings)
    market.close()
    return (settings.log_path / "key").read_text(encoding="utf-8").strip()


def line(one: dict[str, object]) -> tuple[str, ...]:
    """A row of the table."""
    p50, p99, longest = (float(str(one[name])) for name in ("p50_s", "p99_s", "longest_s"))
    verdict = f"p99 <= {GOAL_S:.0f} s: {'met' if p99 <= GOAL_S else 'missed'}"
    each = f"{float(str(one['per_second'])):.0f}"
    return (
        str(one["what"]),
        str(one["entries"]),
        each,
        f"{p50:.1f}",
        f"{p99:.1f}",
        f"{longest:.1f}",
        verdict,
    )


def _figure(what: str, waited: list[float], seconds: float) -> dict[str, object]:
    return {
        "what": what,
        "entries": len(waited),
        "per_second": len(waited) / seconds,
        "p50_s": report.p50(waited),
        "p99_s": report.p99(waited),
        "longest_s": max(waited),
    }


def _entries(database: str, since: float) -> list[tuple[int, float]]:
    """The number and time of each entry from a time on."""
    plain = database.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(plain) as connection:
        found = connection.execute("SELECT seq, time FROM audit_entry ORDER BY seq").fetchall()
    made = [(int(seq), datetime.fromisoformat(text).timestamp()) for seq, text in found]
    return [(seq, at) for seq, at in made if at >= since]


@contextlib.contextmanager
def _watching(url: str, signed: Seen, witnessed: Seen) -> Iterator[None]:
    """Read the public checkpoint until the end of the block."""
    done = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while not done.wait(_EVERY_S):
                reply = http.get("/audit/checkpoint")
                if reply.status_code != 200:
                    continue
                found, now = parse_checkpoint(reply.content), datetime.now(UTC).timestamp()
                signed.add(found.size, now)
                if len(found.note.signatures) > _WITNESSES:
                    witnessed.add(found.size, now)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _witness(folder: Path, log_key: str) -> Iterator[str]:
    """A witness in a process of its own; what EXCHANGE_WITNESSES says of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, "-m", "exchange.witness"]
    options = ["--name", f"bench.example/{folder.name}", "--log-key", log_key, "--archive", "archive"]
    made = subprocess.run(
        [*program, "init", str(folder), *options, "--listen", f"127.0.0.1:{port}"],
        check=True,
        capture_output=True,
        text=True,
    )
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*program, "serve", str(folder)], stdout=quiet, stderr=quiet)
    try:
        yield f"{made.stdout.strip()} http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main(sys.argv[1:])
