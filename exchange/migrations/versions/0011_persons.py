"""Persons, memberships, invitations, the portal's sessions, second factors, and tries that are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def _id(name: str = "id", *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=40), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=32), nullable=nullable)


def upgrade() -> None:
    """Create what this revision adds."""
    op.create_table(
        "person",
        _id(),
        sa.Column("login", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        _time("created_at"),
        _time("disabled_at", nullable=True),
        sa.Column("oidc_issuer", sa.String(length=400), nullable=True),
        sa.Column("oidc_subject", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("login"),
        sa.UniqueConstraint("oidc_issuer", "oidc_subject"),
    )
    op.create_table(
        "membership",
        _id(),
        _id("person"),
        _id("org"),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        _time("created_at"),
        _time("disabled_at", nullable=True),
        sa.ForeignKeyConstraint(["person"], ["person.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("person", "org"),
    )
    op.create_index("membership_by_org", "membership", ["org"], unique=False)
    op.create_table(
        "invitation",
        _id(),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        _id("org", nullable=True),
        sa.Column("login", sa.String(length=254), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=True),
        sa.Column("admin", sa.Boolean(), nullable=False),
        _id("person", nullable=True),
        _time("created_at"),
        _time("expires_at"),
        _time("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("invitation_by_org", "invitation", ["org"], unique=False)
    _sessions()
    _factors()


def _sessions() -> None:
    op.create_table(
        "portal_session",
        _id(),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        _id("person", nullable=True),
        _id("token", nullable=True),
        _id("org"),
        _time("created_at"),
        _time("used_at"),
        _time("expires_at"),
        _time("ended_at", nullable=True),
        _time("proved_at"),
        _time("factor_at", nullable=True),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_sha256"),
    )
    op.create_index("portal_session_by_person", "portal_session", ["person"], unique=False)
    op.create_table(
        "attempt",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("last_at"),
        _time("open_at"),
        sa.PrimaryKeyConstraint("key"),
    )


def _factors() -> None:
    op.create_table(
        "totp",
        _id("person"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _time("created_at"),
        _time("confirmed_at", nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person"),
    )
    op.create_table(
        "passkey",
        _id(),
        _id("person"),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        _time("created_at"),
        _time("used_at", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("credential"),
    )
    op.create_index("passkey_by_person", "passkey", ["person"], unique=False)
    op.create_table(
        "recovery_code",
        _id("person"),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        _time("used_at", nullable=True),
        sa.PrimaryKeyConstraint("person", "sha256"),
    )
    op.create_table(
        "challenge",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("id"),
    )
