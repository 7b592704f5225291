"""Access: requests, approvals, grants, notifications, the wallet."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.errors import RequestInvalid
from exchange.operations import buying, notifying, ordering
from exchange.operations.quoting import nano_rho
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, takes
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
    "until": str,
    "plan_sha256": str,
}
_APPROVAL: dict[str, type | tuple[type, ...]] = {"reason": str, "max_rho": (str, int, float), "until": str}
_REASONED = takes({"reason": str}, required=("reason",))
_RENEWAL = {"until": str, "accept_licence": bool, "licence_sha256": str, "plan_sha256": str}


@access.post("/datasets/<path:dataset>/requests")
@takes(_REQUEST, required=("plan", "purpose", "territory"))
@keyed
def ask(dataset: str) -> tuple[Response, int]:
    """Ask for access under a plan, for a purpose, in a territory, having accepted the licence."""
    given = body()
    command = buying.RequestAccess(
        dataset=dataset,
        plan=given["plan"],
        purpose=given["purpose"],
        territory=given["territory"],
        accept_licence=given.get("accept_licence", False),
        licence_sha256=given.get("licence_sha256", ""),
        role=given.get("role", ""),
        publishes=given.get("publishes", False),
        until=given.get("until", ""),
        plan_sha256=given.get("plan_sha256", ""),
    )
    return jsonify(buying.request_access(market(), actor(), command, key=idempotency_key())), 201


@access.get("/requests")
@asks("state")
def requests() -> Response:
    """A buyer's own requests, or those for a provider's datasets."""
    return jsonify(buying.requests(market(), actor(), state=asked("state")))


@access.get("/requests/<request_id>")
def show(request_id: str) -> Response:
    """One request with the grant it led to."""
    return jsonify(buying.show_request(market(), actor(), request_id))


@access.post("/requests/<request_id>/approve")
@takes(_APPROVAL, optional=True)
@keyed
def approve(request_id: str) -> Response:
    """Approve a request: its grant is issued, with less rho or an earlier end where the body says so."""
    given = body()
    most = given.get("max_rho")
    return jsonify(
        buying.decide(
            market(),
            actor(),
            request_id,
            approved=True,
            reason=given.get("reason", ""),
            max_rho_nano=nano_rho(most, "max_rho", limit=True) if most is not None else None,
            until=given.get("until", ""),
            key=idempotency_key(),
        )
    )


@access.post("/requests/<request_id>/cancel")
@keyed
def cancel(request_id: str) -> Response:
    """Take an own open request back."""
    return jsonify(ordering.cancel(market(), actor(), request_id, key=idempotency_key()))


@access.post("/requests/<request_id>/decline")
@_REASONED
@keyed
def decline(request_id: str) -> Response:
    """Decline a request with a reason."""
    reason = body()["reason"]
    if len(reason) > _LONGEST_REASON:
        raise RequestInvalid(f"a reason has at most {_LONGEST_REASON} characters")
    return jsonify(
        buying.decide(market(), actor(), request_id, approved=False, reason=reason, key=idempotency_key())
    )


@access.get("/grants")
def grants() -> Response:
    """The organisation's grants with what is left of their allowance."""
    return jsonify(buying.grants(market(), actor()))


@access.post("/grants/<grant_id>/suspend")
@_REASONED
@keyed
def suspend(grant_id: str) -> Response:
    """Stop a grant's use for now, with a reason that the buyer reads."""
    return _moved(grant_id, "suspend")


@access.post("/grants/<grant_id>/resume")
@_REASONED
@keyed
def resume(grant_id: str) -> Response:
    """Allow a suspended grant's use again."""
    return _moved(grant_id, "resume")


@access.post("/grants/<grant_id>/withdraw")
@_REASONED
@keyed
def withdraw_grant(grant_id: str) -> Response:
    """End a grant for good; credit that was not spent goes back."""
    return _moved(grant_id, "withdraw")


@access.post("/grants/<grant_id>/end")
@keyed
def end(grant_id: str) -> Response:
    """Let an own grant end: a subscription with the period that is paid, anything else at once."""
    return jsonify(ordering.end(market(), actor(), grant_id, key=idempotency_key()))


@access.post("/grants/<grant_id>/top-up")
@keyed
def top_up(grant_id: str) -> Response:
    """Buy another bundle of credit for an own grant."""
    return jsonify(ordering.top_up(market(), actor(), grant_id, key=idempotency_key()))


@access.post("/grants/<grant_id>/pay")
@keyed
def pay(grant_id: str) -> Response:
    """Pay the present period of a subscription, where it is not paid."""
    return jsonify(ordering.pay(market(), actor(), grant_id, key=idempotency_key()))


@access.post("/grants/<grant_id>/renew")
@takes(_RENEWAL)
@keyed
def renew(grant_id: str) -> tuple[Response, int]:
    """Ask for another term of a grant; a new licence version is accepted with it."""
    given = body()
    command = ordering.RenewGrant(
        grant=grant_id,
        until=given.get("until", ""),
        accept_licence=given.get("accept_licence", False),
        licence_sha256=given.get("licence_sha256", ""),
        plan_sha256=given.get("plan_sha256", ""),
    )
    return jsonify(ordering.renew(market(), actor(), command, key=idempotency_key())), 201


@access.get("/notifications")
@asks("unread")
def notifications() -> Response:
    """What the organisation was told, newest first; `?unread=true` leaves out what was read."""
    unread = (asked("unread") or "").lower() in ("1", "true", "yes")
    return jsonify(notifying.notifications(market(), actor(), unread=unread))


@access.post("/notifications/read")
@keyed
def read_all() -> Response:
    """Mark every notification as read."""
    return jsonify(notifying.mark_read(market(), actor(), None, key=idempotency_key()))


@access.post("/notifications/<notification_id>/read")
@keyed
def read_one(notification_id: str) -> Response:
    """Mark one notification as read."""
    return jsonify(notifying.mark_read(market(), actor(), notification_id, key=idempotency_key()))


@access.get("/wallet")
def wallet() -> Response:
    """The organisation's prepaid balances."""
    return jsonify(buying.wallet(market(), actor()))


def _moved(grant_id: str, verb: str) -> Response:
    reason = body()["reason"]
    return jsonify(ordering.move(market(), actor(), grant_id, verb, reason=reason, key=idempotency_key()))
