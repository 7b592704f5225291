"""One command, one key, one transaction, one entry - on both databases."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, ClassVar

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from exchange import migrate, quarantine
from exchange.audit import AuditError
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import InsideTransaction, KeyReused, RequestInvalid
from exchange.identity import SYSTEM, Actor, new_id
from exchange.schema import append_only, metadatas
from exchange.store import Outcome, Store, Tx
from tests.market.stand import Stand

ACTOR = Actor(ref="tok_test", org="org_test", name="test", role="provider")


@dataclass(frozen=True)
class WriteNote:
    """A command for tests: it inserts one row."""

    words: str
    kind: ClassVar[str] = "note.written"
    refused: ClassVar[str] = "note.refused"

    def entry(self) -> Entry:
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="note"))


@pytest.fixture
def store(shared_stand: Stand) -> Store:
    return shared_stand.market.store


def write(tx: Tx, words: str = "one") -> dict[str, Any]:
    note = new_id("upl")
    quarantine.record(tx.session, id=note, org=tx.actor.org, name=words, length=1, now=tx.now)
    tx.record(object=ObjectGroup(type="note", id=note))
    return {"note": note}


def notes(store: Store) -> set[str]:
    table = quarantine.upload
    mine = select(table.c.id).where(table.c.org == ACTOR.org)
    return store.read(lambda session: set(session.scalars(mine)))


def seen(stand: Stand, actor: Actor = ACTOR) -> list[dict[str, Any]]:
    """The entries of an organisation, as (kind, outcome, code, object)."""
    return [r.document for r in stand.entries() if (r.document["actor"] or {}).get("org") == actor.org]


def test_a_command_leaves_its_fact_and_one_entry(shared_stand: Stand, store: Store) -> None:
    before = len(seen(shared_stand))
    done = store.perform(ACTOR, WriteNote("one"), write)
    entries = seen(shared_stand)[before:]
    assert done.value["note"] in notes(store)
    assert [(e["kind"], e["outcome"], e["id"]) for e in entries] == [("note.written", "done", done.entry_id)]
    assert entries[0]["object"]["id"] == done.value["note"]
    assert (entries[0]["actor"]["ref"], entries[0]["actor"]["role"]) == ("tok_test", "provider")


def test_the_same_key_replays_the_outcome_and_does_nothing(shared_stand: Stand, store: Store) -> None:
    first = store.perform(ACTOR, WriteNote("twice"), write, key="twice")
    before = (len(seen(shared_stand)), notes(store))
    again = store.perform(ACTOR, WriteNote("twice"), write, key="twice")
    assert (len(seen(shared_stand)), notes(store)) == before
    assert again == Outcome(first.value, first.entry_id, replayed=True)
    assert store.replay(ACTOR, WriteNote("twice"), "twice") == again
    assert store.replay(ACTOR, WriteNote("twice"), "unused") is None
    assert store.replay(ACTOR, WriteNote("twice"), None) is None


def test_only_a_followed_command_leaves_the_disk_to_the_next(store: Store) -> None:
    sqlite = store.engine.dialect.name == "sqlite"
    asked = text("PRAGMA synchronous" if sqlite else "SHOW synchronous_commit")
    told: list[Any] = []

    def work(tx: Tx) -> dict[str, Any]:
        told.append(tx.session.execute(asked).scalar_one())
        return {}

    for followed in (False, True, False):
        store.perform(ACTOR, WriteNote("kept"), work, followed=followed)
    assert told == ([2, 1, 2] if sqlite else ["on", "off", "on"])


def test_a_sync_commits_something_and_changes_no_entry(shared_stand: Stand, store: Store) -> None:
    store.perform(ACTOR, WriteNote("followed"), write, followed=True)
    entries = shared_stand.entries()
    sqlite = store.engine.dialect.name == "sqlite"
    asked = text("PRAGMA data_version" if sqlite else "SELECT xmin::text FROM audit_sequence")
    with store.engine.connect() as watching:
        before = watching.execute(asked).scalar_one()
        watching.rollback()
        store.sync()
        assert watching.execute(asked).scalar_one() != before
    assert shared_stand.entries() == entries


def test_a_key_belongs_to_its_organisation(store: Store) -> None:
    other = Actor(ref="tok_b", org="org_b", name="b", role="buyer")
    first = store.perform(ACTOR, WriteNote("mine"), write, key="same word")
    second = store.perform(other, WriteNote("mine"), write, key="same word")
    assert not second.replayed
    assert second.value != first.value


@pytest.mark.parametrize("door", ["perform", "replay"])
def test_a_key_with_another_body_is_refused_and_logged(shared_stand: Stand, store: Store, door: str) -> None:
    key = f"reused-{door}"
    store.perform(ACTOR, WriteNote("first"), write, key=key)
    before = (len(seen(shared_stand)), notes(store))
    doors: dict[str, Callable[[], object]] = {
        "perform": lambda: store.perform(ACTOR, WriteNote("second"), write, key=key),
        "replay": lambda: store.replay(ACTOR, WriteNote("second"), key),
    }
    with pytest.raises(KeyReused):
        doors[door]()
    assert notes(store) == before[1]
    entries = seen(shared_stand)[before[0] :]
    assert [(e["kind"], e["outcome"], e["code"]) for e in entries] == [
        ("note.refused", "refused", "key_reused")
    ]


def test_a_refusal_rolls_back_and_leaves_only_its_entry(shared_stand: Stand, store: Store) -> None:
    def refuse(tx: Tx) -> dict[str, Any]:
        write(tx)
        raise RequestInvalid("not today")

    before = (len(seen(shared_stand)), notes(store))
    with pytest.raises(RequestInvalid):
        store.perform(ACTOR, WriteNote("no"), refuse, key="refused")
    assert notes(store) == before[1]
    entries = seen(shared_stand)[before[0] :]
    assert [(e["kind"], e["code"]) for e in entries] == [("note.refused", "request_invalid")]
    assert not store.perform(ACTOR, WriteNote("yes"), write, key="refused").replayed, (
        "the key was not used up"
    )


def test_a_refusal_passing_two_doors_is_logged_once(shared_stand: Stand, store: Store) -> None:
    before = len(seen(shared_stand))
    with (
        pytest.raises(RequestInvalid),
        store.refusing(ACTOR, WriteNote("outer")),
        store.refusing(ACTOR, WriteNote("inner")),
    ):
        raise RequestInvalid("once")
    assert len(seen(shared_stand)) == before + 1


def test_a_defect_rolls_back_and_says_nothing(shared_stand: Stand, store: Store) -> None:
    def fail(tx: Tx) -> dict[str, Any]:
        write(tx)
        raise ZeroDivisionError

    before = (len(seen(shared_stand)), notes(store))
    with pytest.raises(ZeroDivisionError):
        store.perform(ACTOR, WriteNote("defect"), fail)
    assert (len(seen(shared_stand)), notes(store)) == before


def test_a_refusal_that_cannot_be_logged_is_not_answered_as_if_it_were(store: Store) -> None:
    @dataclass(frozen=True)
    class Unloggable(WriteNote):
        refused: ClassVar[str] = "x" * 600

    with pytest.raises(AuditError) as caught, store.refusing(ACTOR, Unloggable("a")):
        raise RequestInvalid("the reason")
    assert isinstance(caught.value.__context__, RequestInvalid)


def test_adapters_fail_loudly_inside_a_transaction(shared_stand: Stand, store: Store) -> None:
    market = shared_stand.market
    calls: list[Any] = [
        lambda: market.objects.put(shared_stand.home / "keys.env"),
        lambda: market.objects.read("0" * 64),
        market.engine.sandbox,
        lambda: store.read(notes),  # type: ignore[arg-type]
        lambda: store.perform(ACTOR, WriteNote("nested"), write),
    ]
    before = notes(store)
    for call in calls:
        with pytest.raises(InsideTransaction):
            store.perform(ACTOR, WriteNote("outer"), lambda tx, call=call: call())  # type: ignore[misc]
        with pytest.raises(InsideTransaction):
            store.read(lambda session, call=call: call())  # type: ignore[misc]
    assert notes(store) == before
    market.engine.sandbox()  # and outside of one they work


def test_work_runs_again_after_a_serialization_failure(shared_stand: Stand, store: Store) -> None:
    tries: list[int] = []

    class Passing(Exception):
        sqlstate = "40001"

    def work(tx: Tx) -> dict[str, Any]:
        tries.append(len(tries))
        made = write(tx)
        if len(tries) < 3:
            raise OperationalError("COMMIT", {}, Passing())
        return made

    before = (len(seen(shared_stand)), len(notes(store)))
    done = store.perform(ACTOR, WriteNote("again"), work, key="again")
    assert tries == [0, 1, 2]
    assert (len(seen(shared_stand)), len(notes(store))) == (before[0] + 1, before[1] + 1)
    assert done.value["note"] in notes(store)


def test_a_lasting_failure_is_not_tried_again(store: Store) -> None:
    tries: list[int] = []

    def work(tx: Tx) -> dict[str, Any]:
        tries.append(1)
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("no such table: x"))

    with pytest.raises(OperationalError):
        store.perform(ACTOR, WriteNote("lasting"), work)
    assert len(tries) == 1


def test_writers_at_once_come_one_after_the_other(shared_stand: Stand, store: Store) -> None:
    """Eight threads, four commands each: no entry is lost, none repeated, the sequence has no gap."""
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def many(number: int) -> None:
        start.wait()
        try:
            for _ in range(4):
                store.perform(ACTOR, WriteNote(str(number)), write)
        except BaseException as error:
            failures.append(error)

    before = len(seen(shared_stand))
    threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(seen(shared_stand)) == before + 32
    assert [r.seq for r in shared_stand.entries()] == list(range(len(shared_stand.entries())))


def test_one_key_at_once_is_performed_once(shared_stand: Stand, store: Store) -> None:
    start, outcomes = threading.Barrier(6), []

    def one() -> None:
        start.wait()
        outcomes.append(store.perform(ACTOR, WriteNote("race"), write, key="race"))

    before = len(seen(shared_stand))
    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({outcome.value["note"] for outcome in outcomes}) == 1
    assert sorted(outcome.replayed for outcome in outcomes) == [False] + 5 * [True]
    assert len(seen(shared_stand)) == before + 1


def test_reading_cannot_write(shared_stand: Stand, store: Store) -> None:
    row = {"id": new_id("upl"), "org": "o", "name": "n", "length": 1, "created_at": "2026"}
    with pytest.raises(DBAPIError):
        store.read(lambda session: session.execute(insert(quarantine.upload).values(row)))
    assert store.perform(ACTOR, WriteNote("after"), write).value["note"] in notes(store)


def test_reading_sees_one_moment(store: Store) -> None:
    """What another writer commits meanwhile is not seen by a look that has begun."""

    def look(session: Any) -> tuple[int, int]:
        count = select(quarantine.upload.c.id)
        first = len(session.execute(count).all())
        writer = threading.Thread(target=store.perform, args=(ACTOR, WriteNote("meanwhile"), write))
        writer.start()
        writer.join()
        return first, len(session.execute(count).all())

    first, second = store.read(look)
    assert first == second
    assert store.read(lambda session: len(session.execute(select(quarantine.upload.c.id)).all())) == first + 1


@pytest.mark.parametrize("name", append_only)
def test_append_only_tables_refuse_change(shared_stand: Stand, store: Store, name: str) -> None:
    table = next(m.tables[name] for m in metadatas if name in m.tables)
    column = next(iter(table.c))
    missing = {  # the prepared market has none
        "licence_withdrawal": {
            "licence_id": _first(store, "licence", "id"),
            "actor": "a",
            "reason": "r",
            "withdrawn_at": "z",
        },
        "licence_approval": {
            "licence_id": _first(store, "licence", "id"),
            "actor": "a",
            "org": "o",
            "approved_at": "z",
        },
        "licence_refusal": {
            "entry_id": "evt_1",
            "licence_id": "lic_1",
            "code": "c",
            "clause": "c",
            "digest": "d",
            "refused_at": "z",
        },
        "acceptance_signature": {
            "acceptance_id": _first(store, "acceptance", "id"),
            "algorithm": "a",
            "public_key": "k",
            "signature": "s",
            "actor": "a",
            "signed_at": "z",
        },
        "contribution_profile": {
            "version": _first(store, "dataset_version", "id"),
            "document": "{}",
            "sha256": "d",
            "released_at": "z",
        },
        "invoice": INVOICE,
        "invoice_line": {"side": "supply"},
    }
    empty = store.read(lambda session: session.execute(select(table).limit(1)).first()) is None
    if empty:
        rows = _rows(store, table, missing.get(name))
        with pytest.raises(ZeroDivisionError):
            store.perform(SYSTEM, WriteNote("w"), lambda tx: _refused_change(tx, table, column, rows))
        return
    with pytest.raises(ZeroDivisionError):
        store.perform(SYSTEM, WriteNote("w"), lambda tx: _refused_change(tx, table, column, []))


INVOICE = {
    **dict.fromkeys(("id", "issuer", "number", "org", "issued_at", "document", "sha256"), "x"),
    **dict.fromkeys(("sequence", "net_minor", "gross_minor"), 1),
    "kind": "invoice",
    "year": 2026,
    "currency": "USD",
    "tax_minor": 0,
}
PLAIN: dict[type, Any] = {bool: False, int: 1, bytes: b"x", str: "x"}
PARENTS = {"invoice": INVOICE, "top_up": {"state": "open"}}


def _rows(store: Store, table: Any, told: Any) -> list[Any]:
    """A row of short values, after a row of each empty table that it must name."""
    row: dict[str, Any] = dict(told or {})
    before: list[Any] = []
    for column in table.c:
        if column.name in row or column.nullable or column.server_default is not None:
            continue
        row[column.name] = PLAIN[column.type.python_type]
        for key in column.foreign_keys:
            found = _first(store, key.column.table.name, key.column.name)
            if found is None:
                before += _rows(store, key.column.table, PARENTS.get(key.column.table.name))
            row[column.name] = "x" if found is None else found
    return [*before, insert(table).values(row)]


def _first(store: Store, table: str, column: str) -> Any:
    statement = text(f"SELECT {column} FROM {table} LIMIT 1")
    return store.read(lambda session: session.execute(statement).scalar_one_or_none())


def _refused_change(tx: Tx, table: Any, column: Any, rows: list[Any]) -> dict[str, Any]:
    """Each way of changing the table's rows fails; then everything is rolled back."""
    for row in rows:
        tx.session.execute(row)
    changes = [update(table).values({column.name: column}), delete(table)]
    if tx.session.get_bind().dialect.name == "postgresql":
        changes.append(text(f"TRUNCATE {table.name} CASCADE"))  # type: ignore[arg-type]
    for change in changes:
        with pytest.raises(DBAPIError, match="append-only"), tx.session.begin_nested():
            tx.session.execute(change)
    raise ZeroDivisionError


def test_writers_of_sqlite_have_their_turn_in_the_order_of_asking(sqlite_stand: Stand) -> None:
    """SQLite's own waiters poll, so that one of many may wait for seconds."""
    store = sqlite_stand.market.store
    began, go_on, order = threading.Event(), threading.Event(), []

    def hold(number: int) -> dict[str, Any]:
        order.append(number)
        if number == 0:
            began.set()
            assert go_on.wait(30)
        return {}

    def ask(number: int) -> None:
        store.perform(SYSTEM, WriteNote(f"turn-{number}"), lambda tx: hold(number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    threads[0].start()
    assert began.wait(30)
    for waiting, thread in enumerate(threads[1:], 1):
        thread.start()
        until = time.monotonic() + 30
        while len(store._turns._waiting) < waiting:
            assert time.monotonic() < until
            time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4, 5]


@pytest.mark.postgres
def test_who_waits_long_behind_a_connection_that_hangs_goes_to_the_server(postgres_url: str) -> None:
    """Its lock decides then, and here nobody holds that."""
    migrate.upgrade(postgres_url)
    store = Store(postgres_url)
    hanging, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        with store._turns:
            hanging.set()
            go_on.wait(30)

    holder = threading.Thread(target=hang)
    holder.start()
    try:
        assert hanging.wait(30)
        store.jot(lambda session, now: session.execute(text("SELECT 1")))
        assert holder.is_alive()
    finally:
        go_on.set()
        holder.join(30)
        store.dispose()


@pytest.mark.parametrize("given", [False, True], ids=["waiting", "given the turn"])
def test_an_interrupted_writer_leaves_its_turn_to_the_next(sqlite_stand: Stand, given: bool) -> None:
    """A signal's handler may raise while the main thread waits, or just as it is given its turn."""
    store = sqlite_stand.market.store
    began, go_on = threading.Event(), threading.Event()

    def hold(tx: Tx) -> dict[str, Any]:
        began.set()
        assert go_on.wait(30)
        return {}

    holder = threading.Thread(target=store.perform, args=(SYSTEM, WriteNote("held"), hold))

    def interrupt(_number: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code is not type(store._turns).__enter__.__code__:
            return  # it does not wait yet: the alarm rings again
        signal.setitimer(signal.ITIMER_REAL, 0)
        if given:
            go_on.set()
            holder.join(30)
        raise SystemExit

    before = signal.signal(signal.SIGALRM, interrupt)
    holder.start()
    try:
        assert began.wait(30)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(SystemExit):
            store.perform(SYSTEM, WriteNote("interrupted"), write)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        go_on.set()
        holder.join(30)
    later = threading.Thread(target=store.perform, args=(ACTOR, WriteNote("later"), write), daemon=True)
    later.start()
    later.join(30)
    assert not later.is_alive()
    assert len(notes(store)) == 1
