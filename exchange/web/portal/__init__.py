"""The portal: server-rendered pages for the three people, over the same operations as the API."""

from __future__ import annotations

from flask import Blueprint

portal = Blueprint("portal", __name__, template_folder="../templates", static_folder="../static")

from exchange.web.portal import catalogue, officer, session  # noqa: E402

__all__ = ["catalogue", "officer", "portal", "session"]
