"""Clients, authorizations, codes and refresh tokens; under which authorization a query was asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds."""
    op.create_table(
        "oauth_client",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("redirect_uris", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=40), nullable=False),
        sa.Column("revoked_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("oauth_client_by_org", "oauth_client", ["org", "created_at"], unique=False)
    op.create_table(
        "oauth_authorization",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("client", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=True),
        sa.Column("revoked_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("oauth_authorization_by_org", "oauth_authorization", ["org", "created_at"], unique=False)
    op.create_index(
        "oauth_authorization_by_client", "oauth_authorization", ["client", "subject"], unique=False
    )
    op.create_table(
        "oauth_code",
        sa.Column("code_sha256", sa.String(length=64), nullable=False),
        sa.Column("authorization_id", sa.String(length=40), nullable=False),
        sa.Column("client", sa.String(length=40), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("challenge", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.Column("used_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("code_sha256"),
    )
    op.create_table(
        "oauth_device",
        sa.Column("device_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_code_sha256", sa.String(length=64), nullable=False),
        sa.Column("client", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.Column("decided_at", sa.String(length=32), nullable=True),
        sa.Column("authorization_id", sa.String(length=40), nullable=True),
        sa.Column("used_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("device_sha256"),
        sa.UniqueConstraint("user_code_sha256"),
    )
    op.create_index("oauth_device_by_end", "oauth_device", ["expires_at"], unique=False)
    op.create_table(
        "oauth_refresh",
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("authorization_id", sa.String(length=40), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.Column("used_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("secret_sha256"),
    )
    op.create_index("oauth_refresh_by_authorization", "oauth_refresh", ["authorization_id"], unique=False)
    op.create_table(
        "oauth_revoked",
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("jti"),
    )
    op.create_index("oauth_revoked_by_end", "oauth_revoked", ["expires_at"], unique=False)
    op.add_column("query", sa.Column("authorization_id", sa.String(length=40), nullable=True))
    op.create_index("query_by_authorization", "query", ["authorization_id"], unique=False)
