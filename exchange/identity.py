"""Who acts: organisations, their roles, and the tokens with which they come.

A token is shown once and kept as a SHA-256 digest: it carries 256 random bits, so no slow hash is needed
(NIST SP 800-63B, look-up secrets). Foreign and unknown ids are answered alike.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ForeignKey, Index, MetaData, String, Table, bindparam, insert, select, update

from exchange.errors import NotFound, RequestInvalid, RoleMissing, TokenUnknown

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.scopes import Scopes

metadata = MetaData()

organisation = Table(
    "organisation",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("created_at", String(32), nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), ForeignKey("organisation.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
    Column("created_by", String(40)),  # who made it: a person, or "system" for the operator's command line
    Index("token_by_org", "org"),
)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TOKEN = re.compile(r"(tok_[0-9a-f]{24})\.([A-Za-z0-9_-]{43})")


class Role(enum.StrEnum):
    """What an organisation may do; a token holds one role of its organisation."""

    PROVIDER = "provider"
    BUYER = "buyer"
    OFFICER = "officer"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Actor:
    """Who acts in a command: an organisation through one token or authorization (``ref``), or the exchange.

    ``scopes`` are the limits of an access token, None where there are none; ``credential`` is its id.
    """

    ref: str
    org: str
    name: str
    role: str
    auth: str = "token"
    request_id: str = ""
    ip_truncated: str = ""
    scopes: Scopes | None = None
    credential: str = ""

    def require(self, *roles: Role) -> None:
        """Raise :class:`RoleMissing` unless the actor holds one of ``roles``."""
        if self.role not in roles:
            wanted = " or ".join(roles)
            raise RoleMissing(f"this needs the role {wanted}; the token has the role {self.role}")


SYSTEM = Actor(ref="system", org="system", name="exchange", role="system", auth="system")
NOBODY = Actor(ref="unknown", org="unknown", name="unknown", role="none", auth="none")


def new_id(prefix: str) -> str:
    """A fresh id, ``prefix_`` and 96 random bits in hex."""
    return f"{prefix}_{secrets.token_hex(12)}"


def create_organisation(session: Session, *, id: str, name: str, role: Role, now: datetime) -> str:  # noqa: A002
    """Create the organisation ``name``; the same name and role again returns the id it has.

    Raises :class:`RequestInvalid` for a name that is not a slug or that has another role.
    """
    if not _NAME.fullmatch(name):
        raise RequestInvalid("an organisation's name is lower-case letters, digits and hyphens, at most 63")
    found = session.execute(select(organisation).where(organisation.c.name == name)).one_or_none()
    if found is not None:
        if found.role != role:
            raise RequestInvalid(f"the organisation {name} exists with the role {found.role}")
        return str(found.id)
    session.execute(
        insert(organisation).values(
            id=id, name=name, role=role, created_at=now.isoformat(timespec="microseconds")
        )
    )
    return id


def find_organisation(session: Session, name: str) -> tuple[str, Role]:
    """The id and role of the organisation ``name``. Raises :class:`NotFound`."""
    found = session.execute(select(organisation).where(organisation.c.name == name)).one_or_none()
    if found is None:
        raise NotFound(
            f"there is no organisation {name!r}", hint="Create it: `exchange org create NAME --role ROLE`."
        )
    return str(found.id), Role(found.role)


def role_of(session: Session, org: str) -> Role:
    """The role of an organisation by its id. Raises :class:`NotFound`."""
    found = session.execute(select(organisation.c.role).where(organisation.c.id == org)).scalar_one_or_none()
    if found is None:
        raise NotFound("there is no such organisation")
    return Role(found)


def listed(session: Session, text: str, *, role: str | None, after: str, limit: int) -> list[Row[Any]]:
    """Organisations by name, those whose name holds a text and that hold a role, from one name on."""
    held = organisation.c
    found = select(organisation).where(held.name > after)
    if text:
        found = found.where(held.name.contains(text, autoescape=True))
    if role:
        found = found.where(held.role == role)
    return list(session.execute(found.order_by(held.name).limit(limit)).all())


def is_buyer(session: Session, name_or_id: str) -> bool:
    """Whether there is a buyer of this name or id."""
    named = (organisation.c.name == name_or_id) | (organisation.c.id == name_or_id)
    found = select(organisation.c.id).where(named, organisation.c.role == Role.BUYER)
    return session.execute(found).first() is not None


def organisation_names(session: Session, ids: Collection[str] | None = None) -> dict[str, str]:
    """Organisations' names by id: of these, or of all."""
    if ids is None:
        return {row.id: row.name for row in session.execute(select(organisation.c.id, organisation.c.name))}
    return {row.id: row.name for row in session.execute(_NAMES, {"ids": list(ids)})}


def organisations_of_role(session: Session, role: Role, *, limit: int) -> list[str]:
    """The ids of organisations that hold a role, the oldest first."""
    found = select(organisation.c.id).where(organisation.c.role == role)
    ordered = found.order_by(organisation.c.created_at, organisation.c.id).limit(limit)
    return list(session.scalars(ordered))


_NAMES = select(organisation.c.id, organisation.c.name).where(
    organisation.c.id.in_(bindparam("ids", expanding=True))
)


def create_token(
    session: Session,
    *,
    id: str,  # noqa: A002
    org: str,
    role: Role,
    now: datetime,
    expires_at: datetime | None,
    by: str,
) -> str:
    """Create a token and return its text, which is not kept and cannot be shown again; ``by`` is who asks."""
    held = session.execute(select(organisation.c.role).where(organisation.c.id == org)).scalar_one()
    if held != role:
        raise RoleMissing(f"the organisation holds the role {held}, not {role}")
    secret = secrets.token_urlsafe(32)
    session.execute(
        insert(token).values(
            id=id,
            org=org,
            role=role,
            secret_sha256=_digest(secret),
            created_at=now.isoformat(timespec="microseconds"),
            expires_at=expires_at.isoformat(timespec="microseconds") if expires_at else None,
            created_by=by,
        )
    )
    return f"{id}.{secret}"


def revoke_token(session: Session, id: str, now: datetime) -> None:  # noqa: A002
    """End a token at once; ending it again changes nothing. Raises :class:`NotFound` for an unknown id."""
    if session.execute(select(token.c.id).where(token.c.id == id)).first() is None:
        raise NotFound("there is no such token", hint="A token's id is the part before its dot: tok_...")
    stamp = now.isoformat(timespec="microseconds")
    session.execute(
        update(token).where(token.c.id == id, token.c.revoked_at.is_(None)).values(revoked_at=stamp)
    )


def maker_of(session: Session, token_id: str) -> str | None:
    """Who made a token, by reference; None where nobody knows."""
    found: str | None = session.execute(select(token.c.created_by).where(token.c.id == token_id)).scalar()
    return found


def tokens(session: Session, org: str) -> list[Row[Any]]:
    """An organisation's tokens, newest first."""
    found = select(token).where(token.c.org == org)
    return list(session.execute(found.order_by(token.c.created_at.desc(), token.c.id)).all())


def authenticate(session: Session, text: str, now: datetime) -> Actor:
    """The actor behind a token's text. Raises :class:`TokenUnknown`, the same for every cause."""
    match = _TOKEN.fullmatch(text)
    digest = _digest(match[2] if match else text)
    actor = _actor(session, match[1], now) if match else None
    stored = actor[1] if actor else "0" * 64
    if not hmac.compare_digest(digest, stored) or actor is None:
        raise TokenUnknown("the token is missing, unknown, expired or revoked")
    return actor[0]


def still_valid(session: Session, token_id: str, now: datetime) -> Actor:
    """The actor of a token that a portal session names. Raises :class:`TokenUnknown`."""
    found = _actor(session, token_id, now)
    if found is None:
        raise TokenUnknown("the session has ended", hint="Sign in again.")
    return found[0]


def _actor(session: Session, token_id: str, now: datetime) -> tuple[Actor, str] | None:
    row = session.execute(_TOKEN_OF, {"id": token_id}).one_or_none()
    stamp = now.isoformat(timespec="microseconds")
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= stamp):
        return None
    return Actor(ref=row.id, org=row.org, name=row.name, role=row.role), str(row.secret_sha256)


_TOKEN_OF = (
    select(token, organisation.c.name)
    .join(organisation, organisation.c.id == token.c.org)
    .where(token.c.id == bindparam("id"))
)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
