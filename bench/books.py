"""The books' speed: how many charges are reserved and settled a second, each durable before the next step.

    python -m bench.books [--seconds 5] [--clients 8] [--database sqlite,postgresql] [--markdown]

A charge is what a query books: money from a wallet to provider and platform, rho from the domain and from the
grant, delta; reserved in one committed transaction and posted in another. "ledger" is the entries alone,
"exchange" is how the exchange commits them: one command at a time, each with its entry in the audit log,
the first with its idempotency key. SQLite syncs every commit (synchronous=FULL), PostgreSQL waits for its log
(synchronous_commit=on): that of `make services`, or the one that EXCHANGE_TEST_POSTGRES_URL names.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import secrets
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from sqlalchemy.orm import Session

from bench import report
from exchange import migrate
from exchange.audit.entry import Entry, ObjectGroup
from exchange.identity import SYSTEM
from exchange.store import Store
from settlement import ledger
from settlement.ledger import chart, entries
from settlement.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exchange.store import Tx
    from settlement.ledger import Leg

GOALS = {"sqlite": 100, "postgresql": 200}
LONGEST_P99_S = 0.25
_SERVICES = Path(__file__).parent.parent / ".services" / "env"
_VARIABLE = "EXCHANGE_TEST_POSTGRES_URL"
_DOMAIN, _PROVIDER = "bench/people", "org_provider"
_MUCH = 10**15


@dataclass(frozen=True)
class BookCharge:
    """A step of a charge, as the exchange's commands are."""

    step: str
    kind: ClassVar[str] = "bench.booked"
    refused: ClassVar[str] = "bench.refused"

    def entry(self) -> Entry:
        """The audit entry: a charge."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="charge"))


def main(arguments: Sequence[str]) -> None:
    """Measure all ways, print the table, write the figures."""
    asked = _arguments(arguments)
    figures = []
    for name in asked.database:
        with database(name) as store:
            prepare(store, asked.clients)
            for way, clients in itertools.product(("ledger", "exchange"), sorted({1, asked.clients})):
                print(f"{name}, {way}, {clients} clients", file=sys.stderr, flush=True)
                taken, lasted = measure(store, way, clients, asked.seconds)
                found = ledger.check_balances, ledger.check_postings
                broken = [text for check in found for text in store.read(check)]
                assert not broken, broken
                figures.append(figure(name, way, clients, taken, lasted))
    rows = [line(one) for one in figures]
    headings = ("database", "what", "clients", "charges a second", "p50 ms", "p99 ms", "goal")
    report.show("Reserve and settle, durably", headings, rows, asked.markdown)
    report.save("books", {"arguments": vars(asked), "charges": figures})


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.books", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    parser.add_argument("--clients", type=int, default=8)
    default = "sqlite,postgresql" if server_url() else "sqlite"
    parser.add_argument(
        "--database", default=default, type=databases, help="sqlite,postgresql or one of them"
    )
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in documents")
    return parser.parse_args(arguments)


def databases(text: str) -> list[str]:
    """The databases of an option: names with commas between them."""
    names = text.split(",")
    if not set(names) <= {"sqlite", "postgresql"}:
        raise argparse.ArgumentTypeError(f"there is sqlite and postgresql, and no {text}")
    return names


def server_url() -> str:
    """The PostgreSQL server to use; empty where there is none."""
    if not os.environ.get(_VARIABLE) and _SERVICES.is_file():
        for text in _SERVICES.read_text(encoding="utf-8").splitlines():
            name, _, value = text.removeprefix("export ").partition("=")
            if name == _VARIABLE:
                return value.strip("'\"")
    return os.environ.get(_VARIABLE, "")


@contextlib.contextmanager
def database(name: str) -> Iterator[Store]:
    """An empty exchange's database of one kind, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder}/books.db" if name == "sqlite" else stack.enter_context(postgresql())
        migrate.upgrade(url)
        store = Store(url)
        stack.callback(store.dispose)
        yield store


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database on the test server, dropped afterwards."""
    server, made = server_url(), f"bench_{secrets.token_hex(6)}"
    plain = server.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(plain, autocommit=True) as administration:
        administration.execute(f'CREATE DATABASE "{made}"')
        try:
            yield f"{server.rpartition('/')[0]}/{made}"
        finally:
            administration.execute(f'DROP DATABASE "{made}" WITH (FORCE)')


def prepare(store: Store, clients: int) -> None:
    """A provider, a domain, and for each client a wallet and a grant."""
    now = datetime.now(UTC)
    with Session(store.engine) as session, session.begin():
        chart.open_provider(session, _PROVIDER, "USD")
        chart.open_domain(session, _DOMAIN)
        budget = entries.budget_granted(_DOMAIN, rho_nano=_MUCH, delta_pico=_MUCH)
        post(session, "budget", budget, now)
        for number in range(clients):
            buyer, grant = f"org_{number}", f"grt_{number}"
            chart.open_buyer(session, buyer, "USD")
            chart.open_domain_buyer(session, _DOMAIN, buyer)
            chart.open_grant(session, grant, _DOMAIN)
            post(session, f"top-{number}", entries.wallet_credited(buyer, Money(_MUCH // 1000, "USD")), now)
            allowed = entries.allowance_issued(grant, _DOMAIN, rho_nano=_MUCH)
            post(session, f"allow-{number}", allowed, now)


def post(session: Session, name: str, legs: Sequence[Leg], now: datetime) -> None:
    """One journal of these legs, under its own name."""
    ledger.post(session, journal=name, kind="bench", business_key=name, actor="bench", now=now, legs=legs)


def measure(store: Store, way: str, clients: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of every charge, and how long all of it lasted."""
    taken: list[list[float]] = [[] for _ in range(clients)]
    ready = threading.Barrier(clients)
    end = time.perf_counter() + seconds

    def run(number: int) -> None:
        ready.wait()
        while time.perf_counter() < end:
            began = time.perf_counter()
            charge(store, way, number)
            taken[number].append(time.perf_counter() - began)

    began = time.perf_counter()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(itertools.chain(*taken)), time.perf_counter() - began


def charge(store: Store, way: str, number: int) -> None:
    """Reserve a charge and settle it, each in a transaction of its own."""
    buyer, grant, name = f"org_{number}", f"grt_{number}", f"jnl_{secrets.token_hex(12)}"
    price = Money(25, "USD")
    legs = entries.privacy_spent(
        buyer=buyer, domain=_DOMAIN, grant=grant, rho_nano=10, delta_pico=1
    ) + entries.charge(buyer=buyer, provider=_PROVIDER, price=price, fee_basis_points=1000)
    facts: dict[str, Any] = {"kind": "bench", "actor": "bench"}

    def reserve(session: Session, now: datetime) -> None:
        ledger.reserve(session, journal=name, business_key=f"{name}:r", legs=legs, now=now, **facts)

    def settle(session: Session, now: datetime) -> None:
        ended = f"{name}e"
        ledger.resolve(
            session,
            pending_journal=name,
            journal=ended,
            business_key=f"{name}:e",
            phases="post",
            now=now,
            **facts,
        )

    commit(store, way, reserve, key=name)  # a buyer's request has a key, what follows from it needs none
    commit(store, way, settle)


def commit(
    store: Store, way: str, step: Callable[[Session, datetime], None], *, key: str | None = None
) -> None:
    """One durable transaction: of the ledger alone, or a command of the exchange."""
    if way == "ledger":
        with Session(store.engine) as session, session.begin():
            step(session, datetime.now(UTC))
        return

    def work(tx: Tx) -> dict[str, Any]:
        step(tx.session, tx.now)
        return {}

    store.perform(SYSTEM, BookCharge(step.__name__), work, key=key)


def figure(name: str, way: str, clients: int, taken: Sequence[float], lasted: float) -> dict[str, object]:
    """One line's figures."""
    p99 = report.p99(taken)
    return {
        "database": name,
        "way": way,
        "clients": clients,
        "charges": len(taken),
        "per_second": len(taken) / lasted,
        "p50_s": report.p50(taken),
        "p99_s": p99,
        "met": len(taken) / lasted >= GOALS[name] and p99 <= LONGEST_P99_S,
    }


def line(one: dict[str, object]) -> tuple[str, ...]:
    """A row of the table."""
    name, rate, p50, p99 = str(one["database"]), one["per_second"], one["p50_s"], one["p99_s"]
    assert isinstance(rate, float)
    assert isinstance(p50, float)
    assert isinstance(p99, float)
    goal = f">= {GOALS[name]}/s: {'met' if one['met'] else 'missed'}"
    shown = report.milliseconds(p50), report.milliseconds(p99)
    return (name, str(one["way"]), str(one["clients"]), f"{rate:.0f}", *shown, goal)


if __name__ == "__main__":
    main(sys.argv[1:])
