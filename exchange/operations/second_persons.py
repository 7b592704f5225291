"""Whether two persons are two: neither let the other in, and who approves was there before it was asked for.

Whoever makes the link that an account is opened by - an invitation, or a new password for a member who lost
everything - could have used it, and be both persons. The log says who made it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from exchange.audit import log
from exchange.errors import SecondPersonNeeded
from exchange.identity import SYSTEM
from exchange.persons import accounts, factors

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.audit.log import Record
    from exchange.persons.accounts import Member

_ASK_ANEW = "An officer who was one before may approve it; or decline it, and ask anew."


def require_second(session: Session, member: Member, row: Row[Any]) -> None:
    """Raise :class:`SecondPersonNeeded` unless a member may give this approval as another person than the one
    who asked for it.
    """
    since = factors.since(session, member.person)
    if member.created_at > row.requested_at or since is None or since > row.requested_at:
        raise SecondPersonNeeded(
            "the approver was no officer with a second factor yet when it was asked for", hint=_ASK_ANEW
        )
    if row.requested_by in let_in_by(session, member.person) or member.person in let_in_by(
        session, row.requested_by
    ):
        raise SecondPersonNeeded(
            "one of the two persons let the other in, by an invitation or a reset",
            hint="Have an officer approve whom somebody else let in, such as the operator.",
        )


def let_in_by(session: Session, person: str) -> set[str]:
    """Who could have opened an account: who last reset it, and who since then invited the person.

    Not the operator at the machine, who could do without; nobody for what is no person.
    """
    members = [accounts.member_of(session, person, org) for org in accounts.organisations(session, person)]
    resets = [_last(session, "member.reset", one) for one in members if one is not None]
    reset = max((one for one in resets if one is not None), key=lambda one: one.seq, default=None)
    found = {_actor(reset)} if reset is not None else set()
    for member in members:
        joined = _last(session, "member.joined", member) if member is not None else None
        if member is not None and joined is not None and (reset is None or joined.seq > reset.seq):
            found.add(_inviter(session, member.org, joined))
    return found - {SYSTEM.ref}


def _inviter(session: Session, org: str, joined: Record) -> str:
    """Who made the invitation that was used; it was not older than links last."""
    at = datetime.fromisoformat(joined.document["time"])
    link, token = joined.document["object"]["version"], None
    while True:
        page = log.search(
            session,
            kind="member.invited",
            q=org,
            since=at - accounts.INVITATION_LASTS,
            limit=500,
            page_token=token,
        )
        for one in page.entries:
            if one.document["object"]["version"] == link:
                return _actor(one)
        token = page.next_token
        if token is None:
            raise SecondPersonNeeded("the log does not say who invited one of the two persons")


def _last(session: Session, kind: str, member: Member) -> Record | None:
    records = log.search(session, kind=kind, outcome="done", q=member.id, limit=1).entries
    return records[0] if records else None


def _actor(record: Record) -> str:
    actor: dict[str, str] = record.document["actor"]
    return actor["ref"]
