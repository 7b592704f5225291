"""The query's row and its states; see docs/how-an-answer-is-made for the road.

RESERVED -> EXECUTING -> RESULT_DURABLE -> SETTLED, or VOIDED before data was touched, or FORFEITED after.
Who cancels voids or forfeits, with the code "cancelled"; a freeze does so with the code "frozen".
Every move names the state that it leaves, so that two movers cannot both succeed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    func,
    insert,
    or_,
    select,
    update,
)

from exchange.data_keys import data_key
from exchange.errors import InProgress, NotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

metadata = MetaData()

query = Table(
    "query",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("dataset", String(40), nullable=False),
    Column("slug", String(200), nullable=False),
    Column("version", String(40), nullable=False),
    Column("grant_id", String(40), nullable=False),
    Column("acceptance_id", String(40), nullable=False),
    Column("purpose", String(80), nullable=False),
    Column("clause", Text, nullable=False),
    Column("sql", Text, nullable=False),
    Column("sql_sha256", String(64), nullable=False),
    Column("plan_sha256", String(64), nullable=False),
    Column("plan_ask", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("domain", String(200), nullable=False),
    Column("rho_nano", BigInteger, nullable=False),
    Column("delta_pico", BigInteger, nullable=False),
    Column("charge_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("price_plan_sha256", String(64), nullable=False),
    Column("reserve_journal", String(40)),
    Column("settle_journal", String(40)),
    Column("lease_until", String(32), nullable=False),
    Column("reserved_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("ended_at", String(32)),
    Column("result_sha256", String(64)),
    Column("result_bytes", BigInteger),
    Column("entry_id", String(40)),
    Column("failure", String(40)),
    Column("result_expired_at", String(32)),
    Column("question_sha256", String(64)),
    Column("refines", String(40)),
    Column("rho_before_nano", BigInteger, nullable=False, server_default="0"),
    Column("paid_before_minor", BigInteger, nullable=False, server_default="0"),
    # Of its rho, what was paid for before; g of the rest, before a month's cap; and of what was asked before,
    # how much was priced.
    Column("covered_nano", BigInteger, nullable=False, server_default="0"),
    Column("worth_minor", BigInteger, nullable=False, server_default="0"),
    Column("priced_before_nano", BigInteger, nullable=False, server_default="0"),
    # The authorization under which it was asked, where it was asked with an access token.
    Column("authorization_id", String(40)),
    # The object with the released numbers behind the result: empty where there are none, NULL until T3 (and
    # for results that were kept before this was noted until the worker has looked).
    Column("released_sha256", String(64)),
    Index("query_by_plan", "org", "version", "plan_sha256"),
    Index("query_by_state", "state", "lease_until"),
    Index("query_by_org", "org", "reserved_at"),
    Index("query_by_question", "org", "version", "question_sha256"),
    Index("query_by_asked", "version", "question_sha256", "reserved_at"),
    Index("query_by_authorization", "authorization_id"),
    Index("query_by_result", "result_sha256"),
    Index("query_by_released", "released_sha256"),
)

# Over which bounded rows an answer released numbers: who has them is not charged for them again.
released_bound = Table(
    "released_bound",
    metadata,
    Column("query", String(40), primary_key=True),
    Column("bound", String(64), primary_key=True),
    Index("released_bound_by_bound", "bound"),
)

#: What auditors and dashboards read, the same on both databases.
views = {
    "v_query": """\
CREATE VIEW v_query AS
SELECT q.id AS query_id, q.org AS org, q.slug AS dataset, q.state AS state, q.rho_nano AS rho_nano,
       q.charge_minor AS charge_minor, q.currency AS currency, q.acceptance_id AS acceptance_id,
       q.settle_journal AS settle_journal, e.seq AS leaf_seq
FROM query q LEFT JOIN audit_entry e ON e.id = q.entry_id""",
    "v_audit": "CREATE VIEW v_audit AS SELECT seq, kind, leaf_hash FROM audit_entry",
}

RESERVED, EXECUTING, RESULT_DURABLE, SETTLED = "RESERVED", "EXECUTING", "RESULT_DURABLE", "SETTLED"
VOIDED, FORFEITED = "VOIDED", "FORFEITED"
_OPEN = (RESERVED, EXECUTING, RESULT_DURABLE)
_KEPT = (query.c.state == SETTLED, query.c.result_expired_at.is_(None))

OPEN = query.c.state.in_(_OPEN)
"""The condition that a query has not ended."""
CANCELLED, FROZEN = "cancelled", "frozen"
"""The codes of a query that its buyer cancelled, and of one that a freeze ended; to a client both are in the
state "cancelled"."""

# What a client sees of each state.
_SEEN = {
    RESERVED: "queued",
    EXECUTING: "running",
    RESULT_DURABLE: "running",
    SETTLED: "succeeded",
    VOIDED: "expired",
    FORFEITED: "failed",
}


def seen(row: Row[Any]) -> str:
    """What a client sees of a query's state; an answer that is no longer kept is expired."""
    if row.failure in (CANCELLED, FROZEN):
        return CANCELLED
    return "expired" if row.result_expired_at else _SEEN[row.state]


def is_open(row: Row[Any]) -> bool:
    """Whether the query has not ended."""
    return row.state in _OPEN


def ended(session: Session, ids: Collection[str]) -> set[str]:
    """Which of these queries are over."""
    found = select(query.c.id).where(query.c.id.in_(ids), query.c.state.not_in(_OPEN))
    return set(session.scalars(found))


def reserve(session: Session, values: Mapping[str, Any]) -> None:
    """Insert a query in state RESERVED."""
    session.execute(insert(query).values(state=RESERVED, **values))


def advance(session: Session, query_id: str, *, leave: str, enter: str, **values: Any) -> None:
    """Move a query from ``leave`` to ``enter``. Raises :class:`InProgress` if somebody else moved it."""
    moved = session.execute(
        update(query).where(query.c.id == query_id, query.c.state == leave).values(state=enter, **values)
    )
    if moved.rowcount != 1:  # type: ignore[attr-defined]
        raise InProgress("another process moved this query on")


def find(session: Session, query_id: str, *, org: str | None = None) -> Row[Any]:
    """A query by id, of one organisation unless ``org`` is None. Raises :class:`NotFound`."""
    found = select(query).where(query.c.id == query_id)
    if org is not None:
        found = found.where(query.c.org == org)
    row = session.execute(found).one_or_none()
    if row is None:
        raise NotFound("there is no such query")
    return row


def settled_before(session: Session, *, org: str, version: str, plan_sha256: str) -> Row[Any] | None:
    """The organisation's settled answer of the same plan on the same version: a repeat is free."""
    same = _same(org, version, plan_sha256).where(*_KEPT)
    return session.execute(same.order_by(query.c.reserved_at).limit(1)).one_or_none()


def running_now(session: Session, *, org: str, version: str, plan_sha256: str) -> Row[Any] | None:
    """The same question of the same organisation that has not ended.

    One whose lease is over counts as well: the sweeper may still settle it, and nobody pays twice.
    """
    return session.execute(
        _same(org, version, plan_sha256).where(query.c.state.in_(_OPEN)).limit(1)
    ).one_or_none()


def asking_now(session: Session, *, org: str, version: str, question_sha256: str) -> Row[Any] | None:
    """An open query of the organisation about the same numbers, at whatever accuracy."""
    return session.execute(
        _about(org, version, question_sha256).where(query.c.state.in_(_OPEN)).limit(1)
    ).one_or_none()


def asked_before(session: Session, *, org: str, version: str, question_sha256: str) -> Row[Any] | None:
    """The organisation's settled query about the same numbers for which most rho was spent in all."""
    settled = _about(org, version, question_sha256).where(*_KEPT)
    dearest = (query.c.rho_before_nano + query.c.rho_nano).desc(), query.c.reserved_at
    return session.execute(settled.order_by(*dearest).limit(1)).one_or_none()


def keep_bounds(session: Session, query_id: str, bounds: Sequence[str]) -> None:
    """Remember over which bounded rows a query released numbers."""
    if bounds:
        rows = [{"query": query_id, "bound": bound} for bound in sorted(set(bounds))]
        session.execute(insert(released_bound), rows)


def told_before(
    session: Session, *, org: str, version: str, bounds: Sequence[str], limit: int
) -> Sequence[Row[Any]]:
    """The organisation's settled queries with numbers over some of these bounded rows, the dearest first."""
    holding = select(released_bound.c.query).where(released_bound.c.bound.in_(bounds))
    settled = query.c.org == org, query.c.version == version, *_KEPT
    found = select(query).where(*settled, query.c.id.in_(holding))
    dearest = (query.c.rho_before_nano + query.c.rho_nano).desc(), query.c.reserved_at
    return session.execute(found.order_by(*dearest).limit(limit)).all()


def stale(session: Session, now: datetime, *, limit: int = 100) -> Sequence[Row[Any]]:
    """Open queries whose lease has ended: the sweeper's work."""
    ended = query.c.lease_until <= now.isoformat(timespec="microseconds")
    found = select(query).where(query.c.state.in_(_OPEN), ended).order_by(query.c.lease_until).limit(limit)
    return session.execute(found).all()


def due_to_expire(moment: datetime) -> tuple[ColumnElement[bool], ...]:
    """The conditions that a query's result is still stored, and that it ended before a moment.

    A query that was cancelled with its result stored is one of them.
    """
    stored = query.c.state.in_((SETTLED, FORFEITED)), query.c.result_sha256.is_not(None)
    return (
        *stored,
        query.c.result_expired_at.is_(None),
        query.c.ended_at < moment.isoformat(timespec="microseconds"),
    )


def kept_until(
    session: Session, moment: datetime, *, limit: int, only: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    """Ended queries whose result is still stored, and that ended before a moment; the oldest first.

    ``only``: those alone of which this holds.
    """
    due = select(query).where(*due_to_expire(moment), only)
    return session.execute(due.order_by(query.c.ended_at).limit(limit)).all()


def expire_result(session: Session, query_id: str, *, at: datetime) -> None:
    """Say that a result is no longer kept. Raises :class:`InProgress` if somebody else did."""
    unsaid = query.c.id == query_id, query.c.result_expired_at.is_(None)
    stamp = at.isoformat(timespec="microseconds")
    said = session.execute(update(query).where(*unsaid).values(result_expired_at=stamp))
    if said.rowcount != 1:  # type: ignore[attr-defined]
        raise InProgress("another process expired this answer")


def named(session: Session, digests: Collection[str]) -> set[str]:
    """Which of these objects are the result, or the released numbers behind it, of a query that may still be
    read, or is about to be.
    """
    found: set[str] = set()
    for column in (query.c.result_sha256, query.c.released_sha256):
        these = select(column).where(column.in_(digests), query.c.result_expired_at.is_(None))
        found.update(session.scalars(these))
    return found


def plain_results(session: Session) -> int:
    """How many results that are still kept are stored without encryption."""
    sealed = select(data_key.c.plain_sha256).where(data_key.c.plain_sha256 == query.c.result_sha256)
    kept = query.c.result_sha256.is_not(None), query.c.result_expired_at.is_(None)
    return int(session.execute(select(func.count()).where(*kept, ~sealed.exists())).scalar_one())


def unnoted(session: Session, *, after: str, limit: int) -> Sequence[Row[Any]]:
    """Queries with a result, and no note of whether released numbers stand behind it; by id."""
    kept = query.c.result_sha256.is_not(None), query.c.result_expired_at.is_(None)
    found = select(query).where(*kept, query.c.released_sha256.is_(None), query.c.id > after)
    return session.execute(found.order_by(query.c.id).limit(limit)).all()


def note_released(session: Session, query_id: str, sha256: str) -> None:
    """Note the released numbers behind a result: their digest, or nothing where there are none."""
    unsaid = query.c.id == query_id, query.c.released_sha256.is_(None)
    session.execute(update(query).where(*unsaid).values(released_sha256=sha256))


def of_organisation(
    session: Session, org: str, *, limit: int = 100, text: str = "", before: str | None = None
) -> Sequence[Row[Any]]:
    """An organisation's latest queries, newest first.

    Args:
        text: those alone whose statement, dataset or id holds it, whatever the case of its letters.
        before: those alone that were asked before this moment, as the rows have it.
    """
    found = select(query).where(query.c.org == org)
    if text:
        columns = (query.c.sql, query.c.slug, query.c.id)
        found = found.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
    if before is not None:
        found = found.where(query.c.reserved_at < before)
    return session.execute(found.order_by(query.c.reserved_at.desc()).limit(limit)).all()


def count_asked(session: Session, acceptances: Sequence[str]) -> int:
    """How many queries under these licence acceptances were answered or still may be."""
    counted = select(func.count()).select_from(query)
    states = query.c.state.in_((*_OPEN, SETTLED))
    return int(session.execute(counted.where(query.c.acceptance_id.in_(acceptances), states)).scalar_one())


def rho_asked(session: Session, acceptances: Sequence[str]) -> int:
    """The rho that queries under these licence acceptances cost, or still may."""
    spent = select(func.coalesce(func.sum(query.c.rho_nano), 0))
    states = query.c.state.in_((*_OPEN, SETTLED, FORFEITED))
    return int(session.execute(spent.where(query.c.acceptance_id.in_(acceptances), states)).scalar_one())


def rho_authorized(session: Session, authorizations: Sequence[str] | Select[tuple[str]]) -> int:
    """The rho that queries under these authorizations cost, or still may."""
    spent = select(func.coalesce(func.sum(query.c.rho_nano), 0))
    states = query.c.state.in_((*_OPEN, SETTLED, FORFEITED))
    return int(
        session.execute(spent.where(query.c.authorization_id.in_(authorizations), states)).scalar_one()
    )


def _same(org: str, version: str, plan_sha256: str) -> Any:
    return select(query).where(
        query.c.org == org, query.c.version == version, query.c.plan_sha256 == plan_sha256
    )


def _about(org: str, version: str, question_sha256: str) -> Any:
    return select(query).where(
        query.c.org == org, query.c.version == version, query.c.question_sha256 == question_sha256
    )
