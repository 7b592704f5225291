"""Freezes and legal holds: what an officer stops at once, and what is kept whatever its time says.

Both are rows of one table, in force from the entry that set them to the one that lifted them. A freeze is of
a dataset, a buyer's organisation or a licence version; a hold of a dataset, an organisation or a query. The
reason stands beside the log, which fixes its digest under a salt: nobody outside can guess at it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    Index,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    true,
    union,
    update,
)

from catalog.tables import dataset, dataset_version
from exchange import queries
from exchange.errors import Frozen, LegalHold, NotFound
from exchange.identity import organisation
from exchange.queries import query
from settlement.documents import canonical, sha256_hex
from settlement.licences import acceptance, licence

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.orm import Session

metadata = MetaData()

restraint = Table(
    "restraint",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("subject_type", String(16), nullable=False),
    Column("subject", String(40), nullable=False),
    Column("name", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("salt", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("set_by", String(40), nullable=False),
    Column("set_at", String(32), nullable=False),
    Column("set_entry", String(40), nullable=False),
    Column("lifted_by", String(40)),
    Column("lifted_at", String(32)),
    Column("lifted_entry", String(40)),
    Column("approval", String(40)),
    Index("restraint_by_subject", "subject", "kind"),
    Index("restraint_in_force", "kind", "lifted_at"),
)

FREEZE, HOLD = "freeze", "hold"
SUBJECTS = {FREEZE: ("dataset", "organisation", "licence"), HOLD: ("dataset", "organisation", "query")}
"""What each kind may be of."""

_WORDS = {"dataset": "this dataset", "organisation": "the organisation", "licence": "this licence version"}
_LISTED = 500
_IN_FORCE = restraint.c.lifted_at.is_(None)
_FROZEN = and_(restraint.c.kind == FREEZE, _IN_FORCE)
_HELD = and_(restraint.c.kind == HOLD, _IN_FORCE)


def _is_of(kind: str, subject: Any) -> ColumnElement[bool]:
    return and_(restraint.c.subject_type == kind, restraint.c.subject == subject)


_LICENCE_OF_QUERY = (
    select(acceptance.c.licence_id).where(acceptance.c.id == query.c.acceptance_id).correlate(query)
)
_FREEZES_QUERY = or_(
    _is_of("dataset", query.c.dataset),
    _is_of("organisation", query.c.org),
    _is_of("licence", _LICENCE_OF_QUERY.scalar_subquery()),
)
_HOLDS_QUERY = or_(
    _is_of("dataset", query.c.dataset), _is_of("organisation", query.c.org), _is_of("query", query.c.id)
)
_FREEZE_OF: Any = (
    select(restraint.c.id, restraint.c.subject_type)
    .where(_FROZEN, or_(*(_is_of(kind, bindparam(kind)) for kind in SUBJECTS[FREEZE])))
    .order_by(restraint.c.set_at, restraint.c.id)
    .limit(1)
)
_FREEZE_OF_QUERY: Any = (
    select(restraint.c.id, restraint.c.subject_type)
    .where(_FROZEN, query.c.id == bindparam("query"), _FREEZES_QUERY)
    .order_by(restraint.c.set_at, restraint.c.id)
    .limit(1)
)


def digest_of(row: Row[Any]) -> str:
    """What the log fixes: SHA-256 of the canonical document (RFC 8785), with salt and reason in it."""
    names = ("id", "kind", "subject_type", "subject", "reason", "salt")
    return sha256_hex(canonical({name: getattr(row, name) for name in names}))


def impose(
    session: Session,
    *,
    id: str,  # noqa: A002
    kind: str,
    subject_type: str,
    subject: str,
    name: str,
    reason: str,
    by: str,
    entry: str,
    now: datetime,
) -> Row[Any]:
    """Put one in force; ``name`` is what people call its subject, ``entry`` the one that tells of it."""
    values = {
        "id": id,
        "kind": kind,
        "subject_type": subject_type,
        "subject": subject,
        "reason": reason,
        "salt": secrets.token_hex(16),
    }
    session.execute(
        insert(restraint).values(
            **values,
            name=name,
            digest=sha256_hex(canonical(values)),
            set_by=by,
            set_at=now.isoformat(timespec="microseconds"),
            set_entry=entry,
        )
    )
    return find(session, id, kind=kind)


def lift(session: Session, row: Row[Any], *, by: str, approval: str, entry: str, now: datetime) -> None:
    """End a restraint that is in force."""
    same = update(restraint).where(restraint.c.id == row.id, _IN_FORCE)
    stamp = now.isoformat(timespec="microseconds")
    session.execute(same.values(lifted_by=by, lifted_at=stamp, lifted_entry=entry, approval=approval))


def find(session: Session, restraint_id: str, *, kind: str) -> Row[Any]:
    """A freeze or hold by its id. Raises :class:`NotFound`."""
    same = select(restraint).where(restraint.c.id == restraint_id, restraint.c.kind == kind)
    row = session.execute(same).one_or_none()
    if row is None:
        raise NotFound(f"there is no such {kind}")
    return row


def in_force(session: Session, *, kind: str, subject_type: str, subject: str) -> Row[Any] | None:
    """The restraint of this kind that is in force on a subject, or None."""
    same = select(restraint).where(restraint.c.kind == kind, _IN_FORCE, _is_of(subject_type, subject))
    return session.execute(same).one_or_none()


def listed(session: Session, *, kind: str) -> Sequence[Row[Any]]:
    """Freezes or holds: those in force first, the newest of each first; at most 500."""
    ordered = (restraint.c.lifted_at.is_not(None), restraint.c.set_at.desc(), restraint.c.id)
    found = select(restraint).where(restraint.c.kind == kind)
    return session.execute(found.order_by(*ordered).limit(_LISTED)).all()


def require_free(session: Session, *, dataset: str = "", organisation: str = "", licence: str = "") -> None:
    """Raise :class:`Frozen`, which cites the freeze, where one of these is frozen."""
    named = {"dataset": dataset, "organisation": organisation, "licence": licence}
    _refuse(session.execute(_FREEZE_OF, named).one_or_none())


def require_free_domain(session: Session, domain: str) -> None:
    """Raise :class:`Frozen` where a dataset of this privacy domain is frozen: its rows could be offered under
    another name.
    """
    of_domain = select(dataset_version.c.dataset).where(dataset_version.c.domain == domain)
    found: Any = (
        select(restraint.c.id, restraint.c.subject_type)
        .where(_FROZEN, restraint.c.subject_type == "dataset", restraint.c.subject.in_(of_domain))
        .order_by(restraint.c.set_at, restraint.c.id)
    )
    _refuse(session.execute(found.limit(1)).one_or_none())


def is_frozen_use(session: Session, *, dataset: str, organisation: str, licence: str) -> bool:
    """Whether one of these is frozen now."""
    named = {"dataset": dataset, "organisation": organisation, "licence": licence}
    return session.execute(_FREEZE_OF, named).first() is not None


def was_frozen_use(session: Session, at: str, *, dataset: str, organisation: str, licence: str) -> bool:
    """Whether one of these was frozen at a moment, as a timestamp of the books."""
    named = {"dataset": dataset, "organisation": organisation, "licence": licence}
    lasted = restraint.c.set_at <= at, or_(_IN_FORCE, restraint.c.lifted_at > at)
    of_use = or_(*(_is_of(kind, named[kind]) for kind in SUBJECTS[FREEZE]))
    found = select(restraint.c.id).where(restraint.c.kind == FREEZE, of_use, *lasted)
    return session.execute(found.limit(1)).first() is not None


def require_free_query(session: Session, query_id: str) -> None:
    """The same for what a query is of: its dataset, its buyer, and the licence that was accepted for it."""
    _refuse(session.execute(_FREEZE_OF_QUERY, {"query": query_id}).one_or_none())


def is_frozen(session: Session, query_id: str) -> bool:
    """Whether what a query is of is frozen now."""
    return session.execute(_FREEZE_OF_QUERY, {"query": query_id}).first() is not None


def frozen_and_open(session: Session, *, limit: int = 100) -> Sequence[Row[Any]]:
    """Queries that have not ended although what they are of is frozen: they are to be ended."""
    stopped = select(restraint.c.id).where(_FROZEN, _FREEZES_QUERY).exists()
    found: Any = select(query.c.id, query.c.state).where(queries.OPEN, stopped)
    return session.execute(found.order_by(query.c.reserved_at).limit(limit)).all()


def open_under(session: Session, row: Row[Any]) -> Sequence[Row[Any]]:
    """The queries under a freeze that have not ended; all of them."""
    found: Any = select(query.c.id, query.c.state).where(queries.OPEN, _of_subject(row))
    return session.execute(found.order_by(query.c.reserved_at)).all()


def stopped_by(session: Session, row: Row[Any]) -> int:
    """How many queries a freeze ended."""
    ended = query.c.failure == queries.FROZEN, query.c.ended_at >= row.set_at
    before = true() if row.lifted_at is None else query.c.ended_at <= row.lifted_at
    return int(session.execute(_count().where(*ended, before, _of_subject(row))).scalar_one())


def unheld() -> ColumnElement[bool]:
    """The condition on a query that no legal hold keeps its answer."""
    return ~select(restraint.c.id).where(_HELD, _HOLDS_QUERY).exists()


def require_unheld_query(session: Session, query_id: str) -> None:
    """Raise :class:`LegalHold` where a legal hold keeps the answer of a query."""
    found = select(restraint.c.id).join(query, _HOLDS_QUERY).where(_HELD, query.c.id == query_id)
    held = session.execute(found.limit(1)).scalar()
    if held is not None:
        raise LegalHold("a legal hold keeps this answer", hold=held)


def require_unheld_traces(session: Session, orgs: Collection[str]) -> None:
    """Raise :class:`LegalHold` where something is held of one of these organisations, which somebody's traces
    lead to: :func:`held_organisations`.
    """
    held = held_organisations().subquery()
    if session.execute(select(held).where(held.c[0].in_(sorted(orgs))).limit(1)).first() is not None:
        raise LegalHold("a legal hold keeps what there is of an organisation of this person")


def held_organisations() -> Select[tuple[str]]:
    """Selects the organisations of which something is held: themselves, a query of theirs, or a dataset that
    they list or have asked. What is kept by organisation is kept of all these.
    """
    held = {
        kind: select(restraint.c.subject).where(_HELD, restraint.c.subject_type == kind)
        for kind in SUBJECTS[HOLD]
    }
    asked = or_(query.c.id.in_(held["query"]), query.c.dataset.in_(held["dataset"]))
    listing = select(dataset.c.org).where(dataset.c.id.in_(held["dataset"]))
    every = union(held["organisation"], select(query.c.org).where(asked), listing).subquery()
    return select(every.c[0])


def kept_by(session: Session, row: Row[Any], *, due_before: datetime) -> int:
    """How many answers would have expired but for this hold."""
    due = queries.due_to_expire(due_before)
    return int(session.execute(_count().where(*due, _of_subject(row))).scalar_one())


def kept_by_holds(session: Session, *, due_before: datetime) -> int:
    """How many answers would have expired but for the holds in force."""
    return int(session.execute(_count().where(*queries.due_to_expire(due_before), ~unheld())).scalar_one())


def subject_named(session: Session, subject_type: str, name: str) -> tuple[str, str] | None:
    """The id of what a person calls so, or gives by its id, and its name; None where there is none.

    A licence version and a query are called by their ids: what they are shown with is the licence's title,
    and the dataset that was asked.
    """
    if subject_type == "dataset":
        key = dataset.c.slug if "/" in name else dataset.c.id
        found = select(dataset.c.id, dataset.c.slug).where(key == name)
    elif subject_type == "organisation":
        key = organisation.c.id if name.startswith("org_") else organisation.c.name
        found = select(organisation.c.id, organisation.c.name).where(key == name)
    elif subject_type == "query":
        found = select(query.c.id, query.c.slug).where(query.c.id == name)
    else:
        found = select(licence.c.id, licence.c.title).where(licence.c.id == name)
    row = session.execute(found).one_or_none()
    return None if row is None else (str(row[0]), str(row[1]))


def _refuse(row: Row[Any] | None) -> None:
    if row is not None:
        raise Frozen(f"a compliance officer has frozen {_WORDS[row.subject_type]}", freeze=row.id)


def _of_subject(row: Row[Any]) -> ColumnElement[bool]:
    if row.subject_type == "licence":
        under = select(acceptance.c.id).where(acceptance.c.licence_id == row.subject)
        return query.c.acceptance_id.in_(under)
    columns = {"dataset": query.c.dataset, "organisation": query.c.org, "query": query.c.id}
    return and_(columns[row.subject_type] == row.subject)


def _count() -> Any:
    return select(func.count()).select_from(query)
