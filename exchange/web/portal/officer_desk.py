"""The officer's overview: what waits, the privacy domains, and the forms that take evidence away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for
from flask_babel import gettext as _

from exchange.errors import NotFound
from exchange.identity import Role
from exchange.operations import alerting, approving, auditing, restraining
from exchange.operations.receipting import newest_checkpoint
from exchange.restraints import FREEZE, HOLD
from exchange.store import our_id
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.officer import FORMATS
from exchange.web.portal.pages import visitor_page

if TYPE_CHECKING:
    from exchange.identity import Actor

_READERS = (Role.OFFICER, Role.OPERATOR)
_FIRST, _DOMAINS = 5, 50
_PAGES = {
    "qry": ("portal.query_page", "query_id"),
    "evt": ("portal.entry_page", "entry_id"),
    "alr": ("portal.alert_page", "alert_id"),
    "apr": ("portal.approval", "approval_id"),
}


@portal.get("/officer/overview")
@visitor_page(*_READERS)
def officer_overview(visitor: Actor) -> str:
    """What waits: approvals, open alerts; what is stopped or held; the way to everything else."""
    at = market()
    stopped = {kind: restraining.listed(at, visitor, kind)["items"] for kind in (FREEZE, HOLD)}
    return render_template(
        "officer/overview.html",
        approvals=approving.listed(at, visitor, state="open", limit=_FIRST),
        alerts=alerting.alerts(at, visitor, state="open", limit=_FIRST),
        in_force={kind: sum(one["lifted_at"] is None for one in items) for kind, items in stopped.items()},
        checkpoint=newest_checkpoint(at),
    )


@portal.get("/officer/domains")
@visitor_page(*_READERS)
def domains_page(visitor: Actor) -> str:
    """Every privacy domain with its account, 50 at a time."""
    token = request.args.get("page", "")
    found = auditing.domains(market(), visitor, limit=_DOMAINS, page_token=token)
    return render_template("officer/domains.html", found=found)


@portal.get("/officer/exports")
@visitor_page(*_READERS)
def exports(visitor: Actor) -> str:
    """The form that takes entries of the log away, and how to check them elsewhere."""
    del visitor
    given = {name: request.args.get(name, "") for name in auditing.FILTERS}
    return render_template("officer/exports.html", given=given, formats=FORMATS, fields=auditing.FILTERS)


@portal.get("/officer/open")
@visitor_page(*_READERS)
def open_by_id(visitor: Actor) -> Any:
    """Go to what an id names: a query's dossier, an entry, an alert, an approval; else search the log."""
    del visitor
    text = request.args.get("id", "").strip()[:200]
    page = _PAGES.get(text.partition("_")[0])
    if page is not None and our_id(text) is not None:
        named: dict[str, Any] = {page[1]: text}
        return redirect(url_for(page[0], **named))
    if not text:
        raise NotFound(_("no id was typed"), hint=_("Type one such as qry_…, evt_…, alr_… or apr_…."))
    return redirect(url_for("portal.log_page", q=text))
