"""A connection that ends in the middle of a commit: what was done stays done, and is done once."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import OperationalError

from exchange import migrate, quarantine
from exchange.audit import log
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import RequestInvalid
from exchange.identity import Actor, new_id
from exchange.store import Store, Tx

pytestmark = pytest.mark.postgres

ACTOR = Actor(ref="tok_test", org="org_test", name="test", role="provider")
_COMMIT = b"COMMIT\x00"


@dataclass(frozen=True)
class WriteNote:
    """A command for tests: it inserts one row."""

    kind: ClassVar[str] = "note.written"
    refused: ClassVar[str] = "note.refused"

    def entry(self) -> Entry:
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="note"))


class Line:
    """A way to the server that is cut once: ``before`` a commit arrives, or ``after`` it did, unanswered."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self.cut = ""
        self.away = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self.away:
                    near.close()
                    continue
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._server) as far:
            back = threading.Thread(target=self._answer, args=(near, far))
            back.start()
            with contextlib.suppress(OSError):
                while read := near.recv(65536):
                    cut, self.cut = (self.cut, "") if _COMMIT in read else ("", self.cut)
                    if cut == "after":
                        near.shutdown(socket.SHUT_RDWR)
                    if cut != "before":
                        far.sendall(read)
                    if cut:
                        break
            for end in (near, far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_WR)
            back.join()

    @staticmethod
    def _answer(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while read := far.recv(65536):
                near.sendall(read)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)  # the server hung up


@pytest.fixture
def line(postgres_url: str) -> Iterator[tuple[Line, Store]]:
    migrate.upgrade(postgres_url)
    url = make_url(postgres_url)
    assert url.host is not None
    assert url.port is not None
    through = Line((url.host, url.port))
    store = Store(url.set(host="127.0.0.1", port=through.port).render_as_string(hide_password=False))
    yield through, store
    store.dispose()
    through.close()


def write(tx: Tx) -> dict[str, Any]:
    note = new_id("upl")
    quarantine.record(tx.session, id=note, org=tx.actor.org, name="one", length=1, now=tx.now)
    return {"note": note}


def refuse(_: Tx) -> dict[str, Any]:
    raise RequestInvalid("this is refused")


def written(store: Store) -> list[str]:
    return store.read(lambda session: list(session.scalars(select(quarantine.upload.c.id))))


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("key", [None, "key-1"])
def test_a_command_is_done_once(line: tuple[Line, Store], cut: str, key: str | None) -> None:
    through, store = line
    store.read(lambda session: session.execute(text("SELECT 1")))
    through.cut = cut
    outcome = store.perform(ACTOR, WriteNote(), write, key=key)
    assert through.cut == "", "the line was never cut"
    assert written(store) == [outcome.value["note"]]
    assert store.read(log.size) == 1
    assert not outcome.replayed, "it is told as done by another"


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_refusal_is_logged_once(line: tuple[Line, Store], cut: str) -> None:
    through, store = line
    through.cut = cut
    with pytest.raises(RequestInvalid):
        store.perform(ACTOR, WriteNote(), refuse)
    assert through.cut == "", "the line was never cut"
    assert store.read(log.size) == 1


def test_work_that_would_be_lost_waits_for_the_database(line: tuple[Line, Store]) -> None:
    through, store = line
    through.away = True
    with pytest.raises(OperationalError):
        store.perform(ACTOR, WriteNote(), write)
    back = threading.Timer(2.0, setattr, (through, "away", False))
    back.start()
    with store.patient(60.0):
        outcome = store.perform(ACTOR, WriteNote(), write)
    back.join()
    assert written(store) == [outcome.value["note"]]


def test_the_server_ends_who_vanishes_inside_a_transaction(line: tuple[Line, Store]) -> None:
    _, store = line
    look: Callable[[Any], Any] = lambda session: session.scalar(  # noqa: E731
        text("SHOW idle_in_transaction_session_timeout")
    )
    assert store.read(look) == "1min"


def test_a_connection_that_died_idle_is_replaced(line: tuple[Line, Store], postgres_url: str) -> None:
    _, store = line
    store.perform(ACTOR, WriteNote(), write)
    mine = "pid <> pg_backend_pid() AND datname = current_database()"
    other = Store(postgres_url, clock=lambda: datetime.now(UTC))
    look: Callable[[Any], Any] = lambda session: session.execute(  # noqa: E731
        text(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {mine}")
    ).scalar_one()
    assert other.read(look) >= 1
    other.dispose()
    store.perform(ACTOR, WriteNote(), write)
    assert len(written(store)) == 2
