"""Access requests, grants and quotes."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, String, Table, Text

from settlement.schema import metadata

access_request = Table(
    "access_request",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("dataset", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("org", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("purpose", String(60), nullable=False),
    Column("territory", String(16), nullable=False),
    Column("plan_name", String(100), nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_sha256", String(64), nullable=False),
    Column("acceptance_id", String(64), ForeignKey("acceptance.id"), nullable=False),
    Column("valid_until", String(32)),
    Column("state", String(16), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("decided_by", String(200)),
    Column("requested_at", String(32), nullable=False),
    Column("decided_at", String(32)),
    Column("deadline", String(32)),
    Column("renews", String(64)),
    CheckConstraint("state IN ('open', 'approved', 'declined')", name="state"),
    Index(None, "provider", "state"),
    Index(None, "org"),
)

access_grant = Table(
    "access_grant",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("request_id", String(64), ForeignKey("access_request.id"), nullable=False, unique=True),
    Column("dataset", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("org", String(64), nullable=False),
    Column("acceptance_id", String(64), ForeignKey("acceptance.id"), nullable=False),
    Column("purpose", String(60), nullable=False),
    Column("territory", String(16), nullable=False),
    Column("plan_name", String(100), nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_sha256", String(64), nullable=False),
    Column("allowance_rho_nano", BigInteger, nullable=False),
    Column("valid_until", String(32)),
    Column("state", String(16), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("issued_at", String(32), nullable=False),
    Column("changed_at", String(32), nullable=False),
    CheckConstraint("state IN ('active', 'suspended', 'expired', 'withdrawn')", name="state"),
    CheckConstraint("allowance_rho_nano > 0", name="allowance"),
    Index(None, "org", "dataset", "state"),
)

quote = Table(
    "quote",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("grant_id", String(64), ForeignKey("access_grant.id"), nullable=False),
    Column("org", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("plan_digest", String(64), nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("rho_nano", BigInteger, nullable=False),
    Column("delta_pico", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Column("quoted_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    CheckConstraint("price_minor >= 0 AND rho_nano >= 0 AND delta_pico >= 0", name="amounts"),
    Index(None, "expires_at"),
)
