"""The catalogue's tables, portable to SQLite and PostgreSQL. Times are ISO 8601 texts in UTC."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

_ID = String(40)
_TIME = String(32)
# Sorted by code point on both databases, so that pages break at the same places.
_SLUG = String(128).with_variant(String(128, collation="C"), "postgresql")

dataset = Table(
    "dataset",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("slug", _SLUG, nullable=False, unique=True),
    Column("org", _ID, nullable=False, index=True),
    Column("created_at", _TIME, nullable=False),
)

# What was agreed on: tables, policy, licence, plans. A row never changes.
dataset_version = Table(
    "dataset_version",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("dataset", _ID, ForeignKey("dataset.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("content_sha256", String(64), nullable=False),
    Column("domain", String(200), nullable=False),
    Column("policy", Text, nullable=False),
    Column("licence", _ID, nullable=False),
    Column("plans", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("declarations", Text),
    UniqueConstraint("dataset", "number"),
)

version_table = Table(
    "version_table",
    metadata,
    Column("version", _ID, ForeignKey("dataset_version.id"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("public", Integer, nullable=False),
    Column("unit", String(128)),
    Column("schema", Text, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("rows_without_unit", BigInteger, nullable=False),
    Column("profile", Text, nullable=False),
)

version_part = Table(
    "version_part",
    metadata,
    Column("version", _ID, ForeignKey("dataset_version.id"), primary_key=True),
    Column("table_name", String(63), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    # The object that holds the file where it is encrypted; `sha256` is of what it would be in plain then.
    Column("stored_sha256", String(64), index=True),
)

# When a version was first offered. Which one is offered now stands in `listing`.
publication = Table(
    "publication",
    metadata,
    Column("version", _ID, ForeignKey("dataset_version.id"), primary_key=True),
    Column("published_at", _TIME, nullable=False),
)

# What was released of how much one privacy unit contributes: once, before the first offer, for everybody.
contribution_profile = Table(
    "contribution_profile",
    metadata,
    Column("version", _ID, ForeignKey("dataset_version.id"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("released_at", _TIME, nullable=False),
)

# How a dataset is shown now: state, current version, description.
listing = Table(
    "listing",
    metadata,
    Column("dataset", _ID, ForeignKey("dataset.id"), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("version", _ID, ForeignKey("dataset_version.id")),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("keywords", Text, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Index("listing_by_state", "state", "updated_at"),
)

append_only = [
    "dataset",
    "dataset_version",
    "version_table",
    "version_part",
    "publication",
    "contribution_profile",
]


def canonical(document: Any) -> str:
    """The document as JSON text with sorted keys and no white space; numbers survive the way there and back.

    ValueError for NaN and infinities, TypeError for what JSON cannot say.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_hex(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, as lower-case hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
