"""How the endpoints of the authorization server are described: forms in, JSON out, errors of RFC 6749.

What each endpoint reads is decided by its RFC, so it is written here and not read off the views.
"""

from __future__ import annotations

from typing import Any

from exchange.clients import CLIENT_CREDENTIALS, CODE, DEVICE, REFRESH

ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "examples": ["invalid_request", "invalid_client", "invalid_grant"]},
        "error_description": {"type": "string"},
    },
}
SECURITY_SCHEME = {"type": "http", "scheme": "basic", "description": "client id and secret (RFC 6749, 2.3.1)"}

_TEXT = {"type": "string", "minLength": 1, "maxLength": 4000, "pattern": "^[ -~]+$"}
_CLIENT = ("client_id", "client_secret")
_CODE = ("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge")
_FORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "/oauth/token": (
        ("grant_type",),
        ("code", "redirect_uri", "code_verifier", "refresh_token", "device_code", "scope", *_CLIENT),
    ),
    "/oauth/device": ((), ("scope", *_CLIENT)),
    "/oauth/revoke": (("token",), ("token_type_hint", *_CLIENT)),
    "/oauth/introspect": (("token",), ("token_type_hint", *_CLIENT)),
}
_GIVEN: dict[str, tuple[str, ...]] = {
    "/oauth/token": ("access_token", "token_type", "expires_in", "scope"),
    "/oauth/device": ("device_code", "user_code", "verification_uri", "expires_in", "interval"),
    "/oauth/revoke": (),
    "/oauth/introspect": ("active",),
    "/oauth/jwks": ("keys",),
    "/.well-known/oauth-authorization-server": ("issuer", "token_endpoint", "jwks_uri"),
}
_SUMMARIES = {
    "/oauth/authorize": "The page on which a person lets a client in (RFC 6749, 4.1.1; PKCE with S256).",
}


def is_described(path: str, method: str) -> bool:
    """Whether an endpoint is one of the authorization server's; a decision is sent by the page alone."""
    return (path in _GIVEN or path in _SUMMARIES) and not (path == "/oauth/authorize" and method == "POST")


def complete(path: str, operation: dict[str, Any]) -> None:
    """Say what an endpoint reads and answers, in an operation that has its name and summary."""
    operation["summary"] = _SUMMARIES.get(path, operation["summary"])
    if path == "/oauth/authorize":
        operation["parameters"] = [_asked(name) for name in (*_CODE, "code_challenge_method")]
        operation["responses"] = _pages()
        return
    given = {"type": "object", "required": list(_GIVEN[path])}
    operation["responses"] = {"200": _json("done", given)}
    if path in _FORMS:
        required, optional = _FORMS[path]
        operation["requestBody"] = _form(required, optional)
        operation["security"] = [{"client": []}, {}]
        refused = {"$ref": "#/components/schemas/OAuthError"}
        operation["responses"] |= {
            "400": _json("refused (RFC 6749, 5.2)", refused),
            "401": _json("the client did not prove itself", refused),
        }
    operation["responses"]["default"] = {
        "description": "a problem",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _form(required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: dict(_TEXT) for name in (*required, *optional)}
    if "grant_type" in fields:
        fields["grant_type"] = {"type": "string", "enum": [CLIENT_CREDENTIALS, CODE, DEVICE, REFRESH]}
    schema = {"type": "object", "properties": fields, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}


def _asked(name: str) -> dict[str, Any]:
    fixed = {"response_type": ["code"], "code_challenge_method": ["S256"]}
    schema = {"type": "string", "enum": fixed[name]} if name in fixed else dict(_TEXT)
    return {"name": name, "in": "query", "required": name not in ("scope", "state"), "schema": schema}


def _pages() -> dict[str, Any]:
    """Whoever is signed in sees the page; what is wrong is told on one, or to the client by a redirect."""
    page = {"text/html": {"schema": {"type": "string"}}}
    moved = {"headers": {"Location": {"schema": {"type": "string"}}}, "content": page}
    return {
        "200": {"description": "the page", "content": page},
        "302": {"description": "to sign in first, or back to the client with a refusal", **moved},
        "default": {"description": "refused: nobody is sent anywhere", "content": page},
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
