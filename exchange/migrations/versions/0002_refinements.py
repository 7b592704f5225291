"""Refinements: which query asks about the same numbers as another, and what was spent on them before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds."""
    op.create_table(
        "released_bound",
        sa.Column("query", sa.String(length=40), nullable=False),
        sa.Column("bound", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("query", "bound"),
    )
    op.create_index("released_bound_by_bound", "released_bound", ["bound"], unique=False)
    for column in (
        sa.Column("question_sha256", sa.String(length=64), nullable=True),
        sa.Column("refines", sa.String(length=40), nullable=True),
        sa.Column("rho_before_nano", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paid_before_minor", sa.BigInteger(), server_default="0", nullable=False),
    ):
        op.add_column("query", column)
    op.create_index("query_by_question", "query", ["org", "version", "question_sha256"], unique=False)
