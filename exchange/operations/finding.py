"""What is on offer is found: by words, by facets with their counts, in an order, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog import listings
from catalog.search import MOST_CHOSEN
from exchange import facets
from exchange.errors import RequestInvalid
from exchange.identity import organisation_names
from exchange.operations import listing
from exchange.operations.terms import money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market

__all__ = ["MOST_CHOSEN", "SORTS", "search"]

SORTS = listings.SORTS
_LONGEST_VALUE = 80


def search(
    market: Market,
    actor: Actor,
    text: str = "",
    *,
    chosen: Mapping[str, Sequence[str]] | None = None,
    sort: str = SORTS[0],
    limit: int,
    page_token: str | None = None,
    counted: bool | None = None,
) -> dict[str, Any]:
    """Published listings in which every word occurs and which have, of each facet, a value that was chosen.

    ``facets`` says how many listings have each value, among what the other choices find; it and ``total``
    come with the first page, or as ``counted`` says. Reading the catalogue needs a token and no role.
    """
    asked = listings.Search(text, _choices(chosen or {}), _sort(sort))
    counted = page_token is None if counted is None else counted
    today = market.store.clock().date()

    def look(session: Session) -> dict[str, Any]:
        page = listings.search(session, asked, limit=limit, page_token=page_token)
        names = organisation_names(session, {view.org for view in page.hits})
        items = [
            _hit(
                listing.offered_to(listing.summary(view, names), view, actor, today),
                page.facets.get(view.dataset_id, {}),
            )
            for view in page.hits
        ]
        found = {"items": items, "next_page_token": page.next_page_token}
        return {**found, **_counts(session, asked)} if counted else found

    return market.store.read(look)


def _choices(chosen: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The values by facet, without those that are empty or twice there."""
    found = {}
    for facet in facets.NAMES:
        values = tuple(dict.fromkeys(value for value in chosen.get(facet, ()) if value))
        if len(values) > MOST_CHOSEN:
            raise RequestInvalid(f"at most {MOST_CHOSEN} values of {facet} can be chosen")
        if any(len(value) > _LONGEST_VALUE for value in values):
            raise RequestInvalid(
                f"a value of {facet} is not one", hint="Take the values that `facets` of a search lists."
            )
        if values:
            found[facet] = values
    return found


def _sort(sort: str) -> str:
    if sort not in SORTS:
        raise RequestInvalid("listings are not sorted so", hint=f"Use one of: {', '.join(SORTS)}.")
    return sort


def _hit(document: dict[str, Any], found: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """A listing in a list with what it is compared by; prices are those of the plans that the reader sees."""
    prices = facets.cheapest(document["plans"])
    return {
        **document,
        "units": list(found.get("unit", ())),
        "territories": list(found.get("territory", ())),
        "price_from": [money(minor, currency) for currency, minor in sorted(prices.items())],
        "accuracy": min(map(int, found.get("accuracy", ())), default=None),
    }


def _counts(session: Session, asked: listings.Search) -> dict[str, Any]:
    counts = listings.count(session, asked)
    return {
        "total": counts.total,
        "facets": {
            facet: [
                {"value": value, "count": number, "chosen": value in asked.chosen.get(facet, ())}
                for value, number in _in_order(facet, counts.facets.get(facet, ()))
            ]
            for facet in facets.NAMES
        },
    }


def _in_order(facet: str, values: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The most frequent first; amounts and errors from the smallest up."""
    if facet == "price":
        return sorted(values, key=lambda one: _price(one[0]))
    if facet == "accuracy":
        return sorted(values, key=lambda one: (len(one[0]), one[0]))
    return list(values)


def _price(value: str) -> tuple[str, int]:
    currency, _, minor = value.partition(":")
    return currency, int(minor) if minor.isdecimal() else 0
