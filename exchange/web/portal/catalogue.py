"""The catalogue and a dataset's page."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from exchange.identity import NOBODY, Actor
from exchange.operations import laying, listing
from exchange.store import REFUSALS
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import refusal_page, visitor_page


@portal.get("/")
def catalogue() -> Any:
    """All listings, or those that hold every word searched for. Open to everybody."""
    text = request.args.get("q", "")
    try:
        found = listing.search(market(), NOBODY, text, limit=50, page_token=request.args.get("page"))
    except REFUSALS as refusal:
        return refusal_page(refusal)
    return render_template("catalogue.html", found=found, text=text)


@portal.get("/datasets/<owner>/<name>")
@visitor_page()
def dataset_page(visitor: Actor, owner: str, name: str) -> Any:
    """A listing: dictionary, domains, licence, plans, what is left of the privacy budget, how to ask."""
    found = laying.show(market(), visitor, f"{owner}/{name}")
    mine = found["provider"] == visitor.name
    counts = listing.profile(market(), visitor, f"{owner}/{name}") if mine else None
    return render_template("dataset.html", dataset=found, counts=counts)
