"""Clients of an organisation, and what it let clients do."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.errors import RequestInvalid
from exchange.operations import authorizing, client_programs
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, takes
from exchange.web.auth import actor, market

clients = Blueprint("clients", __name__, url_prefix="/v1")

_CLIENT = {"name": str, "kind": str, "scope": str, "redirect_uris": list}


@clients.post("/clients")
@takes(_CLIENT, required=("name", "kind"))
@keyed
def create() -> tuple[Response, int]:
    """Create a client; its secret is in this reply and in no other."""
    given = body()
    uris = given.get("redirect_uris", [])
    if not all(isinstance(uri, str) for uri in uris):
        raise RequestInvalid("the field 'redirect_uris' must be a list of str")
    command = client_programs.CreateClient(
        name=given["name"],
        client_kind=given["kind"],
        scope=given.get("scope") or "ask",
        redirect_uris=tuple(uris),
    )
    return jsonify(client_programs.create_client(market(), actor(), command, key=idempotency_key())), 201


@clients.get("/clients")
@asks("org")
def list_all() -> Response:
    """The organisation's clients; an operator names another one with `?org=`."""
    return jsonify(client_programs.list_clients(market(), actor(), org=(asked("org") or "")))


@clients.delete("/clients/<client_id>")
@keyed
def revoke(client_id: str) -> Response:
    """End a client, with every token of it."""
    return jsonify(client_programs.revoke_client(market(), actor(), client_id, key=idempotency_key()))


@clients.get("/authorizations")
def authorizations() -> Response:
    """What the organisation let clients do, newest first."""
    return jsonify(authorizing.list_authorizations(market(), actor()))


@clients.delete("/authorizations/<authorization_id>")
@keyed
def take_back(authorization_id: str) -> Response:
    """Take an authorization back, with every token of it."""
    done = authorizing.revoke_authorization(market(), actor(), authorization_id, key=idempotency_key())
    return jsonify(done)
