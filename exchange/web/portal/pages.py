"""What every page needs: the visitor, a token against forged forms, one format, one look of refusals."""

from __future__ import annotations

import functools
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Response, g, redirect, render_template, request, url_for
from werkzeug.exceptions import RequestEntityTooLarge

from exchange.errors import ConfirmationNeeded, RequestInvalid, RoleMissing
from exchange.operations.terms import NANO, decimal_text
from exchange.store import REFUSALS
from exchange.web import auth, languages, sentences, words
from exchange.web.errors import STATUS
from exchange.web.limits import request_limits
from exchange.web.portal import portal

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.identity import Actor
    from exchange.persons.sessions import SignedIn

    View = Callable[..., Any]


_FORM = "application/x-www-form-urlencoded"
LARGEST_FORM = 64 << 10
_LARGEST_OF_NOBODY = 512 << 10
_MOST_FIELDS = 6_000
"""Fields of a form: thirty for each of 200 columns."""


@dataclass(frozen=True)
class _Taken:
    """What a page takes beyond the size of other forms: of which role, how many bytes, of which type."""

    role: str
    most: Callable[[], int]
    kind: str


_LARGER: dict[str, _Taken] = {}
_SHOWN_AGAIN: set[str] = set()
_KEPT: set[str] = set()
"""Endpoints whose long forms outlive the session they were opened in."""


@portal.before_app_request
def remember_visitor() -> None:
    """The signed-in visitor, for pages; API requests carry their own token."""
    g.visitor = None if request.path.startswith(("/v1", "/audit/", "/static/")) else auth.signed_in()
    if g.visitor is not None:
        request_limits().of_caller.take(g.visitor.ref)


@portal.before_request
def check_form() -> Any:
    """Every request to a page that may change something is small and comes from a page of ours.

    A form of an earlier session changes nothing: it is shown to be looked over, and sent again from there.
    """
    auth.check_site()
    endpoint = request.endpoint or ""
    request.max_content_length = _largest(endpoint)
    if request.mimetype == _FORM and request.get_data(parse_form_data=False).count(b"&") >= _MOST_FIELDS:
        raise RequestEntityTooLarge  # before it is taken apart: each field costs far more than its bytes
    # PostgreSQL's texts hold no NUL, so no field of ours does.
    for where, fields in (("the form", request.form), ("the address", request.args)):
        if any("\x00" in value for name, values in fields.lists() for value in (name, *values)):
            raise RequestInvalid(f"a field of {where} holds a NUL character")
    g.stale = auth.is_stale()
    if g.stale and g.visitor is not None and endpoint in _KEPT:
        return _looked_over(), 400
    if endpoint not in _SHOWN_AGAIN:
        auth.check_csrf()
    return None


def _largest(endpoint: str) -> int:
    """The bytes that a request may have: what its page takes in its own form, of whom it is for."""
    taken = _LARGER.get(endpoint)
    if taken is None or request.mimetype != taken.kind:
        return LARGEST_FORM
    if g.visitor is None:
        waits = endpoint in _SHOWN_AGAIN or endpoint in _KEPT
        return min(taken.most(), _LARGEST_OF_NOBODY) if waits else LARGEST_FORM
    return taken.most() if g.visitor.role == taken.role else LARGEST_FORM


def takes(
    role: str,
    most: Callable[[], int],
    kind: str = _FORM,
    *,
    shown_again: bool = False,
    kept: bool = False,
) -> Callable[[View], View]:
    """A page that takes ``most`` bytes of one media type from signed-in visitors of one role.

    One that is ``kept`` is not lost when the session ends: without one the page holds what was typed until
    the visitor has signed in, and in a later session it is looked over and sent once more. No field of such a
    form is secret.
    One that is ``shown_again`` looks at ``g.stale`` itself: where the session is another than when the form
    was opened it changes nothing, and shows what was typed.
    """

    def mark(view: View) -> View:
        endpoint = f"portal.{view.__name__}"
        _LARGER[endpoint] = _Taken(role, most, kind)
        if shown_again:
            _SHOWN_AGAIN.add(endpoint)
        if kept:
            _KEPT.add(endpoint)
        return view

    return mark


@portal.app_context_processor
def page_values() -> dict[str, Any]:
    """Values for every template."""
    return {
        "visitor": g.get("visitor"),
        "login": g.get("login"),
        "csrf": auth.csrf_token(),
        "languages": languages.LANGUAGES,
        "language": languages.chosen(),
        "html_language": languages.html_tag(),
        "once": lambda: secrets.token_hex(12),
    }


@portal.app_template_filter("rho")
def rho(amount: int | str | None) -> str:
    """Nano-rho as decimal text."""
    return "-" if amount is None else decimal_text(int(amount), NANO)


@portal.app_template_filter("python")
def python(text: str) -> str:
    """A text as a literal of Python, for examples that are copied: it is never code there."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in quoted)


portal.add_app_template_filter(languages.money, "money")
portal.add_app_template_filter(languages.moment, "moment")
portal.add_app_template_filter(languages.number, "number")
portal.add_app_template_filter(languages.territory, "territory")
portal.add_app_template_filter(words.word, "word")
portal.add_app_template_filter(sentences.licence, "licence")
portal.add_app_template_filter(sentences.price, "price")
portal.add_app_template_filter(sentences.change, "change_of_licence")
portal.add_app_template_filter(sentences.booked, "booked")


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
    status = STATUS.get(code, 422)
    body = render_template("problem.html", code=code, message=str(refusal), hint=hint, status=status)
    return with_wait(Response(body, status=status), refusal)


def refused_form(body: str, refusal: Exception) -> Response:
    """A form that was not taken, as the page that holds what was typed and says what is wrong with it."""
    auth.log_refusal(refusal)
    code = str(getattr(refusal, "code", "refused"))
    return with_wait(Response(body, status=STATUS.get(code, 422)), refusal)


def downloaded(content: str | bytes, kind: str, name: str) -> Response:
    """A file to be saved under a name."""
    reply = Response(content, content_type=kind)
    reply.headers.set("Content-Disposition", "attachment", filename=name)
    return reply


def told(refusal: Exception) -> str:
    """What a refusal says, as a sentence of a page."""
    said = str(refusal)
    return said[:1].upper() + said[1:]


def once_key(*parts: str) -> str | None:
    """The idempotency key of a form that was drawn once: sent twice, it does what it does once.

    ``parts`` tell apart what one form does. None for a form without the mark that :func:`once` gave it.
    """
    mark = form("once", 24)
    return ":".join(("form", mark, *parts)) if re.fullmatch("[0-9a-f]{24}", mark) else None


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


def signed_out_page(where: str) -> tuple[str, int]:
    """What was typed in a form whose session has ended: it waits in this page until one has signed in."""
    return render_template("signed_out.html", kept=_typed_fields(), where=where), 401


def _looked_over() -> str:
    """What was typed in an earlier session, to be sent once more in this one."""
    return render_template("signed_in_again.html", kept=_typed_fields(), where=request.path)


def _typed_fields() -> list[tuple[str, str]]:
    return [(name, text) for name, text in request.form.items(multi=True) if name != "csrf"]


def _to_sign_in() -> Any:
    """Send to where the session's next step is, and back here afterwards."""
    if request.method == "POST" and request.endpoint in _KEPT:
        return signed_out_page(request.path)
    target = request.full_path.rstrip("?") if request.method in ("GET", "HEAD") else "/"
    found = auth.login()
    if found is None:
        return redirect(url_for("portal.sign_in", next=target))
    if found.needs == "enrolment":
        return redirect(url_for("portal.account"))
    return redirect(url_for("portal.confirm", next=target))
