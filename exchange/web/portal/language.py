"""The choice of a language: a cookie of this browser, for those signed in and for anyone else."""

from __future__ import annotations

from typing import Any

from flask import redirect, request

from exchange.web import auth
from exchange.web.languages import COOKIE, LANGUAGES
from exchange.web.portal import portal
from exchange.web.portal.pages import local

_A_YEAR_S = 365 * 24 * 3600


@portal.get("/language/<language>")
def choose_language(language: str) -> Any:
    """Show pages in another language from now on, and go back to where it was chosen.

    A link and no form: it changes nothing but how this browser is spoken to, and visitors without a session
    have no token for forms.
    """
    reply = redirect(local(request.args.get("next", "/")[:2000]))
    if language in LANGUAGES:
        reply.set_cookie(
            COOKIE,
            language,
            max_age=_A_YEAR_S,
            secure=auth.is_https(),
            httponly=True,
            samesite="Lax",
        )
    return reply
