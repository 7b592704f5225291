"""Access to datasets: the request with its licence, its clock, and what becomes of a grant."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for
from flask_babel import gettext as _

from exchange.errors import RequestInvalid
from exchange.identity import Actor, Role
from exchange.operations import accepting, buying, holding, ordering
from exchange.store import REFUSALS
from exchange.web import languages
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.buyer.forms import balances, kept, key_of
from exchange.web.portal.pages import LARGEST_FORM, downloaded, form, takes, visitor_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Response
    from werkzeug.wrappers import Response as BaseResponse

_FIELD_OF = {
    "purpose_not_allowed": "purpose",
    "territory_not_allowed": "territory",
    "assignee_not_allowed": "role",
    "publication_not_allowed": "publishes",
    "not_found": "plan",
}
"""Where a refusal of a request stands."""
_A_PAGE = 50
_NOT_SHOWN = "-"
"""The plan's hash in a form that shows none: that of no plan."""


@portal.get("/datasets/<owner>/<name>/request")
@visitor_page(Role.BUYER)
def request_form(visitor: Actor, owner: str, name: str) -> str:
    """Ask for access: plan, purpose, territory and the licence in plain words, on one page."""
    found = holding.access_form(market(), visitor, f"{owner}/{name}")
    typed = {"plan": request.args.get("plan", "")}
    return render_template("buyer/request.html", **_form_values(visitor, found, typed))


@portal.post("/datasets/<owner>/<name>/request")
@takes(Role.BUYER, lambda: LARGEST_FORM, kept=True)
@visitor_page(Role.BUYER)
def send_request(visitor: Actor, owner: str, name: str) -> Any:
    """Accept the licence that was shown and ask for access under it."""
    slug = f"{owner}/{name}"
    typed = {field: form(field).strip() for field in ("plan", "purpose", "territory", "role", "until")}
    typed["publishes"] = "yes" if form("publishes") == "yes" else ""
    command = buying.RequestAccess(
        dataset=slug,
        plan=typed["plan"],
        purpose=typed["purpose"],
        territory=typed["territory"],
        accept_licence=True,
        licence_sha256=form("licence_sha256"),
        role=typed["role"],
        publishes=bool(typed["publishes"]),
        until=_end_of(typed["until"]),
        plan_sha256=form(f"plan_sha256:{typed['plan']}", 64) or _NOT_SHOWN,
    )
    try:
        _require_all(typed, command.licence_sha256)
        made = buying.request_access(market(), visitor, command, key=key_of(command))
    except REFUSALS as refusal:
        found = holding.access_form(market(), visitor, slug)
        field = _field_of(refusal)
        return kept(refusal, "buyer/request.html", at=field, **_form_values(visitor, found, typed))
    return _to_asked(made)


@portal.get("/access")
@visitor_page(Role.BUYER)
def access_page(visitor: Actor) -> str:
    """The organisation's grants, page by page, and its requests."""
    asked = buying.requests(market(), visitor, state=None, granted=False)["items"]
    return render_template(
        "buyer/access.html",
        found=holding.grants(market(), visitor, limit=_A_PAGE, page_token=request.args.get("page")),
        requests=asked,
        days_left=_days_left,
        last_day=_last_day,
    )


@portal.get("/access/requests/<request_id>")
@visitor_page(Role.BUYER)
def request_page(visitor: Actor, request_id: str) -> str:
    """One request: where it stands, until when it is decided, and what follows."""
    found = buying.show_request(market(), visitor, request_id)
    again = bool(request.args.get("again"))
    values = {"days_left": _days_left, "last_day": _last_day, "again": again}
    return render_template("buyer/asked_access.html", asked=found, **values)


@portal.post("/access/requests/<request_id>/withdraw")
@visitor_page(Role.BUYER)
def withdraw_request(visitor: Actor, request_id: str) -> BaseResponse:
    """Take an own open request back; what it held of the wallet is free again."""
    ordering.cancel(market(), visitor, request_id, key=None)
    return redirect(url_for("portal.request_page", request_id=request_id))


@portal.get("/access/acceptances/<acceptance_id>/receipt.json")
@visitor_page(Role.BUYER)
def acceptance_receipt(visitor: Actor, acceptance_id: str) -> Response:
    """The receipt of a licence that was accepted, which is checked offline."""
    text = json.dumps(accepting.receipt(market(), visitor, acceptance_id), indent=2)
    return downloaded(text, "application/json", f"{acceptance_id}.receipt.json")


@portal.get("/access/grants/<grant_id>")
@visitor_page(Role.BUYER)
def grant_page(visitor: Actor, grant_id: str) -> str:
    """One grant: its plan, what is left, and what can be done with it."""
    return render_template("buyer/grant.html", **_grant_values(visitor, grant_id))


@portal.post("/access/grants/<grant_id>/renew")
@visitor_page(Role.BUYER)
def renew_grant(visitor: Actor, grant_id: str) -> Any:
    """Ask for another term; a new licence version is accepted with it."""
    accepted = form("licence_sha256")
    plan = form("plan_sha256", 64) or _NOT_SHOWN
    until = form("until").strip()
    command = ordering.RenewGrant(grant_id, _end_of(until), bool(accepted), accepted, plan)
    try:
        made = ordering.renew(market(), visitor, command, key=key_of(command))
    except REFUSALS as refusal:
        values = _grant_values(visitor, grant_id)  # another organisation's ends here
        return kept(refusal, "buyer/grant.html", typed={"until": until}, **values)
    return _to_asked(made)


@portal.post("/access/grants/<grant_id>/end")
@visitor_page(Role.BUYER)
def end_grant(visitor: Actor, grant_id: str) -> Any:
    """Let an own grant end."""
    return _changed(visitor, grant_id, ordering.end)


@portal.post("/access/grants/<grant_id>/pay")
@visitor_page(Role.BUYER)
def pay_grant(visitor: Actor, grant_id: str) -> Any:
    """Pay the present period of a subscription."""
    return _changed(visitor, grant_id, ordering.pay)


@portal.post("/access/grants/<grant_id>/top-up")
@visitor_page(Role.BUYER)
def top_up_grant(visitor: Actor, grant_id: str) -> Any:
    """Buy another bundle of credit."""
    return _changed(visitor, grant_id, ordering.top_up)


def _changed(visitor: Actor, grant_id: str, change: Any) -> Any:
    try:
        change(market(), visitor, grant_id, key=key_of(change.__name__, grant_id))
    except REFUSALS as refusal:
        return kept(refusal, "buyer/grant.html", **_grant_values(visitor, grant_id))
    return redirect(url_for("portal.grant_page", grant_id=grant_id))


def _require_all(typed: Mapping[str, str], licence_sha256: str) -> None:
    """Raise where something was not chosen. A form without the licence's hash has shown no licence."""
    for name, said in (("plan", "a plan"), ("purpose", "a purpose"), ("territory", "a territory")):
        if not typed[name]:
            raise RequestInvalid(f"choose {said}", hint="Everything else is kept as it was.")
    if not licence_sha256:
        raise RequestInvalid("the form shows no licence", hint="Open the page again.")


def _to_asked(made: Mapping[str, Any]) -> BaseResponse:
    """To the request that was made; what was asked for before says so."""
    again = 1 if made["repeated"] else None
    return redirect(url_for("portal.request_page", request_id=made["request"], again=again))


def _end_of(last_day: str) -> str:
    """When access ends that has a last day: with that day (UTC). What is no day is left as it is."""
    try:
        return (date.fromisoformat(last_day) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return last_day


def _last_day(until: str) -> str:
    """The end of access for people: one at midnight is the end of the day before."""
    end = datetime.fromisoformat(until)
    if end.time() != time.min:
        return languages.moment(until)
    return str(_("the end of %(day)s", day=(end - timedelta(days=1)).date().isoformat()))


def _field_of(refusal: Exception) -> str | None:
    for start, field in (("until", "until"), ("the plan ", "plan")):
        if str(refusal).startswith(start):
            return field
    return _FIELD_OF.get(getattr(refusal, "code", ""))


def _form_values(visitor: Actor, found: dict[str, Any], typed: Mapping[str, str]) -> dict[str, Any]:
    return {
        "form": found,
        "typed": typed,
        "choices": _choices,
        "free": balances(buying.wallet(market(), visitor)),
        "today": market().store.clock().date().isoformat(),
    }


def _choices(names: list[str]) -> list[tuple[str, str]]:
    """What a list offers: nothing is chosen beforehand where there are several."""
    return [*([("", _("Choose…"))] if len(names) > 1 else []), *((name, name) for name in names)]


def _grant_values(visitor: Actor, grant_id: str) -> dict[str, Any]:
    return {
        "grant": holding.grant(market(), visitor, grant_id),
        "last_day": _last_day,
        "today": market().store.clock().date().isoformat(),
    }


def _days_left(moment: str) -> int:
    """Days from now to a moment; one that has begun counts."""
    left = datetime.fromisoformat(moment) - market().store.clock()
    return max(0, math.ceil(left / timedelta(days=1)))
