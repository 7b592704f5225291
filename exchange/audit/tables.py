"""The log's tables. `audit_entry` is append-only; the other two hold where the sequences stand."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from exchange.audit.leaf import MAX_TEXT

metadata = MetaData()
append_only = ["audit_entry"]
"""Tables whose rows never change; migrations give them triggers."""

_TEXT = String(MAX_TEXT)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", _TEXT, nullable=False, unique=True),
    Column("time", String(32), nullable=False),
    Column("kind", _TEXT, nullable=False),
    Column("outcome", _TEXT, nullable=False),
    Column("code", _TEXT),
    Column("org", _TEXT),
    Column("org_seq", BigInteger),
    Column("actor_ref", _TEXT),
    Column("role", _TEXT),
    Column("request_id", _TEXT),
    Column("object_type", _TEXT),
    Column("object_id", _TEXT),
    Column("dataset", _TEXT),
    Column("query_id", _TEXT),
    Column("purpose", _TEXT),
    Column("domain", _TEXT),
    Column("rho_nano", BigInteger),
    Column("currency", _TEXT),
    Column("amount_minor", BigInteger),
    Column("journal", _TEXT),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", String(64), nullable=False),
    UniqueConstraint("org", "org_seq"),
    CheckConstraint("seq >= 0", name="audit_entry_seq"),
    Index("audit_entry_by_kind", "kind", "seq"),
    Index("audit_entry_by_time", "time", "seq"),
    Index("audit_entry_by_org", "org", "seq"),
    Index("audit_entry_by_outcome", "outcome", "seq"),
    Index("audit_entry_by_dataset", "dataset", "seq"),
    Index("audit_entry_by_domain", "domain", "seq"),
    Index("audit_entry_by_purpose", "purpose", "seq"),
    Index("audit_entry_by_query", "query_id", "seq"),
    Index("audit_entry_by_object", "object_id", "seq"),
    Index("audit_entry_by_journal", "journal", "seq"),
)

audit_sequence = Table(
    "audit_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("next", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="audit_sequence_single"),
)

audit_org_chain = Table(
    "audit_org_chain",
    metadata,
    Column("org", _TEXT, primary_key=True),
    Column("org_seq", BigInteger, nullable=False),
    Column("leaf_hash", String(64), nullable=False),
)
