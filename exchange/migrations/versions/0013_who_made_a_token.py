"""Who made a token: two decisions of one person are told from those of two."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None

# The log names who made each token that there is.
_FROM_THE_LOG = """
UPDATE token SET created_by = (
  SELECT MIN(e.actor_ref) FROM audit_entry e
  WHERE e.kind = 'token.created' AND e.outcome = 'done' AND e.object_id = token.id
)
"""


def upgrade() -> None:
    """Create what this revision adds."""
    op.add_column("token", sa.Column("created_by", sa.String(length=40), nullable=True))
    op.execute(_FROM_THE_LOG)
