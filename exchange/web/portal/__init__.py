"""The portal: server-rendered pages for the three people, over the same operations as the API."""

from __future__ import annotations

from flask import Blueprint

portal = Blueprint("portal", __name__, template_folder="../templates", static_folder="../static")

from exchange.web.portal import (  # noqa: E402
    account,
    catalogue,
    consent,
    control,
    officer,
    organisation,
    oversight,
    pages,
    programs,
    queries,
    session,
    single_sign_on,
    transparency,
)

__all__ = [
    "account",
    "catalogue",
    "consent",
    "control",
    "officer",
    "organisation",
    "oversight",
    "pages",
    "portal",
    "programs",
    "queries",
    "session",
    "single_sign_on",
    "transparency",
]
