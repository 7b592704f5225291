"""The sessions of the portal, kept by the exchange: the browser holds 256 random bits, we hold their digest.

A session ends by itself when it was not used for a while and at a time that nothing moves; it ends at once
with the membership, the person or the token that it stands on.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from exchange import identity
from exchange.errors import ConfirmationNeeded, NotFound, TokenUnknown
from exchange.identity import Actor, Role, new_id
from exchange.persons import accounts, factors, subjects
from exchange.persons.tables import challenge, portal_session

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Row
    from sqlalchemy.orm import Session

FRESH = timedelta(minutes=5)
_WAITING = timedelta(minutes=10)
_TOUCHED = timedelta(minutes=1)
KEPT = timedelta(days=30)
_STRICT = (Role.OFFICER, Role.OPERATOR)


@dataclass(frozen=True)
class Limits:
    """How long a session lasts: unused, and at all."""

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True)
class Holder:
    """Whose session is opened: a person as a member of an organisation, or a token."""

    org: str
    person: str | None = None
    token: str | None = None

    @property
    def subject(self) -> str:
        """Under whose key it is kept where the session came from."""
        found = self.person or self.token
        assert found is not None, "a session stands on a person or a token"
        return found


@dataclass(frozen=True)
class SignedIn:
    """A session in force. ``needs`` is "factor" or "enrolment" while that comes before everything else.

    ``proved_at`` is when the password, the token or a factor was last shown, ``factor_at`` when a second
    factor was.
    """

    id: str
    actor: Actor
    person: str | None
    login: str
    name: str
    admin: bool
    proved_at: datetime
    factor_at: datetime | None
    has_factor: bool
    needs: str
    stale: bool

    def fresh_factor(self, now: datetime) -> bool:
        """Whether a second factor was shown within the last five minutes."""
        return self.factor_at is not None and now - self.factor_at <= FRESH

    def require_fresh_factor(self, now: datetime) -> None:
        """Raise :class:`ConfirmationNeeded` unless a second factor was shown within the last five minutes."""
        if not self.fresh_factor(now):
            raise ConfirmationNeeded("this needs your second factor once more")

    def require_recent_proof(self, now: datetime) -> None:
        """Raise :class:`ConfirmationNeeded` unless the person has just proved who they are.

        That is the second factor where there is one, else the password, within the last five minutes.
        """
        if self.has_factor:
            self.require_fresh_factor(now)
        elif now - self.proved_at > FRESH:
            raise ConfirmationNeeded("this needs your password once more")


def open_session(
    session: Session,
    holder: Holder,
    *,
    now: datetime,
    limits: Limits,
    network: str,
    agent: str,
    factor: bool = False,
) -> tuple[str, str]:
    """Open a session; returns its id and the text for the cookie, which is not kept.

    ``factor``: the person has just shown a second factor, or what stands for one.
    """
    made, secret, stamp = new_id("ses"), secrets.token_urlsafe(32), _stamp(now)
    shown = "".join(c for c in agent if c.isprintable())[:120]
    keeper = subjects.of(session)
    sealed = keeper.seal(session, holder.subject, portal_session.name, network=network, agent=shown)
    session.execute(
        insert(portal_session).values(
            id=made,
            secret_sha256=digest(secret),
            person=holder.person,
            token=holder.token,
            org=holder.org,
            created_at=stamp,
            used_at=stamp,
            expires_at=_stamp(now + limits.absolute),
            proved_at=stamp,
            factor_at=stamp if factor else None,
            network="",
            agent="",
            sealed=sealed,
        )
    )
    return made, secret


def find(session: Session, secret: str, *, now: datetime, limits: Limits, strict: bool) -> SignedIn | None:
    """The session that a cookie's text opens, or None. ``strict``: officers and operators need a factor."""
    row = session.execute(
        select(portal_session).where(portal_session.c.secret_sha256 == digest(secret))
    ).one_or_none()
    if row is None or not _in_force(row, now, limits):
        return None
    return _of_token(session, row, now) if row.token else _of_person(session, row, now, strict=strict)


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. A session ended a month ago."""
    return ((portal_session.c.id, portal_session.c.expires_at < _stamp(now - KEPT)),)


def rotate(session: Session, session_id: str, *, now: datetime, **values: Any) -> str:
    """Give a session a new text for its cookie, with whatever else changes; the old one opens nothing."""
    secret = secrets.token_urlsafe(32)
    same = update(portal_session).where(
        portal_session.c.id == session_id, portal_session.c.ended_at.is_(None)
    )
    done = session.execute(same.values(secret_sha256=digest(secret), used_at=_stamp(now), **values))
    if not done.rowcount:  # type: ignore[attr-defined]
        raise NotFound("the session has ended", hint="Sign in again.")
    return secret


def proved(session: Session, session_id: str, *, now: datetime, factor: bool) -> str:
    """Whoever has the session has just proved who they are: note it, and rotate."""
    more = {"factor_at": _stamp(now)} if factor else {}
    return rotate(session, session_id, now=now, proved_at=_stamp(now), **more)


def touch(session: Session, session_id: str, now: datetime) -> None:
    """A session was used."""
    same = update(portal_session).where(portal_session.c.id == session_id)
    session.execute(same.values(used_at=_stamp(now)))


def listed(session: Session, who: SignedIn, now: datetime, limits: Limits) -> list[dict[str, Any]]:
    """The sessions in force of the same person, or of the same token, newest first."""
    found = select(portal_session).where(_same(who)).order_by(portal_session.c.created_at.desc())
    opened = subjects.of(session).open
    return [
        {
            "session": row.id,
            "created_at": row.created_at,
            "used_at": row.used_at,
            **opened(session, row.person or row.token, portal_session.name, row.sealed),
            "this": row.id == who.id,
        }
        for row in session.execute(found)
        if _in_force(row, now, limits)
    ]


def end(session: Session, who: SignedIn, session_id: str, now: datetime) -> None:
    """End one session of the same person or token. Raises :class:`NotFound`."""
    same = update(portal_session).where(
        _same(who), portal_session.c.id == session_id, portal_session.c.ended_at.is_(None)
    )
    if not session.execute(same.values(ended_at=_stamp(now))).rowcount:  # type: ignore[attr-defined]
        raise NotFound("there is no such session")


def end_all(session: Session, person: str, now: datetime, *, org: str | None = None) -> None:
    """End every session of a person, or those in one organisation."""
    mine = update(portal_session).where(
        portal_session.c.person == person, portal_session.c.ended_at.is_(None)
    )
    if org is not None:
        mine = mine.where(portal_session.c.org == org)
    session.execute(mine.values(ended_at=_stamp(now)))


def organisations(session: Session, person: str) -> set[str]:
    """The organisations that a person has signed in to, as far as sessions are kept."""
    mine = select(portal_session.c.org).where(portal_session.c.person == person)
    return set(session.scalars(mine.distinct()))


def erase(session: Session, person: str) -> None:
    """Delete every session of a person, and what any of them had begun."""
    mine = select(portal_session.c.id).where(portal_session.c.person == person)
    session.execute(delete(challenge).where(challenge.c.holder.in_(mine)))
    session.execute(delete(portal_session).where(portal_session.c.person == person))


def digest(secret: str) -> str:
    """What is kept of a cookie's text: it has 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(f"session:{secret}".encode()).hexdigest()


def _in_force(row: Row[Any], now: datetime, limits: Limits) -> bool:
    unused = now - datetime.fromisoformat(row.used_at)
    return row.ended_at is None and row.expires_at > _stamp(now) and unused < limits.idle


def _of_token(session: Session, row: Row[Any], now: datetime) -> SignedIn | None:
    try:
        actor = identity.still_valid(session, row.token, now)
    except TokenUnknown:
        return None
    return _signed_in(row, actor, now, person=None, login="", name=actor.name)


def _of_person(session: Session, row: Row[Any], now: datetime, *, strict: bool) -> SignedIn | None:
    member = accounts.member_of(session, row.person, row.org)
    if member is None or not member.active:
        return None
    names = identity.organisation_names(session)
    actor = Actor(ref=row.person, org=row.org, name=names[row.org], role=member.role)
    has_factor = bool(factors.of_person(session, row.person))
    needs = ""
    if row.factor_at is None:
        needs = "factor" if has_factor else "enrolment" if strict and member.role in _STRICT else ""
    if needs and now - datetime.fromisoformat(row.created_at) > _WAITING:
        return None
    return _signed_in(
        row,
        actor,
        now,
        person=row.person,
        login=member.login,
        name=member.name,
        admin=member.admin,
        has_factor=has_factor,
        needs=needs,
    )


def _signed_in(
    row: Row[Any],
    actor: Actor,
    now: datetime,
    *,
    person: str | None,
    login: str,
    name: str,
    admin: bool = False,
    has_factor: bool = False,
    needs: str = "",
) -> SignedIn:
    return SignedIn(
        id=row.id,
        actor=actor,
        person=person,
        login=login,
        name=name,
        admin=admin,
        proved_at=datetime.fromisoformat(row.proved_at),
        factor_at=datetime.fromisoformat(row.factor_at) if row.factor_at else None,
        has_factor=has_factor,
        needs=needs,
        stale=now - datetime.fromisoformat(row.used_at) > _TOUCHED,
    )


def _same(who: SignedIn) -> Any:
    if who.person is not None:
        return portal_session.c.person == who.person
    return portal_session.c.token == who.actor.ref


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
