"""Whether two persons are two: neither let the other in, and who approves was there before it was asked for.

Whoever makes the link that an account is opened by - an invitation, or a new password for a member who lost
everything - could have used it, and be both persons; and then be whoever the account lets in. The log says
who made it, also by a membership that has ended: the account keeps its password and factors.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from exchange.audit import log
from exchange.errors import SecondPersonNeeded
from exchange.identity import SYSTEM
from exchange.operations.arriving import LEFT
from exchange.persons import accounts, factors

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.audit.log import Record
    from exchange.persons.accounts import Member

_MOST_LINKS = 100
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
    asked_by, approver = row.requested_by, member.person
    if asked_by in let_in_by(session, approver) or approver in let_in_by(session, asked_by):
        raise SecondPersonNeeded(
            "one of the two persons let the other in, by invitations or resets, or somebody who did",
            hint="Have an officer approve whom somebody else let in, such as the operator.",
        )


def let_in_by(session: Session, person: str) -> set[str]:
    """Who could have opened an account: who made the links to it, and who could have opened theirs by then.

    Not the operator at the machine, who could do without; nobody for what is no person. Raises
    :class:`SecondPersonNeeded` where that takes more than 100 links.
    """
    found, followed = set[str](), set[int]()
    waiting = _links_to(session, person, None)
    while waiting:
        link = waiting.pop()
        if _actor(link) == SYSTEM.ref or link.seq in followed:
            continue
        if len(followed) == _MOST_LINKS:
            raise SecondPersonNeeded("too many persons let one of the two in, one after the other")
        followed.add(link.seq)
        found.add(_actor(link))
        waiting += _links_to(session, _actor(link), link.seq)
    return found


def _links_to(session: Session, person: str, before: int | None) -> list[Record]:
    """The entries of the links that could have opened an account before an entry of the log: the last reset,
    which took everything away, and the invitations that were used since.
    """
    ids = _memberships(session, person)
    resets = [_last(session, "member.reset", one, before) for one in ids]
    found = sorted((one for one in resets if one is not None), key=lambda one: one.seq)[-1:]
    start = found[0].seq if found else -1
    joined = [_last(session, "member.joined", one, before) for one in ids]
    return found + [_invited(session, one) for one in joined if one is not None and one.seq > start]


def _memberships(session: Session, person: str) -> list[str]:
    """The ids of the memberships that a person has or had."""
    page = log.search(session, kind=LEFT, q=person, limit=_MOST_LINKS)
    if page.next_token is not None:
        raise SecondPersonNeeded("one of the two persons left organisations too often to tell")
    ended = [one.document["object"]["version"] for one in page.entries]
    return ended + [one.id for one in accounts.every_membership(session, person)]


def _invited(session: Session, joined: Record) -> Record:
    """The entry of the invitation that was used; it was not older than links last."""
    since = datetime.fromisoformat(joined.document["time"]) - accounts.INVITATION_LASTS
    link = joined.document["object"]["version"]
    token: str | None = str(joined.seq)
    while token is not None:
        page = log.search(session, kind="member.invited", since=since, limit=500, page_token=token)
        for one in page.entries:
            if one.document["object"]["version"] == link:
                return one
        token = page.next_token
    raise SecondPersonNeeded("the log does not say who invited one of the two persons")


def _last(session: Session, kind: str, member: str, before: int | None) -> Record | None:
    token = None if before is None else str(before)
    records = log.search(session, kind=kind, outcome="done", q=member, limit=1, page_token=token).entries
    return records[0] if records else None


def _actor(record: Record) -> str:
    actor: dict[str, str] = record.document["actor"]
    return actor["ref"]
