"""What officers decide: freezes, legal holds, and the approvals that two persons give."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.operations import approving, deciding, restraining
from exchange.restraints import FREEZE, HOLD
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, page, takes
from exchange.web.auth import actor, market

officer = Blueprint("officer", __name__, url_prefix="/v1/officer")

_FREEZE = {"dataset": str, "organisation": str, "licence": str, "reason": str}
_HOLD = {"dataset": str, "organisation": str, "query": str, "reason": str}


@officer.post("/freezes")
@takes(_FREEZE, required=("reason",))
@keyed
def freeze() -> tuple[Response, int]:
    """Freeze a dataset, a buyer or a licence version at once: what runs is ended, what comes is refused."""
    return _imposed(FREEZE)


@officer.get("/freezes")
def freezes() -> Response:
    """Freezes, those in force first, at most 500."""
    return jsonify(restraining.listed(market(), actor(), FREEZE))


@officer.get("/freezes/<freeze_id>")
def show_freeze(freeze_id: str) -> Response:
    """One freeze with its reason."""
    return jsonify(restraining.show(market(), actor(), FREEZE, freeze_id))


@officer.post("/freezes/<freeze_id>/lift")
@takes({"reason": str}, required=("reason",))
@keyed
def lift_freeze(freeze_id: str) -> tuple[Response, int]:
    """Ask for the approval to lift a freeze; another person gives it on the portal."""
    return _asked_to_lift(FREEZE, freeze_id)


@officer.post("/holds")
@takes(_HOLD, required=("reason",))
@keyed
def hold() -> tuple[Response, int]:
    """Put a legal hold on a dataset, an organisation or a query: nothing of it expires or is removed."""
    return _imposed(HOLD)


@officer.get("/holds")
def holds() -> Response:
    """Legal holds, those in force first, at most 500."""
    return jsonify(restraining.listed(market(), actor(), HOLD))


@officer.get("/holds/<hold_id>")
def show_hold(hold_id: str) -> Response:
    """One legal hold with its reason, and how many answers it keeps beyond their time."""
    return jsonify(restraining.show(market(), actor(), HOLD, hold_id))


@officer.post("/holds/<hold_id>/lift")
@takes({"reason": str}, required=("reason",))
@keyed
def lift_hold(hold_id: str) -> tuple[Response, int]:
    """Ask for the approval to lift a legal hold; another person gives it on the portal."""
    return _asked_to_lift(HOLD, hold_id)


@officer.get("/approvals")
@asks("state", "limit", "page_token")
def approvals() -> Response:
    """Approvals that were asked for, those that wait first."""
    limit, token = page()
    found = approving.listed(market(), actor(), state=asked("state") or None, limit=limit, page_token=token)
    return jsonify(found)


@officer.get("/approvals/<approval_id>")
def show_approval(approval_id: str) -> Response:
    """One approval, with the parameters and the digest that it is bound to."""
    return jsonify(approving.show(market(), actor(), approval_id))


@officer.post("/approvals/<approval_id>/approve")
@takes({"digest": str}, optional=True)
def approve(approval_id: str) -> Response:
    """Refused to every token, and logged: a person approves on the portal, with a second factor."""
    digest = body().get("digest", "")
    return jsonify(deciding.approve(market(), actor(), approval_id, who=None, digest=digest))


@officer.post("/approvals/<approval_id>/decline")
@keyed
def decline(approval_id: str) -> Response:
    """Decline what is asked for."""
    return jsonify(approving.decline(market(), actor(), approval_id, key=idempotency_key()))


def _imposed(kind: str) -> tuple[Response, int]:
    given = body()
    subject = restraining.subject_given(kind, given)
    made = restraining.impose(market(), actor(), kind, subject, given["reason"], key=idempotency_key())
    return jsonify(made), 201


def _asked_to_lift(kind: str, restraint_id: str) -> tuple[Response, int]:
    reason, key = body()["reason"], idempotency_key()
    return jsonify(restraining.ask_to_lift(market(), actor(), kind, restraint_id, reason, key=key)), 202
