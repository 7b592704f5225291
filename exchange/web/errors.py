"""Errors as RFC 9457 problem JSON: one table from code to status, for the API and the portal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, current_app, g, jsonify, request
from werkzeug.exceptions import HTTPException

from exchange.store import REFUSALS
from privacy import Refused

if TYPE_CHECKING:
    from flask import Flask

# Everything that a person can be told, by its stable code. A code that is missing here is answered as 422,
# and a test that walks every error class fails, so that none stays missing.
STATUS: dict[str, int] = {
    # who
    "token_unknown": 401,
    "role_missing": 403,
    "not_found": 404,
    # licence and access
    "grant_missing": 403,
    "grant_expired": 403,
    "grant_not_active": 403,
    "purpose_not_allowed": 403,
    "territory_not_allowed": 403,
    "licence_expired": 403,
    "licence_withdrawn": 403,
    "licence_not_accepted": 403,
    "quota_exceeded": 403,
    # budget and money
    "budget_exhausted": 409,
    "payment_required": 402,
    "limit_exceeded": 409,
    "quote_expired": 410,
    # the request
    "key_reused": 409,
    "in_progress": 409,
    "too_large": 413,
    "sql_refused": 422,
    "policy_invalid": 422,
    # the exchange
    "inside_transaction": 500,
    "query_failed": 500,
    "query_timeout": 504,
    "query_too_large": 413,
}

_EXTRA = ("line", "column", "row", "table", "path", "counterexample", "remaining")


def install(app: Flask) -> None:
    """Answer refusals, HTTP errors and defects as problem JSON."""
    for kind in REFUSALS:
        app.register_error_handler(kind, problem_of)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _defect)


def problem_of(error: Exception) -> Response:
    """The problem document of a refusal: code, sentence, hint, and where it points."""
    code = str(getattr(error, "code", "refused"))
    extra: dict[str, Any] = {
        name: getattr(error, name) for name in _EXTRA if getattr(error, name, None) not in (None, "")
    }
    extra |= {k: v for k, v in getattr(error, "details", {}).items() if v is not None}
    if isinstance(error, Refused):
        extra["category"] = "sql"
    response = problem(code, str(error), hint=str(getattr(error, "hint", "") or ""), **extra)
    wait = getattr(error, "retry_after_s", None)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def problem(code: str, detail: str, *, status: int | None = None, hint: str = "", **extra: Any) -> Response:
    """Build a problem response (RFC 9457)."""
    status = status or STATUS.get(code, 422)
    body = {
        "type": f"{request.host_url}problems/{code}",
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "request_id": g.get("request_id", ""),
        **extra,
    }
    response = jsonify(body)
    response.status_code = status
    response.content_type = "application/problem+json"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="exchange"'
    return response


def _http_problem(error: HTTPException) -> Response:
    code = (error.name or "error").lower().replace(" ", "_").replace("'", "")
    return problem(
        code, error.description or code, status=error.code, hint="Compare the request with /openapi.json."
    )


def _defect(error: Exception) -> Response:
    # The log gets the type and the place, never the message: messages of engines can carry data values.
    current_app.logger.error("defect %s in request %s", type(error).__name__, g.get("request_id", ""))
    current_app.logger.debug("details", exc_info=error)
    return problem(
        "server_error",
        "something went wrong on our side",
        status=500,
        hint="Try again with the same Idempotency-Key: nothing is charged twice. Report the request id.",
    )
