"""The endpoints of the authorization server, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify

from exchange.clients import CLIENT_CREDENTIALS, CODE, DEVICE, REFRESH
from exchange.web.auth.grants import ANY, PROVED
from exchange.web.auth.provider import Provider, provider
from exchange.web.auth.signing import Issuer, SigningKeys

if TYPE_CHECKING:
    from flask import Flask

    from exchange.market import Market

oauth = Blueprint("oauth", __name__)


def install(app: Flask, market: Market) -> None:
    """Give an application its keys, its authorization server and the endpoints."""
    issuer = Issuer(market.settings.base_url.rstrip("/"))
    app.extensions["provider"] = Provider(market, SigningKeys(market.settings.oauth_path), issuer)
    app.register_blueprint(oauth)


@oauth.post("/oauth/token")
def token() -> Response:
    """Tokens for a code, a device's code, a refresh token or a client's own secret."""
    return provider().token()


@oauth.post("/oauth/device")
def device() -> Response:
    """Codes for a device without a browser."""
    return provider().endpoint("device_authorization")


@oauth.post("/oauth/revoke")
def revoke() -> Response:
    """End a token."""
    return provider().endpoint("revocation")


@oauth.post("/oauth/introspect")
def introspect() -> Response:
    """What a token may do now."""
    return provider().endpoint("introspection")


@oauth.get("/oauth/jwks")
def jwks() -> Response:
    """The public keys that access tokens are signed with."""
    reply = jsonify(provider().keys.published())
    reply.headers["Cache-Control"] = "public, max-age=300"
    return reply


@oauth.get("/.well-known/oauth-authorization-server")
def metadata() -> Response:
    """What the authorization server offers (RFC 8414)."""
    return jsonify(described())


def described() -> dict[str, Any]:
    """The document of RFC 8414."""
    issuer = provider().issuer.url
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "device_authorization_endpoint": f"{issuer}/oauth/device",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "scopes_supported": ["account", "ask"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [CLIENT_CREDENTIALS, CODE, DEVICE, REFRESH],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ANY,
        "revocation_endpoint_auth_methods_supported": ANY,
        "introspection_endpoint_auth_methods_supported": PROVED,
        "authorization_response_iss_parameter_supported": True,
        "service_documentation": f"{issuer}/openapi.json",
    }
