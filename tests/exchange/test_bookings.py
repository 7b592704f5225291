"""Which entry of the log names which journal, and what that costs - on both databases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from sqlalchemy import event

from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.errors import RequestInvalid
from exchange.identity import Actor, new_id
from exchange.store import Tx
from settlement import ledger
from settlement.ledger import Leg, chart
from tests.market.stand import Stand

ACTOR = Actor(ref="tok_books", org="org_books", name="books", role="operator")


@dataclass(frozen=True)
class Book:
    """A command for tests: it books as many entries as it says."""

    entries: int
    kind: ClassVar[str] = "test.booked"
    refused: ClassVar[str] = "test.refused"

    def entry(self) -> Entry:
        money = MoneyGroup(currency="USD", amount_minor=5)
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="test"), money=money)


def booking(stand: Stand, entries: int, *, told: int | None = None) -> Callable[[Tx], dict[str, Any]]:
    """Work that books so many entries, of which its own entry names one."""

    def work(tx: Tx) -> dict[str, Any]:
        booked = [book(stand, tx) for _ in range(entries)]
        if told is not None:
            tx.record(money=MoneyGroup(journal=booked[told]))
        return {"booked": booked}

    return work


def book(stand: Stand, tx: Tx) -> str:
    wallet = chart.buyer_prepaid(stand.orgs["buyer"], "USD")
    return ledger.post(
        tx.session,
        journal=new_id("jnl"),
        kind="wallet_credited",
        business_key=new_id("test"),
        actor=tx.actor.ref,
        now=tx.now,
        legs=[Leg("USD", debit=chart.external_bank("USD"), credit=wallet, amount=1)],
    )


def named(stand: Stand) -> list[tuple[str, str | None]]:
    """The kinds of the actor's entries, each with its journal."""
    mine = [r.document for r in stand.entries() if (r.document["actor"] or {}).get("org") == ACTOR.org]
    for told in mine:
        journal = (told["money"] or {}).get("journal")
        if journal:
            digest = stand.market.store.read(lambda s, j=journal: ledger.journal_digest(s, j))
            assert told["money"]["journal_sha256"] == digest
    return [(told["kind"], (told["money"] or {}).get("journal")) for told in mine]


def test_the_only_journal_is_the_entrys_own(stand: Stand) -> None:
    done = stand.market.store.perform(ACTOR, Book(1), booking(stand, 1))
    assert named(stand) == [("test.booked", done.value["booked"][0])]
    [entry] = stand.entries(kind="test.booked")
    assert (entry.document["money"]["currency"], entry.document["money"]["amount_minor"]) == ("USD", "5")


def test_further_journals_have_entries_of_their_own_in_their_order(stand: Stand) -> None:
    store = stand.market.store
    first, second, third = store.perform(ACTOR, Book(3), booking(stand, 3, told=1)).value["booked"]
    assert named(stand) == [("test.booked", second), ("journal.booked", first), ("journal.booked", third)]
    several = store.perform(ACTOR, Book(2), booking(stand, 2)).value["booked"]
    assert named(stand)[3:] == [("test.booked", None), *(("journal.booked", one) for one in several)]
    stand.publish_log()
    assert (stand.verify().exit_code, stand.broken_laws()) == (0, [])


def test_a_replay_names_nothing_and_neither_does_a_refusal(sqlite_stand: Stand) -> None:
    stand, store = sqlite_stand, sqlite_stand.market.store
    store.perform(ACTOR, Book(2), booking(stand, 2), key="once")
    before = named(stand)
    assert store.perform(ACTOR, Book(2), booking(stand, 2), key="once").replayed
    assert named(stand) == before

    def refused(tx: Tx) -> dict[str, Any]:
        booking(stand, 2)(tx)
        raise RequestInvalid("not like this")

    with pytest.raises(RequestInvalid):
        store.perform(ACTOR, Book(3), refused)
    assert named(stand)[len(before) :] == [("test.refused", None)]
    assert stand.broken_laws() == []


def test_naming_a_journal_reads_nothing(stand: Stand) -> None:
    store, counts = stand.market.store, []
    store.perform(ACTOR, Book(1), booking(stand, 1, told=0))
    for told in (0, None):
        with counted(stand) as statements:
            store.perform(ACTOR, Book(1), booking(stand, 1, told=told))
        counts.append(len([one for one in statements if "audit" in one]))
        assert not [one for one in statements if one.startswith("SELECT") and "FROM transfer" in one]
    assert counts[0] == counts[1]


@contextlib.contextmanager
def counted(stand: Stand) -> Iterator[list[str]]:
    """The statements that are run meanwhile."""
    statements: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(stand.market.store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(stand.market.store.engine, "before_cursor_execute", note)
