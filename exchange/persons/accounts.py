"""Persons, their memberships, and the links that work once. Foreign and unknown ids are answered alike."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from exchange import identity
from exchange.errors import InvitationUnknown, LastAdmin, MemberExists, NotFound, RequestInvalid, RoleMissing
from exchange.identity import new_id
from exchange.persons.tables import invitation, membership, person

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement, Row
    from sqlalchemy.orm import Session

INVITATION_LASTS = timedelta(days=7)
_KEPT = timedelta(days=30)

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._%+-]{0,63}@[a-z0-9-]+(\.[a-z0-9-]+)*")
_LINK = re.compile(r"(inv_[0-9a-f]{24})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Member:
    """A person as a member of an organisation."""

    id: str
    person: str
    login: str
    name: str
    org: str
    role: str
    admin: bool
    active: bool
    created_at: str

    def document(self) -> dict[str, Any]:
        """What an organisation's administrators and the operator see of a member."""
        return {
            "member": self.id,
            "person": self.person,
            "login": self.login,
            "name": self.name,
            "role": self.role,
            "admin": self.admin,
            "state": "active" if self.active else "disabled",
            "since": self.created_at,
        }


def normal_login(text: str) -> str:
    """A login as it is kept: like an e-mail address, in small letters. Raises :class:`RequestInvalid`."""
    login = text.strip().lower()
    if len(login) > 254 or not _LOGIN.fullmatch(login):
        raise RequestInvalid("a login looks like an e-mail address: name@example.org")
    return login


def normal_name(text: str) -> str:
    """A person's name as it is kept. Raises :class:`RequestInvalid`."""
    name = " ".join(text.split())
    if not (0 < len(name) <= 120 and name.isprintable()):
        raise RequestInvalid("a name has 1 to 120 characters that can be printed")
    return name


def by_login(session: Session, login: str) -> Row[Any] | None:
    """The person of a login."""
    return session.execute(select(person).where(person.c.login == login)).one_or_none()


def by_subject(session: Session, issuer: str, subject: str) -> Row[Any] | None:
    """The person who is tied to a subject of an identity provider."""
    same = (person.c.oidc_issuer == issuer) & (person.c.oidc_subject == subject)
    return session.execute(select(person).where(same)).one_or_none()


def by_id(session: Session, person_id: str) -> Row[Any]:
    """The person of an id. Raises :class:`NotFound`."""
    found = session.execute(select(person).where(person.c.id == person_id)).one_or_none()
    if found is None:
        raise NotFound("there is no such person")
    return found


def names_of(session: Session, ids: Collection[str]) -> dict[str, str]:
    """Persons' names by id, of those that there are."""
    found = select(person.c.id, person.c.name).where(person.c.id.in_(ids))
    return {row.id: row.name for row in session.execute(found)}


def create_person(
    session: Session, *, login: str, name: str, password_hash: str | None, now: datetime
) -> str:
    """Keep a new person; returns the id. Raises :class:`MemberExists` where the login is taken."""
    if by_login(session, login) is not None:
        raise MemberExists("there is an account with this login", hint="Sign in, then open the link again.")
    made = new_id("per")
    values = {"id": made, "login": login, "name": name, "password_hash": password_hash}
    session.execute(insert(person).values(**values, created_at=_stamp(now)))
    return made


def change_person(session: Session, person_id: str, **values: Any) -> None:
    """Change what is kept of a person."""
    session.execute(update(person).where(person.c.id == person_id).values(**values))


def join(session: Session, person_id: str, *, org: str, role: str, admin: bool, now: datetime) -> str:
    """Make a person a member; returns the membership's id. Raises :class:`MemberExists`, RoleMissing."""
    require_role(session, org, role)
    if member_of(session, person_id, org) is not None:
        raise MemberExists("this person is a member of the organisation already")
    made = new_id("mbr")
    values = {"id": made, "person": person_id, "org": org, "role": role, "admin": admin}
    session.execute(insert(membership).values(**values, created_at=_stamp(now)))
    return made


def require_role(session: Session, org: str, role: str) -> None:
    """Raise :class:`RoleMissing` unless the organisation holds the role that a member is to have."""
    held = identity.organisation.c
    found = session.execute(select(held.role).where(held.id == org)).scalar_one()
    if found != role:
        raise RoleMissing(f"the organisation holds the role {found}, not {role}")


def members(session: Session, org: str) -> list[Member]:
    """Everybody who is a member of an organisation, in the order of joining."""
    found = _memberships().where(membership.c.org == org).order_by(membership.c.created_at, membership.c.id)
    return [_member(row) for row in session.execute(found)]


def memberships(session: Session, person_id: str) -> list[Member]:
    """A person's memberships that are in force, in the order of joining; a disabled person has none."""
    found = _memberships().where(
        membership.c.person == person_id, membership.c.disabled_at.is_(None), person.c.disabled_at.is_(None)
    )
    return [_member(row) for row in session.execute(found.order_by(membership.c.created_at, membership.c.id))]


def organisations(session: Session, person_id: str) -> set[str]:
    """The organisations that a person is a member of, in force or not: who is shut out may come back."""
    return set(session.scalars(select(membership.c.org).where(membership.c.person == person_id)))


def is_forsaken(session: Session, row: Row[Any]) -> bool:
    """Whether nobody can prove to be this person any more: no organisation, no password and no identity.

    A reset took the password, and the membership ended before another one was set.
    """
    known = row.password_hash is not None or row.oidc_subject is not None
    return not known and not organisations(session, row.id)


def member_of(session: Session, person_id: str, org: str) -> Member | None:
    """A person's membership of one organisation, in force or not."""
    found = _memberships().where(membership.c.person == person_id, membership.c.org == org)
    row = session.execute(found).one_or_none()
    return None if row is None else _member(row)


def member(session: Session, org: str, member_id: str) -> Member:
    """A member of this organisation by the membership's id. Raises :class:`NotFound`."""
    found = _memberships().where(membership.c.id == member_id, membership.c.org == org)
    row = session.execute(found).one_or_none()
    if row is None:
        raise NotFound("the organisation has no such member")
    return _member(row)


def change_member(session: Session, member_id: str, **values: Any) -> None:
    """Change a membership."""
    session.execute(update(membership).where(membership.c.id == member_id).values(**values))


def remove_member(session: Session, member_id: str) -> None:
    """End a membership."""
    session.execute(membership.delete().where(membership.c.id == member_id))


def keep_an_admin(session: Session, who: Member) -> None:
    """Raise :class:`LastAdmin` where nobody else administers the organisation who may sign in."""
    others = any(one.admin and one.active for one in members(session, who.org) if one.id != who.id)
    if who.admin and who.active and not others:
        raise LastAdmin("nobody else administers this organisation")


def invite(
    session: Session,
    *,
    login: str,
    now: datetime,
    org: str | None = None,
    role: str | None = None,
    admin: bool = False,
    person_id: str | None = None,
) -> tuple[str, str]:
    """Keep a link that works once: to join ``org``, or for ``person_id`` to set a new password.

    Returns its id and its text, which is not kept. Earlier links for the same purpose end.
    """
    if org is not None and role is not None:
        require_role(session, org, role)
    same = invitation.c.person == person_id if person_id else invitation.c.org == org
    earlier = update(invitation).where(same, invitation.c.login == login, invitation.c.ended_at.is_(None))
    session.execute(earlier.values(ended_at=_stamp(now)))
    made, secret = new_id("inv"), secrets.token_urlsafe(32)
    session.execute(
        insert(invitation).values(
            id=made,
            secret_sha256=_digest(secret),
            org=org,
            login=login,
            role=role,
            admin=admin,
            person=person_id,
            created_at=_stamp(now),
            expires_at=_stamp(now + INVITATION_LASTS),
        )
    )
    return made, f"{made}.{secret}"


def invited(session: Session, text: str, now: datetime) -> Row[Any]:
    """The invitation behind a link's text. Raises :class:`InvitationUnknown`, the same for every cause."""
    match = _LINK.fullmatch(text)
    found = None
    if match:
        found = session.execute(select(invitation).where(invitation.c.id == match[1])).one_or_none()
    stored = found.secret_sha256 if found else "0" * 64
    right = hmac.compare_digest(_digest(match[2] if match else text), stored)
    if found is None or not right or found.ended_at is not None or found.expires_at <= _stamp(now):
        raise InvitationUnknown("this link is unknown, was used, or is too old")
    return found


def open_invitations(session: Session, org: str, now: datetime) -> list[Row[Any]]:
    """The links to join an organisation that nobody has used yet."""
    found = select(invitation).where(
        invitation.c.org == org, invitation.c.ended_at.is_(None), invitation.c.expires_at > _stamp(now)
    )
    return list(session.execute(found.order_by(invitation.c.created_at)).all())


def end_invitation(session: Session, invitation_id: str, now: datetime) -> None:
    """A link ends: it was used, or taken back."""
    ended = update(invitation).where(invitation.c.id == invitation_id)
    session.execute(ended.values(ended_at=_stamp(now)))


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. A link was too old a month ago."""
    return ((invitation.c.id, invitation.c.expires_at < _stamp(now - _KEPT)),)


def end_password_links(session: Session, person_id: str, now: datetime) -> None:
    """The links with which a person could set a new password end."""
    ended = update(invitation).where(invitation.c.person == person_id, invitation.c.ended_at.is_(None))
    session.execute(ended.values(ended_at=_stamp(now)))


def _memberships() -> Any:
    return select(
        membership, person.c.login, person.c.name, person.c.disabled_at.label("person_disabled_at")
    ).join(person, person.c.id == membership.c.person)


def _member(row: Row[Any]) -> Member:
    return Member(
        id=row.id,
        person=row.person,
        login=row.login,
        name=row.name,
        org=row.org,
        role=row.role,
        admin=row.admin,
        active=row.disabled_at is None and row.person_disabled_at is None,
        created_at=row.created_at,
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
