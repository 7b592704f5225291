"""Quotes and queries, answers and receipts."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from exchange.operations import jobs, querying, quoting
from exchange.web.api.body import body, defers, idempotency_key, keyed, preferred_wait_s, takes
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
_POLL_EVERY_S = 1
_ARROW = "application/vnd.apache.arrow.stream"


@queries.post("/quotes")
@takes(_QUESTION, required=("dataset", "sql"))
@keyed
def quote() -> tuple[Response, int]:
    """Price, privacy cost and error of a statement, bound to its plan; no data is touched."""
    given = body()
    return jsonify(quoting.quote(market(), actor(), quoting.question(given), key=idempotency_key())), 201


@queries.post("/queries")
@takes({**_QUESTION, "quote": str, "max_price": str, "max_rho": _AMOUNT})
@keyed
@defers
def run() -> tuple[Response, int]:
    """Run a quote, or quote and run in one: 200 with the answer, or 202 with the job that goes on."""
    given = body()
    command, wait_s = querying.run_request(given), preferred_wait_s()
    done = querying.run(market(), actor(), command, key=idempotency_key(), wait_s=wait_s)
    if isinstance(done, querying.Answered):
        return jsonify(answer_document(done, rows=True)), 200
    response = jsonify(done.job)
    response.headers["Location"] = done.job["location"]
    response.headers["Retry-After"] = str(_POLL_EVERY_S)
    return response, 202


@queries.get("/queries")
def latest() -> Response:
    """The organisation's latest queries."""
    return jsonify(jobs.latest(market(), actor()))


@queries.get("/queries/<query_id>")
def show(query_id: str) -> Response:
    """One query: its state, how long it may still take, and once it has succeeded what it cost."""
    return jsonify(jobs.show(market(), actor(), query_id))


@queries.delete("/queries/<query_id>")
def cancel(query_id: str) -> Response:
    """Cancel a query; one that has ended stays as it is, and is shown."""
    return jsonify(jobs.cancel(market(), actor(), query_id))


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
