"""A dataset's versions that were on offer, with what each changed: for everybody who sees the listing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog import listings
from exchange.operations import pricing
from settlement import licences

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor

MOST = 20
"""So many versions are told, the newest first."""


def of_dataset(session: Session, view: ListingView, actor: Actor, today: date) -> list[dict[str, Any]]:
    """Number, time and changes of each version; the first that was on offer changed nothing.

    A change is a name - ``tables``, ``columns``, ``data``, ``policy``, ``licence``, ``plans``,
    ``declarations`` - and, where that can be said in names, what came and what went. Private offers that
    are not made to the reader are left aside.
    """
    found = listings.versions_of(session, view.dataset_id, limit=MOST + 1)
    offered = [one for one in found if one.published_at is not None]
    told = []
    for number, one in enumerate(offered[:MOST]):
        before = offered[number + 1] if number + 1 < len(offered) else None
        told.append(
            {
                "version": one.version_id,
                "version_number": one.version_number,
                "published_at": one.published_at.isoformat() if one.published_at else None,
                "current": one.current,
                "changes": [] if before is None else _changes(session, before, one, actor, today),
            }
        )
    return told


def _changes(
    session: Session, old: ListingView, new: ListingView, actor: Actor, today: date
) -> list[dict[str, Any]]:
    was, now = ({table.name for table in view.tables} for view in (old, new))
    columns_were, columns_are = _columns(old, was & now), _columns(new, was & now)
    plans_were, plans_are = (
        {plan["name"]: plan for plan in pricing.offered(view.plans, actor, view.org, today)}
        for view in (old, new)
    )
    found = [_named("tables", was, now), _named("columns", columns_were, columns_are)]
    if was == now and columns_were == columns_are and _files(old) != _files(new):
        found.append({"what": "data"})
    if old.policy_text != new.policy_text:
        found.append({"what": "policy"})
    if old.licence_id != new.licence_id:
        titles = [licences.find_licence(session, view.licence_id) for view in (old, new)]
        told = [f"{one.title}, {one.version}" for one in titles]
        found.append({"what": "licence", "added": told[1:], "removed": told[:1]})
    if plans_were != plans_are:
        found.append(_named("plans", set(plans_were), set(plans_are)) or {"what": "plans"})
    if old.declarations != new.declarations:
        found.append({"what": "declarations"})
    return [one for one in found if one]


def _named(what: str, was: set[str], now: set[str]) -> dict[str, Any]:
    """What came and what went; nothing where both are alike."""
    return {} if was == now else {"what": what, "added": sorted(now - was), "removed": sorted(was - now)}


def _columns(view: ListingView, tables: set[str]) -> set[str]:
    return {
        f"{table.name}.{column.name}"
        for table in view.tables
        if table.name in tables
        for column in table.schema.columns
    }


def _files(view: ListingView) -> list[tuple[str, ...]]:
    return [table.objects for table in view.tables]
