"""Two servers and two workers on one PostgreSQL, killed one after another under many clients."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import text

from exchange.operations import administering
from tests.journeys.test_processes import House, assert_kept, clients, housed, list_flights
from tests.market.prepared import Postgres
from tests.market.processes import Process, Web, ending, until

KILLS, CLIENTS = 1_000, 50
_OPEN = text("SELECT COUNT(*) FROM query WHERE state NOT IN ('SETTLED', 'VOIDED', 'FORFEITED')")
_ENDED_WITHIN_S = 180.0  # a lease, and a round of the sweeper
_UNLIMITED = {"EXCHANGE_RATE_OF_CALLER": "0", "EXCHANGE_RATE_OF_NETWORK": "0"}


def kill_many(server: Postgres, folder: Path, *, kills: int, count: int, chosen: int) -> Counter[str]:
    """SIGKILL so often to one process of four, each replaced at once; returns how queries ended, and errors.

    Raises AssertionError where an acknowledged answer is gone or another, or a law is broken.
    """
    name = server.create()
    try:
        with housed(server.url(name), folder) as house, ending() as running:
            house.environ.update(_UNLIMITED)
            for number in range(5):
                administering.credit_wallet(
                    house.market, org="acme", amount="9000.00", currency="USD", reference=f"more {number}"
                )
            return _under_clients(house, running, kills, count, random.Random(chosen))
    finally:
        server.drop(name)


def _under_clients(
    house: House, running: list[Process], kills: int, count: int, chance: random.Random
) -> Counter[str]:
    workers = [house.worker("worker-0")]
    webs = [house.web("web-0"), house.web("web-1")]
    running += [*workers, *webs]
    for web in webs:
        web.until_ready()
    workers.append(house.worker("worker-1"))
    running.append(workers[1])
    list_flights(house, webs[0])
    urls = [web.url for web in webs]
    with clients(house, urls, count) as asked:
        until(lambda: len(asked.heard) > 3)
        for number in range(kills):
            heard = len(asked.heard)
            _replace_one(house, running, (webs, workers), chance, number)
            ends = time.monotonic() + chance.uniform(0.2, 2.0)
            while time.monotonic() < ends or (not number % 5 and len(asked.heard) == heard):
                asked.raise_if_one_ended()
                time.sleep(0.05)  # every fifth time somebody hears something before the next
    for web in webs:
        web.until_ready()
    until(lambda: not house.market.store.read(lambda s: s.scalar(_OPEN)), within_s=_ENDED_WITHIN_S)
    assert_kept(house, webs[0].url, asked)
    size = house.market.store.read(lambda s: s.scalar(text("SELECT MAX(seq) + 1 FROM audit_entry")))
    until(lambda: house.published() >= int(size or 0), within_s=_ENDED_WITHIN_S)
    for one in (*webs, *workers):
        one.stop()
    house.holds()
    ended = text("SELECT state, COUNT(*) FROM query GROUP BY state")
    done = Counter(
        {str(state): int(n) for state, n in house.market.store.read(lambda s: s.execute(ended).all())}
    )
    return done + Counter(f"{status} {code}" for _, status, code in asked.errors)


def _replace_one(
    house: House,
    running: list[Process],
    kept: tuple[list[Web], list[Process]],
    chance: random.Random,
    number: int,
) -> None:
    webs, workers = kept
    place = chance.randrange(2)
    if chance.random() < 0.5:
        webs[place].kill()
        webs[place] = Web(house.environ, house.folder, f"web-{place}-{number}", port=webs[place].port)
        running.append(webs[place])
    else:
        workers[place].kill()
        workers[place] = house.worker(f"worker-{place}-{number}")
        running.append(workers[place])


def main(server: Postgres, folder: Path, chosen: int, kills: int = KILLS) -> int:
    """Print how queries ended; an AssertionError says what was lost."""
    began = time.monotonic()
    done = kill_many(server, folder, kills=kills, count=CLIENTS, chosen=chosen)
    print(f"kills: {kills} of servers and workers under {CLIENTS} clients, seed {chosen}")
    for name, count in sorted(done.items()):
        print(f"  {name:32}{count:>8,}")
    print(f"  {'seconds':32}{time.monotonic() - began:>8,.0f}", file=sys.stdout)
    return 0
