"""The portal: server-rendered pages for the three people, over the same operations as the API."""

from __future__ import annotations

from flask import Blueprint

portal = Blueprint("portal", __name__, template_folder="../templates", static_folder="../static")

from exchange.web.portal import (  # noqa: E402
    account,
    buyer,
    catalogue,
    consent,
    control,
    desk,
    earnings,
    language,
    officer,
    officer_desk,
    operating,
    operating_money,
    organisation,
    oversight,
    pages,
    programs,
    queries,
    requests_inbox,
    session,
    single_sign_on,
    transparency,
    wizard,
    wizard_files,
)

__all__ = [
    "account",
    "buyer",
    "catalogue",
    "consent",
    "control",
    "desk",
    "earnings",
    "language",
    "officer",
    "officer_desk",
    "operating",
    "operating_money",
    "organisation",
    "oversight",
    "pages",
    "portal",
    "programs",
    "queries",
    "requests_inbox",
    "session",
    "single_sign_on",
    "transparency",
    "wizard",
    "wizard_files",
]
