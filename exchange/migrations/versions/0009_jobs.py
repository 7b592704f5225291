"""When a query's answer ceased to be kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds."""
    op.add_column("query", sa.Column("result_expired_at", sa.String(length=32), nullable=True))
    op.create_index("query_by_result", "query", ["result_sha256"], unique=False)
