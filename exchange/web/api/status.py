"""Liveness and readiness, who am I, and the API's own description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, current_app, jsonify

from exchange.identity import Role
from exchange.operations import observing
from exchange.web.api.openapi import document
from exchange.web.auth import actor, market
from exchange.web.monitoring import monitors

if TYPE_CHECKING:
    from exchange.operations.observing import Readiness

status = Blueprint("status", __name__)


@status.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return jsonify({"status": "ok"})


@status.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Whether requests may be sent here; which part keeps it back is told to operators alone."""
    readiness: Readiness = current_app.extensions["readiness"]
    parts = readiness.parts()
    ready = set(parts.values()) == {"ok"}
    told: dict[str, object] = {"status": "ready" if ready else "not ready"}
    if monitors():
        told |= {"parts": parts, "unconfined": list(readiness.unconfined())}
        told["log"] = observing.log_state(market())
    return jsonify(told), 200 if ready else 503


@status.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics, for operators and the monitoring system."""
    if not monitors():
        actor().require(Role.OPERATOR)
    text, content_type = current_app.extensions["metrics"].rendered(observing.facts(market()))
    return Response(text, content_type=content_type)


@status.get("/v1/whoami")
def whoami() -> Response:
    """The organisation and role behind the token."""
    found = actor()
    told = {"org": found.org, "name": found.name, "role": str(found.role), "token": found.ref}
    return jsonify({**told, "auth": found.auth, "scope": str(found.scopes) if found.scopes else None})


@status.get("/openapi.json")
def openapi() -> Response:
    """OpenAPI 3.1, built from the routes that exist."""
    return jsonify(document())
