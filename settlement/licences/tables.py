"""Licence versions, approvals, withdrawals, acceptances, refusals: written once, never changed."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from settlement.schema import metadata

licence = Table(
    "licence",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("org", String(64), nullable=False),
    Column("title", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("text_sha256", String(64), nullable=False),
    Column("terms", Text, nullable=False),
    Column("terms_sha256", String(64), nullable=False),
    Column("odrl", Text, nullable=False),
    Column("odrl_sha256", String(64), nullable=False),
    Column("published_at", String(32), nullable=False),
    Column("editor", String(200)),  # who wrote this version; none is known of the oldest
    UniqueConstraint("org", "title", "version"),
)

licence_approval = Table(
    "licence_approval",
    metadata,
    Column("licence_id", String(64), ForeignKey("licence.id"), primary_key=True),
    Column("actor", String(200), nullable=False),
    Column("org", String(64), nullable=False),
    Column("approved_at", String(32), nullable=False),
)

licence_withdrawal = Table(
    "licence_withdrawal",
    metadata,
    Column("licence_id", String(64), ForeignKey("licence.id"), primary_key=True),
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("withdrawn_at", String(32), nullable=False),
)

acceptance = Table(
    "acceptance",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("licence_id", String(64), ForeignKey("licence.id"), nullable=False),
    Column("org", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("role", String(40), nullable=False),
    Column("purposes", Text, nullable=False),
    Column("territory", String(16), nullable=False),
    Column("shown_sha256", String(64), nullable=False),
    Column("accepted_at", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("org_name", String(80)),
    Column("licence_version", Integer),
    Column("odrl_sha256", String(64)),
    Column("dataset", String(64)),
    Column("dataset_version", String(64)),
    Column("publishes", Boolean),
    Column("entry_id", String(64)),
    Index(None, "org", "licence_id"),
)

acceptance_signature = Table(
    "acceptance_signature",
    metadata,
    Column("acceptance_id", String(64), ForeignKey("acceptance.id"), primary_key=True),
    Column("algorithm", String(16), nullable=False),
    Column("public_key", String(200), nullable=False),
    Column("signature", String(200), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("signed_at", String(32), nullable=False),
)

licence_refusal = Table(
    "licence_refusal",
    metadata,
    Column("entry_id", String(64), primary_key=True),
    Column("licence_id", String(64), nullable=False),
    Column("acceptance_id", String(64)),
    Column("org", String(64)),
    Column("code", String(40), nullable=False),
    Column("clause", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("refused_at", String(32), nullable=False),
    Index(None, "licence_id", "code"),
)
