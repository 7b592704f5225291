"""The API's description, read off the routes and their docstrings so that it cannot drift from them."""

from __future__ import annotations

import inspect
import re
from typing import Any

from flask import current_app

from exchange.version import __version__
from exchange.web.auth import SIGNED
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


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the running application."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda r: r.rule):
        if not rule.rule.startswith(("/v1", "/audit", "/healthz", "/readyz")):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        view = current_app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            if method == "HEAD" and "GET" in (rule.methods or set()):
                continue
            paths.setdefault(path, {})[method.lower()] = _operation(rule.endpoint, method, path, view)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Private data exchange", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
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
    if path.startswith("/v1") and path != SIGNED:
        operation["security"] = [{"token": []}]
    return operation
