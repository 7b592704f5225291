"""Listings are found by an index of their words, and by facets; the folded copies of texts go.

What is on offer is entered at the end of the upgrade: the index follows from the listings.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_WORDS = {
    "sqlite": (
        "CREATE VIRTUAL TABLE search_words USING fts5(title, subject, description, prefix='1 2 3', "
        "tokenize=\"unicode61 remove_diacritics 0 categories 'L* N* M* Co Cn'\")",
    ),
    "postgresql": (
        "CREATE TABLE search_words (entry INTEGER PRIMARY KEY REFERENCES search_entry (id), "
        "words TSVECTOR NOT NULL)",
        "CREATE INDEX search_words_by_word ON search_words USING gin (words) WITH (fastupdate = off)",
    ),
}


def upgrade() -> None:
    """Make the tables of the index."""
    for name in ("folded_title", "folded_description", "folded_keywords"):
        op.drop_column("listing", name)
    op.create_table(
        "search_entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("slug", _by_code_point(128), nullable=False),
        sa.Column("name", _by_code_point(200), nullable=False),
        sa.Column("published_at", _by_code_point(32), nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["dataset.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dataset"),
    )
    for name, columns in (
        ("slug", ["slug"]),
        ("name", ["name", "slug"]),
        ("time", ["published_at", "slug"]),
    ):
        op.create_index(f"search_entry_by_{name}", "search_entry", columns)
    op.create_table(
        "search_facet",
        sa.Column("facet", sa.String(length=16), nullable=False),
        sa.Column("value", _by_code_point(80), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["search_entry.id"]),
        sa.PrimaryKeyConstraint("facet", "value", "entry"),
    )
    op.create_index("search_facet_by_entry", "search_facet", ["entry", "facet", "value"])
    connection = op.get_bind()
    for statement in _WORDS[connection.dialect.name]:
        op.execute(statement)


def _by_code_point(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts alike on both databases."""
    return sa.String(length=length).with_variant(sa.String(length=length, collation="C"), "postgresql")
