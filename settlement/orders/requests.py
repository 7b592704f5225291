"""Access requests: open -> approved | declined, or approved at once when the plan is instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Row, select, update

from settlement.documents import canonical
from settlement.errors import RequestMissing, RequestNotOpen
from settlement.licences import find_acceptance, permit
from settlement.orders.tables import access_request
from settlement.schema import rows_changed, timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from settlement.prices import PricePlan

RequestState = Literal["open", "approved", "declined"]

#: Who decided a request whose plan approves at once, one past its deadline, and one that was taken back.
BY_PLAN, BY_DEADLINE, BY_BUYER = "plan", "deadline", "buyer"

#: How long a provider has to decide, unless the exchange is set otherwise.
DECIDED_WITHIN = timedelta(days=45)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """An organisation's request for a dataset under one price plan and one licence acceptance.

    ``plan`` is the plan's canonical JSON; ``valid_until`` is None when no end was asked; ``decided_by`` is
    the deciding actor, "plan" for an instant plan, "deadline" where nobody decided before ``deadline``, and
    "buyer" where it was taken back. ``renews`` is the grant that it asks to renew.
    """

    id: str
    dataset: str
    provider: str
    org: str
    actor: str
    purpose: str
    territory: str
    plan_name: str
    plan: str
    plan_sha256: str
    acceptance_id: str
    valid_until: str | None
    state: RequestState
    reason: str
    decided_by: str | None
    requested_at: str
    decided_at: str | None
    deadline: str | None = None
    renews: str | None = None

    @property
    def seen_state(self) -> str:
        """The state as people read it: also "lapsed" and "cancelled"."""
        told = {BY_DEADLINE: "lapsed", BY_BUYER: "cancelled"}
        return told.get(self.decided_by or "", self.state)


def request_access(
    session: Session,
    *,
    id: str,  # noqa: A002
    dataset: str,
    provider: str,
    org: str,
    actor: str,
    purpose: str,
    territory: str,
    plan: PricePlan,
    acceptance_id: str,
    now: datetime,
    valid_until: datetime | None = None,
    decided_within: timedelta = DECIDED_WITHIN,
    renews: str | None = None,
) -> AccessRequest:
    """Ask for access. An instant plan approves at once, another waits for the provider until its deadline.

    A renewal always waits: it brings a new allowance. Raises a LicenceRefused when the acceptance is not the
    organisation's or does not allow the purpose or territory.
    """
    permit(session, acceptance_id=acceptance_id, org=org, purpose=purpose, territory=territory, now=now)
    instant = plan.approval == "instant" and renews is None
    request = AccessRequest(
        id=id,
        dataset=dataset,
        provider=provider,
        org=org,
        actor=actor,
        purpose=purpose,
        territory=territory,
        plan_name=plan.name,
        plan=canonical(plan.document),
        plan_sha256=plan.sha256,
        acceptance_id=find_acceptance(session, acceptance_id, org=org).id,
        valid_until=timestamp(valid_until) if valid_until else None,
        state="approved" if instant else "open",
        reason="",
        decided_by=BY_PLAN if instant else None,
        requested_at=timestamp(now),
        decided_at=timestamp(now) if instant else None,
        deadline=None if instant else timestamp(now + decided_within),
        renews=renews,
    )
    values = {name: getattr(request, name) for name in AccessRequest.__slots__}
    session.execute(access_request.insert().values(values))
    return request


def find_request(session: Session, request_id: str, *, org: str) -> AccessRequest:
    """A request, for the buyer who made it or the provider who decides. RequestMissing for everybody else."""
    query = select(access_request).where(access_request.c.id == request_id)
    row = session.execute(query).one_or_none()
    if row is None or org not in (row.org, row.provider):
        raise RequestMissing("There is no such access request.")
    return _from_row(row)


def requests_for(
    session: Session, *, provider: str, state: RequestState | None = None
) -> list[AccessRequest]:
    """A provider's inbox, oldest first, all states unless one is named."""
    query = select(access_request).where(access_request.c.provider == provider)
    if state is not None:
        query = query.where(access_request.c.state == state)
    rows = session.execute(query.order_by(access_request.c.requested_at, access_request.c.id))
    return [_from_row(row) for row in rows]


def open_requests(session: Session, *, org: str, dataset: str, now: datetime) -> list[AccessRequest]:
    """A buyer's requests for a dataset that can still be decided, newest first."""
    table = access_request.c
    query = select(access_request).where(
        table.org == org, table.dataset == dataset, table.state == "open", table.deadline > timestamp(now)
    )
    rows = session.execute(query.order_by(table.requested_at.desc(), table.id.desc()))
    return [_from_row(row) for row in rows]


def approve(
    session: Session, request_id: str, *, provider: str, decided_by: str, now: datetime, reason: str = ""
) -> AccessRequest:
    """Approve an open request. RequestMissing for another provider's, RequestNotOpen when decided before."""
    return _decide(session, request_id, "approved", provider, decided_by, reason, now)


def decline(
    session: Session, request_id: str, *, provider: str, decided_by: str, now: datetime, reason: str
) -> AccessRequest:
    """Decline an open request and say why. Raises as ``approve``."""
    return _decide(session, request_id, "declined", provider, decided_by, reason, now)


def cancel(session: Session, request_id: str, *, org: str, now: datetime) -> AccessRequest:
    """Take an own open request back. RequestMissing for another's, RequestNotOpen when decided before."""
    request = find_request(session, request_id, org=org)
    if request.org != org:
        raise RequestMissing("There is no such access request.")
    return _close(session, request, "declined", BY_BUYER, "", now)


def lapse(session: Session, *, now: datetime, only: str | None = None) -> list[AccessRequest]:
    """End the open requests whose deadline has passed, or one of them; returns those that this call ended."""
    query = select(access_request).where(
        access_request.c.state == "open", access_request.c.deadline <= timestamp(now)
    )
    if only is not None:
        query = query.where(access_request.c.id == only)
    due = [_from_row(row) for row in session.execute(query.order_by(access_request.c.id).with_for_update())]
    reason = "The provider did not decide in time."
    return [_close(session, one, "declined", BY_DEADLINE, reason, now) for one in due]


def _decide(
    session: Session, request_id: str, state: RequestState, provider: str, by: str, reason: str, now: datetime
) -> AccessRequest:
    request = find_request(session, request_id, org=provider)
    if request.provider != provider:  # the buyer may read the request, not decide it
        raise RequestMissing("There is no such access request.")
    if request.state == "open" and request.deadline is not None and request.deadline <= timestamp(now):
        raise RequestNotOpen(f"Request {request_id} had to be decided by {request.deadline}.")
    return _close(session, request, state, by, reason, now)


def _close(
    session: Session, request: AccessRequest, state: RequestState, by: str, reason: str, now: datetime
) -> AccessRequest:
    changed = rows_changed(
        session,
        update(access_request)
        .where(access_request.c.id == request.id, access_request.c.state == "open")
        .values(state=state, reason=reason, decided_by=by, decided_at=timestamp(now)),
    )
    if not changed:
        raise RequestNotOpen(f"Request {request.id} is {request.state} already.")
    return find_request(session, request.id, org=request.org)


def _from_row(row: Row[tuple[object, ...]]) -> AccessRequest:
    return AccessRequest(**row._asdict())
