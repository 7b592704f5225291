"""What a provider earns: by month, its statements to take away, and the state of its payouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Response, render_template, request

from exchange.identity import Role
from exchange.operations import paying_out, signing_in, stating, tending
from exchange.web.auth import market
from exchange.web.languages import money
from exchange.web.portal import charts, portal
from exchange.web.portal.pages import form, session_page, visitor_page
from settlement.money import parse_amount

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.persons.sessions import SignedIn

_LINES, _ROWS = 200, 24


@portal.get("/provider/earnings")
@visitor_page(Role.PROVIDER)
def earnings(visitor: Actor) -> str:
    """Earnings by month as charts and tables, statements, payouts."""
    return _page(visitor)


@portal.post("/provider/payouts/connect")
@visitor_page(Role.PROVIDER)
@session_page(back="portal.earnings")
def connect_account(who: SignedIn, visitor: Actor) -> str:
    """Show the address at which the provider tells Stripe who it is; it is a link, and works for minutes.

    Whoever opens it says where the money goes: an administrator, who has just shown who it is.
    """
    signing_in.recently(market(), who)
    made = paying_out.onboard_as_admin(market(), visitor, again=form("again") == "yes")
    return _page(visitor, connect=made["url"])


@portal.get("/provider/statements/<statement_id>")
@visitor_page(Role.PROVIDER)
def statement(visitor: Actor, statement_id: str) -> str:
    """One month: opening, what each listing earned, every entry, closing."""
    told = stating.show(market(), visitor, statement_id)
    document = told["document"]
    earned = [(one["dataset"], _minor(one["net"], told["currency"])) for one in document["listings"]]
    by_listing = charts.lying(sorted(earned, key=lambda pair: -pair[1])[:20])
    amounts = [money(bar.value, told["currency"]) for bar in by_listing]
    shown = document["lines"][:_LINES]
    return render_template(
        "provider/statement.html",
        told=told,
        lines=shown,
        by_listing=by_listing,
        amounts=amounts,
        charts=charts,
    )


@portal.get("/provider/statements/<statement_id>.pdf")
@visitor_page(Role.PROVIDER)
def statement_pdf(visitor: Actor, statement_id: str) -> Response:
    """The statement as pages."""
    return _file(stating.as_pdf(market(), visitor, statement_id), "application/pdf", f"{statement_id}.pdf")


@portal.get("/provider/statements/<statement_id>.json")
@visitor_page(Role.PROVIDER)
def statement_json(visitor: Actor, statement_id: str) -> Response:
    """The statement as data, with its digest."""
    told = json.dumps(stating.show(market(), visitor, statement_id), ensure_ascii=False, indent=1)
    return _file(told.encode(), "application/json", f"{statement_id}.json")


def _page(visitor: Actor, **more: Any) -> str:
    told = tending.earnings(market(), visitor)["currencies"]
    bars = {
        one["currency"]: charts.upright([(m["month"], max(0, m["net_minor"])) for m in one["months"]])
        for one in told
    }
    for one in told:
        for month in one["months"]:
            month["told"] = money(month["net_minor"], one["currency"])
    months, before = stating.statements_of(market(), visitor)["items"], request.args.get("before")
    if before is not None:
        months = [one for one in months if one["statement"] < before]
    return render_template(
        "provider/earnings.html",
        told=told,
        bars=bars,
        charts=charts,
        statements=months[:_ROWS],
        older=months[_ROWS - 1]["statement"] if len(months) > _ROWS else None,
        payouts=paying_out.page_of_payouts(
            market(), visitor, limit=_ROWS, page_token=request.args.get("page")
        ),
        stripe=market().till is not None,
        **more,
    )


def _minor(amount: str, currency: str) -> int:
    """Minor units of an amount of a document; nothing for what was given back."""
    return 0 if amount.startswith("-") else parse_amount(amount, currency)


def _file(data: bytes, kind: str, name: str) -> Response:
    reply = Response(data, content_type=kind)
    reply.headers.set("Content-Disposition", "attachment", filename=name)
    return reply
