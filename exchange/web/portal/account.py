"""One's own account: organisations, password, second factors, sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, jsonify, redirect, render_template, url_for

from exchange import identity
from exchange.errors import RequestInvalid
from exchange.operations import erasing, securing, signing_in
from exchange.persons import accounts
from exchange.store import REFUSALS
from exchange.web import auth
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, session_page, with_wait
from exchange.web.portal.session import json_object

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from werkzeug.wrappers import Response as BaseResponse

    from exchange.persons.sessions import SignedIn

_LONGEST_SECRET = 1000
_ENROLLING = ("enrolment",)


@portal.get("/account")
@session_page(needing=_ENROLLING)
def account(who: SignedIn) -> str:
    """Everything about the own account."""
    return account_page(who)


def account_page(who: SignedIn, **more: Any) -> str:
    """The page of an account, with what was just drawn or refused."""
    person = who.person
    held = securing.own_factors(market(), who) if person else None
    memberships = market().store.read(lambda session: _memberships(session, person)) if person else []
    return render_template(
        "account.html",
        who=who,
        held=held,
        memberships=memberships,
        sessions=signing_in.own_sessions(market(), who),
        **more,
    )


@portal.post("/account/organisation")
@session_page(needing=_ENROLLING)
def switch(who: SignedIn) -> BaseResponse:
    """Act for another of one's organisations."""
    auth.keep(signing_in.switch(market(), who, form("org")))
    return redirect(url_for("portal.account"))


@portal.post("/account/password")
@session_page()
def password(who: SignedIn) -> BaseResponse:
    """Set another password."""
    try:
        opened = securing.change_password(
            market(),
            who,
            current=form("current", _LONGEST_SECRET),
            new=form("new", _LONGEST_SECRET),
            agent=auth.agent(),
        )
    except REFUSALS as refusal:
        status = 422 if getattr(refusal, "code", "") == "password_weak" else 401
        return with_wait(Response(account_page(who, error=refusal), status=status), refusal)
    auth.keep(opened)
    return redirect(url_for("portal.account"))


@portal.post("/account/sessions/<session_id>/end")
@session_page()
def end_session(who: SignedIn, session_id: str) -> BaseResponse:
    """End one of one's own sessions."""
    signing_in.end_session(market(), who, session_id)
    if session_id == who.id:
        auth.forget()
        return redirect(url_for("portal.catalogue"))
    return redirect(url_for("portal.account"))


@portal.post("/account/app")
@session_page(needing=_ENROLLING)
def begin_app(who: SignedIn) -> str:
    """Draw a key for an authenticator app and show it."""
    return account_page(who, app=securing.begin_app(market(), who))


@portal.post("/account/app/confirm")
@session_page(needing=_ENROLLING)
def add_app(who: SignedIn) -> str:
    """Take the app into use by its first code."""
    return _added(securing.add_app(market(), who, form("code")))


@portal.post("/account/passkeys/options")
@session_page(needing=_ENROLLING)
def new_passkey_options(who: SignedIn) -> Response:
    """What the browser needs to register a passkey."""
    return jsonify(securing.new_passkey_options(market(), who))


@portal.post("/account/passkeys")
@session_page(needing=_ENROLLING)
def add_passkey(who: SignedIn) -> Response:
    """Register a passkey; the reply holds recovery codes with the first factor."""
    given = json_object()
    reply, name = given.get("credential"), given.get("name", "")
    known = reply if isinstance(reply, dict) else {}
    added = securing.add_passkey(market(), who, known, name=name if isinstance(name, str) else "")
    auth.keep(added.opened)
    return jsonify({"done": True, "recovery_codes": list(added.recovery_codes)})


@portal.post("/account/factors/<factor>/remove")
@session_page()
def remove_factor(who: SignedIn, factor: str) -> BaseResponse:
    """Remove a second factor."""
    auth.keep(securing.remove_factor(market(), who, factor))
    return redirect(url_for("portal.account"))


@portal.post("/account/recovery-codes")
@session_page()
def recovery_codes(who: SignedIn) -> str:
    """Draw fresh recovery codes and show them once."""
    return account_page(who, recovery_codes=securing.renew_recovery_codes(market(), who))


@portal.get("/account/erase")
@session_page()
def erasing_page(who: SignedIn) -> str:
    """What is erased with the account, and what stays."""
    securing.person_of(who)
    return render_template("erase.html", who=who)


@portal.post("/account/erase")
@session_page(back="portal.erasing_page")
def erase(who: SignedIn) -> BaseResponse:
    """Erase the own account, for good."""
    if form("login").strip().lower() != who.login:
        raise RequestInvalid(
            "this is not the login of your account", hint="Type it as it stands on the page."
        )
    erasing.erase_own(market(), who)
    auth.forget()
    return redirect(url_for("portal.catalogue"))


def _added(added: securing.Added) -> str:
    auth.keep(added.opened)
    found = auth.login()
    assert found is not None, "the session was renewed in this request"
    return account_page(found, recovery_codes=added.recovery_codes, added=True)


def _memberships(session: Session, person: str) -> list[dict[str, Any]]:
    names = identity.organisation_names(session)
    return [
        {"org": one.org, "name": names[one.org], "role": one.role, "admin": one.admin}
        for one in accounts.memberships(session, person)
    ]
