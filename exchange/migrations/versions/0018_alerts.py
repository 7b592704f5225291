"""Alerts, what each day spent of each domain, saved searches, and who asked for the same numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def upgrade() -> None:
    """Create what this revision adds. The worker reads the log that is there from its start, once."""
    op.create_table(
        "alert",
        _text("id", 40),
        _text("kind", 40),
        _text("subject", 512),
        _text("about", 64),
        _text("open_key", 64, nullable=True),
        sa.Column("measure", sa.BigInteger(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Text(), nullable=False),
        sa.Column("until_seq", sa.BigInteger(), nullable=False),
        _text("occasion", 80),
        sa.Column("times", sa.Integer(), nullable=False),
        _text("raised_at", 32),
        _text("last_at", 32),
        _text("state", 16),
        _text("assignee", 40, nullable=True),
        _text("assigned_at", 32, nullable=True),
        _text("resolved_by", 40, nullable=True),
        _text("resolved_at", 32, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("open_key"),
    )
    op.create_index("alert_by_about", "alert", ["about", "raised_at"], unique=False)
    op.create_index("alert_by_state", "alert", ["state", "raised_at", "id"], unique=False)
    op.create_index("alert_by_raised", "alert", ["raised_at", "id"], unique=False)
    op.create_table(
        "alert_note",
        _text("id", 40),
        _text("alert", 40),
        _text("at", 32),
        _text("by", 40),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_note_by_alert", "alert_note", ["alert", "at"], unique=False)
    op.create_table(
        "log_position",
        _text("reader", 20),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reader"),
    )
    op.create_table(
        "spending_day",
        _text("domain", 512),
        _text("day", 10),
        _text("org", 512),
        sa.Column("rho_nano", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", "day", "org"),
    )
    op.create_table(
        "saved_search",
        _text("id", 40),
        _text("org", 40),
        _text("owner", 40),
        _text("name", 80),
        sa.Column("filters", sa.Text(), nullable=False),
        _text("created_at", 32),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("org", "owner", "name"),
    )
    op.create_index("query_by_asked", "query", ["version", "question_sha256", "reserved_at"], unique=False)
