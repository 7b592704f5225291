"""Authorizations: what an organisation let a client do.

One authorization is one decision of a person, or one client acting for itself; every code, refresh token and
access token belongs to one, and none outlives it. An access token is not kept: it names its authorization,
which is looked up on each request.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Index, MetaData, String, Table, Text, func, insert, select, update

from exchange import clients, identity, queries
from exchange.errors import NotFound, RoleMissing, ScopeInvalid, ScopeMissing, TokenUnknown
from exchange.identity import Actor, Role, new_id, organisation
from exchange.persons import accounts
from exchange.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.orm import Session

metadata = MetaData()

# From an authorization over its client and a token or program that made the client to a person.
_LONGEST_CHAIN = 100
MOST_STANDING = 50

oauth_authorization = Table(
    "oauth_authorization",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("client", String(40), nullable=False),
    Column("subject", String(40), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
    Index("oauth_authorization_by_org", "org", "created_at"),
    Index("oauth_authorization_by_client", "client", "subject"),
)

oauth_revoked = Table(
    "oauth_revoked",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires_at", String(32), nullable=False),
    Index("oauth_revoked_by_end", "expires_at"),
)


@dataclass(frozen=True)
class Authorization:
    """One decision; ``subject`` is who took it: a token's id, or the client's own."""

    id: str
    org: str
    client: str
    subject: str
    role: str
    scopes: Scopes
    created_at: str
    expires_at: str | None = None


def stamp(now: datetime) -> str:
    """A time as the tables hold it, sortable as text."""
    return now.isoformat(timespec="microseconds")


def grant(
    session: Session, *, approver: Actor, client: str, scopes: Scopes, now: datetime, days: int
) -> Authorization:
    """What a person lets a client do, for so many days."""
    made = Authorization(
        id=new_id("aut"),
        org=approver.org,
        client=client,
        subject=approver.ref,
        role=str(approver.role),
        scopes=scopes,
        created_at=stamp(now),
        expires_at=stamp(now + timedelta(days=days)),
    )
    _insert(session, made)
    return made


def standing(session: Session, client: clients.Client, scopes: Scopes, now: datetime) -> Authorization:
    """What a client does for itself in one scope: one authorization, so that asking again renews no limit.

    Raises :class:`ScopeInvalid` for a further scope after :data:`MOST_STANDING`.
    """
    if client.org is None:
        raise NotFound("there is no such client")
    held = select(oauth_authorization).where(
        oauth_authorization.c.client == client.id,
        oauth_authorization.c.subject == client.id,
        oauth_authorization.c.scope == str(scopes),
        oauth_authorization.c.revoked_at.is_(None),
    )
    row = session.execute(held.limit(1)).one_or_none()
    if row is not None:
        return _authorization(row)
    own = select(func.count()).where(
        oauth_authorization.c.client == client.id,
        oauth_authorization.c.subject == client.id,
        oauth_authorization.c.revoked_at.is_(None),
    )
    if session.execute(own).scalar_one() >= MOST_STANDING:
        raise ScopeInvalid(
            f"the client has asked for {MOST_STANDING} different scopes", hint="Ask for one of them again."
        )
    role = session.execute(select(organisation.c.role).where(organisation.c.id == client.org)).scalar_one()
    made = Authorization(new_id("aut"), client.org, client.id, client.id, role, scopes, stamp(now))
    _insert(session, made)
    return made


def find(session: Session, authorization_id: str, *, org: str | None = None) -> Authorization:
    """An authorization by id, of one organisation unless ``org`` is None. Raises :class:`NotFound`."""
    row = session.execute(
        select(oauth_authorization).where(oauth_authorization.c.id == authorization_id)
    ).one_or_none()
    if row is None or org not in (None, row.org):
        raise NotFound("there is no such authorization")
    return _authorization(row)


def of_organisation(
    session: Session, org: str, now: datetime, *, subject: str | None = None, limit: int = 500
) -> list[Authorization]:
    """An organisation's authorizations that are in force, or those of one subject alone, newest first."""
    table = oauth_authorization.c
    held = select(oauth_authorization).where(
        table.org == org,
        table.revoked_at.is_(None),
        table.expires_at.is_(None) | (table.expires_at > stamp(now)),
    )
    if subject is not None:
        held = held.where(table.subject == subject)
    rows = session.execute(held.order_by(table.created_at.desc(), table.id.desc()).limit(limit))
    return [_authorization(row) for row in rows]


def revoke(session: Session, authorization_id: str, now: datetime) -> None:
    """End an authorization with every token of it."""
    ended = update(oauth_authorization).where(
        oauth_authorization.c.id == authorization_id, oauth_authorization.c.revoked_at.is_(None)
    )
    session.execute(ended.values(revoked_at=stamp(now)))


def revoke_of(session: Session, subject: str, now: datetime, *, org: str | None = None) -> None:
    """End all that somebody let in, for one organisation or for all; no later membership revives it."""
    table = oauth_authorization.c
    ended = update(oauth_authorization).where(table.subject == subject, table.revoked_at.is_(None))
    if org is not None:
        ended = ended.where(table.org == org)
    session.execute(ended.values(revoked_at=stamp(now)))


def of_subject(subject: str) -> Select[tuple[str]]:
    """Selects the ids of what somebody let in, in force or not."""
    table = oauth_authorization.c
    return select(table.id).where(table.subject == subject)


def require_live(session: Session, authorization_id: str, now: datetime) -> tuple[Authorization, Actor]:
    """An authorization in force, and the actor that it stands for. Raises :class:`TokenUnknown`.

    Its client, its organisation and whoever decided must all be there still.
    """
    row = session.execute(
        select(oauth_authorization, organisation.c.name.label("org_name"), organisation.c.role.label("held"))
        .join(organisation, organisation.c.id == oauth_authorization.c.org)
        .where(oauth_authorization.c.id == authorization_id)
    ).one_or_none()
    if row is None or row.revoked_at is not None:
        raise _unknown()
    if (row.expires_at is not None and row.expires_at <= stamp(now)) or row.held != row.role:
        raise _unknown()
    found, client = _authorization(row), clients.find(session, row.client)
    if client is None or client.org not in (None, found.org) or not found.scopes.within(client.scopes):
        raise _unknown()
    if found.subject != client.id:
        _require_subject(session, found, now)
    actor = Actor(
        ref=found.id,
        org=found.org,
        name=row.org_name,
        role=Role(found.role),
        auth="oauth",
        scopes=found.scopes,
    )
    return found, actor


def _require_subject(session: Session, found: Authorization, now: datetime) -> None:
    """Raise :class:`TokenUnknown` unless whoever decided - a person or a token - still might."""
    if found.subject.startswith("per_"):
        member = accounts.member_of(session, found.subject, found.org)
        if member is None or not member.active or member.role != found.role:
            raise _unknown()
        return
    try:
        identity.still_valid(session, found.subject, now)
    except TokenUnknown:
        raise _unknown() from None


def decider(session: Session, actor: Actor) -> str:
    """Who stands behind an actor: the person, token or client that decided on its authorization, else itself.

    Raises :class:`ScopeMissing` where the authorization is not for everything.
    """
    if actor.scopes is None:
        return actor.ref
    actor.scopes.require_account()
    return find(session, actor.ref).subject


def subject_of(session: Session, ref: str) -> str:
    """Who is answerable for what an actor of this reference decides, where two different ones must.

    The person behind an authorization, or who made the token or client that acts; a token or client that the
    operator made at the machine is its own. Raises :class:`RoleMissing` where nobody knows who made it.
    """
    for _ in range(_LONGEST_CHAIN):
        behind = _behind(session, ref)
        if behind in (ref, identity.SYSTEM.ref):
            return ref
        if behind is None:
            break
        ref = behind
    raise RoleMissing("nobody knows who made this token", hint="Sign in, or use another token.")


def _behind(session: Session, ref: str) -> str | None:
    """Who let an actor in or made it; a person is nobody's."""
    if ref.startswith("aut_"):
        return find(session, ref).subject
    if ref.startswith("cli_"):
        return clients.maker_of(session, ref)
    return identity.maker_of(session, ref) if ref.startswith("tok_") else ref


def authenticate(session: Session, claims: Mapping[str, Any], now: datetime) -> Actor:
    """The actor behind an access token whose signature was checked. Raises :class:`TokenUnknown`."""
    found, actor = require_live(session, claims["authorization"], now)
    if (found.client, found.subject) != (claims["client_id"], claims["sub"]):
        raise _unknown()
    try:
        scopes = Scopes.parse(claims["scope"])
    except ScopeInvalid:
        raise _unknown() from None
    if not scopes.within(found.scopes) or is_revoked(session, claims["jti"]):
        raise _unknown()
    return dataclasses.replace(actor, scopes=scopes, credential=claims["jti"])


def still_valid(session: Session, actor: Actor, now: datetime) -> None:
    """Raise :class:`TokenUnknown` where what the actor came with was revoked since; held to the end.

    For transactions that reserve money and privacy: on PostgreSQL the rows are locked in the order of their
    tables, so that a revocation is either seen or comes after.
    """
    if actor.ref.startswith("tok_"):
        identity.still_valid(session, actor.ref, now)
    if not actor.ref.startswith("aut_"):
        return
    client = find(session, actor.ref).client
    clients.lock(session, client)
    held = select(oauth_authorization.c.id).where(oauth_authorization.c.id == actor.ref)
    session.execute(held.with_for_update())
    require_live(session, actor.ref, now)
    if is_revoked(session, actor.credential):
        raise _unknown()


def permit_rho(session: Session, actor: Actor, rho_nano: int) -> None:
    """Raise :class:`ScopeMissing` where a question costs more rho than what is left to a token.

    What the token, its authorization and its client may spend in all are each compared with what was spent,
    or is held, under the authorization and by the client. In a reserving transaction :func:`still_valid`
    comes first: it holds both rows, so that two questions are counted one after the other.
    """
    if actor.scopes is None or rho_nano == 0:
        return
    found = find(session, actor.ref)
    client = clients.find(session, found.client)
    if client is None:
        raise _unknown()
    own = [one for one in (actor.scopes.rho_nano, found.scopes.rho_nano) if one is not None]
    if own and queries.rho_authorized(session, [found.id]) + rho_nano > min(own):
        raise _too_much()
    if client.scopes.rho_nano is None:
        return
    of_client = select(oauth_authorization.c.id).where(oauth_authorization.c.client == client.id)
    if queries.rho_authorized(session, of_client) + rho_nano > client.scopes.rho_nano:
        raise _too_much()


# -- access tokens that were revoked one by one


def revoke_token(session: Session, jti: str, expires_at: str) -> None:
    """Refuse one access token from now on."""
    if not is_revoked(session, jti):
        session.execute(insert(oauth_revoked).values(jti=jti, expires_at=expires_at))


def is_revoked(session: Session, jti: str) -> bool:
    """Whether an access token was revoked by itself."""
    return session.execute(select(oauth_revoked.c.jti).where(oauth_revoked.c.jti == jti)).first() is not None


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. The token's own time is over."""
    return ((oauth_revoked.c.jti, oauth_revoked.c.expires_at <= stamp(now)),)


def _insert(session: Session, made: Authorization) -> None:
    values = {**dataclasses.asdict(made), "scope": str(made.scopes)}
    del values["scopes"]
    session.execute(insert(oauth_authorization).values(**values))


def _authorization(row: Row[Any]) -> Authorization:
    return Authorization(
        id=row.id,
        org=row.org,
        client=row.client,
        subject=row.subject,
        role=row.role,
        scopes=Scopes.parse(row.scope),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def _unknown() -> TokenUnknown:
    return TokenUnknown("the token is missing, unknown, expired or revoked")


def _too_much() -> ScopeMissing:
    return ScopeMissing(
        "the token's limit on rho does not cover the question",
        hint="Ask with less rho (a larger error), or ask for a token whose scope has a larger `rho:`.",
    )
