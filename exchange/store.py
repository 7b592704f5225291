"""The one way to change state: one command, one idempotency key, one transaction, one audit entry, and one
more for each further entry of the ledger that it books.

SQLite takes ``BEGIN IMMEDIATE``; PostgreSQL takes one advisory lock for the length of a writing transaction,
which gives the same single-writer order (docs/decisions/0003-one-writer.md). Reading transactions never wait,
see one snapshot and cannot write.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import itertools
import json
import random
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from sqlalchemy import (
    Column,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from catalog import CatalogError, listings
from exchange import bookings, database
from exchange.audit import AuditError
from exchange.audit.entry import ActorGroup, Entry, LicenceGroup, ObjectGroup, ResultGroup, SourceGroup
from exchange.audit.log import append, find, touch
from exchange.errors import COME_AGAIN, InsideTransaction, KeyReused, MarketError
from exchange.identity import NOBODY, Actor, new_id
from privacy import PrivacyError
from settlement import SettlementError, licences
from settlement.errors import LicenceRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Select


T = TypeVar("T")

metadata = MetaData()

idempotency = Table(
    "idempotency",
    metadata,
    Column("actor_org", String(40), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("outcome", Text, nullable=False),
    Column("entry_id", String(40), nullable=False),
    Column("recorded_at", String(32), nullable=False),
)

_REMEMBER = insert(idempotency)

# What a person can be told: everything else is a defect and is answered as one.
REFUSALS = (MarketError, SettlementError, CatalogError, PrivacyError, AuditError)

_ATTEMPTS = 6
_COMING = {"57P01", "57P02", "57P03"}  # the server is shut down, or starts
_OURS = re.compile(
    r"[a-z]{2,4}_[0-9a-f]{24}|[a-z]{1,20}(\.[a-z_]{1,40})?"
)  # ids, and names of doors in the code
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
# Any constant: the one advisory lock of this application.
_LOCK = select(func.pg_advisory_xact_lock(7306001))
_LOCK_FOLLOWED = _LOCK.add_columns(func.set_config("synchronous_commit", "off", True))
_LOOK_AGAIN_S = 0.25
_TURN_S = 1.0  # far above what a command takes: who waits longer waits for the server's lock
_patient_until: contextvars.ContextVar[float] = contextvars.ContextVar("patient_until", default=0.0)
_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_transaction", default=False)


class Command(Protocol):
    """A frozen dataclass named as an imperative. ``kind`` and ``refused`` are its audit kinds."""

    kind: ClassVar[str]
    refused: ClassVar[str]

    def entry(self) -> Entry:
        """What is known before the work: the object and, for queries, digests. The store adds the rest."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a command came to: its JSON value, its audit entry, and whether it was a replay."""

    value: dict[str, Any]
    entry_id: str
    replayed: bool


@dataclass
class Tx:
    """What ``work`` may touch: the open session, the one clock reading, and the entry to be written.

    ``further`` are entries of other facts of the same command: an approval does what it allows.
    """

    session: Session
    now: datetime
    actor: Actor
    entry: Entry
    further: list[Entry] = field(default_factory=list)

    def record(self, **groups: Any) -> None:
        """Add facts to the audit entry of this transaction."""
        self.entry = dataclasses.replace(self.entry, **groups)

    def also(self, kind: str, **groups: Any) -> str:
        """Add the entry of another fact of this transaction; returns its id."""
        entry_id = new_id("evt")
        self.further.append(Entry(id=entry_id, kind=kind, outcome="done", **groups))
        return entry_id


def digest_of(command: Command) -> str:
    """SHA-256 over the command's type and fields; equal bodies have equal digests."""
    body = json.dumps(dataclasses.asdict(command), sort_keys=True, default=str)  # type: ignore[call-overload]
    return hashlib.sha256(f"{type(command).__name__}\n{body}".encode()).hexdigest()


def is_logged(refusal: Exception) -> bool:
    """Whether a refusal has its entry in the log already."""
    return getattr(refusal, "audit_entry", None) is not None


def assert_outside_transaction() -> None:
    """Raise :class:`InsideTransaction` where an adapter is called with a transaction open."""
    if _inside.get():
        raise InsideTransaction("network, files and engines are not used inside a transaction")


class _Turns:
    """A lock that is handed on in the order of asking, among the threads of one process.

    SQLite's own waiters poll, and some of them starve. PostgreSQL's wait well, each in a server process that
    has to be woken: those of one process wait here instead, and for so long as ``patience_s`` alone, so that
    a connection that hangs holds up no other. Whoever is interrupted while waiting leaves the queue, and
    hands on a turn that was given meanwhile.
    """

    def __init__(self, patience_s: float | None = None) -> None:
        self._patience_s = -1 if patience_s is None else patience_s
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._turn: threading.Lock | None = None
        self._mine = threading.local()

    def __enter__(self) -> None:
        self._mine.lock = mine = threading.Lock()
        mine.acquire()
        try:
            with self._lock:
                if self._turn is None:
                    self._turn = mine
                    return
                self._waiting.append(mine)
            if not mine.acquire(timeout=self._patience_s):  # released by whoever had the turn before
                self._leave(mine)
        except BaseException:  # a signal's handler raised, such as the one that ends a process
            self._leave(mine)
            raise

    def __exit__(self, *_: object) -> None:
        self._leave(self._mine.lock)

    def _leave(self, mine: threading.Lock) -> None:
        with self._lock:
            if self._turn is mine:
                self._hand_on()
            elif mine in self._waiting:
                self._waiting.remove(mine)

    def _hand_on(self) -> None:
        self._turn = self._waiting.popleft() if self._waiting else None
        if self._turn is not None:
            self._turn.release()


class Store:
    """The database. ``perform`` changes what is a fact, ``jot`` what is none; ``read`` looks at both."""

    def __init__(self, url: str, *, clock: Callable[[], datetime] | None = None) -> None:
        """Open ``url`` (SQLite or PostgreSQL). ``clock`` returns aware UTC datetimes."""
        self.clock = clock or (lambda: datetime.now(UTC))
        self.on_refused: Callable[[Actor], None] = lambda _actor: None  # told of each refusal in the log
        self.commits: Callable[[Session, Entry], Entry] = lambda _session, entry: entry  # to whom it concerns
        self.info: dict[str, Any] = {}  # what each session carries (``Session.info``)
        self.engine = database.connect(url)
        self._turns = _Turns(None if self._sqlite else _TURN_S)

    def perform(
        self,
        actor: Actor,
        command: Command,
        work: Callable[[Tx], dict[str, Any]],
        *,
        key: str | None = None,
        followed: bool = False,
    ) -> Outcome:
        """Run ``work`` once for (organisation, key) and write its audit entry in the same transaction, with
        those that name what else it booked.

        ``work`` may run again after a serialization failure or a lost connection, so it must be repeatable.
        The same key with the same command returns the stored outcome; with another command it raises
        :class:`KeyReused`. A refusal rolls back, is logged in a transaction of its own and raised again.

        Args:
            followed: another command of ours follows before anybody is told, and nothing is lost if the
                machine stops in between and takes this one back: it is on disk with the next one that is not
                followed, at the latest. The end of the process alone takes nothing back.
        """
        entry_id, keyed = new_id("evt"), None if key is None else (key, digest_of(command))
        made: list[Outcome] = []

        def attempt(_: int) -> Outcome:
            with self._transaction(writing=True, followed=followed) as session:
                # A connection may be lost after its commit: the next try finds the key, or the entry.
                stored = _stored(session, actor, *keyed) if keyed else None
                if stored is not None:
                    return dataclasses.replace(stored, replayed=stored.entry_id != entry_id)
                if made and find(session, entry_id) is not None:
                    return made[-1]
                made.append(self._once(session, actor, command, work, entry_id, keyed))
                return made[-1]

        with self.refusing(actor, command):
            return self._retrying(attempt)

    def replay(self, actor: Actor, command: Command, key: str | None) -> Outcome | None:
        """The stored outcome of a command that was performed under this key, or None.

        Raises :class:`KeyReused`, logged, when the key was used with another command.
        """
        if key is None:
            return None
        with self.refusing(actor, command):
            return self.read(lambda session: _stored(session, actor, key, digest_of(command)))

    @contextlib.contextmanager
    def refusing(self, actor: Actor, command: Command) -> Iterator[None]:
        """Log a refusal that is raised inside, then let it pass: for checks before a transaction begins.

        That nobody in particular is to come again is not logged: it is asked again and again, at no cost.
        """
        try:
            yield
        except REFUSALS as refusal:
            come_again = actor.ref == NOBODY.ref and isinstance(refusal, COME_AGAIN)
            if not is_logged(refusal) and not come_again:
                self.refuse(actor, command, refusal)
            raise

    def refuse(self, actor: Actor, command: Command, refusal: Exception) -> str:
        """Log that ``command`` was refused, with the stable code and nothing else; returns the entry's id.

        A refusal is logged once, however many doors it passes on its way out: see :func:`is_logged`.
        """
        code = str(getattr(refusal, "code", "refused"))
        entry = dataclasses.replace(
            command.entry(), id=new_id("evt"), kind=command.refused, outcome="refused", code=code
        )

        def write(number: int) -> str:
            with self._transaction(writing=True) as session:
                if number and find(session, str(entry.id)) is not None:
                    return str(entry.id)  # the connection was lost after the commit
                now = self.clock()
                known = dataclasses.replace(entry, object=_known_object(session, entry.object))
                known = _judged(session, refusal, known, actor, now)
                return append(session, self.commits(session, _signed(known, actor)), now).id

        logged = self._retrying(write)
        refusal.audit_entry = logged  # type: ignore[attr-defined]
        self.on_refused(actor)
        return logged

    def jot(self, write: Callable[[Session, datetime], T]) -> T:
        """Run ``write`` in a writing transaction without an entry, for what is no fact of the market: tries
        counted, challenges, when a session was last used. ``write`` may run again, as in :meth:`perform`.
        """

        def once(_: int) -> T:
            with self._transaction(writing=True) as session:
                return write(session, self.clock())

        return self._retrying(once)

    def sync(self) -> None:
        """Have every committed entry on disk, also those of commands that were to be followed: before the log
        is published."""

        def write(_: int) -> None:
            with self._transaction(writing=True) as session:
                touch(session)

        self._retrying(write)

    def read(self, look: Callable[[Session], T]) -> T:
        """Run ``look`` in a reading transaction: one snapshot, and the database refuses to write.

        ``look`` may run again after a connection was lost.
        """

        def attempt(_: int) -> T:
            with self._transaction(writing=False) as session:
                return look(session)

        return self._retrying(attempt)

    def scrub(self) -> bool:
        """Write what was committed into the database's file and empty SQLite's log of writes, which holds
        copies of what was deleted since (what is deleted in the file is overwritten there).

        Returns whether no copy is left: False where a reader stood in the way, which the next round tries
        again, and on PostgreSQL, whose pages, log and backups keep deleted rows for a while.
        """
        assert_outside_transaction()
        return self._sqlite and database.empty_log(self.engine)

    @property
    def _sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _once(
        self,
        session: Session,
        actor: Actor,
        command: Command,
        work: Callable[[Tx], dict[str, Any]],
        entry_id: str,
        keyed: tuple[str, str] | None,
    ) -> Outcome:
        known = dataclasses.replace(command.entry(), id=entry_id, kind=command.kind, outcome="done")
        tx = Tx(session, self.clock(), actor, known)
        value = work(tx)
        first, booked = bookings.named(session, tx.entry)
        appended = append(session, self.commits(session, _signed(first, actor)), tx.now)
        for entry in (*booked, *tx.further):
            append(session, self.commits(session, _signed(entry, actor)), tx.now)
        outcome = json.dumps(value, sort_keys=True)
        if keyed:
            key, digest = keyed
            session.connection().execute(
                _REMEMBER,
                {
                    "actor_org": actor.org,
                    "key": key,
                    "digest": digest,
                    "outcome": outcome,
                    "entry_id": appended.id,
                    "recorded_at": tx.now.isoformat(timespec="microseconds"),
                },
            )
        return Outcome(json.loads(outcome), appended.id, replayed=False)

    @contextlib.contextmanager
    def _transaction(self, *, writing: bool, followed: bool = False) -> Iterator[Session]:
        if _inside.get():
            raise InsideTransaction("a transaction is open already: pass its session on")
        options = {"writing": writing, "followed": followed} | ({} if writing or self._sqlite else _SNAPSHOT)
        turn = self._turns if writing else contextlib.nullcontext()
        with (
            turn,
            self.engine.connect().execution_options(**options) as connection,
            Session(connection, info=self.info) as session,
        ):
            mark = _inside.set(True)
            try:
                with session.begin():
                    if writing and not self._sqlite:
                        session.connection().execute(_LOCK_FOLLOWED if followed else _LOCK)
                    yield session
            finally:
                _inside.reset(mark)

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """In this thread, wait for so long for a database that is away: for work that would be lost."""
        mark = _patient_until.set(time.monotonic() + seconds)
        try:
            yield
        finally:
            _patient_until.reset(mark)

    def _retrying(self, attempt: Callable[[int], T]) -> T:
        for number in itertools.count():
            try:
                return attempt(number)
            except (DBAPIError, NoConnection) as error:
                wait_s = random.uniform(0.005, 0.02) * 2 ** min(number, _ATTEMPTS)  # noqa: S311
                if database.is_unavailable(error) and time.monotonic() < _patient_until.get():
                    wait_s = _LOOK_AGAIN_S
                elif number >= _ATTEMPTS - 1 or not _passing(error):
                    raise
                time.sleep(wait_s)
        raise AssertionError("unreachable")


def _stored(session: Session, actor: Actor, key: str, digest: str) -> Outcome | None:
    row = session.execute(
        select(idempotency).where(idempotency.c.actor_org == actor.org, idempotency.c.key == key)
    ).one_or_none()
    if row is None:
        return None
    if row.digest != digest:
        raise KeyReused("this idempotency key was used with another request")
    return Outcome(json.loads(row.outcome), row.entry_id, replayed=True)


def oldest_key(session: Session, *, but: Select[tuple[str]]) -> str | None:
    """When the oldest idempotency key was used, ``but`` those of some organisations; None without one."""
    others = select(func.min(idempotency.c.recorded_at)).where(idempotency.c.actor_org.not_in(but))
    found: str | None = session.execute(others).scalar_one()
    return found


def forget_keys(session: Session, before: datetime, *, but: Select[tuple[str]], limit: int) -> int:
    """Forget at most so many idempotency keys that were used before a moment, ``but`` those of some
    organisations; returns how many.
    """
    primary = (idempotency.c.actor_org, idempotency.c.key)
    others = idempotency.c.actor_org.not_in(but)
    old = select(*primary).where(
        others, idempotency.c.recorded_at < before.isoformat(timespec="microseconds")
    )
    gone = session.execute(delete(idempotency).where(tuple_(*primary).in_(old.limit(limit))))
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _known_object(session: Session, told: ObjectGroup | None) -> ObjectGroup | None:
    """What a refused command was about, without any text of the caller's choice: the log is public for ever.

    Ids of our form stay, a dataset stays if there is one, everything else goes.
    """
    if told is None:
        return None
    dataset = told.get("dataset")
    listed = listings.slug_of(session, dataset) if dataset else None
    return ObjectGroup(
        type=told.get("type"), id=our_id(told.get("id")), version=our_id(told.get("version")), dataset=listed
    )


def _judged(session: Session, refusal: Exception, entry: Entry, actor: Actor, now: datetime) -> Entry:
    """The entry with the licence that refused, and the digest of the clause by which it did: that clause is
    kept beside the log.
    """
    if not isinstance(refusal, LicenceRefused) or not refusal.licence_id or entry.id is None:
        return entry
    digest, policy = licences.record_refusal(session, refusal, entry_id=entry.id, org=actor.org, now=now)
    judged = LicenceGroup(acceptance_id=refusal.acceptance_id, odrl_sha256=policy)
    return dataclasses.replace(entry, licence=judged, result=ResultGroup(sha256=digest))


def our_id(text: str | None) -> str | None:
    """The text if it is an id of ours, or the name of a door in our code: what may enter the log."""
    return text if text and _OURS.fullmatch(text) else None


def _signed(entry: Entry, actor: Actor) -> Entry:
    return dataclasses.replace(
        entry,
        actor=ActorGroup(ref=actor.ref, org=actor.org, role=str(actor.role), auth=actor.auth),
        source=SourceGroup(ip_truncated=actor.ip_truncated or None, request_id=actor.request_id or None),
    )


def _passing(error: Exception) -> bool:
    """Whether another try may succeed: after a serialization failure, a deadlock, a lost connection."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", "")
    lost = error.connection_invalidated or state in _COMING
    return lost or state in {"40001", "40P01"} or "database is locked" in str(error.orig)
