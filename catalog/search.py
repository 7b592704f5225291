"""Search over the listings on offer: every word must occur, hits in name and title come first.

A word is found where one begins with it; whole words of the title count most, then its beginnings, subjects,
the description. The score is made of whole numbers by the same rule on SQLite and PostgreSQL, so that both
show the same pages, and a page token is the place of the last hit.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    String,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from catalog.errors import InvalidPage
from catalog.indexing import postgresql_words, search_entry, search_facet, sqlite_words
from catalog.tables import dataset, dataset_version, listing, sha256_hex
from catalog.views import ListingView, select_views, with_tables
from catalog.words import Term, terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

LARGEST_PAGE = 100
BEST, NEWEST, NAME = SORTS = ("best", "newest", "name")
MOST_CHOSEN = 20
"""So many values of one facet can be chosen at once."""
_MOST_COUNTED = 50
_ALL = ""
_LONGEST_TOKEN = 8_192
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_WHOLE_TITLE, _TITLE, _SUBJECT, _DESCRIPTION = 8, 6, 3, 1


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: words, values chosen by facet, and the order of the hits.

    A hit has every word, and of each facet with choices at least one of the chosen values.
    """

    text: str = ""
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = BEST


@dataclass(frozen=True, slots=True)
class Page:
    """Hits in their order, and the token of the page after this one; None on the last.

    ``facets`` are the values by facet of each hit, by dataset.
    """

    hits: tuple[ListingView, ...]
    next_page_token: str | None
    facets: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many listings are found, and of each facet how many have a value: (value, count), the most first.

    A facet is counted among what is found without the choices made in it: so each count is what choosing
    that value as well, or instead, would find.
    """

    total: int
    facets: Mapping[str, tuple[tuple[str, int], ...]]


def search(
    session: Session,
    asked: Search | str = "",
    *,
    limit: int = 20,
    page_token: str | None = None,
) -> Page:
    """A page of the listings on offer that are looked for; all of them for an empty text without choices.

    ``limit`` is cut to 1 to 100. Raises :class:`InvalidPage` for a token of another search.
    """
    asked = Search(asked) if isinstance(asked, str) else asked
    limit = max(1, min(limit, LARGEST_PAGE))
    question = _Question(session, asked)
    rows = session.execute(question.page(page_token).limit(limit + 1)).all()
    shown = rows[:limit]
    views = {view.dataset_id: view for view in _views(session, [row.dataset for row in shown])}
    token = question.token(shown[-1].key, shown[-1].slug) if len(rows) > limit else None
    hits = tuple(views[row.dataset] for row in shown)
    return Page(hits, token, _facets_of(session, {row.id: row.dataset for row in shown}))


def count(session: Session, asked: Search) -> Counts:
    """How many listings a search finds, in all and by facet."""
    question = _Question(session, asked)
    rows = session.execute(_most(question, _tally(question.found())))
    total, found = 0, dict[str, list[tuple[str, int]]]()
    for row in rows:
        if row.facet == _ALL:
            total = row.number
        else:
            found.setdefault(row.facet, []).append((row.value, row.number))
    return Counts(total, {facet: tuple(values) for facet, values in found.items()})


class _Question:
    """A search in the words of one database."""

    def __init__(self, session: Session, asked: Search) -> None:
        self._sqlite = session.get_bind().dialect.name == "sqlite"
        self._asked = asked
        self._terms = terms_of(asked.text)
        # Signs alone are in no text.
        self._hopeless = bool(asked.text.strip()) and not self._terms

    def conditions(self) -> list[ColumnElement[bool]]:
        """What must hold of an entry."""
        return [*self._of_words(), *(self._has_chosen(facet) for facet in self._asked.chosen)]

    def found(self) -> CTE | None:
        """Entries with every word and a chosen value of all facets but at most one, which is ``missed``; None
        where every listing is found.
        """
        if self.is_open:
            return None
        entry, none = search_entry.c.id, cast(null(), String)
        lacks = {facet: case((self._has_chosen(facet), 0), else_=1) for facet in self._asked.chosen}
        flags = [lack.label(f"lacks_{facet}") for facet, lack in lacks.items()]
        flagged = _once(select(entry, *flags).where(*self._of_words()), "flagged")
        columns = {facet: flagged.c[f"lacks_{facet}"] for facet in lacks}
        missed = case(*((column == 1, facet) for facet, column in columns.items())) if columns else none
        few = sum(columns.values(), literal(0, Integer)) <= 1
        return _once(select(flagged.c.id, missed.label("missed")).where(few), "found")

    def _of_words(self) -> list[ColumnElement[bool]]:
        found = [self._has_words()] if self._terms else []
        return [*found, literal(0, Integer) == 1] if self._hopeless else found

    def _has_chosen(self, facet: str) -> ColumnElement[bool]:
        one = (search_facet.c.facet == facet) & search_facet.c.value.in_(self._asked.chosen[facet])
        return search_entry.c.id.in_(select(search_facet.c.entry).where(one))

    @property
    def chosen(self) -> Mapping[str, tuple[str, ...]]:
        """Values by facet."""
        return self._asked.chosen

    @property
    def is_open(self) -> bool:
        """Whether every listing is found."""
        return not (self._terms or self._hopeless or self._asked.chosen)

    def page(self, page_token: str | None) -> Select[Any]:
        """Entries in their order, after the place that the token names."""
        entry, (key, falls) = search_entry.c, self._key()
        labelled = key.label("key")  # sorted by its name, it is worked out once
        statement = select(entry.id, entry.dataset, entry.slug, labelled).where(*self.conditions())
        if self._scored and not self._sqlite:
            statement = statement.join(postgresql_words, postgresql_words.c.entry == entry.id)
        if page_token is not None:
            last, slug = self._read(page_token)
            later = key < last if falls else key > last
            statement = statement.where(or_(later, and_(key == last, entry.slug > slug)))
        return statement.order_by(labelled.desc() if falls else labelled, entry.slug)

    def token(self, key: int | str, slug: str) -> str:
        """The place of a hit, for this search alone."""
        text = json.dumps([key, slug, self._digest()], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @property
    def _scored(self) -> bool:
        return self._asked.sort == BEST and bool(self._terms)

    def _key(self) -> tuple[ColumnElement[Any], bool]:
        """What hits are sorted by before their names, and whether from the largest down."""
        if self._asked.sort == NEWEST:
            return search_entry.c.published_at, True
        if self._asked.sort == NAME:
            return search_entry.c.name, False
        score: ColumnElement[Any] = literal(0, Integer)
        for term in self._terms:
            score = score + case(
                (self._has(term, "title", whole=True), _WHOLE_TITLE),
                (self._has(term, "title"), _TITLE),
                (self._has(term, "subject"), _SUBJECT),
                else_=_DESCRIPTION,
            )
        return score, True

    def _has_words(self) -> ColumnElement[bool]:
        if self._sqlite:
            return self._matches(" AND ".join(_fts5(term) for term in self._terms))
        query = " & ".join(_tsquery(term) for term in self._terms)
        return search_entry.c.id.in_(select(postgresql_words.c.entry).where(_at(query)))

    def _has(self, term: Term, part: str, *, whole: bool = False) -> ColumnElement[bool]:
        if self._sqlite:
            return self._matches(f"{part} : {_fts5(term, whole=whole)}")
        return _at(_tsquery(term, {"title": "A", "subject": "B"}[part], whole=whole))

    def _matches(self, query: str) -> ColumnElement[bool]:
        matching: ColumnElement[bool] = sqlite_words.c.search_words.op("MATCH", is_comparison=True)(query)
        return search_entry.c.id.in_(select(sqlite_words.c.rowid).where(matching))

    def _read(self, token: str) -> tuple[int | str, str]:
        token = token if len(token) <= _LONGEST_TOKEN else ""
        try:
            document: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except (ValueError, binascii.Error, RecursionError):
            document = None
        texts = [one for one in document if isinstance(one, str)] if isinstance(document, list) else []
        if any(map(_UNSTORABLE.search, texts)):
            document = None
        scored = self._asked.sort == BEST
        match document:
            case [int(key), str(slug), digest] if scored and digest == self._digest() and abs(key) < 2**31:
                return key, slug
            case [str(key), str(slug), digest] if not scored and digest == self._digest():
                return key, slug
        raise InvalidPage("The page token does not belong to this search.")

    def _digest(self) -> str:
        words = [[*term.words, term.begins] for term in self._terms]
        chosen = sorted((facet, sorted(values)) for facet, values in self._asked.chosen.items())
        return sha256_hex(json.dumps([words, self._hopeless, chosen, self._asked.sort]))[:12]


def _fts5(term: Term, *, whole: bool = False) -> str:
    """A term in the language of FTS5; it holds letters and digits alone."""
    return f'"{" ".join(term.words)}"' + ("*" if term.begins and not whole else "")


def _tsquery(term: Term, weight: str = "", *, whole: bool = False) -> str:
    """A term in the language of PostgreSQL's text search."""
    label = ("*" if term.begins and not whole else "") + weight
    return "(" + " <-> ".join(f"'{word}'" + (f":{label}" if label else "") for word in term.words) + ")"


def _at(query: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = postgresql_words.c.words.op("@@", is_comparison=True)(cast(query, TSQUERY))
    return found


def _tally(found: CTE | None) -> Select[Any]:
    """Facets and values with the number of listings; that of all of them under the facet :data:`_ALL`."""
    of, number = search_facet.c, func.count().label("number")
    counted, every = select(of.facet, of.value, number), select(literal(_ALL), literal(""), number)
    if found is None:
        every = every.select_from(search_entry)
    else:
        # A facet is counted among what is found without the choices made in it.
        fits = or_(found.c.missed.is_(None), found.c.missed == of.facet)
        counted = counted.join(found, (found.c.id == of.entry) & fits)
        every = every.select_from(found).where(found.c.missed.is_(None))
    both = union_all(counted.group_by(of.facet, of.value), every).subquery()
    return select(both)


def _most(question: _Question, tally: Select[Any]) -> Select[Any]:
    """The most frequent values of each facet, and those that are chosen."""
    counted = tally.subquery()
    order = (counted.c.number.desc(), counted.c.value)
    place = func.row_number().over(partition_by=counted.c.facet, order_by=order).label("place")
    placed = select(counted, place).subquery()
    chosen = [(one, value) for one, values in question.chosen.items() for value in values]
    kept = placed.c.place <= _MOST_COUNTED
    if chosen:
        kept = or_(kept, tuple_(placed.c.facet, placed.c.value).in_(chosen))
    return select(placed).where(kept).order_by(placed.c.facet, placed.c.place)


def _once(statement: Select[Any], name: str) -> CTE:
    """A part of a statement that is worked out once, however often it is named."""
    return statement.cte(name).prefix_with("MATERIALIZED")


def _views(session: Session, datasets: Sequence[str]) -> list[ListingView]:
    statement = select_views().where(dataset.c.id.in_(datasets), listing.c.version == dataset_version.c.id)
    return with_tables(session, session.execute(statement).all())


def _facets_of(session: Session, entries: Mapping[int, str]) -> dict[str, dict[str, tuple[str, ...]]]:
    wanted = select(search_facet).where(search_facet.c.entry.in_(entries))
    found: dict[str, dict[str, tuple[str, ...]]] = {each: {} for each in entries.values()}
    for row in session.execute(wanted.order_by(search_facet.c.facet, search_facet.c.value)):
        of_hit = found[entries[row.entry]]
        of_hit[row.facet] = (*of_hit.get(row.facet, ()), row.value)
    return found
