"""Codes and refresh tokens: what stands for an authorization until an access token does.

Each is kept as a SHA-256 digest and works once. One that was used is remembered for a day after its end, so
that a second use is seen for what it is: somebody has a copy.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Index, MetaData, String, Table, Text, func, insert, select, update

from exchange.authorizations import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session

    from exchange.authorizations import Authorization
    from exchange.scopes import Scopes

metadata = MetaData()

oauth_code = Table(
    "oauth_code",
    metadata,
    Column("code_sha256", String(64), primary_key=True),
    Column("authorization_id", String(40), nullable=False),
    Column("client", String(40), nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("challenge", String(128), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("used_at", String(32)),
)

oauth_device = Table(
    "oauth_device",
    metadata,
    Column("device_sha256", String(64), primary_key=True),
    Column("user_code_sha256", String(64), nullable=False, unique=True),
    Column("client", String(40), nullable=False),
    Column("scope", Text, nullable=False),
    Column("network", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("decided_at", String(32)),
    Column("authorization_id", String(40)),
    Column("used_at", String(32)),
    Index("oauth_device_by_end", "expires_at"),
)

oauth_refresh = Table(
    "oauth_refresh",
    metadata,
    Column("secret_sha256", String(64), primary_key=True),
    Column("authorization_id", String(40), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("used_at", String(32)),
    Index("oauth_refresh_by_authorization", "authorization_id"),
)

CODE_S, DEVICE_S, POLL_S = 60, 600, 5
KEPT = timedelta(days=1)
MOST_WAITING, MOST_WAITING_OF_NETWORK = 10_000, 30


def digest(secret: str) -> str:
    """SHA-256 of a code or token: what is kept of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


# -- codes


def issue_code(
    session: Session, authorization: Authorization, *, redirect_uri: str, challenge: str, now: datetime
) -> str:
    """A code for an authorization."""
    code = secrets.token_urlsafe(32)
    session.execute(
        insert(oauth_code).values(
            code_sha256=digest(code),
            authorization_id=authorization.id,
            client=authorization.client,
            redirect_uri=redirect_uri,
            challenge=challenge,
            expires_at=stamp(now + timedelta(seconds=CODE_S)),
        )
    )
    return code


def find_code(session: Session, code: str) -> Row[Any] | None:
    """A code's row, whatever its state."""
    return session.execute(select(oauth_code).where(oauth_code.c.code_sha256 == digest(code))).one_or_none()


def use_code(session: Session, code_sha256: str, now: datetime) -> bool:
    """Use a code up; False where somebody did before."""
    used = update(oauth_code).where(oauth_code.c.code_sha256 == code_sha256, oauth_code.c.used_at.is_(None))
    return bool(session.execute(used.values(used_at=stamp(now))).rowcount)  # type: ignore[attr-defined]


# -- devices


def start_device(
    session: Session, *, device: str, user_code: str, client: str, scopes: Scopes, network: str, now: datetime
) -> None:
    """A device begins to wait for its code to be confirmed."""
    session.execute(
        insert(oauth_device).values(
            device_sha256=digest(device),
            user_code_sha256=digest(user_code),
            client=client,
            scope=str(scopes),
            network=network,
            created_at=stamp(now),
            expires_at=stamp(now + timedelta(seconds=DEVICE_S)),
        )
    )


def devices_waiting(session: Session, now: datetime, *, network: str | None = None) -> int:
    """How many devices wait for a decision, in all or in one network."""
    table = oauth_device.c
    waiting = select(func.count()).where(table.expires_at > stamp(now), table.decided_at.is_(None))
    if network is not None:
        waiting = waiting.where(table.network == network)
    return int(session.execute(waiting).scalar_one())


def find_device(session: Session, device: str) -> Row[Any] | None:
    """The row of a device's own code, whatever its state."""
    found = select(oauth_device).where(oauth_device.c.device_sha256 == digest(device))
    return session.execute(found).one_or_none()


def find_user_code(session: Session, user_code: str, now: datetime) -> Row[Any] | None:
    """The device that waits with this user code, or None."""
    table = oauth_device.c
    found = select(oauth_device).where(
        table.user_code_sha256 == digest(user_code), table.decided_at.is_(None), table.expires_at > stamp(now)
    )
    return session.execute(found).one_or_none()


def decide_device(session: Session, device_sha256: str, *, authorization: str | None, now: datetime) -> None:
    """Write down what was decided: an authorization, or None for no."""
    decided = update(oauth_device).where(oauth_device.c.device_sha256 == device_sha256)
    session.execute(decided.values(decided_at=stamp(now), authorization_id=authorization))


def use_device(session: Session, device_sha256: str, now: datetime) -> bool:
    """Use a device's code up; False where somebody did before."""
    used = update(oauth_device).where(
        oauth_device.c.device_sha256 == device_sha256, oauth_device.c.used_at.is_(None)
    )
    return bool(session.execute(used.values(used_at=stamp(now))).rowcount)  # type: ignore[attr-defined]


# -- refresh tokens


def issue_refresh(session: Session, authorization: Authorization) -> str:
    """A fresh refresh token, which ends with its authorization."""
    secret = f"ref_{secrets.token_urlsafe(32)}"
    session.execute(
        insert(oauth_refresh).values(
            secret_sha256=digest(secret),
            authorization_id=authorization.id,
            expires_at=authorization.expires_at or authorization.created_at,
        )
    )
    return secret


def find_refresh(session: Session, secret: str) -> Row[Any] | None:
    """A refresh token's row, whatever its state."""
    found = select(oauth_refresh).where(oauth_refresh.c.secret_sha256 == digest(secret))
    return session.execute(found).one_or_none()


def use_refresh(session: Session, secret_sha256: str, now: datetime) -> bool:
    """Use a refresh token up; False where somebody did before."""
    used = update(oauth_refresh).where(
        oauth_refresh.c.secret_sha256 == secret_sha256, oauth_refresh.c.used_at.is_(None)
    )
    return bool(session.execute(used.values(used_at=stamp(now))).rowcount)  # type: ignore[attr-defined]


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. Each ended a day ago."""
    ended = stamp(now - KEPT)
    return (
        (oauth_code.c.code_sha256, oauth_code.c.expires_at <= ended),
        (oauth_device.c.device_sha256, oauth_device.c.expires_at <= ended),
        (oauth_refresh.c.secret_sha256, oauth_refresh.c.expires_at <= ended),
    )
