"""The portal's sessions in a browser: one cookie with random bits, and a token against forged requests.

The cookie is ``__Host-session`` where the exchange is reached over https, so that no other host can set it
(RFC 6265bis, section 4.1.3.2). What it opens is kept by the exchange; the API never looks at it.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import abort, current_app, g, request

from exchange import sealing
from exchange.identity import NOBODY, Actor
from exchange.operations import signing_in
from exchange.web.auth.bearer import authenticated
from exchange.web.auth.place import caller, market

if TYPE_CHECKING:
    from flask import Response

    from exchange.operations.signing_in import Opened
    from exchange.persons.sessions import SignedIn

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SECRET = 43


def login(*, anew: bool = False) -> SignedIn | None:
    """The session of this request, also one that still needs a second factor; None without one.

    ``anew``: the request has changed what the session stands on.
    """
    if anew or "login" not in g:
        given = g.get("session_cookie")
        secret = request.cookies.get(cookie_name(), "") if given is None else given
        found = signing_in.visitor(market(), secret) if len(secret) == _SECRET else None
        if found is not None:
            g.session_secret = secret
            found = _placed(found)
        elif secret:
            forget()
        g.login = found
    known: SignedIn | None = g.login
    return known


def signed_in() -> Actor | None:
    """The portal's visitor, or None: also where the session still needs a second factor."""
    found = login()
    return None if found is None or found.needs else found.actor


def sign_in(text: str) -> None:
    """Start a session with a token's text. Raises TokenUnknown or SecondFactorMissing, which are logged."""
    keep(signing_in.sign_in_with_token(market(), authenticated(text), agent=agent()))


def nobody() -> Actor:
    """Nobody, at the place of this request: who signs in."""
    return caller(NOBODY)


def agent() -> str:
    """How the browser calls itself."""
    return request.headers.get("User-Agent", "")


def keep(opened: Opened) -> None:
    """Give the browser a session's new text with this request's reply; what it had opens nothing any more."""
    g.session_secret = g.session_cookie = opened.secret
    g.pop("login", None)


def forget() -> None:
    """Take the cookie out of the browser with this request's reply."""
    g.session_cookie = ""
    g.pop("session_secret", None)
    g.login = None


def write_cookie(response: Response) -> None:
    """Set or remove the cookie, where this request opened, renewed or ended a session."""
    text = g.get("session_cookie")
    if text is None:
        return
    name, secure = cookie_name(), is_https()
    if text:
        response.set_cookie(name, text, secure=secure, httponly=True, samesite="Lax", path="/")
    else:
        response.delete_cookie(name, secure=secure, httponly=True, samesite="Lax", path="/")


def cookie_name(kind: str = "session") -> str:
    """The name of a cookie: bound to this host where the exchange is on https."""
    return f"__Host-{kind}" if is_https() else kind


def csrf_token() -> str:
    """The token that every form of this session carries; empty without a session."""
    secret = g.get("session_secret", "")
    if not secret:
        return ""
    key = sealing.derived(market().settings.secret_key, "forms")
    return hmac.new(key, secret.encode(), "sha256").hexdigest()


def check_csrf() -> None:
    """Refuse a request that may change something and did not come from a page of ours.

    Within a session it carries the session's token, in the field ``csrf`` or the header ``X-CSRF-Token``;
    without one - signing in, joining - the browser must not say that it comes from another site.
    """
    check_site()
    if is_stale():
        abort(400, "the form is stale: open the page again")


def check_site() -> None:
    """Refuse a request that may change something and comes from another site; the body is not read."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    own = _own(request.headers.get("Origin")) and site in ("same-origin", "none")
    if request.method not in SAFE and not own:
        abort(400, "the form came from another site: open the page here")


def is_stale() -> bool:
    """Whether a request that may change something lacks the token of its session."""
    if request.method in SAFE or login() is None:
        return False
    given = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
    return not hmac.compare_digest(given.encode(), csrf_token().encode())


def _own(origin: str | None) -> bool:
    base = urlsplit(market().settings.base_url)
    return origin in (None, request.host_url.rstrip("/"), f"{base.scheme}://{base.netloc}")


def is_https() -> bool:
    """Whether people reach the exchange over https."""
    return bool(current_app.config["HTTPS"])


def _placed(found: SignedIn) -> SignedIn:
    return replace(found, actor=replace(caller(found.actor), auth="session"))
