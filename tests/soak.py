"""What the suite does a little of, for long, as ``make soak`` runs it at night.

    python -m tests.soak [--programs N] [--steps N] [--database sqlite|postgres] [--processes N] [--seed N]

Random programs over a whole market, each law of the books after each step. Prints what was done, and ends
with 1 at the first program that breaks a law, with the program. PostgreSQL is the one of `make services`.
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

from privacy.sandbox import Limits, Sandbox
from tests.journeys.test_walk import walk
from tests.market.prepared import Postgres, copied, prepare
from tests.market.stand import Stand

PROGRAMS, STEPS = 5_000, 50
AT_ONCE = 10


def programs(database: str, count: int, steps: int, seed: int) -> Counter[str]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; 1 where a law broke."""
    given = _parsed(arguments)
    began, done = time.monotonic(), Counter[str]()
    sizes = [min(AT_ONCE, given.programs - start) for start in range(0, given.programs, AT_ONCE)]
    print(f"{given.programs} programs of {given.steps} steps on {given.database}, seed {given.seed}")
    with ProcessPoolExecutor(given.processes) as pool:
        running = [
            pool.submit(programs, given.database, size, given.steps, given.seed + place)
            for place, size in enumerate(sizes)
        ]
        for one in as_completed(running):
            done += one.result()
            print(f"\r{done['programs']} programs, {done['steps']} steps", end="", file=sys.stderr)
    print(file=sys.stderr)
    for name, count in sorted(done.items()):
        print(f"{name:16}{count:>10,}")
    print(f"{'seconds':16}{time.monotonic() - began:>10,.0f}")
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--programs", type=int, default=PROGRAMS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
