"""The review queue of officers, and their saved searches."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.operations import alerting, saved_searches
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, page, takes
from exchange.web.auth import actor, market

alerts = Blueprint("alerts", __name__, url_prefix="/v1")


@alerts.get("/alerts")
@asks("state", "kind", "limit", "page_token")
def queue() -> Response:
    """Alerts, newest first, of a state and kind if given; reading them is itself an entry."""
    limit, token = page()
    wanted = {"state": asked("state"), "kind": asked("kind")}
    return jsonify(alerting.alerts(market(), actor(), **wanted, limit=limit, page_token=token))


@alerts.get("/alerts/<alert_id>")
def one(alert_id: str) -> Response:
    """One alert with its notes and some of the entries that it was raised for."""
    return jsonify(alerting.alert(market(), actor(), alert_id))


@alerts.post("/alerts/<alert_id>/assign")
@takes({}, optional=True)
@keyed
def assign(alert_id: str) -> Response:
    """Take an open alert upon oneself."""
    body()
    return jsonify(alerting.assign(market(), actor(), alert_id, key=idempotency_key()))


@alerts.post("/alerts/<alert_id>/notes")
@takes({"text": str}, required=("text",))
@keyed
def note(alert_id: str) -> Response:
    """Write a note on an alert."""
    return jsonify(alerting.note(market(), actor(), alert_id, body()["text"], key=idempotency_key()))


@alerts.post("/alerts/<alert_id>/resolve")
@takes({"state": str, "note": str}, required=("state",))
@keyed
def resolve(alert_id: str) -> Response:
    """Resolve an open alert as `acted` or `false_alarm`."""
    given = body()
    text = given.get("note", "")
    key = idempotency_key()
    return jsonify(alerting.resolve(market(), actor(), alert_id, given["state"], text=text, key=key))


@alerts.get("/audit/searches")
def searches() -> Response:
    """One's own saved searches of the log, by name."""
    return jsonify(saved_searches.searches(market(), actor()))


@alerts.post("/audit/searches")
@takes({"name": str, "filters": dict}, required=("name", "filters"))
@keyed
def save_search() -> tuple[Response, int]:
    """Save a search of the log under a name."""
    given, key = body(), idempotency_key()
    made = saved_searches.save(market(), actor(), given["name"], given["filters"], key=key)
    return jsonify(made), 201


@alerts.post("/audit/searches/<search_id>/rename")
@takes({"name": str}, required=("name",))
@keyed
def rename_search(search_id: str) -> Response:
    """Give a saved search of one's own another name."""
    key = idempotency_key()
    return jsonify(saved_searches.rename(market(), actor(), search_id, body()["name"], key=key))


@alerts.delete("/audit/searches/<search_id>")
@keyed
def delete_search(search_id: str) -> Response:
    """Delete a saved search of one's own."""
    return jsonify(saved_searches.delete(market(), actor(), search_id, key=idempotency_key()))
