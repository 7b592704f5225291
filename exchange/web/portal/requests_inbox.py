"""Requests for access at a provider, decided one by one or several at once, and the grants they led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for
from flask_babel import gettext as _

from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations import buying, offering, ordering, tending
from exchange.operations.quoting import nano_rho
from exchange.store import REFUSALS
from exchange.web.auth import log_refusal, market
from exchange.web.portal import portal
from exchange.web.portal.pages import LARGEST_FORM, form, once_key, refused_form, takes, visitor_page

if TYPE_CHECKING:
    from exchange.identity import Actor

_LONGEST = 2 * offering.LONGEST_REASON
_TYPED = ("reason", "max_rho", "until")


@portal.get("/provider/requests")
@visitor_page(Role.PROVIDER)
def access_requests(visitor: Actor) -> str:
    """The inbox: what waits, the first to lapse first, or what was decided."""
    return _inbox(visitor, done=request.args.get("done", 0, type=int))


@portal.post("/provider/requests")
@visitor_page(Role.PROVIDER)
def decide_requests(visitor: Actor) -> Any:
    """Decide on the requests that were ticked, each by itself: what is refused stays and says why."""
    chosen = request.form.getlist("request")[: tending.MOST_REQUESTS]
    faults: list[tuple[str, str]] = []
    last: Exception | None = None
    if not chosen:
        last = RequestInvalid(_("no request is ticked"), hint=_("Tick those that you decide on."))
        faults.append(("", f"{last} {last.hint}"))
    for one in chosen:
        try:
            _decide(visitor, one[:64])
        except REFUSALS as refusal:
            log_refusal(refusal)
            last = refusal
            faults.append((f"tick-{one}", f"{one}: {refusal}. {getattr(refusal, 'hint', '')}"))
    if last is not None:
        page = _inbox(visitor, faults=faults, done=len(chosen) - len(faults), ticked=chosen)
        return refused_form(page, last)
    return redirect(url_for("portal.access_requests", done=len(chosen)))


@portal.get("/provider/requests/<request_id>")
@visitor_page(Role.PROVIDER)
def access_request(visitor: Actor, request_id: str) -> str:
    """One request with everything that is known of who asks, and the form that decides on it."""
    return _one(visitor, request_id)


@portal.post("/provider/requests/<request_id>/decide")
@takes(Role.PROVIDER, lambda: LARGEST_FORM, kept=True)
@visitor_page(Role.PROVIDER)
def decide_request(visitor: Actor, request_id: str) -> Any:
    """Decide on one request, with less rho or an earlier end where the form says so."""
    tending.request(market(), visitor, request_id)
    try:
        _decide(visitor, request_id)
    except REFUSALS as refusal:
        return refused_form(_one(visitor, request_id, refusal=refusal), refusal)
    return redirect(url_for("portal.access_request", request_id=request_id))


@portal.get("/provider/grants/<grant_id>")
@visitor_page(Role.PROVIDER)
def own_grant(visitor: Actor, grant_id: str) -> str:
    """A grant on an own dataset."""
    return _grant(visitor, grant_id)


@portal.post("/provider/grants/<grant_id>/suspend")
@visitor_page(Role.PROVIDER)
def suspend_grant(visitor: Actor, grant_id: str) -> Any:
    """Stop a grant's use for now."""
    return _moved(visitor, grant_id, "suspend")


@portal.post("/provider/grants/<grant_id>/resume")
@visitor_page(Role.PROVIDER)
def resume_grant(visitor: Actor, grant_id: str) -> Any:
    """Allow a suspended grant's use again."""
    return _moved(visitor, grant_id, "resume")


@portal.post("/provider/grants/<grant_id>/withdraw")
@visitor_page(Role.PROVIDER)
def withdraw_grant(visitor: Actor, grant_id: str) -> Any:
    """End a grant for good."""
    return _moved(visitor, grant_id, "withdraw")


def _decide(visitor: Actor, request_id: str) -> None:
    decision, reason, most = form("decision"), form("reason", _LONGEST).strip(), form("max_rho", 40).strip()
    if decision not in ("approve", "decline"):
        raise RequestInvalid(_("a request is approved or declined"), hint=_("Press one of the two buttons."))
    if len(reason) > offering.LONGEST_REASON or (decision == "decline" and not reason):
        raise RequestInvalid(
            _("a reason of 1 to 1,000 characters is needed"),
            hint=_("The buyer reads it: say what would help."),
        )
    buying.decide(
        market(),
        visitor,
        request_id,
        approved=decision == "approve",
        reason=reason,
        max_rho_nano=nano_rho(most, "max_rho", limit=True) if most and decision == "approve" else None,
        until=form("until", 40).strip() if decision == "approve" else "",
        key=once_key(decision, request_id),
    )


def _moved(visitor: Actor, grant_id: str, verb: str) -> Any:
    tending.grant(market(), visitor, grant_id)
    try:
        reason = form("reason", _LONGEST).strip()
        ordering.move(market(), visitor, grant_id, verb, reason=reason, key=once_key(verb, grant_id))
    except REFUSALS as refusal:
        return refused_form(
            _grant(visitor, grant_id, refusal=refusal, typed=form("reason", _LONGEST)), refusal
        )
    return redirect(url_for("portal.own_grant", grant_id=grant_id))


def _inbox(visitor: Actor, **more: Any) -> str:
    state = request.args.get("state", "open")
    if state not in tending.STATES:
        raise RequestInvalid(_("there is no such state"), hint=_("Choose one of the tabs."))
    told = tending.inbox(market(), visitor, state=state)
    typed = {name: form(name, _LONGEST) for name in _TYPED}
    return render_template("provider/requests.html", told=told, state=state, typed=typed, **more)


def _one(visitor: Actor, request_id: str, **more: Any) -> str:
    told = tending.request(market(), visitor, request_id)
    typed = {name: form(name, _LONGEST) for name in _TYPED}
    return render_template("provider/request.html", one=told, typed=typed, **more)


def _grant(visitor: Actor, grant_id: str, **more: Any) -> str:
    return render_template("provider/grant.html", one=tending.grant(market(), visitor, grant_id), **more)
