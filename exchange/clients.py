"""Clients: the programs that ask for access on an organisation's behalf (RFC 6749, section 2).

A confidential client keeps a secret, which is shown once and kept as a SHA-256 digest: it carries 256 random
bits. A public client has none. ``exchange-cli`` is the command line of everybody, and of no organisation.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Column, Index, MetaData, String, Table, Text, insert, select, update

from exchange import addresses
from exchange.errors import NotFound, RequestInvalid
from exchange.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

metadata = MetaData()

oauth_client = Table(
    "oauth_client",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("name", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("secret_sha256", String(64)),
    Column("scope", Text, nullable=False),
    Column("redirect_uris", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("created_by", String(40), nullable=False),
    Column("revoked_at", String(32)),
    Index("oauth_client_by_org", "org", "created_at"),
)

CONFIDENTIAL, PUBLIC = "confidential", "public"
CLIENT_CREDENTIALS, REFRESH = "client_credentials", "refresh_token"
CODE, DEVICE = "authorization_code", "urn:ietf:params:oauth:grant-type:device_code"

MOST_CLIENTS = 100
_MOST_URIS, _LONGEST_URI = 10, 500


@dataclass(frozen=True)
class Client:
    """A program that asks for access; ``scopes`` is the most that it can be given."""

    id: str
    org: str | None
    name: str
    kind: str
    scopes: Scopes
    redirect_uris: tuple[str, ...] = ()
    secret_sha256: str | None = None
    created_at: str = ""
    revoked_at: str | None = None

    @property
    def grants(self) -> tuple[str, ...]:
        """The ways in which it may ask."""
        alone = (CLIENT_CREDENTIALS,) if self.kind == CONFIDENTIAL else (DEVICE, REFRESH)
        return (*alone, CODE, REFRESH) if self.redirect_uris else alone

    def knows(self, secret: str) -> bool:
        """Whether it is this client's secret; compared in constant time."""
        given = hashlib.sha256(secret.encode()).hexdigest()
        return hmac.compare_digest(given, self.secret_sha256 or "0" * 64)


CLI = Client("exchange-cli", None, "Command line of the exchange", PUBLIC, Scopes(account=True))


def create(
    session: Session,
    *,
    id: str,  # noqa: A002
    org: str,
    name: str,
    kind: str,
    scopes: Scopes,
    redirect_uris: Sequence[str],
    by: str,
    now: datetime,
) -> str:
    """Create a client and return its secret, which cannot be shown again; a public client has an empty one.

    Raises :class:`RequestInvalid`, also where the organisation has :data:`MOST_CLIENTS` already.
    """
    _check(name, kind, redirect_uris)
    if len(of_organisation(session, org)) >= MOST_CLIENTS:
        raise RequestInvalid(f"the organisation has {MOST_CLIENTS} clients", hint="Revoke one of them first.")
    secret = secrets.token_urlsafe(32) if kind == CONFIDENTIAL else ""
    session.execute(
        insert(oauth_client).values(
            id=id,
            org=org,
            name=name,
            kind=kind,
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest() if secret else None,
            scope=str(scopes),
            redirect_uris=json.dumps(list(redirect_uris)),
            created_at=now.isoformat(timespec="microseconds"),
            created_by=by,
        )
    )
    return secret


def find(session: Session, client_id: str) -> Client | None:
    """A client that is not revoked, or None."""
    if client_id == CLI.id:
        return CLI
    row = session.execute(
        select(oauth_client).where(oauth_client.c.id == client_id, oauth_client.c.revoked_at.is_(None))
    ).one_or_none()
    return _client(row) if row is not None else None


def maker_of(session: Session, client_id: str) -> str | None:
    """Who made a client, by reference; None where there is no such client."""
    found: str | None = session.execute(
        select(oauth_client.c.created_by).where(oauth_client.c.id == client_id)
    ).scalar()
    return found


def of_organisation(session: Session, org: str) -> list[Client]:
    """An organisation's clients that are not revoked, newest first."""
    held = select(oauth_client).where(oauth_client.c.org == org, oauth_client.c.revoked_at.is_(None))
    rows = session.execute(held.order_by(oauth_client.c.created_at.desc(), oauth_client.c.id.desc()))
    return [_client(row) for row in rows]


def revoke(session: Session, client_id: str, *, org: str | None, now: datetime) -> tuple[str, bool]:
    """End a client with every token of it; returns whose it was, and False where it had ended before.

    Raises :class:`NotFound` for an unknown id, and for another organisation's unless ``org`` is None.
    """
    found = select(oauth_client.c.org).where(oauth_client.c.id == client_id)
    holder = session.execute(found).scalar_one_or_none()
    if holder is None or org not in (None, holder):
        raise NotFound("there is no such client")
    ended = update(oauth_client).where(oauth_client.c.id == client_id, oauth_client.c.revoked_at.is_(None))
    done = session.execute(ended.values(revoked_at=now.isoformat(timespec="microseconds")))
    return str(holder), bool(done.rowcount)  # type: ignore[attr-defined]


def lock(session: Session, client_id: str) -> None:
    """Hold the client's row to the end of the transaction: what its tokens spend is counted in turn."""
    held = select(oauth_client.c.id).where(oauth_client.c.id == client_id)
    session.execute(held.with_for_update())


def _client(row: Row[tuple[object, ...]]) -> Client:
    return Client(
        id=row.id,
        org=row.org,
        name=row.name,
        kind=row.kind,
        scopes=Scopes.parse(row.scope),
        redirect_uris=tuple(json.loads(row.redirect_uris)),
        secret_sha256=row.secret_sha256,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _check(name: str, kind: str, redirect_uris: Sequence[str]) -> None:
    if not (0 < len(name) <= 80 and name.isprintable() and name.strip() == name):
        raise RequestInvalid("a client's name is 1 to 80 printable characters")
    if kind not in (CONFIDENTIAL, PUBLIC):
        raise RequestInvalid("a client is confidential or public")
    if len(redirect_uris) > _MOST_URIS:
        raise RequestInvalid(f"a client has at most {_MOST_URIS} redirect URIs")
    for uri in redirect_uris:
        _check_redirect(uri)


def _check_redirect(uri: str) -> None:
    """Https anywhere, http on this machine (RFC 9700, section 2.1); it is compared letter by letter later."""
    try:
        found = addresses.parse(uri) if len(uri) <= _LONGEST_URI and "*" not in uri else None
    except ValueError:
        found = None
    if found is None or (found.scheme != "https" and found.host not in addresses.LOOPBACK):
        raise RequestInvalid(
            "a redirect URI is absolute, with https, without a fragment or a login",
            hint="Plain http is for 127.0.0.1, [::1] and localhost alone.",
        )
