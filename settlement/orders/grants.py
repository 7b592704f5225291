"""Access grants: active <-> suspended, and from either to expired or withdrawn for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Row, and_, or_, select, update

from settlement.errors import (
    AmountInvalid,
    GrantExpired,
    GrantMissing,
    GrantSuspended,
    GrantWithdrawn,
    OrderError,
    RequestNotOpen,
)
from settlement.money import AMOUNT_LIMIT
from settlement.orders.requests import find_request
from settlement.orders.tables import access_grant, access_request
from settlement.schema import insert_once, rows_changed, timestamp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

GrantState = Literal["active", "suspended", "expired", "withdrawn"]

#: State -> states it may be left for.
TRANSITIONS: dict[GrantState, tuple[GrantState, ...]] = {
    "active": ("suspended", "expired", "withdrawn"),
    "suspended": ("active", "expired", "withdrawn"),
    "expired": (),
    "withdrawn": (),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """What an organisation may do with a dataset: purpose, territory, price plan, rho allowance, until when.

    ``plan`` is the price plan's canonical JSON as it was requested: later changes of the listing do not reach
    it.
    """

    id: str
    request_id: str
    dataset: str
    provider: str
    org: str
    acceptance_id: str
    purpose: str
    territory: str
    plan_name: str
    plan: str
    plan_sha256: str
    allowance_rho_nano: int
    valid_until: str | None
    state: GrantState
    reason: str
    issued_at: str
    changed_at: str


def issue_grant(
    session: Session,
    *,
    id: str,  # noqa: A002
    request_id: str,
    org: str,
    allowance_rho_nano: int,
    now: datetime,
    valid_until: datetime | None = None,
) -> Grant:
    """Issue the grant of an approved request of ``org``, once; it ends when asked, or before if so decided.

    RequestMissing for another organisation's request, RequestNotOpen when it is not approved or was granted
    before, AmountInvalid for an allowance that is not a positive integer. The rho itself is booked in the
    ledger.
    """
    request = find_request(session, request_id, org=org)
    if request.state != "approved":
        raise RequestNotOpen(f"Request {request_id} is {request.state}; only an approved one is granted.")
    if not 0 < allowance_rho_nano < AMOUNT_LIMIT:
        raise AmountInvalid("An allowance is a positive integer of nano-rho.")
    grant = Grant(
        id=id,
        request_id=request_id,
        dataset=request.dataset,
        provider=request.provider,
        org=request.org,
        acceptance_id=request.acceptance_id,
        purpose=request.purpose,
        territory=request.territory,
        plan_name=request.plan_name,
        plan=request.plan,
        plan_sha256=request.plan_sha256,
        allowance_rho_nano=allowance_rho_nano,
        valid_until=_earlier(request.valid_until, valid_until),
        state="active",
        reason="",
        issued_at=timestamp(now),
        changed_at=timestamp(now),
    )
    values = {name: getattr(grant, name) for name in Grant.__slots__}
    statement = (
        insert_once(session, access_grant)
        .values(values)
        .on_conflict_do_nothing(index_elements=["request_id"])
    )
    if not rows_changed(session, statement):
        raise RequestNotOpen(f"Request {request_id} was granted before.")
    return grant


def find_grant(session: Session, grant_id: str, *, org: str) -> Grant:
    """A grant, for its buyer or its provider. GrantMissing for everybody else."""
    row = session.execute(select(access_grant).where(access_grant.c.id == grant_id)).one_or_none()
    if row is None or org not in (row.org, row.provider):
        raise GrantMissing("There is no such grant.")
    return _from_row(row)


def grants_of(session: Session, *, org: str) -> list[Grant]:
    """A buyer's grants in every state, newest first."""
    query = select(access_grant).where(access_grant.c.org == org)
    rows = session.execute(query.order_by(access_grant.c.issued_at.desc(), access_grant.c.id.desc()))
    return [_from_row(row) for row in rows]


def grants_for(session: Session, requests: Collection[str]) -> dict[str, Grant]:
    """The grants that requests have led to, by request."""
    query = select(access_grant).where(access_grant.c.request_id.in_(requests))
    return {row.request_id: _from_row(row) for row in session.execute(query)}


def grants_page(
    session: Session,
    *,
    org: str,
    now: datetime,
    limit: int,
    state: Literal["active", "suspended"] | None = None,
    before: tuple[str, str] | None = None,
) -> list[Grant]:
    """At most ``limit`` of a buyer's grants, newest first.

    Args:
        state: those alone that are in it now, as :func:`state_at` says.
        before: when the last grant of the page before was issued, and its id.
    """
    held = access_grant.c
    query = select(access_grant).where(held.org == org)
    if state is not None:
        goes_on = or_(held.valid_until.is_(None), held.valid_until > timestamp(now))
        query = query.where(held.state == state, goes_on)
    if before is not None:
        at, last = before
        query = query.where(or_(held.issued_at < at, and_(held.issued_at == at, held.id < last)))
    rows = session.execute(query.order_by(held.issued_at.desc(), held.id.desc()).limit(limit))
    return [_from_row(row) for row in rows]


def grants_from(session: Session, *, provider: str) -> list[Grant]:
    """The grants on a provider's datasets in every state, newest first."""
    query = select(access_grant).where(access_grant.c.provider == provider)
    rows = session.execute(query.order_by(access_grant.c.issued_at.desc(), access_grant.c.id.desc()))
    return [_from_row(row) for row in rows]


def grants_on(session: Session, *, dataset: str) -> list[Grant]:
    """The grants on one dataset in every state, newest first."""
    query = select(access_grant).where(access_grant.c.dataset == dataset)
    rows = session.execute(query.order_by(access_grant.c.issued_at.desc(), access_grant.c.id.desc()))
    return [_from_row(row) for row in rows]


def holders(session: Session, dataset: str) -> list[str]:
    """The organisations whose grants on a dataset have not ended, each once."""
    held = access_grant.c
    found = select(held.org).where(held.dataset == dataset, held.state.in_(("active", "suspended")))
    return sorted(session.scalars(found.distinct()))


@dataclass(frozen=True, slots=True)
class Held:
    """What a grant is of, how much it allows, and the grant that it renews."""

    id: str
    org: str
    dataset: str
    plan_name: str
    allowance_rho_nano: int
    renews: str | None


def held_beside(session: Session, grants: Iterable[Grant]) -> list[Held]:
    """Every grant of the same organisations on the same datasets, in any state, in one statement."""
    held, asked = access_grant.c, access_request.c
    these = list(grants)
    query = (
        select(held.id, held.org, held.dataset, held.plan_name, held.allowance_rho_nano, asked.renews)
        .join(access_request, asked.id == held.request_id)
        .where(held.org.in_({one.org for one in these}), held.dataset.in_({one.dataset for one in these}))
    )
    return [Held(*row) for row in session.execute(query)]


def end_grant_at(session: Session, grant_id: str, *, org: str, until: datetime, now: datetime) -> Grant:
    """Let a grant of ``org`` end at a moment, at the latest. GrantMissing, or OrderError when it ended."""
    grant = find_grant(session, grant_id, org=org)
    if grant.org != org:
        raise GrantMissing("There is no such grant.")
    if state_at(grant, now) not in ("active", "suspended"):
        raise OrderError(f"Grant {grant_id} is {state_at(grant, now)} already.")
    end = _earlier(grant.valid_until, until)
    session.execute(
        update(access_grant)
        .where(access_grant.c.id == grant_id)
        .values(valid_until=end, changed_at=timestamp(now))
    )
    return find_grant(session, grant_id, org=org)


def _earlier(asked: str | None, decided: datetime | None) -> str | None:
    ends = [end for end in (asked, timestamp(decided) if decided else None) if end is not None]
    return min(ends, default=None)


def usable_grant(
    session: Session, *, org: str, dataset: str, now: datetime, purpose: str | None = None
) -> Grant:
    """The newest grant by which a buyer may query a dataset now, for one purpose when it is named.

    Otherwise the newest grant's reason: GrantExpired, GrantSuspended, GrantWithdrawn; GrantMissing when there
    is none at all.
    """
    query = select(access_grant).where(access_grant.c.org == org, access_grant.c.dataset == dataset)
    if purpose is not None:
        query = query.where(access_grant.c.purpose == purpose)
    rows = session.execute(query.order_by(access_grant.c.issued_at.desc(), access_grant.c.id.desc()))
    grants = [_from_row(row) for row in rows]
    for grant in grants:
        if state_at(grant, now) == "active":
            return grant
    if not grants:
        raise GrantMissing("Your organisation has no grant for this dataset.")
    return require_active(grants[0], now)


def require_active(grant: Grant, now: datetime) -> Grant:
    """The grant itself if it may be used now; otherwise GrantExpired, GrantSuspended or GrantWithdrawn."""
    state = state_at(grant, now)
    if state == "expired":
        raise GrantExpired(f"Grant {grant.id} is over.")
    if state == "suspended":
        raise GrantSuspended(f"Grant {grant.id} is suspended.")
    if state == "withdrawn":
        raise GrantWithdrawn(f"Grant {grant.id} was withdrawn.")
    return grant


def state_at(grant: Grant, now: datetime) -> GrantState:
    """The grant's state, where one whose end has passed is expired even before the sweep wrote it down."""
    over = grant.valid_until is not None and grant.valid_until <= timestamp(now)
    return "expired" if over and "expired" in TRANSITIONS[grant.state] else grant.state


def suspend_grant(session: Session, grant_id: str, *, org: str, reason: str, now: datetime) -> Grant:
    """Stop a grant's use for now. GrantMissing, or OrderError when it is not active."""
    return _move(session, grant_id, org, "suspended", reason, now)


def resume_grant(session: Session, grant_id: str, *, org: str, reason: str, now: datetime) -> Grant:
    """Allow a suspended grant's use again. GrantMissing, or OrderError when it is not suspended."""
    return _move(session, grant_id, org, "active", reason, now)


def withdraw_grant(session: Session, grant_id: str, *, org: str, reason: str, now: datetime) -> Grant:
    """End a grant for good. GrantMissing, or OrderError when it ended before."""
    return _move(session, grant_id, org, "withdrawn", reason, now)


def expire_grants(session: Session, *, now: datetime, only: str | None = None) -> list[str]:
    """Write down each grant, or one, whose end has passed; returns the ids of those that this expired."""
    moment = timestamp(now)
    leaving = [state for state, reachable in TRANSITIONS.items() if "expired" in reachable]
    query = select(access_grant.c.id).where(
        access_grant.c.valid_until <= moment, access_grant.c.state.in_(leaving)
    )
    if only is not None:
        query = query.where(access_grant.c.id == only)
    due = session.scalars(query.order_by(access_grant.c.id).with_for_update()).all()
    session.execute(
        update(access_grant).where(access_grant.c.id.in_(due)).values(state="expired", changed_at=moment)
    )
    return list(due)


def _move(session: Session, grant_id: str, org: str, state: GrantState, reason: str, now: datetime) -> Grant:
    """``org`` is the provider of the grant: a buyer reads grants and moves none."""
    grant = find_grant(session, grant_id, org=org)
    if grant.provider != org:
        raise GrantMissing("There is no such grant.")
    leaving = [source for source, reachable in TRANSITIONS.items() if state in reachable]
    changed = rows_changed(
        session,
        update(access_grant)
        .where(access_grant.c.id == grant_id, access_grant.c.state.in_(leaving))
        .values(state=state, reason=reason, changed_at=timestamp(now)),
    )
    if not changed:
        raise OrderError(f"Grant {grant_id} is {grant.state} and cannot become {state}.")
    return find_grant(session, grant_id, org=org)


def _from_row(row: Row[tuple[object, ...]]) -> Grant:
    return Grant(**row._asdict())
