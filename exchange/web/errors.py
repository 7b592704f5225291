"""Errors as RFC 9457 problem JSON: one table from code to status, for the API and the portal alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, current_app, g, jsonify, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from werkzeug.exceptions import HTTPException

from catalog.errors import UPLOAD_HINTS, InvalidUpload
from exchange.database import is_unavailable
from exchange.errors import StorageFull, StoreUnavailable, TooLarge, is_full
from exchange.store import REFUSALS
from exchange.web.auth import log_refusal, market
from privacy import Refused
from settlement.errors import LicenceRefused

if TYPE_CHECKING:
    from flask import Flask

# Everything that a person can be told, by its stable code. A test walks every error class of every package
# and fails where one is missing. Rules of the SQL compiler are answered with 422 and the category "sql".
STATUS: dict[str, int] = {
    # who
    "token_unknown": 401,
    "role_missing": 403,
    "scope_missing": 403,
    "scope_invalid": 422,
    "user_code_unknown": 404,
    "rate_limited": 429,
    "sign_in_refused": 401,
    "second_factor_refused": 401,
    "single_sign_on_refused": 401,
    "second_factor_missing": 403,
    "confirmation_needed": 403,
    "too_many_tries": 429,
    "password_weak": 422,
    "invitation_unknown": 404,
    "member_exists": 409,
    "last_admin": 409,
    "alert_resolved": 409,
    "not_found": 404,
    # what officers decide
    "frozen": 403,
    "party_unidentified": 403,
    "held": 409,
    "approval_needed": 409,
    "approval_closed": 409,
    "approval_changed": 409,
    "second_person_needed": 403,
    # licence and access
    "licence_refused": 403,
    "licence_not_accepted": 403,
    "licence_withdrawn": 403,
    "licence_expired": 403,
    "licence_missing": 404,
    "purpose_not_allowed": 403,
    "territory_not_allowed": 403,
    "assignee_not_allowed": 403,
    "publication_not_allowed": 403,
    "column_not_allowed": 403,
    "join_not_allowed": 403,
    "rho_not_allowed": 403,
    "quota_exceeded": 403,
    "grant_missing": 403,
    "grant_expired": 403,
    "grant_suspended": 403,
    "grant_withdrawn": 403,
    "request_missing": 404,
    "request_not_open": 409,
    "order_invalid": 409,
    # budget and money
    "budget_exhausted": 409,
    "payment_required": 402,
    "limit_exceeded": 409,
    "quote_missing": 404,
    "quote_expired": 410,
    "payment_invalid": 422,
    "payment_missing": 404,
    "payment_state": 409,
    "refund_too_large": 409,
    "second_operator_needed": 403,
    "stripe_missing": 409,
    "stripe_refused": 402,
    "stripe_short": 402,
    "stripe_busy": 503,
    "stripe_unknown": 503,
    "stripe_failed": 503,
    "webhook_refused": 400,
    "amount_invalid": 422,
    "duplicate_business_key": 409,
    "not_pending": 409,
    "invoice_invalid": 409,
    "invoice_missing": 404,
    "statement_missing": 404,
    "billing_profile_missing": 409,
    "billing_invalid": 422,
    # listing
    "dataset_not_found": 404,
    "slug_taken": 409,
    "slug_invalid": 422,
    "domain_taken": 409,
    "data_listed_elsewhere": 409,
    "policy_loosened": 409,
    "policy_below_spent": 409,
    "listing_state": 409,
    "listing_deprecated": 409,
    "listing_draft": 409,
    "listing_published": 409,
    "listing_withdrawn": 409,
    "manifest_invalid": 422,
    "policy_invalid": 422,
    "policy_mismatch": 422,
    "policy_unknown_table": 422,
    "policy_unknown_column": 422,
    "policy_undeclared_table": 422,
    "policy_undeclared_column": 422,
    "price_invalid": 422,
    "price_arbitrage": 422,
    "licence_invalid": 422,
    "licence_not_approved": 409,
    "licence_edited_by_approver": 403,
    "signature_refused": 422,
    "catalog_error": 422,
    # files
    "upload_offset": 409,
    "upload_incomplete": 409,
    "invalid_upload": 422,
    **dict.fromkeys(UPLOAD_HINTS, 422),
    # the request
    "request_invalid": 422,
    "parameter_invalid": 422,
    "page_token_invalid": 422,
    "settlement_refused": 422,
    "refused": 422,
    "key_reused": 409,
    "in_progress": 409,
    "layout_stopped": 409,
    "overloaded": 503,
    "too_many_queries": 429,
    "slug_of_another": 409,
    "too_large": 413,
    "export_too_large": 413,
    "bad_request": 400,
    "method_not_allowed": 405,
    "unsupported_media_type": 415,
    # the exchange
    "query_failed": 500,
    "query_timeout": 504,
    "query_cancelled": 409,
    "answer_expired": 410,
    "query_too_large": 413,
    "server_error": 500,
    "store_unavailable": 503,
    "objects_unavailable": 503,
    "storage_full": 503,
    "migration_blocked": 503,
    "backup_refused": 409,
    "backup_invalid": 422,
    "master_key_missing": 503,
    "master_key_wrong": 503,
    "master_key_in_use": 409,
    "font_missing": 500,
    "inside_transaction": 500,
    "object_damaged": 500,
    "ledger_invalid": 500,
    "account_unknown": 500,
    "overdrawn": 500,
    "privacy_error": 500,
    "charge_mismatch": 500,
    "exact_table_invalid": 500,
    "layout_invalid": 500,
    "profile_invalid": 500,
    "released_invalid": 500,
    "tables_missing": 500,
    "tables_unfit": 500,
    "audit_error": 500,
    "audit_entry_invalid": 500,
    "audit_sequence_broken": 500,
    "audit_log_diverged": 500,
    "audit_head_refused": 500,
    "audit_signer_unavailable": 500,
    "audit_malformed": 500,
    "audit_signature_invalid": 500,
    "cryptography_missing": 500,
}

_EXTRA = ("line", "column", "nearest", "row", "table", "path", "clause", "counterexample")
_CATEGORIES = {Refused: "sql", LicenceRefused: "licence", InvalidUpload: "upload"}


def install(app: Flask) -> None:
    """Answer refusals, HTTP errors and defects as problem JSON."""
    for kind in REFUSALS:
        app.register_error_handler(kind, problem_of)
    app.register_error_handler(HTTPException, _http_problem)
    for unanswered in (DBAPIError, NoConnection):
        app.register_error_handler(unanswered, _database_problem)
    app.register_error_handler(OSError, _disk_problem)
    app.register_error_handler(Exception, _defect)


def problem_of(error: Exception) -> Response:
    """The problem document of a refusal: code, sentence, hint, and where it points; it is logged by now.

    Where it cannot be logged because the database is away, that is the answer: nothing is refused unseen.
    """
    try:
        log_refusal(error)
    except (DBAPIError, NoConnection) as away:
        return _database_problem(away)
    code = str(getattr(error, "code", "refused"))
    extra: dict[str, Any] = {
        name: getattr(error, name) for name in _EXTRA if getattr(error, name, None) not in (None, "")
    }
    extra |= {k: v for k, v in getattr(error, "details", {}).items() if v is not None}
    if isinstance(error, InvalidUpload) and error.broken_rows:
        rows = [{"line": row.line, "reason": row.reason} for row in error.broken_rows]
        extra |= {"broken_rows": rows, "broken_count": error.broken_count}
    category = next((name for kind, name in _CATEGORIES.items() if isinstance(error, kind)), None)
    if category:
        extra["category"] = category
    response = problem(code, str(error), hint=str(getattr(error, "hint", "") or ""), **extra)
    wait = getattr(error, "retry_after_s", None)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def problem(code: str, detail: str, *, status: int | None = None, hint: str = "", **extra: Any) -> Response:
    """Build a problem response (RFC 9457)."""
    status = status or STATUS.get(code, 422)
    body = {
        "type": f"{market().settings.base_url.rstrip('/')}/problems/{code}",
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
    if code == "scope_missing":  # RFC 6750, section 3.1
        response.headers["WWW-Authenticate"] = 'Bearer realm="exchange", error="insufficient_scope"'
    return response


def _http_problem(error: HTTPException) -> Response:
    if error.code == 413:
        limit = request.max_content_length or market().settings.max_request_bytes
        return problem_of(TooLarge(f"the body is larger than {limit} bytes"))
    code = (error.name or "error").lower().replace(" ", "_").replace("'", "")
    return problem(
        code, error.description or code, status=error.code, hint="Compare the request with /openapi.json."
    )


def _database_problem(error: Exception) -> Response:
    """503 while the database is away, so that clients come again; any other failure is a defect."""
    if not is_unavailable(error):
        return _defect(error)
    current_app.logger.error(
        "the database does not answer (%s) in request %s", type(error).__name__, g.get("request_id", "")
    )
    away = StoreUnavailable("the database does not answer at the moment")
    response = problem(away.code, str(away), hint=away.hint)
    response.headers["Retry-After"] = str(away.retry_after_s)
    return response


def _disk_problem(error: OSError) -> Response:
    """503 while a disk is full; any other failure of the system's is a defect."""
    if not is_full(error):
        return _defect(error)
    current_app.logger.error("a disk is full in request %s", g.get("request_id", ""))
    full = StorageFull("there is no room left on a disk of the exchange")
    response = problem(full.code, str(full), hint=full.hint)
    response.headers["Retry-After"] = str(full.retry_after_s)
    return response


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
