"""Licence versions, their withdrawals, and acceptances: written once, never changed."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

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
    UniqueConstraint("org", "title", "version"),
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
    Index(None, "org", "licence_id"),
)
