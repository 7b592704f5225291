"""The web application: the API under ``/v1``, the published log under ``/audit``, the portal at ``/``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from exchange.operations.observing import Readiness
from exchange.web import auth, errors, languages, observed
from exchange.web.api import blueprints
from exchange.web.auth import endpoints
from exchange.web.auth.discovery import Discovery
from exchange.web.limits import RequestLimits
from exchange.web.portal import portal

if TYPE_CHECKING:
    from exchange.market import Market

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; object-src 'none'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), display-capture=(), "
        "publickey-credentials-create=(self), publickey-credentials-get=(self)"
    ),
}
#: For a year the browser asks over https alone (RFC 6797); said over https, where it is heard.
_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}
#: What may be kept by browsers and proxies: everything else is for who asked, now.
_PUBLIC = ("/static/", "/audit/")


def create_app(market: Market) -> Flask:
    """The application of one market; build the market with :func:`exchange.bootstrap.open_market`."""
    app = Flask(__name__)
    settings = market.settings
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_request_bytes,
        MAX_FORM_MEMORY_SIZE=settings.max_request_bytes,
        HTTPS=settings.base_url.startswith("https:"),
    )
    if settings.proxies:
        hops = settings.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    app.extensions["market"] = market
    app.extensions["limits"] = RequestLimits(settings)
    app.extensions["discovery"] = Discovery()
    app.extensions["readiness"] = Readiness(market)
    app.extensions["metrics"] = observed.install(app, market)
    market.store.on_refused = auth.spend_refused
    languages.install(app)
    app.before_request(auth.start_request)
    app.after_request(_finish)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_blueprint(portal)
    endpoints.install(app, market)
    errors.install(app)
    return app


def _finish(response: Response) -> Response:
    observed.note_status(response)
    response.headers["X-Request-Id"] = g.get("request_id", "")
    auth.write_cookie(response)
    for name, value in (_HEADERS | (_HTTPS if current_app.config["HTTPS"] else {})).items():
        response.headers.setdefault(name, value)
    if not request.path.startswith(_PUBLIC):
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    return response
