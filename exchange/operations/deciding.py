"""The second pair of eyes: an officer approves, on the portal, what another person asked for.

It takes a second factor shown within the last five minutes, which no token of the API has. What an approval
does at once is done in its transaction, with an entry of its own beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import approvals, authorizations
from exchange.audit.entry import Entry, ObjectGroup, ResultGroup
from exchange.errors import ApprovalChanged, RoleMissing, SecondFactorMissing, SecondPersonNeeded
from exchange.identity import Role
from exchange.operations import administering, approving, restraining, second_persons
from exchange.persons import accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.persons.accounts import Member
    from exchange.persons.sessions import SignedIn
    from exchange.store import Tx

_AT_ONCE: dict[str, Callable[[Tx, Mapping[str, Any], str], None]] = {
    approving.LIFT_FREEZE: restraining.lift_freeze,
    approving.LIFT_HOLD: restraining.lift_hold,
    approving.REGISTER: administering.register,
}


@dataclass(frozen=True)
class GiveApproval:
    """Approve what another person asked for; ``digest`` is what the approver was shown."""

    approval: str
    digest: str
    kind: ClassVar[str] = "approval.approved"
    refused: ClassVar[str] = "approval.refused"

    def entry(self) -> Entry:
        """The audit entry: the approval, by id."""
        about = ObjectGroup(type="approval", id=self.approval[:64])
        return Entry(kind=self.kind, outcome="done", object=about)


def approve(
    market: Market, actor: Actor, approval_id: str, *, who: SignedIn | None, digest: str
) -> dict[str, Any]:
    """Approve, and do at once what the approval is for; or allow it, for as long as approvals last.

    Args:
        who: the session of the person on the portal; None for a token, which approves nothing.

    Raises RoleMissing, SecondFactorMissing, ConfirmationNeeded, NotFound, ApprovalClosed, ApprovalChanged,
    SecondPersonNeeded, and whatever refuses the step itself: then nothing is approved.
    """

    def work(tx: Tx) -> dict[str, Any]:
        member = _require_person(tx, who)
        row = approving.open_one(tx.session, approval_id, tx.now)
        if digest != row.digest:
            raise ApprovalChanged("the approval is not the one that was shown")
        approving.check(tx.session, row)
        by = _second(tx.session, actor, row, member)
        approvals.decide(
            tx.session,
            row,
            state=approvals.APPROVED,
            by=by,
            org=actor.org,
            entry=str(tx.entry.id),
            now=tx.now,
            expires_at=approving.until(market, tx.now),
        )
        tx.record(object=approving.about(row), result=ResultGroup(sha256=row.digest))
        act = _AT_ONCE.get(row.command)
        if act is not None:
            act(tx, approvals.parameters_of(row), row.id)
            approvals.use(tx.session, row, entry=str(tx.entry.id), now=tx.now)
        return approving.document(tx.session, approvals.find(tx.session, approval_id), tx.now)

    return market.store.perform(actor, GiveApproval(approval_id, digest), work).value


def _require_person(tx: Tx, who: SignedIn | None) -> Member:
    """The membership of who approves. Raises unless it is a person, an officer now, who has shown a second
    factor within the last five minutes.
    """
    tx.actor.require(Role.OFFICER)
    if who is None or who.person is None or who.person != tx.actor.ref or not who.has_factor:
        raise SecondFactorMissing(
            "an approval takes a person with a second factor",
            hint="Sign in on the portal with login and password, add a second factor, and approve it there.",
        )
    member = accounts.member_of(tx.session, who.person, tx.actor.org)
    if member is None or not member.active or member.role != Role.OFFICER:
        raise RoleMissing("this needs an officer")
    who.require_fresh_factor(tx.now)
    return member


def _second(session: Session, actor: Actor, row: Row[Any], member: Member) -> str:
    """The approver, who is another person than the one who asked, by whatever token or program they did."""
    by = authorizations.subject_of(session, actor.ref)
    if by in (row.requested_by, row.requested_ref):
        raise SecondPersonNeeded("who asks for an approval does not give it")
    second_persons.require_second(session, member, row)
    return by
