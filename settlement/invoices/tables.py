"""Tables of invoices: who is named on them, what tax was entered, the documents and what each line bills."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from settlement.money import AMOUNT_LIMIT
from settlement.schema import metadata

# Each change is a new revision: an invoice is checked against what was known when it was issued.
billing_profile = Table(
    "billing_profile",
    metadata,
    Column("org", String(200), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("legal_name", String(200), nullable=False),
    Column("address", Text, nullable=False),
    Column("country", String(2), nullable=False),
    Column("tax_id", String(40), nullable=False),
    Column("email", String(200), nullable=False),
    Column("recorded_at", String(32), nullable=False),
    Column("recorded_by", String(200), nullable=False),
)

tax_treatment = Table(
    "tax_treatment",
    metadata,
    Column("org", String(200), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("label", String(40), nullable=False),
    Column("rate_basis_points", Integer, nullable=False),
    Column("place_of_supply", String(6), nullable=False),
    Column("note", String(300), nullable=False),
    Column("recorded_at", String(32), nullable=False),
    Column("recorded_by", String(200), nullable=False),
    CheckConstraint("rate_basis_points >= 0 AND rate_basis_points <= 10000", name="rate"),
)

invoice = Table(
    "invoice",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("issuer", String(200), nullable=False),
    Column("year", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("number", String(40), nullable=False),
    Column("org", String(200), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("gross_minor", BigInteger, nullable=False),
    Column("issued_at", String(32), nullable=False),
    Column("tax_journal", String(64), ForeignKey("journal.id")),
    Column("document", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    UniqueConstraint("issuer", "kind", "year", "sequence"),
    UniqueConstraint("issuer", "number"),
    CheckConstraint("kind IN ('invoice', 'credit_note', 'receipt')", name="kind"),
    CheckConstraint(f"gross_minor > 0 AND gross_minor < {AMOUNT_LIMIT}", name="gross"),
    CheckConstraint("net_minor + tax_minor = gross_minor", name="total"),
    Index(None, "org", "issued_at"),
)

# A wallet's part in an entry stands on one document, once.
invoice_line = Table(
    "invoice_line",
    metadata,
    Column("invoice", String(40), ForeignKey("invoice.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("journal", String(64), ForeignKey("journal.id"), nullable=False),
    Column("account", String(300), ForeignKey("account.id"), nullable=False),
    Column("side", String(8), nullable=False),
    Column("signed_minor", BigInteger, nullable=False),
    UniqueConstraint("journal", "account", "side"),
    CheckConstraint("side IN ('supply', 'payment')", name="side"),
)
