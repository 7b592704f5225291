"""The web application: the API under ``/v1``, the published log under ``/audit``, the portal at ``/``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flask import Flask, Response, g

from exchange.web import auth, errors
from exchange.web.api import blueprints
from exchange.web.portal import portal

if TYPE_CHECKING:
    from exchange.market import Market

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def create_app(market: Market) -> Flask:
    """The application of one market; build the market with :func:`exchange.bootstrap.open_market`."""
    app = Flask(__name__)
    settings = market.settings
    app.config.update(
        SECRET_KEY=hashlib.sha256(f"cookies:{settings.secret_key}".encode()).digest(),
        MAX_CONTENT_LENGTH=settings.max_request_bytes,
        MAX_FORM_MEMORY_SIZE=settings.max_request_bytes,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.base_url.startswith("https:"),
        PERMANENT_SESSION_LIFETIME=8 * 3600,
    )
    app.extensions["market"] = market
    app.before_request(auth.start_request)
    app.after_request(_finish)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_blueprint(portal)
    errors.install(app)
    return app


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
