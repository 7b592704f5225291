"""The officer's further pages: alerts, saved searches, a privacy domain, a query."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from flask import redirect, render_template, request, url_for

from exchange.alerts.kinds import KINDS
from exchange.identity import Actor, Role
from exchange.operations import alerting, auditing, domain_accounts, dossiers, saved_searches
from exchange.web.auth import market
from exchange.web.portal import charts, portal
from exchange.web.portal.pages import form, visitor_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

_READERS = (Role.OFFICER, Role.OPERATOR)
_LONGEST = 4 * alerting.LONGEST_NOTE


@portal.get("/officer/alerts")
@visitor_page(*_READERS)
def alerts_page(visitor: Actor) -> str:
    """The review queue: open alerts, or those of another state."""
    state = request.args.get("state", "open")
    kind = request.args.get("kind") or None
    found = alerting.alerts(
        market(),
        visitor,
        state=None if state == "all" else state,
        kind=kind,
        page_token=request.args.get("page"),
    )
    return render_template("alerts.html", found=found, state=state, kind=kind, kinds=list(KINDS.values()))


@portal.get("/officer/alerts/<alert_id>")
@visitor_page(*_READERS)
def alert_page(visitor: Actor, alert_id: str) -> str:
    """One alert: what was found, what to do, and what officers wrote."""
    return render_template("alert.html", alert=alerting.alert(market(), visitor, alert_id))


@portal.post("/officer/alerts/<alert_id>/assign")
@visitor_page(*_READERS)
def assign_alert(visitor: Actor, alert_id: str) -> BaseResponse:
    """Take an alert upon oneself."""
    alerting.assign(market(), visitor, alert_id)
    return _to_alert(alert_id)


@portal.post("/officer/alerts/<alert_id>/notes")
@visitor_page(*_READERS)
def note_alert(visitor: Actor, alert_id: str) -> BaseResponse:
    """Write a note."""
    alerting.note(market(), visitor, alert_id, form("text", _LONGEST))
    return _to_alert(alert_id)


@portal.post("/officer/alerts/<alert_id>/resolve")
@visitor_page(*_READERS)
def resolve_alert(visitor: Actor, alert_id: str) -> BaseResponse:
    """Resolve an alert."""
    alerting.resolve(market(), visitor, alert_id, form("state"), text=form("text", _LONGEST))
    return _to_alert(alert_id)


@portal.post("/officer/searches")
@visitor_page(*_READERS)
def save_search(visitor: Actor) -> BaseResponse:
    """Save the filters of a search under a name."""
    filters = {name: form(name) for name in auditing.FILTERS if form(name)}
    saved_searches.save(market(), visitor, form("name"), filters)
    shown = urlencode(filters)
    return redirect(f"{url_for('portal.log_page')}?{shown}")


@portal.post("/officer/searches/<search_id>/rename")
@visitor_page(*_READERS)
def rename_search(visitor: Actor, search_id: str) -> BaseResponse:
    """Give a saved search another name."""
    saved_searches.rename(market(), visitor, search_id, form("name"))
    return redirect(url_for("portal.log_page"))


@portal.post("/officer/searches/<search_id>/delete")
@visitor_page(*_READERS)
def delete_search(visitor: Actor, search_id: str) -> BaseResponse:
    """Delete a saved search."""
    saved_searches.delete(market(), visitor, search_id)
    return redirect(url_for("portal.log_page"))


@portal.get("/officer/domain")
@visitor_page(*_READERS)
def domain_page(visitor: Actor) -> str:
    """One privacy domain: spent of its lifetime, by whom and when, and when it would end."""
    told = domain_accounts.dashboard(market(), visitor, request.args.get("domain", ""))
    by_day = charts.upright([(one["day"], one["rho_nano"]) for one in told["days"]])
    by_org = charts.lying([(one["name"], one["rho_nano"]) for one in told["organisations"]])
    return render_template("domain.html", told=told, by_day=by_day, by_org=by_org, charts=charts)


@portal.get("/officer/queries/<query_id>")
@visitor_page(*_READERS)
def query_page(visitor: Actor, query_id: str) -> str:
    """Everything about one query."""
    return render_template("query.html", d=dossiers.dossier(market(), visitor, query_id))


def _to_alert(alert_id: str) -> BaseResponse:
    return redirect(url_for("portal.alert_page", alert_id=alert_id))
