"""Webhooks as the network delivers them: ``python -m tests.settlement.soak_webhooks --count 10000``.

Prints the journal's hash after all events once in order, and after the same events with 30 % duplicates,
shuffled, 5 % late and 5 % badly signed first; they must be equal.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

import settlement
from settlement import Money, ledger, payments
from settlement.errors import WebhookRefused
from settlement.payments import disputes, events, refunds, top_ups
from settlement.stripe import verified
from tests.stripe_double.world import Delivery, World

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
Sessions = Callable[[], AbstractContextManager[Session]]
_ORGS = 20


def world_of(count: int, seed: int) -> World:
    """A Stripe account that has seen about ``count`` events: payments, refunds back and forth, disputes."""
    chance = random.Random(seed)
    world = World(secret="whsec_soak", clock=lambda: NOW)
    number = 0
    while len(world.events) < count:
        number += 1
        intent = world.keep(
            "pi",
            "payment_intent",
            amount=chance.randrange(100, 50_000),
            currency=chance.choice(["usd", "eur", "jpy"]),
            customer="cus_1",
            metadata={"top_up": f"top_{number}"},
            status="requires_payment_method",
        )
        if chance.random() < 0.3:
            world.tell("payment_intent.payment_failed", intent)
        world.succeed(intent)
        if chance.random() < 0.3:
            refund = world.refund(intent, chance.randrange(1, intent["amount"] + 1))
            if chance.random() < 0.3:
                world.fail_refund(refund["id"])
        elif chance.random() < 0.3:
            dispute = world.dispute(intent)
            if chance.random() < 0.7:
                world.close_dispute(dispute["id"], won=chance.random() < 0.5)
    return world


def open_books(session: Session, world: World) -> None:
    """The top-ups that the exchange asked for before any of it."""
    for intent in reversed(world.all("payment_intent")):
        id_ = intent["metadata"]["top_up"]
        amount = Money(intent["amount"], intent["currency"].upper())
        top_ups.request_top_up(
            session,
            id=id_,
            org=f"org_{int(id_[4:]) % _ORGS}",
            actor="tok",
            amount=amount,
            saved_method=False,
            now=NOW,
        )


def disordered(world: World, seed: int) -> list[Delivery]:
    """30 % of the events twice, 5 % late, 5 % badly signed and sent again rightly, all else shuffled."""
    chance = random.Random(seed)
    early: list[Delivery] = []
    late: list[Delivery] = []
    for one in world.events:
        right = world.delivery(one)
        (late if chance.random() < 0.05 else early).append(right)
        if chance.random() < 0.30:
            early.append(right)
        if chance.random() < 0.05:
            early.append(world.delivery(one, secret="whsec_of_somebody_else"))
    chance.shuffle(early)
    chance.shuffle(late)
    return early + late


def deliver(sessions: Sessions, deliveries: list[Delivery], secret: str) -> dict[str, int]:
    """Hand webhooks over as the door does, one transaction each; what became of them."""
    outcomes: dict[str, int] = {}
    for one in deliveries:
        try:
            verified(
                one.payload,
                one.signature,
                secrets=[secret],
                livemode=False,
                connected=lambda _: False,
                now=NOW,
            )
        except WebhookRefused:
            outcome: str = "refused"
        else:
            with sessions() as session:
                outcome = events.receive(session, payload=one.payload, now=NOW)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def settle(session: Session) -> list[str]:
    """What the worker does afterwards, and what then breaks a law."""
    disputes.settle(session, NOW)
    refunds.collect(session, NOW)
    found = [finding for law in payments.laws.CHECKS.values() for finding in law(session)]
    return found + ledger.check(session)


def run(
    sessions: Sessions, world: World, deliveries: list[Delivery]
) -> tuple[str, dict[str, int], list[str]]:
    """Fresh books, these deliveries: the journal's hash, the outcomes, and broken laws."""
    with sessions() as session:
        open_books(session, world)
    outcomes = deliver(sessions, deliveries, world.secret)
    with sessions() as session:
        findings = settle(session)
        return payments.fingerprint(session, prefix=""), outcomes, findings


@contextmanager
def books(folder: Path) -> Iterator[Sessions]:
    """Fresh books in a SQLite file."""
    engine = create_engine(f"sqlite:///{folder / 'books.sqlite'}", connect_args={"isolation_level": None})

    @event.listens_for(engine, "connect")
    def _configure(connection: object, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")  # type: ignore[attr-defined]
        connection.execute("PRAGMA synchronous = NORMAL")  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    settlement.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in settlement.append_only_ddl("sqlite"):
            connection.execute(text(statement))

    @contextmanager
    def transaction() -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    yield transaction
    engine.dispose()


def main(arguments: list[str] | None = None) -> int:
    """Run both ways and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    world = world_of(given.count, given.seed)
    hashes = []
    for name, deliveries in (
        ("in order", [world.delivery(one) for one in world.events]),
        ("as delivered", disordered(world, given.seed)),
    ):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, books(Path(folder)) as sessions:
            digest, outcomes, findings = run(sessions, world, deliveries)
        hashes.append(digest)
        print(f"{name}: {len(deliveries)} webhooks in {time.monotonic() - began:.1f} s, {outcomes}, {digest}")
        for finding in findings:
            print(f"  {finding}")
            hashes.append(finding)
    equal = len(set(hashes)) == 1
    print("equal" if equal else "DIFFERENT")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
