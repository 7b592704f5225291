"""A buyer's queries: what goes on, where it stands in the queue, and a button that ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import redirect, render_template, url_for

from exchange.identity import Actor, Role
from exchange.operations import jobs
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import visitor_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse


@portal.get("/queries")
@visitor_page(Role.BUYER)
def queries(visitor: Actor) -> str:
    """The organisation's latest queries, newest first."""
    return render_template("queries.html", found=jobs.latest(market(), visitor)["items"])


@portal.post("/queries/<query_id>/cancel")
@visitor_page(Role.BUYER)
def cancel_query(visitor: Actor, query_id: str) -> BaseResponse:
    """End a query; one that has ended stays as it is."""
    jobs.cancel(market(), visitor, query_id)
    return redirect(url_for("portal.queries"))
