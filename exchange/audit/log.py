"""The log in the database: one entry appended in the transaction of the fact that it records.

`audit_sequence` is the one counter; it is locked until the transaction ends, so committed sequence numbers
have no gaps and are visible in order. `audit_org_chain` keeps each organisation's last entry. The leaf is
the truth; the other columns of `audit_entry` repeat members of it for searching, and `check` holds them
against it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    LargeBinary,
    bindparam,
    cast,
    desc,
    func,
    intersect,
    literal,
    null,
    or_,
    select,
    tuple_,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from exchange.audit import leaf as leaves
from exchange.audit import merkle
from exchange.audit.entry import Entry, timestamp, truncated_network
from exchange.audit.errors import Malformed, PageTokenInvalid, SequenceBroken
from exchange.audit.report import ALTERED, Finding
from exchange.audit.spending import KINDS
from exchange.audit.tables import append_only, audit_entry, audit_org_chain, audit_sequence, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import BindParameter, Column, ColumnElement, Connection, Insert, Row, Select, Table
    from sqlalchemy.orm import Session

__all__ = [
    "LEAF",
    "Appended",
    "Entry",
    "Page",
    "Record",
    "append",
    "append_only",
    "audit_entry",
    "audit_org_chain",
    "audit_sequence",
    "check",
    "count",
    "entries",
    "find",
    "matching",
    "metadata",
    "row_of",
    "search",
    "size",
    "spending",
    "touch",
    "truncated_network",
]

_CHUNK = 256
_MAX_PAGE = 500
_MOST_LOOKED_AT = 5_000
_MOST_AT_ONCE = 2_000
_TOKEN = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Appended:
    """An entry in its place: sequence number, id, and the leaf with its hash."""

    seq: int
    id: str
    leaf: bytes
    leaf_hash: bytes


@dataclass(frozen=True)
class Record:
    """A stored entry. `document` is everything that the leaf says."""

    seq: int
    id: str
    leaf: bytes
    leaf_hash: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The leaf's document. Raises Malformed where the stored bytes are no leaf any more."""
        return leaves.decode(self.leaf)


@dataclass(frozen=True)
class Page:
    """Entries, newest first, and the token that continues behind them (None at the end)."""

    entries: tuple[Record, ...]
    next_token: str | None


def append(session: Session, entry: Entry, now: datetime) -> Appended:
    """Writes `entry` as the next leaf, in the caller's transaction.

    Sequence numbers begin at 0 and have no gaps: a transaction that rolls back gives its number back. On
    SQLite the caller's transaction must be a writing one (`BEGIN IMMEDIATE`); on PostgreSQL the counter's
    row is locked until commit, so this comes last in a transaction.

    Raises:
        EntryInvalid: the entry cannot be a leaf; the caller's action must not be committed.
        SequenceBroken: the table does not end where the counter says.
    """
    connection = session.connection()
    said = {
        "v": leaves.VERSION,
        "id": entry.id or f"ent_{secrets.token_hex(12)}",
        "time": timestamp(now),
        "kind": entry.kind,
        "outcome": entry.outcome,
        "code": entry.code,
        "pii_commitment": entry.pii_commitment,
        **entry.groups(),
    }
    while True:
        document = said | _place(connection, entry.org)
        leaf = leaves.encode(document)
        hashed = merkle.leaf_hash(leaf)
        if _write(connection, row_of(document, leaf, hashed)):
            return Appended(document["seq"], document["id"], leaf, hashed)
        connection.execute(_LOCKED)  # another was first, which the one writer's lock rules out: wait for it


def touch(session: Session) -> None:
    """Write the counter, and leave it as it was: a commit for the sake of the commits before it.

    SQLite writes nothing, and so syncs nothing, where a value is replaced by itself.
    """
    for step in (1, -1):
        session.execute(update(audit_sequence).values(next=audit_sequence.c.next + step))


def find(session: Session, entry_id: str) -> Record | None:
    """The entry with this id, or None."""
    row = session.execute(_RECORD.where(audit_entry.c.id == _indexed(entry_id))).one_or_none()
    return None if row is None else _record(row)


def search(
    session: Session,
    *,
    org: str | None = None,
    dataset: str | None = None,
    domain: str | None = None,
    purpose: str | None = None,
    kind: str | None = None,
    outcome: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    q: str | None = None,
    limit: int = 50,
    page_token: str | None = None,
) -> Page:
    """Entries that match every given filter, newest first.

    `since` is included, `until` is not. `q` is the id of a query, an entry, an object or a journal. `limit`
    is at most 500. Where time is all that is asked for, the order is that of time, which differs from the
    log's own where clocks do.

    Raises:
        PageTokenInvalid: `page_token` is none that a search gave.
        EntryInvalid: a time is not aware UTC.
    """
    columns = audit_entry.c
    equal = {
        "org": org,
        "dataset": dataset,
        "domain": domain,
        "purpose": purpose,
        "kind": kind,
        "outcome": outcome,
    }
    same, at = _matching(equal), _matching({"since": since, "until": until})
    by_time = q is None and bool(at) and not same
    order = [columns.time.desc(), columns.seq.desc()] if by_time else [columns.seq.desc()]
    before = None if page_token is None else _seq_of(page_token)
    limit = max(1, min(limit, _MAX_PAGE))
    about = [] if q is None else [_is_about(_indexed(q))]
    rows: Sequence[Row[*tuple[Any, ...]]]
    if not by_time and len(same + at + about) > 1 and session.connection().dialect.name == "sqlite":
        ways = [same] if q is None else [[column == _indexed(q), *same] for column in _ABOUT]
        rows = _merged(session, ways, at, before=before, most=limit + 1)
    else:
        conditions = same + at
        if before is not None:
            conditions.append(_behind(session, before, by_time=by_time))
        if q is not None:
            conditions = [columns.seq.in_(_about(_indexed(q), conditions, limit + 1))]
        rows = session.execute(_RECORD.where(*conditions).order_by(*order).limit(limit + 1)).all()
    token = str(rows[limit - 1].seq) if len(rows) > limit else None
    return Page(tuple(_record(row) for row in rows[:limit]), token)


def spending(session: Session, domain: str, *, limit: int, page_token: str | None = None) -> Page:
    """The entries that spend of a privacy domain (`spending.KINDS`), newest first, at most 500.

    A page looks at no more than `_MOST_LOOKED_AT` entries of the domain, so it may hold fewer than `limit`,
    or none, and still have a next: anybody may ask, and quotes of a domain cost nothing.

    Raises:
        PageTokenInvalid: `page_token` is none that this gave.
    """
    columns = audit_entry.c
    before = size(session) if page_token is None else _seq_of(page_token)
    newest = (
        select(columns.seq)
        .where(columns.domain == _indexed(domain), columns.seq < before)
        .order_by(columns.seq.desc())
        .limit(_MOST_LOOKED_AT)
        .subquery()
    )
    oldest, looked_at = session.execute(
        select(func.min(newest.c.seq), func.count()).select_from(newest)
    ).one()
    if oldest is None:
        return Page((), None)
    found = _RECORD.where(
        columns.domain == _indexed(domain),
        columns.seq.between(oldest, before - 1),
        columns.kind.in_(KINDS),
        columns.rho_nano > 0,
    )
    limit = max(1, min(limit, _MAX_PAGE))
    rows = session.execute(found.order_by(columns.seq.desc()).limit(limit + 1)).all()
    if len(rows) > limit:
        token: str | None = str(rows[limit - 1].seq)
    else:
        token = str(oldest) if looked_at == _MOST_LOOKED_AT else None
    return Page(tuple(_record(row) for row in rows[:limit]), token)


def matching(session: Session, start: int, stop: int, *, limit: int, **filters: Any) -> list[Record]:
    """At most `limit` entries with `start` <= seq < `stop` that match the filters of `search`, in order."""
    seq, wanted = audit_entry.c.seq, _matching(filters, in_order=True)
    query = _RECORD.where(*wanted, seq >= start, seq < stop).order_by(seq).limit(limit)
    return [_record(row) for row in session.execute(query)]


def count(session: Session, stop: int, **filters: Any) -> int:
    """Number of entries with seq < `stop` that match the filters of `search`."""
    query = select(func.count()).select_from(audit_entry)
    return int(session.scalar(query.where(*_matching(filters), audit_entry.c.seq < stop)) or 0)


def entries(session: Session, start: int = 0, stop: int | None = None) -> Iterator[Record]:
    """Entries with `start` <= seq < `stop`, in order, read in chunks of 256."""
    columns, position = audit_entry.c, start
    while True:
        query = _RECORD.where(columns.seq >= position).order_by(columns.seq).limit(_CHUNK)
        rows = session.execute(query if stop is None else query.where(columns.seq < stop)).all()
        yield from map(_record, rows)
        if len(rows) < _CHUNK:
            return
        position = rows[-1].seq + 1


def size(session: Session) -> int:
    """Number of entries: the next sequence number."""
    last = session.execute(select(func.max(audit_entry.c.seq))).scalar_one()
    return 0 if last is None else int(last) + 1


def check(session: Session) -> Iterator[Finding]:
    """What in the tables contradicts the leaves: a search column, a hash, the counter, a chain's end.

    `verify_log` compares the leaves themselves with the published tree; this finds a change beside them.
    """
    newest: dict[str, tuple[int, str]] = {}
    counter, end, chains = _heads(session)
    for row in _rows_before(session, end):
        try:
            expected = row_of(leaves.decode(row.leaf), row.leaf, merkle.leaf_hash(row.leaf))
        except Malformed as error:
            yield Finding(ALTERED, f"The stored leaf is broken: {error}", seq=row.seq, id=row.id)
            continue
        changed = sorted(name for name, value in expected.items() if getattr(row, name) != value)
        if changed:
            text = f"Columns do not say what the leaf says: {', '.join(changed)}."
            yield Finding(ALTERED, text, seq=row.seq, id=row.id)
        if expected["org"] is not None:
            newest[expected["org"]] = (expected["org_seq"], expected["leaf_hash"])
    if counter != end:
        yield Finding(ALTERED, "The counter does not stand behind the last entry.")
    for org in sorted(set(chains) | set(newest)):
        if chains.get(org) != newest.get(org):
            yield Finding(ALTERED, f"The chain of {org} does not stand at its last entry.")


def _place(connection: Connection, org: str | None) -> dict[str, Any]:
    """Where the next entry stands: its number, its number in its organisation's chain, and the leaf before it
    there.
    """
    of = {"of": None if org is None else _indexed(org)}
    ends = connection.execute(_ENDS, of).one_or_none()
    if ends is None:
        # Two first entries may race: the loser waits, inserts nothing and then reads the winner's row.
        connection.execute(_FIRST[connection.dialect.name])
        ends = connection.execute(_ENDS, of).one()
    seq, last, org_seq, leaf_hash = ends
    if seq != (0 if last is None else last + 1):
        raise SequenceBroken("The stored entries do not end where the counter stands; nothing was added.")
    first = 0 if org is not None else None
    return {
        "seq": seq,
        "org_seq": first if org_seq is None else org_seq + 1,
        "prev_org_leaf": leaf_hash,
    }


def _write(connection: Connection, columns: dict[str, Any]) -> bool:
    """The counter, the row that it numbers, and the end of its organisation's chain; on PostgreSQL all at
    once. False, and nothing is written, where another entry has the number already.
    """
    values = {f"entry_{name}": value for name, value in columns.items()}
    chained = columns["org"] is not None
    if connection.dialect.name == "postgresql":
        return bool(connection.execute(_AT_ONCE[chained], values).scalar_one())
    for step in (_WRITE, _COUNT, _LINK)[: 2 + chained]:
        connection.execute(step, values)
    return True


def row_of(document: dict[str, Any], leaf: bytes, hashed: bytes) -> dict[str, Any]:
    """The row of a leaf: what is searched for, taken from the leaf and from nowhere else."""
    empty: dict[str, Any] = {}
    groups = {name: document[name] or empty for name in leaves.GROUPS}
    columns = {
        **{name: document[name] for name in ("seq", "id", "time", "kind", "outcome", "code", "org_seq")},
        "org": groups["actor"].get("org"),
        "actor_ref": groups["actor"].get("ref"),
        "role": groups["actor"].get("role"),
        "request_id": groups["source"].get("request_id"),
        "object_type": groups["object"].get("type"),
        "object_id": groups["object"].get("id"),
        "dataset": groups["object"].get("dataset"),
        "query_id": groups["query"].get("id"),
        "purpose": groups["licence"].get("purpose"),
        "domain": groups["privacy"].get("domain"),
        "rho_nano": _integer(groups["privacy"].get("rho_nano")),
        "currency": groups["money"].get("currency"),
        "amount_minor": _integer(groups["money"].get("amount_minor")),
        "journal": groups["money"].get("journal"),
        "leaf": leaf,
        "leaf_hash": hashed.hex(),
    }
    return {name: _indexed(value) if isinstance(value, str) else value for name, value in columns.items()}


def _indexed(text: str) -> str:
    """A text as its search column holds it: PostgreSQL has no NUL in texts, the leaf keeps it."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _integer(amount: str | None) -> int | None:
    return None if amount is None else int(amount)


def _matching(filters: Mapping[str, Any], *, in_order: bool = False) -> list[ColumnElement[bool]]:
    """The filters of a search: bounds of time, an id, and columns that hold exactly this.

    With `in_order` no index of times is of use: a page of the log in its own order would be found by sorting
    all that the time takes in, for every page anew.
    """
    columns = audit_entry.c
    wanted = {name: value for name, value in filters.items() if value is not None}
    since, until, q = (wanted.pop(name, None) for name in ("since", "until", "q"))
    conditions = [columns[name] == _indexed(value) for name, value in wanted.items()]
    at = columns.time + "" if in_order else columns.time
    if since is not None:
        conditions.append(at >= timestamp(since))
    if until is not None:
        conditions.append(at < timestamp(until))
    if q is not None:
        conditions.append(_is_about(_indexed(q)))
    return conditions


def _is_about(text: str) -> ColumnElement[bool]:
    return or_(*(column == text for column in _ABOUT))


def _about(text: str, conditions: list[ColumnElement[bool]], most: int) -> Select[int]:
    """The newest entries about an id, from each column that may hold it by that column's own index: asked for
    in one condition, a database may rather look through the whole log.
    """
    seq = audit_entry.c.seq
    found = [
        select(
            select(seq).where(column == text, *conditions).order_by(seq.desc()).limit(most).subquery().c.seq
        )
        for column in _ABOUT
    ]
    return select(union(*found).subquery().c.seq)


def _merged(
    session: Session,
    ways: list[list[ColumnElement[bool]]],
    at: list[ColumnElement[bool]],
    *,
    before: int | None,
    most: int,
) -> list[Row[*tuple[Any, ...]]]:
    """The newest entries that all filters of one of the ways match, on SQLite: their indexes, all in the
    log's order, are read side by side. Asked for in one condition, it follows one of them and looks up each
    entry for the others.

    Where times are asked for, the index of times says between which numbers they all are. Clocks differ, so
    that others are between them too: few, unless one was far off.
    """
    seq, start, stop = audit_entry.c.seq, 0, before
    if at:
        first, last = session.execute(select(func.min(seq), func.max(seq)).where(*at)).one()
        if first is None:
            return []
        start, stop = first, last + 1 if stop is None else min(stop, last + 1)
    found = {row.seq: row for same in ways for row in _newest(session, same, at, start, stop, most)}
    return [found[number] for number in sorted(found, reverse=True)[:most]]


def _newest(
    session: Session,
    same: list[ColumnElement[bool]],
    at: list[ColumnElement[bool]],
    start: int,
    stop: int | None,
    most: int,
) -> list[Row[*tuple[Any, ...]]]:
    seq, step = audit_entry.c.seq, most
    rows: list[Row[*tuple[Any, ...]]] = []
    while len(rows) < most:
        bounds = [seq >= start, *([] if stop is None else [seq < stop])]
        each = [select(seq).where(one, *bounds) for one in same]
        found = intersect(*each) if len(each) > 1 else each[0]
        newest = list(session.scalars(found.order_by(desc(seq.name)).limit(step)))
        rows += session.execute(_RECORD.where(seq.in_(newest), *at).order_by(seq.desc())).all()
        if len(newest) < step:
            break
        stop, step = newest[-1], min(2 * step, _MOST_AT_ONCE)
    return rows[:most]


def _behind(session: Session, seq: int, *, by_time: bool) -> ColumnElement[bool]:
    """What comes after the entry of a page token, in the order of the search."""
    columns = audit_entry.c
    if not by_time:
        return columns.seq < seq
    time = session.scalar(select(columns.time).where(columns.seq == seq)) or ""
    return tuple_(columns.time, columns.seq) < tuple_(literal(time), literal(seq))


def _seq_of(token: str) -> int:
    if _TOKEN.fullmatch(token) is None:
        raise PageTokenInvalid("The page token was not given by a search.")
    return int(token)


def _entry(column: Column[Any]) -> BindParameter[Any]:
    """What an entry's row holds in a column, for each statement that writes it."""
    return bindparam(f"entry_{column.name}", type_=audit_entry.c[column.name].type)


def _insert(dialect: Any, table: Table, source: Any = None) -> Any:
    """An entry's row, or what a table repeats of it; for each row of ``source`` where one is given."""
    values = {column.name: _entry(column) for column in table.c}
    if source is None:
        return dialect.insert(table).values(values)
    return dialect.insert(table).from_select(list(values), select(*values.values()).select_from(source))


def _linked(ends: Any) -> Insert:
    """Make an entry the end of its organisation's chain."""
    new = {name: ends.excluded[name] for name in ("org_seq", "leaf_hash")}
    linked: Insert = ends.on_conflict_do_update(index_elements=["org"], set_=new)
    return linked


def _at_once(chained: bool) -> Select[int]:
    """All steps in one statement, for PostgreSQL: every one, or none where the counter stands elsewhere."""
    free = audit_sequence.c.next == _entry(audit_entry.c.seq)
    count = _COUNT.where(free).returning(audit_sequence.c.id).cte("counted")
    row = _insert(postgresql, audit_entry, count).cte("row")
    whole = select(func.count()).select_from(count).add_cte(row)
    if not chained:
        return whole
    return whole.add_cte(_linked(_insert(postgresql, audit_org_chain, count)).cte("linked"))


_DIALECTS = {"postgresql": postgresql, "sqlite": sqlite}
# Built once: an entry is written with every command.
_LOCKED = select(audit_sequence.c.next).where(audit_sequence.c.id == 1).with_for_update()
_ENDS = select(
    audit_sequence.c.next,
    select(func.max(audit_entry.c.seq)).scalar_subquery(),
    audit_org_chain.c.org_seq,
    audit_org_chain.c.leaf_hash,
).select_from(audit_sequence.outerjoin(audit_org_chain, audit_org_chain.c.org == bindparam("of")))
_FIRST = {
    name: dialect.insert(audit_sequence).values(id=1, next=0).on_conflict_do_nothing()
    for name, dialect in _DIALECTS.items()
}
_WRITE = _insert(sqlite, audit_entry)
_COUNT = update(audit_sequence).where(audit_sequence.c.id == 1).values(next=_entry(audit_entry.c.seq) + 1)
_LINK = _linked(_insert(sqlite, audit_org_chain))
_AT_ONCE = {chained: _at_once(chained) for chained in (True, False)}

_ABOUT = [audit_entry.c[name] for name in ("query_id", "id", "object_id", "journal")]
"""Columns that hold the id that a search is about."""

# SQLite lets a tamperer store text where bytes were: cast, so that it is read and named.
LEAF = cast(audit_entry.c.leaf, LargeBinary).label("leaf")
_COLUMNS = [LEAF if column.name == "leaf" else column for column in audit_entry.c]
_RECORD = select(audit_entry.c.seq, audit_entry.c.id, LEAF, audit_entry.c.leaf_hash)


def _record(row: Row[*tuple[Any, ...]]) -> Record:
    try:
        hashed = bytes.fromhex(row.leaf_hash)
    except ValueError:  # altered in place: keep the entry readable, `check` and `verify_log` will name it
        hashed = b""
    return Record(row.seq, row.id, bytes(row.leaf), hashed)


def _heads(session: Session) -> tuple[int, int, dict[str, tuple[int, str]]]:
    """The counter, the number of entries, and each organisation's last entry, as of one moment.

    One statement sees one state on every isolation level; over several, an entry that comes in between would
    look like a contradiction.
    """
    heads = union_all(
        select(literal("counter"), null(), audit_sequence.c.next, null()),
        select(literal("end"), null(), func.max(audit_entry.c.seq) + 1, null()),
        select(
            literal("chain"), audit_org_chain.c.org, audit_org_chain.c.org_seq, audit_org_chain.c.leaf_hash
        ),
    )
    counter, end, chains = 0, 0, {}
    for what, org, number, leaf_hash in session.execute(heads):
        if what == "chain":
            chains[org] = (number, leaf_hash)
        elif what == "counter":
            counter = number
        else:
            end = number or 0
    return counter, end, chains


def _rows_before(session: Session, end: int) -> Iterator[Row[*tuple[Any, ...]]]:
    position = -1
    columns = audit_entry.c
    while rows := session.execute(
        select(*_COLUMNS).where(columns.seq > position, columns.seq < end).order_by(columns.seq).limit(_CHUNK)
    ).all():
        yield from rows
        position = rows[-1].seq
