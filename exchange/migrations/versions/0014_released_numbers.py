"""Which object holds the released numbers behind a query's result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds. The worker fills it in for results that are kept already."""
    op.add_column("query", sa.Column("released_sha256", sa.String(length=64), nullable=True))
    op.create_index("query_by_released", "query", ["released_sha256"], unique=False)
