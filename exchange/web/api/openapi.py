"""The API's description, read off the routes and their docstrings so that it cannot drift from them."""

from __future__ import annotations

import inspect
import re
from typing import Any

from flask import current_app

from exchange import facets
from exchange.operations import finding
from exchange.version import __version__
from exchange.web.api import openapi_oauth
from exchange.web.api.body import Declared, declared
from exchange.web.auth import SIGNED, market
from exchange.web.errors import STATUS

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "hint", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "examples": sorted(STATUS)},
        "hint": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request under one key is done once and answered alike for 30 days at least.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "RFC 7240: `wait=N` seconds, or `respond-async`; then 202 tells of what goes on.",
    "schema": {"type": "string", "examples": ["wait=5", "respond-async"]},
}
_GOES_ON = {
    "description": "it goes on: look at `Location` after `Retry-After` seconds, or repeat the call",
    "headers": {
        "Location": {"schema": {"type": "string"}},
        "Retry-After": {"schema": {"type": "integer"}},
    },
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
    "sort": {"type": "string", "enum": list(finding.SORTS), "default": finding.SORTS[0]},
    **{
        name: {"type": "array", "items": {"type": "string"}, "maxItems": finding.MOST_CHOSEN}
        for name in facets.NAMES
    },
}
_KINDS: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the running application."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda r: r.rule):
        ours = rule.rule.startswith(("/v1", "/audit", "/healthz", "/readyz", "/metrics"))
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        view = current_app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            if method == "HEAD" and "GET" in (rule.methods or set()):
                continue
            signs_in = openapi_oauth.is_described(path, method)
            if not ours and not signs_in:
                continue
            operation = _operation(rule.endpoint, method, path, view)
            if signs_in:
                openapi_oauth.complete(path, operation)
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Private data exchange", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, "OAuthError": openapi_oauth.ERROR_SCHEMA},
            "securitySchemes": _schemes(),
        },
    }


def _schemes() -> dict[str, Any]:
    """How to come in: an organisation's own token, or an access token; RFC 8414 says the rest."""
    base = market().settings.base_url.rstrip("/")
    scopes = {
        "account": "everything that the role may do",
        "ask": "the catalogue, quotes, queries, answers and receipts",
        "dataset:{provider}/{name}": "ask about this dataset alone; repeat it for several",
        "purpose:{purpose}": "ask under grants for this purpose alone; repeat it for several",
        "rho:{limit}": "ask for at most this much rho in all",
    }
    token, authorize = f"{base}/oauth/token", f"{base}/oauth/authorize"
    code = {"authorizationUrl": authorize, "tokenUrl": token, "refreshUrl": token, "scopes": scopes}
    return {
        "token": {"type": "http", "scheme": "bearer"},
        "client": openapi_oauth.SECURITY_SCHEME,
        "oauth": {
            "type": "oauth2",
            "description": f"RFC 8414, with the device flow: {base}/.well-known/oauth-authorization-server",
            "flows": {
                "clientCredentials": {"tokenUrl": token, "scopes": scopes},
                "authorizationCode": code,
            },
        },
    }


def _operation(endpoint: str, method: str, path: str, view: Any) -> dict[str, Any]:
    summary = (inspect.getdoc(view) or endpoint).split("\n")[0]
    problem = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.replace('.', '_')}_{method.lower()}",
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ],
        "responses": {"2XX": {"description": "done"}, "default": {"description": "a problem", **problem}},
    }
    read = declared(view)
    operation["parameters"] += [
        {"name": name, "in": "query", "schema": _PARAMETERS.get(name, {"type": "string"})}
        for name in read.parameters
    ]
    if read.keyed:
        operation["parameters"].append(_KEY)
    if read.defers:
        operation["parameters"].append(_PREFER)
        operation["responses"] = {"202": _GOES_ON, **operation["responses"]}
    if read.fields is not None:
        operation["requestBody"] = _body(read)
    if path == "/metrics":
        operation["security"] = [{"token": []}]
    elif path.startswith("/v1") and path != SIGNED:
        operation["security"] = [{"token": []}, {"oauth": []}]
    return operation


def _body(read: Declared) -> dict[str, Any]:
    """The JSON object that a view takes; a field of several kinds is written in any of them."""
    assert read.fields is not None
    fields = {name: _field([_KINDS[kind] for kind in kinds]) for name, kinds in read.fields.items()}
    for name in read.required:
        if fields[name] == {"type": "string"}:
            fields[name]["minLength"] = 1
    schema = {"type": "object", "properties": fields, "additionalProperties": False}
    if read.required:
        schema["required"] = list(read.required)
    return {"required": not read.optional, "content": {"application/json": {"schema": schema}}}


def _field(kinds: list[str]) -> dict[str, Any]:
    return {"type": kinds[0] if len(kinds) == 1 else kinds}
