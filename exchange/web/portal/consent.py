"""Letting a program in: the page on which a person decides, in the browser or for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, redirect, render_template, request, url_for
from flask_babel import gettext as _

from exchange.errors import ConfirmationNeeded, UserCodeUnknown
from exchange.identity import Role
from exchange.operations import authorizing, signing_in
from exchange.web.auth import log_refusal, login, market
from exchange.web.auth.provider import Consent, provider
from exchange.web.portal import portal
from exchange.web.portal.pages import visitor_page

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.scopes import Scopes


@portal.get("/oauth/authorize")
@visitor_page()
def consent(visitor: Actor) -> Any:
    """Ask whether a program may act for the organisation."""
    return _proof_first(visitor) or _asked(provider().consent(visitor))


@portal.post("/oauth/authorize")
@visitor_page()
def decide(visitor: Actor) -> Any:
    """Send the visitor back to the program with the answer."""
    approve = request.form.get("decision") == "approve"
    if approve:
        _require_proof(visitor)
    return provider().decided(visitor, approve=approve)


@portal.get("/device")
@visitor_page()
def device(visitor: Actor) -> Any:
    """Ask for the code that a device shows; with the code, which program it is and what it wants."""
    code = request.args.get("user_code", "").strip()
    first = _proof_first(visitor)
    if first is not None:
        return first
    # A link on another site fills the code in alone: whoever follows it has tried nothing yet.
    if not code or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return render_template("device.html", code=code[:40], error=None)
    return _device_page(visitor, code)


@portal.post("/device")
@visitor_page()
def decide_device(visitor: Actor) -> Any:
    """Say yes or no to the device."""
    code, decision = request.form.get("user_code", ""), request.form.get("decision", "")
    if decision not in ("approve", "decline"):
        return _device_page(visitor, code)
    if decision == "approve":
        _require_proof(visitor)
    authorizing.decide_device(market(), visitor, code, approve=decision == "approve")
    return render_template("device_decided.html", approved=decision == "approve")


def in_words(scopes: Scopes) -> list[str]:
    """What a scope allows, in sentences."""
    if scopes.account:
        return [_("do everything that your organisation's role allows")]
    told = [_("look at the catalogue, ask questions at your organisation's expense and read their answers")]
    if scopes.datasets:
        told.append(_("about %(datasets)s alone", datasets=", ".join(sorted(scopes.datasets))))
    if scopes.purposes:
        told.append(_("for these purposes alone: %(purposes)s", purposes=", ".join(sorted(scopes.purposes))))
    if scopes.rho_nano is not None:
        told.append(_("for at most rho %(rho)s in all", rho=str(scopes).rpartition("rho:")[2]))
    return told


def _require_proof(visitor: Actor) -> None:
    """Raise ConfirmationNeeded where an officer or operator has not shown a second factor just now.

    What they let in acts for a month without one.
    """
    who = login()
    if who is not None and who.person and visitor.role in (Role.OFFICER, Role.OPERATOR):
        signing_in.recently(market(), who)


def _proof_first(visitor: Actor) -> Any:
    """The way to the second factor and back here, where it comes first."""
    try:
        _require_proof(visitor)
    except ConfirmationNeeded:
        return redirect(url_for("portal.confirm", next=request.full_path.rstrip("?")))
    return None


def _asked(found: Consent | Response) -> Any:
    if isinstance(found, Response):
        return found
    page = Response(
        render_template("consent.html", asked=found, in_words=in_words(found.scopes)),
    )
    # A browser holds a form to form-action through redirects, too: the answer goes to the program's address.
    target = urlsplit(found.redirect_uri)
    page.headers["Content-Security-Policy"] = (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        f"form-action 'self' {target.scheme}://{target.netloc}"
    )
    page.headers["Cache-Control"] = "no-store"
    return page


def _device_page(visitor: Actor, code: str) -> Any:
    try:
        waiting = authorizing.waiting_device(market(), visitor, code)
    except UserCodeUnknown as refusal:
        log_refusal(refusal)
        return render_template("device.html", code="", error=refusal), 404
    return render_template(
        "device.html",
        code=authorizing.normal_user_code(code),
        error=None,
        client=waiting.client,
        in_words=in_words(waiting.scopes),
    )
