"""What the suite does a little of, for long, as ``make soak`` runs it at night.

    python -m tests.soak [books] [market] [webhooks] [files] [described] [kills] [audit] [erasure]
                         [--programs N] [--steps N] [--database sqlite|postgres] [--processes N] [--seed N]

Random programs over the books and over a whole market, each law of the books after each step; ten thousand
webhooks as a bad network delivers them; three hundred hostile files; fifty thousand requests made from the
API's description; a thousand times SIGKILL to servers and workers; a thousand random logs, judged by two
verifiers, and ten thousand tamperings with them; a thousand persons erased. Prints what was done, and ends
with 1 where a law breaks, a tampering is missed or a byte of somebody is left, with the program or the seed.
PostgreSQL is the one of `make services`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from exchange.web import create_app
from privacy.sandbox import Limits, Sandbox
from tests.catalog import soak_files
from tests.exchange import described
from tests.exchange.audit import tampering
from tests.exchange.persons import marked
from tests.journeys import kills
from tests.journeys.test_walk import walk
from tests.market.prepared import Postgres, copied, prepare
from tests.market.stand import Stand
from tests.settlement import soak_webhooks
from tests.settlement.programs import in_memory, run

PROGRAMS, STEPS = 5_000, 50
WEBHOOKS, FILES, DESCRIBED, KILLS, AUDIT = "webhooks", "files", "described", "kills", "audit"
ERASURE = "erasure"
OTHERS = (WEBHOOKS, FILES, DESCRIBED, KILLS, AUDIT, ERASURE)
ERASED = 1_000
AT_ONCE = 10


def on_books(_: str, count: int, steps: int, seed: int) -> Counter[str]:
    """So many programs on books in memory; what was done in them."""
    return run(in_memory, examples=count, steps=steps, chosen=seed)


def on_markets(database: str, count: int, steps: int, seed: int) -> Counter[str]:
    """So many programs on markets of their own; what was done in them."""
    server = Postgres(os.environ["EXCHANGE_TEST_POSTGRES_URL"]) if database == "postgres" else None
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        Sandbox(Limits(threads=1, timeout_s=30.0), workers=1) as sandbox,
    ):
        prepared = prepare(Path(folder) / "home", lambda: sandbox, server)
        number = itertools.count()

        @contextlib.contextmanager
        def stands() -> Iterator[Stand]:
            home = Path(folder) / f"walk{next(number)}"
            with copied(prepared, home, lambda: sandbox, server) as made:
                yield made

        try:
            return walk(stands, examples=count, steps=steps, chosen=seed)
        finally:
            if server is not None:
                server.drop(prepared.database)


@contextlib.contextmanager
def _market(database: str = "sqlite") -> Iterator[Stand]:
    """One market, for as long as the block lasts."""
    server = Postgres(os.environ["EXCHANGE_TEST_POSTGRES_URL"]) if database == "postgres" else None
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        Sandbox(Limits(threads=1, timeout_s=30.0), workers=1) as sandbox,
    ):
        prepared = prepare(Path(folder) / "home", lambda: sandbox, server)
        try:
            with copied(prepared, Path(folder) / "copy", lambda: sandbox, server) as stand:
                yield stand
        finally:
            if server is not None:
                server.drop(prepared.database)


def on_description(seed: int) -> int:
    """Requests made from the API's description, in every role; 1 where one was answered wrongly."""
    with _market() as stand:
        return described.main(stand, create_app(stand.market), seed)


def on_erasure(database: str) -> int:
    """A thousand persons erased, and every byte looked through for them; 1 where one is found."""
    began = time.monotonic()
    try:
        with _market(database) as stand:
            marked.erase_all(stand, ERASED, deep=True, tell=print)
    except AssertionError as error:
        print(f"erasure: {error}")
        return 1
    print(f"  {'seconds':16}{time.monotonic() - began:>10,.0f}")
    return 0


KINDS = {"books": on_books, "market": on_markets}


def soak(kind: str, given: argparse.Namespace) -> None:
    """Run the programs of one kind, and print what was done in them."""
    began, done = time.monotonic(), Counter[str]()
    sizes = [min(AT_ONCE, given.programs - start) for start in range(0, given.programs, AT_ONCE)]
    print(f"{kind}: {given.programs} programs of {given.steps} steps, seed {given.seed}")
    with ProcessPoolExecutor(given.processes) as pool:
        running = [
            pool.submit(KINDS[kind], given.database, size, given.steps, given.seed + place)
            for place, size in enumerate(sizes)
        ]
        for one in as_completed(running):
            done += one.result()
            print(f"\r{done['programs']} programs, {done['steps']} steps", end="", file=sys.stderr)
    print(file=sys.stderr)
    for name, count in sorted(done.items()):
        print(f"  {name:16}{count:>10,}")
    print(f"  {'seconds':16}{time.monotonic() - began:>10,.0f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 where a law broke."""
    given = _parsed(arguments)
    for kind in KINDS:
        if kind in given.what:
            soak(kind, given)
    failed = soak_webhooks.main(["--seed", str(given.seed)]) if WEBHOOKS in given.what else 0
    if FILES in given.what:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            failed |= soak_files.main(given.seed, Path(folder))
    if AUDIT in given.what:
        failed |= tampering.main(["--seed", str(given.seed), "--processes", str(given.processes)])
    if DESCRIBED in given.what:
        failed |= on_description(given.seed)
    if ERASURE in given.what:
        failed |= on_erasure(given.database)
    if KILLS in given.what:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            failed |= kills.main(Postgres(os.environ["EXCHANGE_TEST_POSTGRES_URL"]), Path(folder), given.seed)
    return failed


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("what", nargs="*", choices=(*KINDS, *OTHERS), default=[*KINDS, *OTHERS])
    parser.add_argument("--programs", type=int, default=PROGRAMS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
