"""Tables of money in and out: top-ups, events, refunds, disputes, payouts, outbox, reconciliation."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from settlement.schema import metadata

stripe_customer = Table(
    "stripe_customer",
    metadata,
    Column("org", String(64), primary_key=True),
    Column("customer", String(64), nullable=False, unique=True),
    Column("created_at", String(32), nullable=False),
)

top_up = Table(
    "top_up",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("saved_method", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("payment_intent", String(100)),
    Column("session", String(100)),
    Column("url", Text),
    Column("requested_at", String(32), nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("state IN ('requested', 'open', 'failed', 'expired', 'paid')", name="state"),
    Index(None, "org", "requested_at"),
)

#: A payment that arrived for a top-up. Append-only.
payment = Table(
    "payment",
    metadata,
    Column("payment_intent", String(100), primary_key=True),
    Column("top_up", String(64), ForeignKey("top_up.id"), nullable=False),
    Column("org", String(64), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("captured_at", String(32), nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
    Index(None, "top_up"),
)

#: Every event as it came, once by its id. Append-only.
stripe_event = Table(
    "stripe_event",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("type", String(100), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("received_at", String(32), nullable=False),
)

#: Events that wait for what they are about; a row leaves when its event was applied.
parked_event = Table(
    "parked_event",
    metadata,
    Column("id", String(100), ForeignKey("stripe_event.id"), primary_key=True),
    Column("parent", String(100), nullable=False),
    Column("parked_at", String(32), nullable=False),
    Index(None, "parent"),
)

payment_refund = Table(
    "payment_refund",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("payment_intent", String(100), ForeignKey("payment.payment_intent"), nullable=False),
    Column("org", String(64), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("hold_journal", String(64)),
    Column("stripe_refund", String(100), unique=True),
    Column("state", String(16), nullable=False),
    Column("collected", Boolean, nullable=False),
    Column("requested_at", String(32), nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("state IN ('requested', 'refunded', 'returned', 'refused')", name="state"),
    Index(None, "payment_intent"),
)

dispute = Table(
    "dispute",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("payment_intent", String(100), ForeignKey("payment.payment_intent"), nullable=False),
    Column("org", String(64), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("reason", String(100), nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("reinstated", Boolean, nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("covered", Boolean, nullable=False),
    Column("borne", Boolean, nullable=False),
    Column("returned", Boolean, nullable=False),
    Column("opened_at", String(32), nullable=False),
    CheckConstraint("outcome IN ('open', 'won', 'lost', 'warning')", name="outcome"),
    Index(None, "org"),
)

#: Who bears a dispute: an account, its share, and how much of that moved to suspense.
dispute_share = Table(
    "dispute_share",
    metadata,
    Column("dispute", String(100), ForeignKey("dispute.id"), primary_key=True),
    Column("account", String(300), primary_key=True),
    Column("share_minor", BigInteger, nullable=False),
    Column("moved_minor", BigInteger, nullable=False),
    CheckConstraint("share_minor >= moved_minor AND moved_minor >= 0", name="moved"),
)

connected_account = Table(
    "connected_account",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("org", String(64), nullable=False, unique=True),
    Column("active", Boolean, nullable=False),
    Column("seen_created", BigInteger, nullable=False),
    Column("seen_event", String(100), nullable=False),
    Column("created_at", String(32), nullable=False),
)

payout = Table(
    "payout",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("period", String(32), nullable=False),
    Column("gross_minor", BigInteger, nullable=False),
    Column("clawback_minor", BigInteger, nullable=False),
    Column("holdback_minor", BigInteger, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("method", String(8), nullable=False),
    Column("destination", String(64)),
    Column("state", String(16), nullable=False),
    Column("reserve_journal", String(64)),
    Column("approved_by", String(200)),
    Column("reference", String(140), unique=True),
    Column("closed_at", String(32), nullable=False),
    Column("sent_at", String(32)),
    Column("release_at", String(32), nullable=False),
    Column("released", Boolean, nullable=False),
    UniqueConstraint("provider", "currency", "period"),
    CheckConstraint(
        "gross_minor = clawback_minor + holdback_minor + amount_minor AND clawback_minor >= 0 "
        "AND holdback_minor >= 0 AND amount_minor >= 0",
        name="split",
    ),
    CheckConstraint("method IN ('stripe', 'bank', 'none')", name="method"),
    CheckConstraint("state IN ('waiting', 'sent', 'failed', 'nothing')", name="state"),
    Index(None, "state"),
)

#: Money asked back from a provider by reversing a transfer, towards what it owes after lost disputes.
recovery = Table(
    "recovery",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("payout", String(64), ForeignKey("payout.id"), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(16), nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("requested_at", String(32), nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("state IN ('requested', 'recovered', 'refused')", name="state"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(100), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_sent_at", String(32)),
    Column("last_sent_at", String(32)),
    Column("next_at", String(32), nullable=False),
    Column("failure", String(100)),
    Column("stripe_id", String(100), unique=True),
    CheckConstraint("kind IN ('transfer', 'refund', 'reversal')", name="kind"),
    CheckConstraint("state IN ('ready', 'sending', 'unknown', 'failed500', 'done', 'refused')", name="state"),
    Index(None, "state", "next_at"),
)

balance_transaction = Table(
    "balance_transaction",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("type", String(64), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("source", String(100), nullable=False),
    Column("matches", String(300)),
    Column("created", BigInteger, nullable=False),
    Column("verdict", String(24), nullable=False),
    Column("seen_at", String(32), nullable=False),
    Index(None, "matches"),
    Index(None, "verdict"),
)

#: One run of the reconciliation and what it found. Append-only.
reconciliation = Table(
    "reconciliation",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("ran_at", String(32), nullable=False),
    Column("transactions", Integer, nullable=False),
    Column("breaks", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Index(None, "ran_at"),
)

#: A bank transfer above the limit: one operator proposes its credit, another confirms it.
bank_credit = Table(
    "bank_credit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("reference", String(140), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("proposed_by", String(200), nullable=False),
    Column("decided_by", String(200)),
    Column("proposed_at", String(32), nullable=False),
    Column("decided_at", String(32)),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("state IN ('open', 'confirmed', 'declined')", name="state"),
    CheckConstraint("decided_by IS NULL OR decided_by <> proposed_by", name="four_eyes"),
)
