"""What every page needs: the visitor, a token against forged forms, one format, one look of refusals."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask import Response, g, redirect, render_template, request, url_for

from exchange.errors import ConfirmationNeeded, RequestInvalid, RoleMissing
from exchange.operations.terms import NANO, decimal_text
from exchange.store import REFUSALS
from exchange.web import auth
from exchange.web.errors import STATUS
from exchange.web.limits import request_limits
from exchange.web.portal import portal
from settlement.money import format_amount

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.identity import Actor
    from exchange.persons.sessions import SignedIn

    View = Callable[..., Any]


_LARGEST_FORM = 64 << 10


@portal.before_app_request
def remember_visitor() -> None:
    """The signed-in visitor, for pages; API requests carry their own token."""
    g.visitor = None if request.path.startswith(("/v1", "/audit/", "/static/")) else auth.signed_in()
    if g.visitor is not None:
        request_limits().of_caller.take(g.visitor.ref)


@portal.before_request
def check_form() -> None:
    """Every request to a page that may change something is small and comes from a page of ours."""
    request.max_content_length = _LARGEST_FORM
    # PostgreSQL's texts hold no NUL, so no field of ours does.
    if any("\x00" in value for name in request.form for value in (name, *request.form.getlist(name))):
        raise RequestInvalid("a field of the form holds a NUL character")
    auth.check_csrf()


@portal.app_context_processor
def page_values() -> dict[str, Any]:
    """Values for every template."""
    return {"visitor": g.get("visitor"), "login": g.get("login"), "csrf": auth.csrf_token()}


@portal.app_template_filter("rho")
def rho(amount: int | str | None) -> str:
    """Nano-rho as decimal text."""
    return "-" if amount is None else decimal_text(int(amount), NANO)


@portal.app_template_filter("money")
def amount(minor: int | str | None, currency: str) -> str:
    """Minor units with the currency's decimals."""
    return "-" if minor is None else f"{format_amount(int(minor), currency)} {currency}"


@portal.app_template_filter("moment")
def moment(text: str | None) -> str:
    """A time of ours to the second, in UTC."""
    return "-" if not text else f"{text[:19].replace('T', ' ')} UTC"


def visitor_page(*roles: str) -> Callable[[View], View]:
    """A page for signed-in visitors, of ``roles`` if given; others are sent to sign in or told why not."""

    def wrap(view: View) -> View:
        @functools.wraps(view)
        def page(*args: Any, **kwargs: Any) -> Any:
            visitor: Actor | None = g.visitor
            if visitor is None:
                return _to_sign_in()
            if roles and visitor.role not in roles:
                told = f"This page is for: {', '.join(roles)}."
                return refusal_page(RoleMissing(told, hint="Sign in with another role."))
            try:
                return view(visitor, *args, **kwargs)
            except REFUSALS as refusal:
                return refusal_page(refusal)

        return page

    return wrap


def session_page(*, needing: tuple[str, ...] = (), back: str = "portal.account") -> Callable[[View], View]:
    """A page about the session itself, which is the view's first argument.

    ``needing``: what a session may still need to be let in here. A step that needs a proof of the person once
    more leads there and then to the page ``back``.
    """

    def wrap(view: View) -> View:
        @functools.wraps(view)
        def page(*args: Any, **kwargs: Any) -> Any:
            who: SignedIn | None = auth.login()
            if who is None or (who.needs and who.needs not in needing):
                return _to_sign_in()
            try:
                return view(who, *args, **kwargs)
            except ConfirmationNeeded as refusal:
                if request.is_json:
                    raise
                auth.log_refusal(refusal)
                return redirect(url_for("portal.confirm", next=url_for(back)))
            except REFUSALS as refusal:
                if request.is_json:
                    raise
                return refusal_page(refusal)

        return page

    return wrap


def refusal_page(refusal: Exception) -> Response:
    """A refusal as a page: what happened and what to do next. It is in the log by then."""
    auth.log_refusal(refusal)
    code = str(getattr(refusal, "code", "refused"))
    hint = str(getattr(refusal, "hint", ""))
    body = render_template("problem.html", code=code, message=str(refusal), hint=hint)
    return with_wait(Response(body, status=STATUS.get(code, 422)), refusal)


def with_wait(response: Response, refusal: Exception) -> Response:
    """The reply with ``Retry-After``, where the refusal says how long to wait."""
    wait = getattr(refusal, "retry_after_s", None)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def form(name: str, most: int = 400) -> str:
    """A field of the form that was sent, cut where it is longer than any that we take."""
    return request.form.get(name, "")[:most]


def local(target: str) -> str:
    """Where to go next: only a path of this site - no scheme, no host, no backslash read as a slash."""
    fits = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if fits and target.isprintable() else "/"


def _to_sign_in() -> Any:
    """Send to where the session's next step is, and back here afterwards."""
    target = request.full_path.rstrip("?") if request.method in ("GET", "HEAD") else "/"
    found = auth.login()
    if found is None:
        return redirect(url_for("portal.sign_in", next=target))
    if found.needs == "enrolment":
        return redirect(url_for("portal.account"))
    return redirect(url_for("portal.confirm", next=target))
