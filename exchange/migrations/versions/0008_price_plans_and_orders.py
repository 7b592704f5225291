"""What a query was charged under its plan, deadlines and renewals of requests, notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_V_PRIVACY = """\
CREATE VIEW v_privacy AS
SELECT domain, CAST(SUM(granted) AS BIGINT) AS granted_nano, CAST(SUM(spent) AS BIGINT) AS spent_nano,
       CAST(SUM(reserved) AS BIGINT) AS reserved_nano
FROM (
    SELECT a.owner AS domain,
           CASE WHEN a.kind = 'domain_granted' THEN a.debits_posted - a.credits_posted ELSE 0 END AS granted,
           CASE WHEN a.kind = 'domain_spent' THEN a.credits_posted - a.debits_posted ELSE 0 END AS spent,
           CASE WHEN a.kind IN ('domain_available', 'domain_set_aside') THEN a.debits_pending ELSE 0 END
               AS reserved
    FROM account a JOIN unit u ON u.code = a.unit
    WHERE u.kind = 'rho'
      AND a.kind IN ('domain_granted', 'domain_available', 'domain_set_aside', 'domain_spent')
) budget
GROUP BY domain"""


def upgrade() -> None:
    """Create what this revision adds; a query of before was worth what it was charged."""
    op.execute("DROP VIEW v_privacy")
    op.execute(_V_PRIVACY)
    for name in ("covered_nano", "worth_minor", "priced_before_nano"):
        op.add_column("query", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.execute("UPDATE query SET worth_minor = charge_minor, priced_before_nano = rho_before_nano")
    op.add_column("access_request", sa.Column("deadline", sa.String(length=32), nullable=True))
    op.add_column("access_request", sa.Column("renews", sa.String(length=64), nullable=True))
    op.create_table(
        "notification",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("read_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("notification_by_org", "notification", ["org", "at"], unique=False)
