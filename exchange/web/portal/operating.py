"""The operator's pages: how the exchange is, and the organisations on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import current_app, redirect, render_template, request, url_for

from exchange import parties
from exchange.alerts.kinds import KINDS
from exchange.errors import ConfirmationNeeded, RequestInvalid
from exchange.identity import Role
from exchange.operations import administering, confirming, joining, securing, signing_in, supervising
from exchange.store import REFUSALS
from exchange.web import auth
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, refused_form, visitor_page

if TYPE_CHECKING:
    from exchange.identity import Actor

_FIELDS = ("name", "role", "login", *parties.FIELDS)
_LONGEST = 800


@portal.get("/operator")
@visitor_page(Role.OPERATOR)
def health(visitor: Actor) -> str:
    """Readiness, the worker, the log's freshness, witnesses, queries, calls to Stripe, alerts, disks."""
    readiness = current_app.extensions["readiness"]
    told = supervising.health(market(), visitor, readiness.parts())
    return render_template("operator/health.html", told=told, unconfined=readiness.unconfined(), kinds=KINDS)


@portal.get("/operator/organisations")
@visitor_page(Role.OPERATOR)
def organisations(visitor: Actor) -> str:
    """Organisations by name, searched and page by page."""
    text, role = request.args.get("q", "").strip(), request.args.get("role", "")
    token = request.args.get("page")
    found = supervising.organisations(market(), visitor, text=text, role=role, page_token=token)
    return render_template("operator/organisations.html", found=found, text=text, role=role, roles=list(Role))


@portal.get("/operator/organisations/new")
@visitor_page(Role.OPERATOR)
def new_organisation(visitor: Actor) -> str:
    """The form that admits an organisation."""
    del visitor
    return _new_page()


@portal.post("/operator/organisations/new")
@visitor_page(Role.OPERATOR)
def create_organisation(visitor: Actor) -> Any:
    """Admit a buyer or a provider, and record who it is where the form says so.

    One that is there already is left as it is: who it is is recorded on its own page.
    """
    name, said = form("name", 80).strip(), _said()
    try:
        prove()
        if any(said.values()):
            parties.check(said)
        role = form("role", 20)
        if role not in administering.REGISTERED:
            raise RequestInvalid("choose whether it buys or provides")
        administering.create_organisation(market(), name=name, role=Role(role), actor=visitor, anew=True)
        if any(said.values()):
            administering.identify(market(), org=name, said=said, actor=visitor)
    except REFUSALS as refusal:
        there = supervising.is_there(market(), visitor, name)
        return refused_form(_new_page(refusal=refusal, there=name if there else ""), refusal)
    return redirect(url_for("portal.organisation", org=name))


@portal.get("/operator/organisations/<org>")
@visitor_page(Role.OPERATOR)
def organisation(visitor: Actor, org: str) -> str:
    """One organisation: identity, members, money."""
    return _page(visitor, org)


@portal.post("/operator/organisations/<org>/identity")
@visitor_page(Role.OPERATOR)
def identify_organisation(visitor: Actor, org: str) -> Any:
    """Record who an organisation is; an earlier record stays in the books."""
    supervising.organisation(market(), visitor, org)
    try:
        prove()
        administering.identify(market(), org=org, said=_said(), actor=visitor)
    except REFUSALS as refusal:
        return refused_form(_page(visitor, org, refusal=refusal, typed=_typed()), refusal)
    return redirect(url_for("portal.organisation", org=org))


@portal.post("/operator/organisations/<org>/invite")
@visitor_page(Role.OPERATOR)
def invite_first(visitor: Actor, org: str) -> Any:
    """Make the link of an organisation's first administrator; it is shown once."""
    known = supervising.organisation(market(), visitor, org)["org"]
    try:
        prove()
        made = joining.invite_first(market(), visitor, org=known, login=form("login", 300))
    except REFUSALS as refusal:
        return refused_form(_page(visitor, org, refusal=refusal, typed=_typed()), refusal)
    return _page(visitor, org, made=made)


def prove() -> None:
    """Take the code that a form carries, and require that the operator has just shown who it is.

    The form holds the field where that is due, so that nothing that was typed is lost on the way to another
    page. Raises ConfirmationNeeded, SecondFactorRefused.
    """
    who, code = auth.login(), form("code", 10).strip()
    assert who is not None, "the page is for visitors"
    if code and proof_due() == "code":
        auth.keep(confirming.confirm_by_code(market(), who, code))
        who = auth.login(anew=True)
        assert who is not None, "the session was renewed in this request"
    signing_in.recently(market(), who)


def proof_due() -> str:
    """Whether the visitor is to show once more who it is: "code" in the form itself, "page" elsewhere."""
    who = auth.login()
    if who is None:
        return ""
    try:
        signing_in.recently(market(), who)
    except ConfirmationNeeded:
        held = securing.own_factors(market(), who) if who.person else None
        return "code" if held and held.totp else "page"
    return ""


def _new_page(**more: Any) -> str:
    return render_template("operator/new.html", typed=_typed(), proof=proof_due(), **more)


def _page(visitor: Actor, org: str, **more: Any) -> str:
    told = supervising.organisation(market(), visitor, org)
    typed = more.pop("typed", None) or told["identity"] or {}
    return render_template("operator/organisation.html", told=told, typed=typed, proof=proof_due(), **more)


def _said() -> dict[str, str]:
    return {name: form(name, _LONGEST).strip() for name in parties.FIELDS}


def _typed() -> dict[str, str]:
    return {name: form(name, _LONGEST) for name in _FIELDS}
