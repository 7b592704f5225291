"""Signing in with a token, signing out, and what every page needs: the visitor, a CSRF token, one format."""

from __future__ import annotations

import functools
import hmac
from typing import TYPE_CHECKING, Any

from flask import Response, abort, current_app, g, redirect, render_template, request, session, url_for

from exchange.errors import RoleMissing
from exchange.operations.terms import NANO, decimal_text
from exchange.store import REFUSALS
from exchange.web import auth
from exchange.web.errors import STATUS
from exchange.web.portal import portal
from settlement.money import format_amount

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response as BaseResponse

    from exchange.identity import Actor

    View = Callable[..., Any]


@portal.before_app_request
def remember_visitor() -> None:
    """The signed-in visitor, for pages; API requests carry their own token."""
    g.visitor = None if request.path.startswith(("/v1", "/audit/")) else auth.signed_in()


@portal.app_context_processor
def page_values() -> dict[str, Any]:
    """Values for every template."""
    return {"visitor": g.get("visitor"), "csrf": session.get("csrf", "")}


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
                return redirect(url_for("portal.sign_in", next=request.full_path.rstrip("?")))
            if roles and visitor.role not in roles:
                told = f"This page is for: {', '.join(roles)}."
                return refusal_page(RoleMissing(told, hint="Sign in with another role."))
            try:
                return view(visitor, *args, **kwargs)
            except REFUSALS as refusal:
                return refusal_page(refusal)

        return page

    return wrap


def refusal_page(refusal: Exception) -> Response:
    """A refusal as a page: what happened and what to do next. It is in the log by then."""
    auth.log_refusal(refusal)
    code = str(getattr(refusal, "code", "refused"))
    hint = str(getattr(refusal, "hint", ""))
    body = render_template("problem.html", code=code, message=str(refusal), hint=hint)
    return Response(body, status=STATUS.get(code, 422))


def check_csrf() -> None:
    """Refuse a form that did not come from a page of ours."""
    given, ours = request.form.get("csrf", "").encode(), session.get("csrf", "").encode()
    if not ours or not hmac.compare_digest(given, ours):
        abort(400, "the form is stale: open the page again")


@portal.get("/sign-in")
def sign_in() -> str:
    """The form that asks for a token."""
    return render_template("sign_in.html", next=request.args.get("next", "/"), error=None)


@portal.post("/sign-in")
def signing_in() -> BaseResponse | tuple[str, int]:
    """Start a session; a wrong token is told on the same page."""
    target = request.form.get("next", "/")
    origin = request.headers.get("Origin")
    if origin is not None and origin != request.host_url.rstrip("/"):
        abort(400, "the form came from another site: open the page here")
    try:
        auth.sign_in(request.form.get("token", "").strip())
    except REFUSALS as refusal:
        return render_template("sign_in.html", next=target, error=refusal), 401
    return redirect(target if _local(target) else "/")


@portal.post("/sign-out")
def sign_out() -> BaseResponse:
    """End the session."""
    check_csrf()
    session.clear()
    current_app.logger.debug("signed out")
    return redirect(url_for("portal.catalogue"))


def _local(target: str) -> bool:
    """Only a path of this site: no scheme, no host, no backslash that a browser reads as a slash."""
    return (
        target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    )
