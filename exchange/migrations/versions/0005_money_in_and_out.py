"""Money in and out: top-ups, Stripe's events, refunds, disputes, payouts, the outbox, reconciliation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("payment", "stripe_event", "reconciliation")


def upgrade() -> None:
    """Create what this revision adds."""
    op.create_table(
        "balance_transaction",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("net_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("matches", sa.String(length=300), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=24), nullable=False),
        sa.Column("seen_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_balance_transaction")),
    )
    op.create_index(op.f("ix_balance_transaction_matches"), "balance_transaction", ["matches"], unique=False)
    op.create_index(op.f("ix_balance_transaction_verdict"), "balance_transaction", ["verdict"], unique=False)
    op.create_table(
        "bank_credit",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reference", sa.String(length=140), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("proposed_by", sa.String(length=200), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("proposed_at", sa.String(length=32), nullable=False),
        sa.Column("decided_at", sa.String(length=32), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_bank_credit_amount")),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> proposed_by", name=op.f("ck_bank_credit_four_eyes")
        ),
        sa.CheckConstraint("state IN ('open', 'confirmed', 'declined')", name=op.f("ck_bank_credit_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_credit")),
        sa.UniqueConstraint("reference", name=op.f("uq_bank_credit_reference")),
    )
    op.create_table(
        "connected_account",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("seen_created", sa.BigInteger(), nullable=False),
        sa.Column("seen_event", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_connected_account")),
        sa.UniqueConstraint("org", name=op.f("uq_connected_account_org")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_sent_at", sa.String(length=32), nullable=True),
        sa.Column("last_sent_at", sa.String(length=32), nullable=True),
        sa.Column("next_at", sa.String(length=32), nullable=False),
        sa.Column("failure", sa.String(length=100), nullable=True),
        sa.Column("stripe_id", sa.String(length=100), nullable=True),
        sa.CheckConstraint("kind IN ('transfer', 'refund', 'reversal')", name=op.f("ck_outbox_kind")),
        sa.CheckConstraint(
            "state IN ('ready', 'sending', 'unknown', 'failed500', 'done', 'refused')",
            name=op.f("ck_outbox_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("stripe_id", name=op.f("uq_outbox_stripe_id")),
        sa.UniqueConstraint("subject", name=op.f("uq_outbox_subject")),
    )
    op.create_index(op.f("ix_outbox_state_next_at"), "outbox", ["state", "next_at"], unique=False)
    op.create_table(
        "payout",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("period", sa.String(length=32), nullable=False),
        sa.Column("gross_minor", sa.BigInteger(), nullable=False),
        sa.Column("clawback_minor", sa.BigInteger(), nullable=False),
        sa.Column("holdback_minor", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reserve_journal", sa.String(length=64), nullable=True),
        sa.Column("approved_by", sa.String(length=200), nullable=True),
        sa.Column("reference", sa.String(length=140), nullable=True),
        sa.Column("closed_at", sa.String(length=32), nullable=False),
        sa.Column("sent_at", sa.String(length=32), nullable=True),
        sa.Column("release_at", sa.String(length=32), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.CheckConstraint("method IN ('stripe', 'bank', 'none')", name=op.f("ck_payout_method")),
        sa.CheckConstraint(
            "gross_minor = clawback_minor + holdback_minor + amount_minor AND clawback_minor >= 0 "
            "AND holdback_minor >= 0 AND amount_minor >= 0",
            name=op.f("ck_payout_split"),
        ),
        sa.CheckConstraint("state IN ('waiting', 'sent', 'failed', 'nothing')", name=op.f("ck_payout_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout")),
        sa.UniqueConstraint(
            "provider", "currency", "period", name=op.f("uq_payout_provider_currency_period")
        ),
        sa.UniqueConstraint("reference", name=op.f("uq_payout_reference")),
    )
    op.create_index(op.f("ix_payout_state"), "payout", ["state"], unique=False)
    op.create_table(
        "reconciliation",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("ran_at", sa.String(length=32), nullable=False),
        sa.Column("transactions", sa.Integer(), nullable=False),
        sa.Column("breaks", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliation")),
    )
    op.create_index(op.f("ix_reconciliation_ran_at"), "reconciliation", ["ran_at"], unique=False)
    op.create_table(
        "stripe_customer",
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("customer", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("org", name=op.f("pk_stripe_customer")),
        sa.UniqueConstraint("customer", name=op.f("uq_stripe_customer_customer")),
    )
    op.create_table(
        "stripe_event",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("type", sa.String(length=100), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_event")),
    )
    op.create_table(
        "top_up",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("saved_method", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("payment_intent", sa.String(length=100), nullable=True),
        sa.Column("session", sa.String(length=100), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_top_up_amount")),
        sa.CheckConstraint(
            "state IN ('requested', 'open', 'failed', 'expired', 'paid')", name=op.f("ck_top_up_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_top_up")),
    )
    op.create_index(op.f("ix_top_up_org_requested_at"), "top_up", ["org", "requested_at"], unique=False)
    op.create_table(
        "parked_event",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("parent", sa.String(length=100), nullable=False),
        sa.Column("parked_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["id"], ["stripe_event.id"], name=op.f("fk_parked_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parked_event")),
    )
    op.create_index(op.f("ix_parked_event_parent"), "parked_event", ["parent"], unique=False)
    op.create_table(
        "payment",
        sa.Column("payment_intent", sa.String(length=100), nullable=False),
        sa.Column("top_up", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("captured_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payment_amount")),
        sa.ForeignKeyConstraint(["top_up"], ["top_up.id"], name=op.f("fk_payment_top_up")),
        sa.PrimaryKeyConstraint("payment_intent", name=op.f("pk_payment")),
    )
    op.create_index(op.f("ix_payment_top_up"), "payment", ["top_up"], unique=False)
    op.create_table(
        "recovery",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("payout", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_recovery_amount")),
        sa.CheckConstraint("state IN ('requested', 'recovered', 'refused')", name=op.f("ck_recovery_state")),
        sa.ForeignKeyConstraint(["payout"], ["payout.id"], name=op.f("fk_recovery_payout")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery")),
    )
    op.create_table(
        "dispute",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("payment_intent", sa.String(length=100), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.String(length=100), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("reinstated", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("covered", sa.Boolean(), nullable=False),
        sa.Column("borne", sa.Boolean(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("outcome IN ('open', 'won', 'lost', 'warning')", name=op.f("ck_dispute_outcome")),
        sa.ForeignKeyConstraint(
            ["payment_intent"], ["payment.payment_intent"], name=op.f("fk_dispute_payment_intent")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispute")),
    )
    op.create_index(op.f("ix_dispute_org"), "dispute", ["org"], unique=False)
    op.create_table(
        "payment_refund",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("payment_intent", sa.String(length=100), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("hold_journal", sa.String(length=64), nullable=True),
        sa.Column("stripe_refund", sa.String(length=100), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("collected", sa.Boolean(), nullable=False),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payment_refund_amount")),
        sa.CheckConstraint(
            "state IN ('requested', 'refunded', 'returned', 'refused')", name=op.f("ck_payment_refund_state")
        ),
        sa.ForeignKeyConstraint(
            ["payment_intent"], ["payment.payment_intent"], name=op.f("fk_payment_refund_payment_intent")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_refund")),
        sa.UniqueConstraint("stripe_refund", name=op.f("uq_payment_refund_stripe_refund")),
    )
    op.create_index(
        op.f("ix_payment_refund_payment_intent"), "payment_refund", ["payment_intent"], unique=False
    )
    op.create_table(
        "dispute_share",
        sa.Column("dispute", sa.String(length=100), nullable=False),
        sa.Column("account", sa.String(length=300), nullable=False),
        sa.Column("share_minor", sa.BigInteger(), nullable=False),
        sa.Column("moved_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "share_minor >= moved_minor AND moved_minor >= 0", name=op.f("ck_dispute_share_moved")
        ),
        sa.ForeignKeyConstraint(["dispute"], ["dispute.id"], name=op.f("fk_dispute_share_dispute")),
        sa.PrimaryKeyConstraint("dispute", "account", name=op.f("pk_dispute_share")),
    )
    for table in _APPEND_ONLY:
        for statement in _triggers(op.get_bind().dialect.name, table):
            op.execute(statement)


def _triggers(dialect: str, table: str) -> list[str]:
    """What keeps rows as they were; the function of PostgreSQL came with the first tables."""
    if dialect == "postgresql":
        return [
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_append_only()",
            f"CREATE TRIGGER {table}_append_only_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_append_only()",
        ]
    return [
        f"CREATE TRIGGER {table}_append_only_{event.lower()} BEFORE {event} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for event in ("UPDATE", "DELETE")
    ]
