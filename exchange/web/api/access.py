"""Access: requests, approvals, grants, the wallet."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from exchange.errors import RequestInvalid
from exchange.operations import buying
from exchange.web.api.body import body, idempotency_key
from exchange.web.auth import actor, market

access = Blueprint("access", __name__, url_prefix="/v1")

_LONGEST_REASON = 1000
_REQUEST = {
    "plan": str,
    "purpose": str,
    "territory": str,
    "accept_licence": bool,
    "licence_sha256": str,
    "role": str,
    "publishes": bool,
}


@access.post("/datasets/<path:dataset>/requests")
def ask(dataset: str) -> tuple[Response, int]:
    """Ask for access under a plan, for a purpose, in a territory, having accepted the licence."""
    given = body(_REQUEST, required=("plan", "purpose", "territory"))
    command = buying.RequestAccess(
        dataset=dataset,
        plan=given["plan"],
        purpose=given["purpose"],
        territory=given["territory"],
        accept_licence=given.get("accept_licence", False),
        licence_sha256=given.get("licence_sha256", ""),
        role=given.get("role", ""),
        publishes=given.get("publishes", False),
    )
    return jsonify(buying.request_access(market(), actor(), command, key=idempotency_key())), 201


@access.get("/requests")
def requests() -> Response:
    """A buyer's own requests, or those for a provider's datasets."""
    return jsonify(buying.requests(market(), actor(), state=request.args.get("state")))


@access.get("/requests/<request_id>")
def show(request_id: str) -> Response:
    """One request with the grant it led to."""
    return jsonify(buying.show_request(market(), actor(), request_id))


@access.post("/requests/<request_id>/approve")
def approve(request_id: str) -> Response:
    """Approve a request: its grant is issued."""
    return jsonify(buying.decide(market(), actor(), request_id, approved=True, key=idempotency_key()))


@access.post("/requests/<request_id>/decline")
def decline(request_id: str) -> Response:
    """Decline a request with a reason."""
    reason = body({"reason": str}, required=("reason",))["reason"]
    if len(reason) > _LONGEST_REASON:
        raise RequestInvalid(f"a reason has at most {_LONGEST_REASON} characters")
    return jsonify(
        buying.decide(market(), actor(), request_id, approved=False, reason=reason, key=idempotency_key())
    )


@access.get("/grants")
def grants() -> Response:
    """The organisation's grants with what is left of their allowance."""
    return jsonify(buying.grants(market(), actor()))


@access.get("/wallet")
def wallet() -> Response:
    """The organisation's prepaid balances."""
    return jsonify(buying.wallet(market(), actor()))
