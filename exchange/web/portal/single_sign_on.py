"""Signing in by the identity provider: away to it, and back."""

from __future__ import annotations

from typing import Any

from flask import redirect, request

from exchange.errors import NotFound
from exchange.operations import signing_on
from exchange.store import REFUSALS
from exchange.web import auth
from exchange.web.auth import market, single_sign_on
from exchange.web.portal import portal
from exchange.web.portal.pages import refusal_page
from exchange.web.portal.session import after_proof

_JOIN = "/join/"
_LONGEST = 300


@portal.get("/sign-in/with")
def away() -> Any:
    """Send the browser to the provider; a cookie of five minutes ties what comes back to it."""
    try:
        if not single_sign_on.configured(market()):
            raise NotFound("there is no identity provider", hint="Sign in with login and password.")
        started = single_sign_on.start(market(), target=request.args.get("next", "/")[:_LONGEST])
    except REFUSALS as refusal:
        return refusal_page(refusal)
    reply = redirect(started.address)
    reply.set_cookie(
        auth.cookie_name("sign-on"),
        started.cookie,
        max_age=300,
        secure=auth.is_https(),
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return reply


@portal.get("/sign-in/back")
def back() -> Any:
    """Take what the provider sent; a link to join is used with it."""
    cookie, place = request.cookies.get(auth.cookie_name("sign-on"), ""), auth.nobody()
    try:
        known, target = single_sign_on.finish(market(), cookie, request.args.to_dict())
        if target.startswith(_JOIN):
            text, target = target.removeprefix(_JOIN), "/account"
            opened = signing_on.join_on(market(), place, text, known, agent=auth.agent())
        else:
            opened = signing_on.sign_on(market(), place, known, agent=auth.agent())
    except REFUSALS as refusal:
        return refusal_page(refusal)
    auth.keep(opened)
    return after_proof(target)
