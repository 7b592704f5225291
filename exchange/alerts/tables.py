"""The tables of alerts: the queue, its notes, how far the rules have read, and what each day spent."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

from exchange.audit.leaf import MAX_TEXT

metadata = MetaData()

alert = Table(
    "alert",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(40), nullable=False),
    # An organisation, a dataset, a domain, a question's digest or "log".
    Column("subject", String(MAX_TEXT), nullable=False),
    # SHA-256 of kind and subject; held here as well while the alert is open, so that there is one.
    Column("about", String(64), nullable=False),
    Column("open_key", String(64), unique=True),
    Column("measure", BigInteger, nullable=False),
    Column("most", BigInteger, nullable=False),
    Column("entries", Text, nullable=False),
    # What was found up to here is in this alert: it counts for no other.
    Column("until_seq", BigInteger, nullable=False),
    Column("occasion", String(80), nullable=False),
    Column("times", Integer, nullable=False),
    Column("raised_at", String(32), nullable=False),
    Column("last_at", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("assignee", String(40)),
    Column("assigned_at", String(32)),
    Column("resolved_by", String(40)),
    Column("resolved_at", String(32)),
    Index("alert_by_about", "about", "raised_at"),
    Index("alert_by_state", "state", "raised_at", "id"),
    Index("alert_by_raised", "raised_at", "id"),
)

alert_note = Table(
    "alert_note",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("alert", String(40), nullable=False),
    Column("at", String(32), nullable=False),
    Column("by", String(40), nullable=False),
    Column("text", Text, nullable=False),
    Index("alert_note_by_alert", "alert", "at"),
)

log_position = Table(
    "log_position",
    metadata,
    Column("reader", String(20), primary_key=True),
    Column("next", BigInteger, nullable=False),
)

# What the log's entries spent of each domain, by the day of the entry and the organisation that asked.
spending_day = Table(
    "spending_day",
    metadata,
    Column("domain", String(MAX_TEXT), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("org", String(MAX_TEXT), primary_key=True),
    Column("rho_nano", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
)

saved_search = Table(
    "saved_search",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("owner", String(40), nullable=False),
    Column("name", String(80), nullable=False),
    Column("filters", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("org", "owner", "name"),
)
