"""Versions that show the contribution profile of an earlier one, of the same files and policy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds."""
    op.create_table(
        "profile_reuse",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("release", sa.String(length=40), nullable=False),
        sa.Column("entry_id", sa.String(length=40), nullable=False),
        sa.Column("reused_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
