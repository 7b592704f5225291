"""The keys of encrypted objects, and which object a version's file is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds. What is stored already stays plain, and readable."""
    op.create_table(
        "master_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("proof", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.String(length=32), nullable=False),
        sa.Column("retired_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "data_key",
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("plain_sha256", sa.String(length=64), nullable=True),
        sa.Column("master", sa.String(length=40), nullable=False),
        sa.Column("wrapped", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(["master"], ["master_key.id"]),
        sa.PrimaryKeyConstraint("object"),
        sa.UniqueConstraint("plain_sha256"),
    )
    op.create_index("data_key_by_master", "data_key", ["master", "object"], unique=False)
    op.add_column("version_part", sa.Column("stored_sha256", sa.String(length=64), nullable=True))
    op.create_index("ix_version_part_stored_sha256", "version_part", ["stored_sha256"], unique=False)
