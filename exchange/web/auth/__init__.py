"""Who asks: a bearer token on the API, a session kept by the exchange on the portal.

Drawn from bottom to top: :mod:`~exchange.web.auth.place` knows the request and logs what it is refused,
:mod:`~exchange.web.auth.bearer` reads the token of a request to the API, :mod:`~exchange.web.auth.session`
keeps a visitor of the portal signed in. Nothing else in the exchange imports Authlib.
"""

from __future__ import annotations

from exchange.web.auth.bearer import actor, spend_refused, start_request
from exchange.web.auth.place import SIGNED, caller, log_refusal, market
from exchange.web.auth.session import (
    agent,
    check_csrf,
    check_site,
    cookie_name,
    csrf_token,
    forget,
    is_https,
    is_stale,
    keep,
    login,
    nobody,
    sign_in,
    signed_in,
    write_cookie,
)

__all__ = [
    "SIGNED",
    "actor",
    "agent",
    "caller",
    "check_csrf",
    "check_site",
    "cookie_name",
    "csrf_token",
    "forget",
    "is_https",
    "is_stale",
    "keep",
    "log_refusal",
    "login",
    "market",
    "nobody",
    "sign_in",
    "signed_in",
    "spend_refused",
    "start_request",
    "write_cookie",
]
