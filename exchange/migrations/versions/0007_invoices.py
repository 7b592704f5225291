"""Invoices: who is named on them, the tax that was entered, the documents and the entries that they bill."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from settlement.schema import append_only_ddl

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = ("billing_profile", "tax_treatment", "invoice", "invoice_line")


def upgrade() -> None:
    """Create what this revision adds."""
    op.create_table(
        "billing_profile",
        sa.Column("org", sa.String(length=200), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("legal_name", sa.String(length=200), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=False),
        sa.Column("tax_id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=200), nullable=False),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.Column("recorded_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("org", "revision", name="pk_billing_profile"),
    )
    op.create_table(
        "tax_treatment",
        sa.Column("org", sa.String(length=200), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=40), nullable=False),
        sa.Column("rate_basis_points", sa.Integer(), nullable=False),
        sa.Column("place_of_supply", sa.String(length=6), nullable=False),
        sa.Column("note", sa.String(length=300), nullable=False),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.Column("recorded_by", sa.String(length=200), nullable=False),
        sa.CheckConstraint(
            "rate_basis_points >= 0 AND rate_basis_points <= 10000", name="ck_tax_treatment_rate"
        ),
        sa.PrimaryKeyConstraint("org", "revision", name="pk_tax_treatment"),
    )
    op.create_table(
        "invoice",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("issuer", sa.String(length=200), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=200), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("net_minor", sa.BigInteger(), nullable=False),
        sa.Column("tax_minor", sa.BigInteger(), nullable=False),
        sa.Column("gross_minor", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.String(length=32), nullable=False),
        sa.Column("tax_journal", sa.String(length=64), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.CheckConstraint("kind IN ('invoice', 'credit_note', 'receipt')", name="ck_invoice_kind"),
        sa.CheckConstraint("gross_minor > 0 AND gross_minor < 4611686018427387904", name="ck_invoice_gross"),
        sa.CheckConstraint("net_minor + tax_minor = gross_minor", name="ck_invoice_total"),
        sa.ForeignKeyConstraint(["tax_journal"], ["journal.id"], name="fk_invoice_tax_journal"),
        sa.PrimaryKeyConstraint("id", name="pk_invoice"),
        sa.UniqueConstraint(
            "issuer", "kind", "year", "sequence", name="uq_invoice_issuer_kind_year_sequence"
        ),
        sa.UniqueConstraint("issuer", "number", name="uq_invoice_issuer_number"),
    )
    op.create_index("ix_invoice_org_issued_at", "invoice", ["org", "issued_at"])
    op.create_table(
        "invoice_line",
        sa.Column("invoice", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("journal", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=300), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("signed_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("side IN ('supply', 'payment')", name="ck_invoice_line_side"),
        sa.ForeignKeyConstraint(["invoice"], ["invoice.id"], name="fk_invoice_line_invoice"),
        sa.ForeignKeyConstraint(["journal"], ["journal.id"], name="fk_invoice_line_journal"),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name="fk_invoice_line_account"),
        sa.PrimaryKeyConstraint("invoice", "position", name="pk_invoice_line"),
        sa.UniqueConstraint("journal", "account", "side", name="uq_invoice_line_journal_account_side"),
    )
    for statement in append_only_ddl(op.get_bind().dialect.name, list(TABLES)):
        op.execute(statement)
