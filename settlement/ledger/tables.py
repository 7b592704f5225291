"""The ledger's tables, and what each phase of a transfer does to the two accounts it names."""

from __future__ import annotations

from typing import Literal, get_args

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    text,
)

from settlement.money import AMOUNT_LIMIT
from settlement.schema import metadata

#: ``single`` posts at once; ``pending`` holds; ``post`` and ``void`` resolve one pending transfer.
Phase = Literal["single", "pending", "post", "void"]
UnitKind = Literal["money", "rho", "delta"]
COUNTERS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")

#: Phase -> sign with which a transfer's amount enters (posted, pending) of each side. Both sides move alike.
EFFECTS: dict[Phase, tuple[int, int]] = {
    "single": (1, 0),
    "pending": (0, 1),
    "post": (1, -1),
    "void": (0, -1),
}

unit = Table(
    "unit",
    metadata,
    Column("code", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("exponent", Integer, nullable=False),
    CheckConstraint("kind IN ('money', 'rho', 'delta')", name="kind"),
)

account = Table(
    "account",
    metadata,
    Column("id", String(300), primary_key=True),
    Column("unit", String(200), ForeignKey("unit.code"), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("floor", Boolean, nullable=False),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in COUNTERS),
    CheckConstraint("NOT floor OR credits_posted - debits_posted - debits_pending >= 0", name="floor"),
    *(CheckConstraint(f"{name} >= 0 AND {name} < {AMOUNT_LIMIT}", name=name) for name in COUNTERS),
    Index(None, "owner", "kind"),
    Index(None, "kind", "owner"),
)

journal = Table(
    "journal",
    metadata,
    # Drawn while the entry's accounts are locked: positions follow the order of each account's changes.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("business_key", String(300), nullable=False, unique=True),
    Column("effective_at", String(32), nullable=False),
    Column("recorded_at", String(32), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reverses", String(64), ForeignKey("journal.id"), unique=True),
)

transfer = Table(
    "transfer",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("journal", String(64), ForeignKey("journal.id"), nullable=False),
    Column("leg", Integer, nullable=False),
    Column("unit", String(200), ForeignKey("unit.code"), nullable=False),
    Column("debit", String(300), ForeignKey("account.id"), nullable=False),
    Column("credit", String(300), ForeignKey("account.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("phase", String(8), nullable=False),
    Column("pending_id", String(80), ForeignKey("transfer.id"), unique=True),
    UniqueConstraint("journal", "leg"),
    CheckConstraint(f"amount > 0 AND amount < {AMOUNT_LIMIT}", name="amount"),
    CheckConstraint("debit <> credit", name="sides"),
    CheckConstraint(f"phase IN ({', '.join(repr(phase) for phase in get_args(Phase))})", name="phase"),
    CheckConstraint("(phase IN ('post', 'void')) = (pending_id IS NOT NULL)", name="resolves"),
    Index(None, "debit"),
    Index(None, "credit"),
)
