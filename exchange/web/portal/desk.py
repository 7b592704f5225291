"""A provider's desk: what it lists, and the page of one listing with what its owner may do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for
from flask_babel import gettext as _

from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations import offering, revising, tending
from exchange.store import REFUSALS
from exchange.web.auth import market
from exchange.web.portal import charts, portal
from exchange.web.portal.pages import form, once_key, refused_form, visitor_page

if TYPE_CHECKING:
    from exchange.identity import Actor


@portal.get("/provider")
@visitor_page(Role.PROVIDER)
def desk(visitor: Actor) -> str:
    """Listings with state, use and budget left, requests that wait, what is owed."""
    told = tending.overview(market(), visitor, page_token=request.args.get("page"))
    return render_template("provider/overview.html", told=told)


@portal.get("/provider/listings/<owner>/<name>")
@visitor_page(Role.PROVIDER)
def own_listing(visitor: Actor, owner: str, name: str) -> str:
    """One listing for its owner."""
    return _page(visitor, f"{owner}/{name}")


@portal.post("/provider/listings/<dataset>/deprecate")
@visitor_page(Role.PROVIDER)
def deprecate_listing(visitor: Actor, dataset: str) -> Any:
    """Take no new buyers."""
    reason = form("reason", 2 * offering.LONGEST_REASON).strip()
    key = once_key("deprecate")
    return _changed(
        visitor, dataset, lambda: offering.deprecate(market(), visitor, dataset, reason=reason, key=key)
    )


@portal.post("/provider/listings/<dataset>/offer")
@visitor_page(Role.PROVIDER)
def offer_listing(visitor: Actor, dataset: str) -> Any:
    """Offer a version: a drafted one, or that of a deprecated listing once more."""
    version, key = form("version", 64), once_key("offer")
    return _changed(visitor, dataset, lambda: offering.publish(market(), visitor, dataset, version, key=key))


@portal.post("/provider/listings/<dataset>/revise")
@visitor_page(Role.PROVIDER)
def revise_listing(visitor: Actor, dataset: str) -> Any:
    """Begin a new version in the steps of listing, from the one on offer."""
    draft = revising.begin(market(), visitor, dataset)
    return redirect(url_for("portal.step_page", draft=draft, step="files"))


@portal.post("/provider/listings/<dataset>/withdraw")
@visitor_page(Role.PROVIDER)
def withdraw_listing(visitor: Actor, dataset: str) -> Any:
    """Take a listing off the market for good; its name is typed to confirm it."""

    def withdraw() -> dict[str, Any]:
        slug = tending.own_listing(market(), visitor, dataset)["slug"]
        if form("name", 200).strip() != slug:
            raise RequestInvalid(
                _("this is not the listing's name"), hint=_("Type it as it stands on the page.")
            )
        return offering.withdraw(market(), visitor, dataset, key=once_key("withdraw"))

    return _changed(visitor, dataset, withdraw)


def _changed(visitor: Actor, dataset: str, change: Any) -> Any:
    """Do it and go to the listing's page; a refusal is told there. One about another's listing is a page."""
    slug = tending.own_listing(market(), visitor, dataset)["slug"]
    try:
        change()
    except REFUSALS as refusal:
        return refused_form(_page(visitor, slug, refusal=refusal, typed=form("reason", 2000)), refusal)
    owner, _mark, name = slug.partition("/")
    return redirect(url_for("portal.own_listing", owner=owner, name=name))


def _page(visitor: Actor, dataset: str, **more: Any) -> str:
    told = tending.own_listing(market(), visitor, dataset)
    days = (told["course"] or {}).get("days", [])
    by_day = charts.upright([(one["day"], one["rho_nano"]) for one in days])
    return render_template("provider/listing.html", told=told, by_day=by_day, charts=charts, **more)
