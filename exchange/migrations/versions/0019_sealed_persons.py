"""Room for what is kept of persons, sealed. It is filled when the exchange is opened, which has the keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this revision adds."""
    for table in ("person", "invitation", "portal_session", "passkey"):
        op.add_column(table, sa.Column("sealed", sa.LargeBinary(), nullable=True))
