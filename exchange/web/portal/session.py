"""Signing in with a password or a token, proving once more who one is, signing out, joining by a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, abort, jsonify, redirect, render_template, request, url_for

from exchange.errors import RequestInvalid
from exchange.operations import arriving, confirming, signing_in
from exchange.store import REFUSALS
from exchange.web import auth
from exchange.web.auth import market, single_sign_on
from exchange.web.errors import STATUS
from exchange.web.portal import portal
from exchange.web.portal.pages import form, local, refusal_page, session_page, with_wait

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

    from exchange.persons.sessions import SignedIn

_LONGEST_SECRET = 1000


@portal.get("/sign-in")
def sign_in() -> str:
    """The forms that ask for login and password, or for a token."""
    return _sign_in_page(request.args.get("next", "/"))


@portal.post("/sign-in")
def signing_in_page() -> BaseResponse:
    """Start a session; what is wrong is told on the same page."""
    target, before = form("next", 2000) or "/", auth.login()
    try:
        if "token" in request.form:
            auth.sign_in(form("token", _LONGEST_SECRET).strip())
        else:
            opened = signing_in.sign_in(
                market(),
                auth.nobody(),
                login=form("login"),
                password=form("password", _LONGEST_SECRET),
                agent=auth.agent(),
            )
            auth.keep(opened)
    except REFUSALS as refusal:
        body = _sign_in_page(target, refusal)
        return with_wait(Response(body, status=STATUS.get(str(getattr(refusal, "code", "")), 401)), refusal)
    if before is not None:
        signing_in.end_session(market(), before, before.id)
    return after_proof(target)


@portal.post("/sign-out")
def sign_out() -> BaseResponse:
    """End the session."""
    found = auth.login()
    if found is None:
        abort(400, "nobody is signed in")
    signing_in.end_session(market(), found, found.id)
    auth.forget()
    return redirect(url_for("portal.catalogue"))


@portal.get("/sign-in/confirm")
@session_page(needing=("factor", "enrolment"))
def confirm(who: SignedIn) -> str:
    """Ask for the second factor, or for the password where there is none."""
    return _confirm_page(who, request.args.get("next", "/"))


@portal.post("/sign-in/confirm")
@session_page(needing=("factor", "enrolment"))
def confirming_page(who: SignedIn) -> BaseResponse:
    """Take a code, a recovery code or the password; what is wrong is told on the same page."""
    target = form("next", 2000) or "/"
    try:
        if "code" in request.form:
            opened = confirming.confirm_by_code(market(), who, form("code"))
        elif "recovery" in request.form:
            opened = confirming.confirm_by_recovery_code(market(), who, form("recovery"))
        else:
            opened = confirming.confirm_by_password(market(), who, form("password", _LONGEST_SECRET))
    except REFUSALS as refusal:
        status = STATUS.get(str(getattr(refusal, "code", "")), 401)
        return with_wait(Response(_confirm_page(who, target, refusal), status=status), refusal)
    auth.keep(opened)
    return after_proof(target)


@portal.post("/sign-in/passkey/options")
@session_page(needing=("factor",))
def passkey_options(who: SignedIn) -> Response:
    """What the browser needs to sign with a passkey."""
    return jsonify(confirming.passkey_options(market(), who))


@portal.post("/sign-in/passkey")
@session_page(needing=("factor",))
def passkey_used(who: SignedIn) -> Response:
    """Take what a passkey signed."""
    auth.keep(confirming.confirm_by_passkey(market(), who, json_object()))
    return jsonify({"done": True})


@portal.get("/join/<text>")
def join(text: str) -> Any:
    """What a link is for, with the form that uses it."""
    try:
        return _join_page(text)
    except REFUSALS as refusal:
        return refusal_page(refusal)


@portal.post("/join/<text>")
def joining_page(text: str) -> BaseResponse:
    """Use a link: with the account that is signed in, or with a name and a password for a new one."""
    found = auth.login()
    try:
        if found is not None and not found.needs and "accept" in request.form:
            org = arriving.accept_as(market(), found, text)
            auth.keep(signing_in.switch(market(), found, org))
            return redirect(url_for("portal.account"))
        opened = arriving.accept(
            market(),
            auth.nobody(),
            text,
            name=form("name"),
            password=form("password", _LONGEST_SECRET),
            agent=auth.agent(),
        )
    except REFUSALS as refusal:
        code = str(getattr(refusal, "code", ""))
        if code in ("password_weak", "request_invalid", "sign_in_refused", "too_many_tries"):
            return with_wait(Response(_join_page(text, refusal), status=STATUS[code]), refusal)
        return refusal_page(refusal)
    auth.keep(opened)
    return redirect(url_for("portal.account"))


def json_object() -> dict[str, Any]:
    """The JSON object of a request of our own script. Raises RequestInvalid."""
    try:
        given = request.get_json(silent=True)
    except RecursionError:
        raise RequestInvalid("the body is nested too deeply") from None
    if b"\\u0000" in request.get_data():
        raise RequestInvalid("the body holds a NUL character")
    if not isinstance(given, dict):
        raise RequestInvalid("the body must be a JSON object")
    return given


def after_proof(target: str) -> BaseResponse:
    """Go on after a proof: to the second factor, to adding one, or to where the visitor wanted to go."""
    found = auth.login()
    if found is not None and found.needs == "factor":
        return redirect(url_for("portal.confirm", next=local(target)))
    if found is not None and found.needs == "enrolment":
        return redirect(url_for("portal.account"))
    return redirect(local(target))


def _sign_in_page(target: str, error: Exception | None = None) -> str:
    provider = single_sign_on.configured(market())
    return render_template("sign_in.html", next=target, error=error, provider=provider)


def _confirm_page(who: SignedIn, target: str, error: Exception | None = None) -> str:
    from exchange.operations.securing import own_factors

    held = own_factors(market(), who) if who.person else None
    return render_template("confirm.html", next=target, error=error, held=held, who=who)


def _join_page(text: str, error: Exception | None = None) -> str:
    return render_template(
        "join.html",
        told=arriving.look_at(market(), text),
        who=auth.login(),
        text=text,
        error=error,
        provider=single_sign_on.configured(market()),
    )
