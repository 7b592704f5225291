"""Quotes and queries, answers and receipts."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from exchange.operations import querying, quoting
from exchange.web.api.body import body, idempotency_key
from exchange.web.api.render import answer_document, as_csv, as_json
from exchange.web.auth import actor, market

queries = Blueprint("queries", __name__, url_prefix="/v1")

_AMOUNT = (str, int, float)
_QUESTION: dict[str, Any] = {
    "dataset": str,
    "sql": str,
    "rho": _AMOUNT,
    "epsilon": _AMOUNT,
    "error": dict,
    "options": dict,
    "grant": str,
    "plan": str,
}
_ARROW = "application/vnd.apache.arrow.stream"


@queries.post("/quotes")
def quote() -> tuple[Response, int]:
    """Price, privacy cost and error of a statement, bound to its plan; no data is touched."""
    given = body(_QUESTION, required=("dataset", "sql"))
    return jsonify(quoting.quote(market(), actor(), quoting.question(given), key=idempotency_key())), 201


@queries.post("/queries")
def run() -> Response:
    """Run a quote, or quote and run in one."""
    given = body({**_QUESTION, "quote": str, "max_price": str, "max_rho": _AMOUNT})
    answered = querying.run(market(), actor(), querying.run_request(given), key=idempotency_key())
    return jsonify(answer_document(answered, rows=True))


@queries.get("/queries")
def jobs() -> Response:
    """The organisation's latest queries."""
    return jsonify(querying.jobs(market(), actor()))


@queries.get("/queries/<query_id>")
def show(query_id: str) -> Response:
    """One query: its state, and once it has succeeded what it cost."""
    return jsonify(querying.show(market(), actor(), query_id))


@queries.get("/queries/<query_id>/result")
def result(query_id: str) -> Response:
    """The result's bytes: Arrow stream, CSV or JSON by ``Accept``."""
    answered = querying.answered(market(), actor(), query_id)
    kinds = [_ARROW, "text/csv", "application/json"]
    kind = request.accept_mimetypes.best_match(kinds, default=_ARROW)
    if kind == "text/csv":
        return Response(as_csv(answered.table), content_type="text/csv; charset=utf-8")
    if kind == "application/json":
        return jsonify(as_json(answered.table))
    return Response(answered.arrow, content_type=_ARROW)


@queries.get("/queries/<query_id>/receipt")
def receipt(query_id: str) -> Response:
    """The receipt; with the inclusion proof once the log has taken the leaf in."""
    return jsonify(querying.receipt(market(), actor(), query_id))


@queries.get("/usage")
def usage() -> Response:
    """What was asked and what it cost: for a buyer its own, for a provider what was earned."""
    return jsonify(querying.usage(market(), actor()))
