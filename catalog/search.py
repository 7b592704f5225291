"""Search over published listings: every word must occur, hits in the name and title come first.

Plain LIKE over texts that were folded when they were stored, so that SQLite and PostgreSQL find the same.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Integer, and_, case, literal, or_

from catalog.errors import InvalidPage
from catalog.tables import dataset, dataset_version, listing, sha256_hex
from catalog.views import PUBLISHED, ListingView, select_views, with_tables

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LARGEST_PAGE = 100
_MOST_WORDS = 8
_LONGEST_WORD = 64
_WEIGHTS = (
    (dataset.c.slug, 8),
    (listing.c.folded_title, 4),
    (listing.c.folded_keywords, 4),
    (listing.c.folded_description, 1),
)


@dataclass(frozen=True, slots=True)
class Page:
    """Hits, best first, and the token of the page after this one; None on the last."""

    hits: tuple[ListingView, ...]
    next_page_token: str | None


def search(session: Session, text: str = "", *, limit: int = 20, page_token: str | None = None) -> Page:
    """Published listings in which every word of ``text`` occurs; all of them, by name, for an empty text.

    ``limit`` is cut to 1 to 100. Raises :class:`InvalidPage` for a token of another search.
    """
    limit = max(1, min(limit, LARGEST_PAGE))
    words = text.casefold().split()[:_MOST_WORDS]
    words = [word[:_LONGEST_WORD] for word in words]
    score = _score(words)
    statement = (
        select_views()
        .add_columns(score.label("score"))
        .where(listing.c.state == PUBLISHED, listing.c.version == dataset_version.c.id)
        .order_by(score.desc(), dataset.c.slug)
        .limit(limit + 1)
    )
    for word in words:
        statement = statement.where(or_(*[_holds(column, word) for column, _ in _WEIGHTS]))
    if page_token is not None:
        last_score, last_slug = _read_token(page_token, words)
        after = and_(score == last_score, dataset.c.slug > last_slug)
        statement = statement.where(or_(score < last_score, after))
    rows = session.execute(statement).all()
    hits = with_tables(session, rows[:limit])
    more = len(rows) > limit
    token = _token(rows[limit - 1].score, rows[limit - 1].slug, words) if more else None
    return Page(tuple(hits), token)


def _score(words: list[str]) -> ColumnElement[int]:
    score: ColumnElement[int] = literal(0, Integer)
    for word in words:
        for column, weight in _WEIGHTS:
            score = score + case((_holds(column, word), weight), else_=0)
    return score


def _holds(column: ColumnElement[str], word: str) -> ColumnElement[bool]:
    return column.contains(word, autoescape=True)


def _token(score: int, slug: str, words: list[str]) -> str:
    text = json.dumps([score, slug, _digest(words)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(token: str, words: list[str]) -> tuple[int, str]:
    try:
        document: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error):
        document = None
    match document:
        case [int(score), str(slug), digest] if digest == _digest(words) and abs(score) < 2**31:
            return score, slug
    raise InvalidPage("The page token does not belong to this search.")


def _digest(words: list[str]) -> str:
    return sha256_hex("\n".join(words))[:12]
