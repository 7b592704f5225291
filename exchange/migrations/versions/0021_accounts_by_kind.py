"""Privacy domains are found by an index, however many other accounts there are: a public page lists them."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_account_kind_owner", "account", ["kind", "owner"], unique=False)
