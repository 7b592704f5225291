"""The tables of persons. What is kept opens nothing by itself: digests, Argon2 hashes and sealed keys.

``sealed`` holds what is personal, under the key of its subject (:mod:`exchange.persons.subjects`). Where an
older release left it null, the texts stand in columns that are digests or empty otherwise: they are sealed
when the database is first opened.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# `login` is the keyed digest of it, `oidc_subject` that of issuer and subject; `name` and `oidc_issuer` are
# empty.
person = Table(
    "person",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("login", String(254), nullable=False, unique=True),
    Column("name", String(120), nullable=False),
    Column("sealed", LargeBinary),
    Column("password_hash", Text),
    Column("created_at", String(32), nullable=False),
    Column("disabled_at", String(32)),
    Column("oidc_issuer", String(400)),
    Column("oidc_subject", String(255)),
    UniqueConstraint("oidc_issuer", "oidc_subject"),
)

membership = Table(
    "membership",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person", String(40), ForeignKey("person.id"), nullable=False),
    Column("org", String(40), nullable=False),
    Column("role", String(16), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("disabled_at", String(32)),
    UniqueConstraint("person", "org"),
    Index("membership_by_org", "org"),
)

# A link that works once: to join an organisation (`org`), or to set a new password (`person`). `login` is the
# keyed digest of it.
invitation = Table(
    "invitation",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("org", String(40)),
    Column("login", String(254), nullable=False),
    Column("role", String(16)),
    Column("admin", Boolean, nullable=False),
    Column("person", String(40)),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("sealed", LargeBinary),
    Index("invitation_by_org", "org"),
)

# `network` and `agent` are empty, and sealed for the person or token. `proved_at`: when a password, a token
# or a factor was last shown; `factor_at`: when a second factor was.
portal_session = Table(
    "portal_session",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("person", String(40)),
    Column("token", String(40)),
    Column("org", String(40), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("used_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("proved_at", String(32), nullable=False),
    Column("factor_at", String(32)),
    Column("network", String(64), nullable=False),
    Column("agent", String(120), nullable=False),
    Column("sealed", LargeBinary),
    Index("portal_session_by_person", "person"),
)

totp = Table(
    "totp",
    metadata,
    Column("person", String(40), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("confirmed_at", String(32)),
    Column("last_step", BigInteger, nullable=False),
)

# `name` is empty, and sealed.
passkey = Table(
    "passkey",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person", String(40), nullable=False),
    Column("credential", Text, nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("name", String(60), nullable=False),
    Column("sealed", LargeBinary),
    Column("created_at", String(32), nullable=False),
    Column("used_at", String(32)),
    Index("passkey_by_person", "person"),
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("person", String(40), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("used_at", String(32)),
)

# What one request starts and a later one ends: taken once, and soon too old. `holder` is who may take it.
challenge = Table(
    "challenge",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("purpose", String(20), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("value", Text, nullable=False),
    Column("expires_at", String(32), nullable=False),
)

# Tries at a secret, by a keyed digest of what was tried at: no login that somebody typed is kept.
attempt = Table(
    "attempt",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", String(32), nullable=False),
    Column("open_at", String(32), nullable=False),
)
