"""Persons, their memberships, and the links that work once. Foreign and unknown ids are answered alike."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, insert, select, update

from exchange import identity
from exchange.data_keys import data_key
from exchange.errors import InvitationUnknown, LastAdmin, MemberExists, NotFound, RequestInvalid, RoleMissing
from exchange.identity import new_id
from exchange.persons import subjects
from exchange.persons.tables import invitation, membership, passkey, person, recovery_code, totp

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement, Row
    from sqlalchemy.orm import Session

INVITATION_LASTS = timedelta(days=7)
KEPT = timedelta(days=30)

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._%+-]{0,63}@[a-z0-9-]+(\.[a-z0-9-]+)*")
_LINK = re.compile(r"(inv_[0-9a-f]{24})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Person:
    """Who somebody is; ``tied`` says whether to an identity of a provider."""

    id: str
    login: str
    name: str
    password_hash: str | None
    disabled_at: str | None
    tied: bool

    @property
    def identity(self) -> dict[str, str]:
        """What an entry's commitment is of: what never changes of a person."""
        return {"login": self.login, "person": self.id}


@dataclass(frozen=True)
class Invitation:
    """A link that works once; ``first`` is that of an organisation's first administrator."""

    id: str
    org: str | None
    login: str
    role: str | None
    admin: bool
    person: str | None
    expires_at: str
    first: bool


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


def by_login(session: Session, login: str) -> Person | None:
    """The person of a login."""
    return _person(session, person.c.login == _login(session, login))


def by_subject(session: Session, issuer: str, subject: str) -> Person | None:
    """The person who is tied to a subject of an identity provider."""
    return _person(session, person.c.oidc_subject == _identity(session, issuer, subject))


def by_id(session: Session, person_id: str) -> Person:
    """The person of an id. Raises :class:`NotFound`."""
    found = find(session, person_id)
    if found is None:
        raise NotFound("there is no such person")
    return found


def find(session: Session, person_id: str) -> Person | None:
    """The person of an id, or None."""
    return _person(session, person.c.id == person_id)


def names_of(session: Session, ids: Collection[str]) -> dict[str, str]:
    """Persons' names by id, of those that there are."""
    keys = data_key.c
    sealed = select(person.c.id, person.c.sealed, keys.object, keys.master, keys.wrapped)
    found = sealed.join(data_key, keys.object == person.c.id).where(person.c.id.in_(ids))
    keeper = subjects.of(session)
    return {row.id: keeper.opened(row, person.name, row.sealed)["name"] for row in session.execute(found)}


def create_person(
    session: Session, *, login: str, name: str, password_hash: str | None, now: datetime
) -> str:
    """Keep a new person; returns the id. Raises :class:`MemberExists` where the login is taken."""
    if by_login(session, login) is not None:
        raise MemberExists("there is an account with this login", hint="Sign in, then open the link again.")
    made = new_id("per")
    sealed = subjects.of(session).seal(session, made, person.name, login=login, name=name)
    values = {"id": made, "login": _login(session, login), "name": "", "password_hash": password_hash}
    session.execute(insert(person).values(**values, sealed=sealed, created_at=_stamp(now)))
    return made


def change_person(session: Session, person_id: str, **values: Any) -> None:
    """Change what is kept of a person beside login, name and identity."""
    session.execute(update(person).where(person.c.id == person_id).values(**values))


def rename(session: Session, who: Person, name: str) -> None:
    """Give a person another name."""
    sealed = subjects.of(session).seal(session, who.id, person.name, login=who.login, name=name)
    change_person(session, who.id, sealed=sealed)


def tie(session: Session, person_id: str, issuer: str, subject: str) -> None:
    """Tie a person to a subject of an identity provider."""
    change_person(session, person_id, oidc_issuer="", oidc_subject=_identity(session, issuer, subject))


def erase(session: Session, who: Person) -> None:
    """Delete what is kept of a person, and the key that all of it is sealed under; sessions are deleted by
    :func:`exchange.persons.sessions.erase`.
    """
    links = list(session.scalars(select(invitation.c.id).where(_links(session, who))))
    session.execute(delete(invitation).where(invitation.c.id.in_(links)))
    for table in (membership, totp, passkey, recovery_code):
        session.execute(delete(table).where(table.c.person == who.id))
    session.execute(delete(person).where(person.c.id == who.id))
    subjects.forget(session, [who.id, *links])


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
    return [_member(session, row) for row in session.execute(found)]


def memberships(session: Session, person_id: str) -> list[Member]:
    """A person's memberships that are in force, in the order of joining; a disabled person has none."""
    return [one for one in every_membership(session, person_id) if one.active]


def every_membership(session: Session, person_id: str) -> list[Member]:
    """A person's memberships, in force or not, in the order of joining."""
    found = _memberships().where(membership.c.person == person_id)
    ordered = found.order_by(membership.c.created_at, membership.c.id)
    return [_member(session, row) for row in session.execute(ordered)]


def organisations(session: Session, person_id: str) -> set[str]:
    """The organisations that a person is a member of, in force or not: who is shut out may come back."""
    return set(session.scalars(select(membership.c.org).where(membership.c.person == person_id)))


def traces(session: Session, who: Person) -> set[str]:
    """The organisations that a person is a member of or was invited to, as far as links are kept."""
    links = select(invitation.c.org).where(_links(session, who), invitation.c.org.is_not(None))
    return organisations(session, who.id) | set(session.scalars(links))


def is_forsaken(session: Session, who: Person) -> bool:
    """Whether nobody can prove to be this person any more: no organisation, no password and no identity.

    A reset took the password, and the membership ended before another one was set.
    """
    known = who.password_hash is not None or who.tied
    return not known and not organisations(session, who.id)


def administered(session: Session, org: str) -> bool:
    """Whether somebody administers an organisation who may sign in."""
    return any(one.admin and one.active for one in members(session, org))


def member_of(session: Session, person_id: str, org: str) -> Member | None:
    """A person's membership of one organisation, in force or not."""
    found = _memberships().where(membership.c.person == person_id, membership.c.org == org)
    row = session.execute(found).one_or_none()
    return None if row is None else _member(session, row)


def member(session: Session, org: str, member_id: str) -> Member:
    """A member of this organisation by the membership's id. Raises :class:`NotFound`."""
    found = _memberships().where(membership.c.id == member_id, membership.c.org == org)
    row = session.execute(found).one_or_none()
    if row is None:
        raise NotFound("the organisation has no such member")
    return _member(session, row)


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
    first: bool = False,
) -> tuple[str, str]:
    """Keep a link that works once: to join ``org``, or for ``person_id`` to set a new password.

    Returns its id and its text, which is not kept. Earlier links for the same purpose end: of those for an
    organisation's ``first`` administrator one alone is open.
    """
    if first and org is not None:
        end_first_links(session, org, now)
    if org is not None and role is not None:
        require_role(session, org, role)
    same = invitation.c.person == person_id if person_id else invitation.c.org == org
    hashed = _login(session, login)
    earlier = update(invitation).where(same, invitation.c.login == hashed, invitation.c.ended_at.is_(None))
    session.execute(earlier.values(ended_at=_stamp(now)))
    made, secret = new_id("inv"), secrets.token_urlsafe(32)
    told = {"login": login, "first": "yes"} if first else {"login": login}
    session.execute(
        insert(invitation).values(
            id=made,
            secret_sha256=_digest(secret),
            org=org,
            login=hashed,
            role=role,
            admin=admin,
            person=person_id,
            sealed=subjects.of(session).seal(session, person_id or made, invitation.name, **told),
            created_at=_stamp(now),
            expires_at=_stamp(now + INVITATION_LASTS),
        )
    )
    return made, f"{made}.{secret}"


def invited(session: Session, text: str, now: datetime) -> Invitation:
    """The invitation behind a link's text. Raises :class:`InvitationUnknown`, the same for every cause."""
    match = _LINK.fullmatch(text)
    found = None
    if match:
        found = session.execute(select(invitation).where(invitation.c.id == match[1])).one_or_none()
    stored = found.secret_sha256 if found else "0" * 64
    right = hmac.compare_digest(_digest(match[2] if match else text), stored)
    if found is None or not right or found.ended_at is not None or found.expires_at <= _stamp(now):
        raise InvitationUnknown("this link is unknown, was used, or is too old")
    made = _invitation(session, found)
    if made.first and made.org is not None and administered(session, made.org):
        raise InvitationUnknown("this link is unknown, was used, or is too old")
    return made


def open_invitations(session: Session, org: str, now: datetime) -> list[Invitation]:
    """The links to join an organisation that nobody has used yet."""
    found = select(invitation).where(
        invitation.c.org == org, invitation.c.ended_at.is_(None), invitation.c.expires_at > _stamp(now)
    )
    rows = session.execute(found.order_by(invitation.c.created_at)).all()
    return [_invitation(session, row) for row in rows]


def end_invitation(session: Session, invitation_id: str, now: datetime) -> None:
    """A link ends: it was used, or taken back."""
    ended = update(invitation).where(invitation.c.id == invitation_id)
    session.execute(ended.values(ended_at=_stamp(now)))


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. A link was too old a month ago; then
    the keys of links that are gone.
    """
    there = exists().where(invitation.c.id == data_key.c.object)
    return (
        (invitation.c.id, invitation.c.expires_at < _stamp(now - KEPT)),
        (data_key.c.object, data_key.c.object.like("inv\\_%", escape="\\") & ~there),
    )


def end_first_links(session: Session, org: str, now: datetime) -> None:
    """The links with which somebody could become the first administrator of an organisation end."""
    for one in open_invitations(session, org, now):
        if one.first:
            end_invitation(session, one.id, now)


def end_password_links(session: Session, person_id: str, now: datetime) -> None:
    """The links with which a person could set a new password end."""
    ended = update(invitation).where(invitation.c.person == person_id, invitation.c.ended_at.is_(None))
    session.execute(ended.values(ended_at=_stamp(now)))


def _memberships() -> Any:
    return (
        select(
            membership,
            person.c.sealed,
            person.c.disabled_at.label("person_disabled_at"),
            data_key.c.object,
            data_key.c.master,
            data_key.c.wrapped,
        )
        .join(person, person.c.id == membership.c.person)
        .join(data_key, data_key.c.object == person.c.id)
    )


def _member(session: Session, row: Row[Any]) -> Member:
    known = subjects.of(session).opened(row, person.name, row.sealed)
    return Member(
        id=row.id,
        person=row.person,
        login=known["login"],
        name=known["name"],
        org=row.org,
        role=row.role,
        admin=row.admin,
        active=row.disabled_at is None and row.person_disabled_at is None,
        created_at=row.created_at,
    )


def _person(session: Session, same: ColumnElement[bool]) -> Person | None:
    row = session.execute(select(person).where(same)).one_or_none()
    if row is None:
        return None
    known = subjects.of(session).open(session, row.id, person.name, row.sealed)
    tied = row.oidc_subject is not None
    return Person(row.id, known["login"], known["name"], row.password_hash, row.disabled_at, tied)


def _invitation(session: Session, row: Row[Any]) -> Invitation:
    known = subjects.of(session).open(session, row.person or row.id, invitation.name, row.sealed)
    return Invitation(
        row.id,
        row.org,
        known["login"],
        row.role,
        row.admin,
        row.person,
        expires_at=row.expires_at,
        first="first" in known,
    )


def _login(session: Session, login: str) -> str:
    return subjects.of(session).digest("login", login)


def _links(session: Session, who: Person) -> ColumnElement[bool]:
    """The links to and for a person."""
    return (invitation.c.person == who.id) | (invitation.c.login == _login(session, who.login))


def _identity(session: Session, issuer: str, subject: str) -> str:
    return subjects.of(session).digest("identity", f"{issuer}\n{subject}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
