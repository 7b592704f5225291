"""The index that listings are found by: written in the transaction that changes what is offered.

One entry for each listing on offer: words of its name and title, of its subjects and of its description, and
its facets. The words are kept by FTS5 on SQLite and as a ``tsvector`` under a GIN index on PostgreSQL, both
over the words of :mod:`catalog.words`, so that both databases find the same. All of it follows from what the
listing tells everybody; nothing of the data is in it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    DDL,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    cast,
    column,
    delete,
    event,
    insert,
    select,
    table,
    update,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

from catalog.tables import dataset, listing, metadata, publication, version_table
from catalog.words import fold, words_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.orm import Session

MOST_WORDS = 16_000
"""So many words of a listing are kept, its name and title first: a ``tsvector`` has 16,383 places."""
MOST_OF_A_WORD = 255
"""So often is a word kept with its place: a ``tsvector`` has 256 places for each."""
_NO_WORD = "\ue000"
"""Stands for a word that is left out; it is of no question, as a sign for private use."""
SUBJECT, UNIT = "subject", "unit"
_OWN = (SUBJECT, UNIT)
_LONGEST_VALUE, _MOST_VALUES = 80, 100
_NAME_LENGTH = 200


def _by_code_point(length: int) -> Any:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


search_entry = Table(
    "search_entry",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String(40), ForeignKey("dataset.id"), nullable=False, unique=True),
    Column("slug", _by_code_point(128), nullable=False),
    Column("name", _by_code_point(_NAME_LENGTH), nullable=False),
    Column("published_at", _by_code_point(32), nullable=False),
    Index("search_entry_by_slug", "slug"),
    Index("search_entry_by_name", "name", "slug"),
    Index("search_entry_by_time", "published_at", "slug"),
)

search_facet = Table(
    "search_facet",
    metadata,
    Column("facet", String(16), primary_key=True),
    Column("value", _by_code_point(_LONGEST_VALUE), primary_key=True),
    Column("entry", Integer, ForeignKey("search_entry.id"), primary_key=True),
    Index("search_facet_by_entry", "entry", "facet", "value"),
)

#: Made by statements of each database's own, and so no part of the metadata.
WORDS = "search_words"
WORDS_DDL = {
    "sqlite": (
        f"CREATE VIRTUAL TABLE {WORDS} USING fts5(title, subject, description, prefix='1 2 3', "
        "tokenize=\"unicode61 remove_diacritics 0 categories 'L* N* M* Co Cn'\")",
    ),
    "postgresql": (
        f"CREATE TABLE {WORDS} (entry INTEGER PRIMARY KEY REFERENCES search_entry (id), "
        "words TSVECTOR NOT NULL)",
        f"CREATE INDEX {WORDS}_by_word ON {WORDS} USING gin (words) WITH (fastupdate = off)",
    ),
}
for _dialect, _statements in WORDS_DDL.items():
    for _statement in _statements:
        event.listen(metadata, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]

sqlite_words = table(
    WORDS, column("rowid"), column("title"), column("subject"), column("description"), column(WORDS)
)
postgresql_words = table(WORDS, column("entry"), column("words"))


def enter(session: Session, dataset_id: str, facets: Mapping[str, Collection[str]] | None = None) -> None:
    """Make the entry of a listing on offer what the listing tells now.

    ``facets`` are values by facet beside the subject and the privacy unit, which follow from the listing;
    None leaves those that there are.
    """
    row = session.execute(_LISTED.where(listing.c.dataset == dataset_id)).one()
    shown = {"slug": row.slug, "name": fold(row.title)[:_NAME_LENGTH], "published_at": row.published_at}
    found = session.execute(_ENTRY.where(search_entry.c.dataset == dataset_id)).scalar_one_or_none()
    if found is None:
        made = session.execute(insert(search_entry).values(dataset=dataset_id, **shown))
        entry: int = made.inserted_primary_key[0]  # type: ignore[attr-defined]
    else:
        entry = found
        session.execute(update(search_entry).where(search_entry.c.id == entry).values(**shown))
    keywords = json.loads(row.keywords)
    units = session.scalars(
        select(version_table.c.unit).where(
            version_table.c.version == row.version, version_table.c.unit.is_not(None)
        )
    )
    own = {SUBJECT: [fold(each).strip() for each in keywords], UNIT: [unit.lower() for unit in units]}
    _write_facets(session, entry, {**(facets or {}), **own}, replace=facets is not None)
    _write_words(session, entry, (f"{row.slug} {row.title}", " . ".join(keywords), row.description))


def remove(session: Session, dataset_id: str) -> None:
    """Take a listing out of the index, if it is there."""
    entry = session.execute(_ENTRY.where(search_entry.c.dataset == dataset_id)).scalar_one_or_none()
    if entry is not None:
        _forget_words(session, entry)
        session.execute(delete(search_facet).where(search_facet.c.entry == entry))
        session.execute(delete(search_entry).where(search_entry.c.id == entry))


_ENTRY = select(search_entry.c.id)
_LISTED = (
    select(
        dataset.c.slug,
        listing.c.title,
        listing.c.description,
        listing.c.keywords,
        listing.c.version,
        publication.c.published_at,
    )
    .join(dataset, dataset.c.id == listing.c.dataset)
    .join(publication, publication.c.version == listing.c.version)
)


def _write_facets(
    session: Session, entry: int, facets: Mapping[str, Collection[str]], *, replace: bool
) -> None:
    stale = delete(search_facet).where(search_facet.c.entry == entry)
    session.execute(stale if replace else stale.where(search_facet.c.facet.in_(_OWN)))
    rows = [
        {"entry": entry, "facet": facet, "value": value}
        for facet, values in facets.items()
        for value in list(dict.fromkeys(each[:_LONGEST_VALUE] for each in values if each))[:_MOST_VALUES]
    ]
    if rows:
        session.execute(insert(search_facet), rows)


def _write_words(session: Session, entry: int, texts: tuple[str, str, str]) -> None:
    _forget_words(session, entry)
    parts = _kept([words_of(text) for text in texts])
    if session.get_bind().dialect.name == "sqlite":
        joined = dict(zip(("title", "subject", "description"), map(" ".join, parts), strict=True))
        session.execute(insert(sqlite_words).values(rowid=entry, **joined))
    else:
        session.execute(insert(postgresql_words).values(entry=entry, words=cast(_vector(parts), TSVECTOR)))


def _forget_words(session: Session, entry: int) -> None:
    if session.get_bind().dialect.name == "sqlite":
        session.execute(delete(sqlite_words).where(sqlite_words.c.rowid == entry))
    else:
        session.execute(delete(postgresql_words).where(postgresql_words.c.entry == entry))


def _kept(parts: list[list[str]]) -> list[list[str]]:
    """As much of a listing's words as both databases keep with their places, so that both find the same."""
    left, seen = MOST_WORDS, Counter[str]()
    kept: list[list[str]] = []
    for words in parts:
        found = words[:left]
        left -= len(found)
        for place, word in enumerate(found):
            seen[word] += 1
            if seen[word] > MOST_OF_A_WORD:
                found[place] = _NO_WORD
        kept.append(found)
    return kept


def _vector(parts: list[list[str]]) -> str:
    """A ``tsvector`` as text: each word with its place and its weight, A for the title to C.

    Places leave a gap between the parts, so that no run of words reaches from one into the next.
    """
    written, place = [], 0
    for weight, words in zip("ABC", parts, strict=True):
        for word in words:
            place += 1
            if word != _NO_WORD:
                written.append(f"'{word}':{place}{weight}")
        place += 1
    return " ".join(written)
