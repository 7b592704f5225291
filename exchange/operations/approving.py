"""Approvals: what needs a second pair of eyes is asked for here, declined here, and ends here when it is old.

Who asks and who decides are two persons. What an approval allows is bound to its parameters, done once and
in time: at once, in the transaction that approves it (see :mod:`exchange.operations.deciding`), or by who
asked for it, in the transaction that does it.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import approvals, authorizations, restraints
from exchange.audit import log
from exchange.audit.entry import Entry, ObjectGroup, ResultGroup
from exchange.errors import ApprovalChanged, ApprovalClosed, ApprovalNeeded, InProgress, RequestInvalid
from exchange.identity import SYSTEM, Role, new_id, organisation_names
from exchange.operations import auditing, policy_changes
from exchange.operations.terms import NANO, decimal_text, place, token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.approvals import Wanted
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

LIFT_FREEZE, LIFT_HOLD, REGISTER = "freeze.lift", "hold.lift", "organisation.register"
"""Commands that an approval does at once."""
LOOSEN, GRANT = "listing.loosen", "grant.issue"
"""Commands that an approval allows: who asked does them."""
READERS = (Role.OFFICER, Role.OPERATOR)
LONGEST_REASON = 1000

_MOST_WAITING, _AT_ONCE = 100, 100
_WORDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, str]], str]] = {
    LIFT_FREEZE: lambda given, _: f"Lift the freeze {given['freeze']}",
    LIFT_HOLD: lambda given, _: f"Lift the legal hold {given['hold']}",
    REGISTER: lambda given, _: f"Register {given['name']} as a {given['role']}",
    LOOSEN: lambda given, _: f"Offer version {given['version_number']} of {given['slug']}, which tells more",
    GRANT: lambda given, names: (
        f"Grant {names.get(given['org'], given['org'])} {_amount(given)} of {given['slug']}"
    ),
}
"""An approval in words, from its parameters and the names of organisations."""


@dataclass(frozen=True)
class RequestApproval:
    """Ask for an approval; what is to be approved is in the log by its digest alone."""

    wanted: Wanted
    reason: str
    kind: ClassVar[str] = "approval.requested"
    refused: ClassVar[str] = "approval.refused"

    def entry(self) -> Entry:
        """The audit entry: an approval, by id once there is one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="approval"))


@dataclass(frozen=True)
class EndApproval:
    """Decline an approval, or let one end that was not given or used in time."""

    approval: str
    verb: str
    kind: ClassVar[str] = "approval.ended"
    refused: ClassVar[str] = "approval.refused"

    def entry(self) -> Entry:
        """The audit entry: the approval, by id."""
        about = ObjectGroup(type="approval", id=self.approval[:64])
        return Entry(kind=f"approval.{self.verb}", outcome="done", object=about)


def request(
    market: Market, actor: Actor, wanted: Wanted, *, reason: str = "", key: str | None = None
) -> dict[str, Any]:
    """Ask for an approval; one that is asked for already, or given and not used, is returned as it is.

    Raises RoleMissing where nobody knows who asks, RequestInvalid where the organisation waits for too many.
    """

    def work(tx: Tx) -> dict[str, Any]:
        by = authorizations.subject_of(tx.session, actor.ref)
        row = approvals.latest(tx.session, wanted, tx.now, states=(approvals.OPEN, approvals.APPROVED))
        if row is not None:
            tx.record(kind="approval.confirmed")
        else:
            row = _asked(tx, market, wanted, reason, by)
        tx.record(object=about(row), result=ResultGroup(sha256=row.digest))
        return document(tx.session, row, tx.now)

    return market.store.perform(actor, RequestApproval(wanted, reason), work, key=key).value


@contextlib.contextmanager
def filing(market: Market, actor: Actor) -> Iterator[None]:
    """Ask for the approval that a step inside turns out to need, then let its refusal pass, which names it.

    One that was declined is not asked for again until its time is over.
    """
    try:
        yield
    except ApprovalNeeded as needed:
        now, wanted = market.store.clock(), needed.wanted

        def stands(session: Session) -> dict[str, Any] | None:
            row = approvals.latest(session, wanted, now)
            return None if row is None else document(session, row, now)

        found = market.store.read(stands) or request(market, actor, wanted, reason=str(needed))
        needed.details |= {"approval": found["approval"], "approval_state": found["state"]}
        needed.hint = _next_step(found)
        raise


def _next_step(found: Mapping[str, Any]) -> str:
    if found["state"] == approvals.DECLINED:
        return f"A compliance officer declined {found['approval']}. Ask for less, or ask the officer why."
    return f"Quote {found['approval']} to a compliance officer, and repeat the step once it is approved."


def standing(session: Session, wanted: Wanted, now: datetime) -> Row[Any] | None:
    """The approval of exactly this, given and not used, or None."""
    row = approvals.latest(session, wanted, now, states=(approvals.APPROVED,))
    if row is not None:
        check(session, row)
    return row


def used(session: Session, wanted: Wanted, now: datetime) -> Row[Any] | None:
    """The approval of exactly this that was used up, in its time, or None."""
    row = approvals.used(session, wanted, now)
    if row is not None:
        check(session, row)
    return row


def use(tx: Tx, row: Row[Any]) -> None:
    """Use up an approval in the transaction that does what it allows; the log says so beside it."""
    entry = tx.also("approval.used", object=about(row), result=ResultGroup(sha256=row.digest))
    approvals.use(tx.session, row, entry=entry, now=tx.now)


def check(session: Session, row: Row[Any]) -> None:
    """Raise :class:`ApprovalChanged` where a row does not say what the log fixed when it was asked for."""
    asked = log.find(session, row.requested_entry)
    fixed = (asked.document["result"] or {}).get("sha256") if asked is not None else None
    if not row.digest == approvals.digest_of(row) == fixed:
        raise ApprovalChanged("the approval is not the one that was asked for")


def decline(market: Market, actor: Actor, approval_id: str, *, key: str | None = None) -> dict[str, Any]:
    """Decline what is asked for. It needs no second person: nothing is allowed by it."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.OFFICER)
        row = open_one(tx.session, approval_id, tx.now)
        by = authorizations.subject_of(tx.session, actor.ref)
        approvals.decide(
            tx.session,
            row,
            state=approvals.DECLINED,
            by=by,
            org=actor.org,
            entry=str(tx.entry.id),
            now=tx.now,
        )
        tx.record(kind="approval.declined", object=about(row), result=ResultGroup(sha256=row.digest))
        return document(tx.session, approvals.find(tx.session, approval_id), tx.now)

    return market.store.perform(actor, EndApproval(approval_id, "declined"), work, key=key).value


def open_one(session: Session, approval_id: str, now: datetime) -> Row[Any]:
    """An approval that waits for a decision. Raises NotFound, :class:`ApprovalClosed`."""
    row = approvals.find(session, approval_id)
    if row.state != approvals.OPEN:
        raise ApprovalClosed(f"the approval is {row.state}")
    if approvals.is_over(row, now):
        raise ApprovalClosed("the approval was not given in time")
    return row


def expire(market: Market) -> int:
    """Let every approval end that was not given, or not used, in time; returns how many."""
    now, ended = market.store.clock(), 0
    for row in market.store.read(lambda session: approvals.due(session, now, limit=_AT_ONCE)):
        with contextlib.suppress(InProgress):  # another worker was first, or an officer
            market.store.perform(SYSTEM, EndApproval(row.id, "expired"), lambda tx: _expire(tx, row.id))  # noqa: B023
            ended += 1
    return ended


def listed(
    market: Market, actor: Actor, *, state: str | None, limit: int = 50, page_token: str | None = None
) -> dict[str, Any]:
    """Approvals, those that wait first, page by page. Officers and operators only; logged.

    Raises RequestInvalid for a state or page token that there is not.
    """
    if state is not None and state not in approvals.STATES:
        raise RequestInvalid(f"state is one of {', '.join(approvals.STATES)}")
    after = place(page_token)
    auditing.note_reading(market, actor, "approvals", "")
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        rows = approvals.listed(session, state=state, limit=limit + 1, after=after)
        return {
            "items": [document(session, row, now) for row in rows[:limit]],
            "next_page_token": token_of(approvals.place(rows[limit - 1])) if len(rows) > limit else None,
        }

    return market.store.read(look)


def show(market: Market, actor: Actor, approval_id: str) -> dict[str, Any]:
    """One approval with all that it is bound to; of a version also what it tells more of, before and now, and
    of a freeze or hold what it is on and why it was set.

    Officers and operators only; logged.
    """
    auditing.note_reading(market, actor, "approval", approval_id)
    now = market.store.clock()

    def look(session: Session) -> dict[str, Any]:
        row = approvals.find(session, approval_id)
        told = document(session, row, now)
        more = policy_changes.of_version(session, told["parameters"]) if row.command == LOOSEN else []
        return told | {"changes": [asdict(one) for one in more], "lifts": _lifted(session, told)}

    return market.store.read(look)


def _lifted(session: Session, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """The freeze or hold that an approval lifts: what it is on, why and when it was set; None for others."""
    kinds = {LIFT_FREEZE: restraints.FREEZE, LIFT_HOLD: restraints.HOLD}
    if told["command"] not in kinds:
        return None
    kind = kinds[told["command"]]
    row = restraints.find(session, told["parameters"][kind], kind=kind)
    return {
        name: getattr(row, name) for name in ("kind", "subject_type", "name", "reason", "set_at", "set_by")
    }


def about(row: Row[Any]) -> ObjectGroup:
    """The approval as the log names it."""
    return ObjectGroup(type="approval", id=row.id)


def document(session: Session, row: Row[Any], now: datetime) -> dict[str, Any]:
    """An approval as officers see it; what nobody decided in time is expired before the worker says so."""
    parameters = approvals.parameters_of(row)
    orgs = [org for org in (row.requested_org, row.decided_org, parameters.get("org")) if org]
    names = organisation_names(session, orgs)
    late = row.state == approvals.OPEN and approvals.is_over(row, now)
    return {
        "approval": row.id,
        "command": row.command,
        "parameters": parameters,
        "in_words": _WORDS[row.command](parameters, names),
        "reason": row.reason,
        "digest": row.digest,
        "state": approvals.EXPIRED if late else row.state,
        "requested_by": row.requested_by,
        "requested_org": names.get(row.requested_org, row.requested_org),
        "requested_at": row.requested_at,
        "expires_at": row.expires_at,
        "decided_by": row.decided_by,
        "decided_org": names.get(row.decided_org, row.decided_org),
        "decided_at": row.decided_at,
        "used_at": row.used_at,
    }


def _amount(given: Mapping[str, Any]) -> str:
    """The rho of a grant, or that it is a buy-out: all that is left then."""
    rho = f"rho {decimal_text(given['rho_nano'], NANO)}"
    return f"all that is left, at most {rho}," if given.get("all_that_is_left") else rho


def until(market: Market, now: datetime) -> datetime:
    """The end of what is asked for, or given, now."""
    return now + timedelta(hours=market.settings.approval_hours)


def _asked(tx: Tx, market: Market, wanted: Wanted, reason: str, by: str) -> Row[Any]:
    if approvals.waiting_of(tx.session, tx.actor.org) >= _MOST_WAITING:
        raise RequestInvalid(
            f"the organisation waits for {_MOST_WAITING} approvals",
            hint="Have a compliance officer decide on some of them first.",
        )
    return approvals.ask(
        tx.session,
        wanted,
        id=new_id("apr"),
        reason=reason,
        by=by,
        ref=tx.actor.ref,
        org=tx.actor.org,
        entry=str(tx.entry.id),
        now=tx.now,
        expires_at=until(market, tx.now),
    )


def _expire(tx: Tx, approval_id: str) -> dict[str, Any]:
    row = approvals.find(tx.session, approval_id)
    waits = row.state == approvals.OPEN or (row.state == approvals.APPROVED and row.used_at is None)
    if not waits or not approvals.is_over(row, tx.now):
        raise InProgress("another process moved this approval on")
    approvals.expire(tx.session, row)
    tx.record(kind="approval.expired", object=about(row), result=ResultGroup(sha256=row.digest))
    return {"approval": row.id}
