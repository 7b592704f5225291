"""A buyer's overview: what waits, what there is to spend, and the latest queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import redirect, render_template, url_for

from exchange.identity import Actor, Role
from exchange.operations import buying, holding, jobs, notifying
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, visitor_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

_NEWS, _QUERIES, _GRANTS = 10, 8, 50


@portal.get("/overview")
@visitor_page(Role.BUYER)
def overview(visitor: Actor) -> str:
    """What waits for the organisation, its wallet, what is left of each dataset, its latest queries."""
    grants = holding.grants(market(), visitor, state="active", limit=_GRANTS)
    news = notifying.notifications(market(), visitor, unread=True)["items"]
    return render_template(
        "buyer/overview.html",
        grants=grants["items"],
        more_grants=grants["next_page_token"] is not None,
        stopped=holding.grants(market(), visitor, state="suspended", limit=_GRANTS)["items"],
        open_requests=buying.requests(market(), visitor, state="open")["items"],
        balances=buying.wallet(market(), visitor)["balances"],
        news=news[:_NEWS],
        more_news=max(0, len(news) - _NEWS),
        queries=jobs.history(market(), visitor, text="", before=None, limit=_QUERIES)["items"],
    )


@portal.post("/overview/read")
@visitor_page(Role.BUYER)
def mark_read(visitor: Actor) -> BaseResponse:
    """Mark one notification as read, or all."""
    notifying.mark_read(market(), visitor, form("notification", 64) or None, key=None)
    return redirect(url_for("portal.overview"))
