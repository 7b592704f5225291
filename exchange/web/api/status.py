"""Liveness and readiness, who am I, and the API's own description."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from sqlalchemy import text

from exchange.web.api.openapi import document
from exchange.web.auth import actor, market

status = Blueprint("status", __name__)


@status.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return jsonify({"status": "ok"})


@status.get("/readyz")
def readyz() -> tuple[Response, int]:
    """The database answers and the worker has swept at least once."""
    market().store.read(lambda session: session.execute(text("SELECT 1")).scalar_one())
    swept = (market().settings.home / "swept").exists()
    return jsonify({"status": "ready" if swept else "starting"}), 200 if swept else 503


@status.get("/v1/whoami")
def whoami() -> Response:
    """The organisation and role behind the token."""
    found = actor()
    return jsonify({"org": found.org, "name": found.name, "role": str(found.role), "token": found.ref})


@status.get("/openapi.json")
def openapi() -> Response:
    """OpenAPI 3.1, built from the routes that exist."""
    return jsonify(document())
