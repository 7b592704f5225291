"""What can go wrong, as one tree of exceptions.

::

    ExchangeError                   code, status, request_id, hint; str() is a sentence
    ├── ConfigurationError          no address, no such profile, a configuration file that others can read
    ├── MissingDependency           an optional package is needed for this call (also an ImportError)
    ├── AuthError                   the token is missing, unknown, expired or revoked
    ├── PermissionDenied            the token's role does not allow this
    ├── NotFound                    unknown, or of another organisation: both look alike
    ├── LicenceError                the licence or the grant says no
    │   ├── GrantMissing            access was never granted, is not active, or was declined
    │   ├── LicenceNotAccepted      the licence was not accepted, or another text was
    │   ├── PurposeNotAllowed
    │   ├── TerritoryNotAllowed
    │   ├── LicenceExpired          the grant or licence has ended or was withdrawn
    │   └── QuotaExceeded
    ├── BudgetExceeded              the privacy budget does not cover it (remaining)
    ├── LimitExceeded               dearer than your own max_price or max_rho
    ├── PaymentRequired             the wallet does not cover it
    ├── QuoteExpired
    ├── QueryRefused                the SQL may not be answered (line, column, nearest)
    ├── QueryFailed                 the engine gave no answer
    │   ├── QueryCancelled          the query was cancelled
    │   └── AnswerExpired           the answer is no longer kept; its receipt is
    ├── InvalidRequest              a field, manifest, policy or price plan is wrong
    │   └── UploadRejected          a file is not what the manifest says (table, row, column)
    ├── Conflict                    the state does not allow it
    │   ├── KeyReused               an idempotency key came back with another request
    │   └── InProgress              the same call is still being answered
    ├── RateLimited                 too many requests (retry_after, seconds)
    ├── VerificationFailed          a receipt, proof or result does not hold (exit_code)
    └── ServerError                 the exchange failed, or the answer did not come from an exchange
        └── ConnectionFailed        no reply arrived (idempotency_key, to repeat the call safely)

A problem document (RFC 9457) is mapped by its ``code`` first and by the HTTP status second.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NANO = Decimal(10) ** 9


class ExchangeError(Exception):
    """Base of everything that the SDK raises on purpose.

    Attributes:
        code: stable snake_case name of what happened.
        status: HTTP status, or None where no reply is behind the error.
        request_id: quote it when you ask the operator; empty where there is none.
        hint: what to do next.
        details: the other members of the problem document.
    """

    codes: ClassVar[tuple[str, ...]] = ("error",)
    hint = "Quote the request id when you ask the operator."

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str = "",
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.codes[0]
        self.status = status
        self.request_id = request_id
        self.hint = hint or self.hint
        self.details: dict[str, Any] = dict(details or {})

    def as_document(self) -> dict[str, Any]:
        """The error as JSON: what the command line prints with ``--json``."""
        return {
            **self.details,
            "error": type(self).__name__,
            "code": self.code,
            "message": str(self),
            "hint": self.hint,
            "status": self.status,
            "request_id": self.request_id,
        }


class ConfigurationError(ExchangeError):
    """The client cannot tell which exchange to talk to, or its configuration cannot be read."""

    codes = ("configuration_invalid",)
    hint = "Pass url= and token=, set EXCHANGE_URL and EXCHANGE_TOKEN, or run `exchange login`."


class MissingDependency(ExchangeError, ImportError):
    """A package is needed that the SDK does not install by itself."""

    codes = ("dependency_missing", "cryptography_missing")


class AuthError(ExchangeError):
    """The token is missing, unknown, expired or revoked."""

    codes = ("token_unknown", "sign_in_refused", "second_factor_refused", "single_sign_on_refused")
    hint = "Check the token, or run `exchange login` again."


class PermissionDenied(ExchangeError):
    """The token's role does not allow this."""

    codes = (
        "role_missing",
        "scope_missing",
        "frozen",
        "party_unidentified",
        "second_person_needed",
        "second_operator_needed",
        "second_factor_missing",
        "confirmation_needed",
    )
    hint = "Use a token of an organisation that holds the role."


class NotFound(ExchangeError):
    """Nothing of that name is visible to this organisation."""

    codes = (
        "not_found",
        "user_code_unknown",
        "dataset_not_found",
        "request_missing",
        "quote_missing",
        "payment_missing",
        "invoice_missing",
        "statement_missing",
        "invitation_unknown",
    )
    hint = "Check the name; things of other organisations are not shown."


class LicenceError(ExchangeError):
    """The licence or the grant says no."""

    codes: ClassVar[tuple[str, ...]] = (
        "licence_refused",
        "licence_missing",
        "assignee_not_allowed",
        "publication_not_allowed",
        "column_not_allowed",
        "join_not_allowed",
        "rho_not_allowed",
        "licence_not_approved",
        "licence_edited_by_approver",
    )
    hint = "Read the licence: `dataset.licence`."


class GrantMissing(LicenceError):
    """Access was never granted, is not active yet, or was declined."""

    codes = ("grant_missing", "grant_not_active", "grant_suspended", "grant_withdrawn", "request_declined")
    hint = "Request access: `dataset.request(plan=..., purpose=..., territory=..., accept_licence=True)`."


class LicenceNotAccepted(LicenceError):
    """The licence was not accepted, or its text has changed since it was shown."""

    codes = ("licence_not_accepted",)
    hint = "Read `dataset.licence.text`, then request access with `accept_licence=True`."


class PurposeNotAllowed(LicenceError):
    """The licence does not allow this purpose."""

    codes = ("purpose_not_allowed",)


class TerritoryNotAllowed(LicenceError):
    """The licence does not allow this territory."""

    codes = ("territory_not_allowed",)


class LicenceExpired(LicenceError):
    """The grant or the licence has ended, or the listing was withdrawn."""

    codes = ("licence_expired", "licence_withdrawn", "grant_expired")
    hint = "Request access again, if the dataset is still listed."


class QuotaExceeded(LicenceError):
    """The licence's number of queries, or the grant's allowance, is used up."""

    codes = ("quota_exceeded",)
    hint = "Request another grant, or wait for the next period that the licence names."


class BudgetExceeded(ExchangeError):
    """The privacy budget does not cover the query. ``remaining``: what is left, as rho, or None."""

    codes = ("budget_exhausted", "budget_exceeded")
    hint = "Ask for less accuracy (a smaller rho): what is left is `dataset.budget.rho_remaining`."

    @property
    def remaining(self) -> Decimal | None:
        """Rho that is left."""
        nano = self.details.get("rho_nano_remaining", self.details.get("remaining"))
        return Decimal(nano) / _NANO if isinstance(nano, int) else None


class LimitExceeded(ExchangeError):
    """The query costs more than your own ``max_price`` or ``max_rho``; nothing was charged."""

    codes = ("limit_exceeded",)
    hint = "Raise max_price or max_rho, or ask for less accuracy."


class PaymentRequired(ExchangeError):
    """The wallet does not cover the price; nothing was charged."""

    codes = ("payment_required", "stripe_refused", "stripe_short")
    hint = "Top up the wallet: `x.top_up(...)`, or by bank transfer that the operator confirms."


class QuoteExpired(ExchangeError):
    """The quote is no longer binding."""

    codes = ("quote_expired",)
    hint = "Ask for a new quote: it is free."


class QueryRefused(ExchangeError):
    """The SQL may not be answered.

    ``code`` names the rule, ``line`` and ``column`` (from 1) the place, ``nearest`` a statement that may be.
    """

    codes = ("sql_refused",)
    hint = "See the list of what may be asked in the SQL reference."

    @property
    def line(self) -> int | None:
        """Line of the statement, from 1."""
        return _whole(self.details.get("line"))

    @property
    def column(self) -> int | None:
        """Column in the line, from 1."""
        return _whole(self.details.get("column"))

    @property
    def nearest(self) -> str | None:
        """A statement near this one that is answered, where the exchange found one."""
        found = self.details.get("nearest")
        return found if isinstance(found, str) else None


class QueryFailed(ExchangeError):
    """The query ended without an answer."""

    codes: ClassVar[tuple[str, ...]] = ("query_failed", "query_timeout", "query_too_large")
    hint = "Ask again, or ask for fewer groups."


class QueryCancelled(QueryFailed):
    """The query was cancelled before it had an answer."""

    codes = ("query_cancelled",)
    hint = "Ask again for an answer."


class AnswerExpired(QueryFailed):
    """The exchange does not keep the answer any longer. Its receipt stays, and stays valid."""

    codes = ("answer_expired",)
    hint = "Ask the question again: it is a new answer, at its price."


class InvalidRequest(ExchangeError):
    """A field of the request, the manifest, the policy, the licence or a price plan is wrong."""

    codes: ClassVar[tuple[str, ...]] = (
        "request_invalid",
        "scope_invalid",
        "payment_invalid",
        "webhook_refused",
        "manifest_invalid",
        "slug_invalid",
        "page_token_invalid",
        "parameter_invalid",
        "policy_invalid",
        "policy_mismatch",
        "policy_unknown_table",
        "policy_unknown_column",
        "policy_undeclared_table",
        "policy_undeclared_column",
        "price_arbitrage",
        "price_invalid",
        "licence_invalid",
        "signature_refused",
        "amount_invalid",
        "backup_invalid",
        "billing_invalid",
        "password_weak",
        "too_large",
        "export_too_large",
    )
    hint = "Compare the request with the exchange's /openapi.json."


class UploadRejected(InvalidRequest):
    """A file is not what the manifest says. ``details`` may hold ``table``, ``row`` and ``column``."""

    codes = (
        "invalid_upload",
        "upload_incomplete",
        "unsupported_format",
        "not_parquet",
        "truncated_file",
        "damaged_file",
        "encrypted_file",
        "empty_file",
        "broken_rows",
        "not_utf8",
        "column_missing",
        "unit_missing",
        "unit_empty",
        "key_not_unique",
        "duplicate_column",
        "bad_column_name",
        "bad_table_name",
        "unsupported_type",
        "value_out_of_range",
        "too_many_columns",
        "too_many_rows",
        "file_too_large",
        "cell_too_large",
        "expands_too_much",
        "took_too_long",
        "unreadable_file",
    )
    hint = "Mend the file and publish again; nothing was listed."


class Conflict(ExchangeError):
    """The state of the thing does not allow this."""

    codes: ClassVar[tuple[str, ...]] = (
        "conflict",
        "backup_refused",
        "master_key_in_use",
        "held",
        "approval_needed",
        "approval_closed",
        "approval_changed",
        "order_invalid",
        "payment_state",
        "refund_too_large",
        "stripe_missing",
        "request_not_open",
        "slug_taken",
        "slug_of_another",
        "domain_taken",
        "data_listed_elsewhere",
        "policy_loosened",
        "policy_below_spent",
        "listing_state",
        "listing_deprecated",
        "listing_draft",
        "listing_published",
        "listing_withdrawn",
        "layout_stopped",
        "upload_offset",
        "duplicate_business_key",
        "not_pending",
        "invoice_invalid",
        "billing_profile_missing",
        "member_exists",
        "last_admin",
        "alert_resolved",
    )
    hint = "Look at the current state and try again."


class KeyReused(Conflict):
    """The idempotency key was used before with another request."""

    codes = ("key_reused",)
    hint = "Leave `idempotency_key` out: a fresh one is drawn for each call."


class InProgress(Conflict):
    """The same call is still being answered."""

    codes = ("in_progress", "overloaded")
    hint = "Wait a moment and repeat the call: it will return the one answer."


class RateLimited(ExchangeError):
    """Too many requests. ``retry_after`` is how many seconds to wait, where the reply says so."""

    codes = ("rate_limited", "too_many_queries", "too_many_tries")
    hint = "Wait and repeat the call."
    retry_after: float | None = None


class VerificationFailed(ExchangeError):
    """A receipt, a proof or a result does not hold. ``exit_code`` is the verifier's (10 to 16)."""

    codes = ("verification_failed", "audit_malformed", "audit_signature_invalid")
    hint = "Keep the file and show it to the compliance officer."
    exit_code: int = 11


class ServerError(ExchangeError):
    """The exchange failed, or something between you and it answered in its place."""

    codes: ClassVar[tuple[str, ...]] = (
        "server_error",
        "store_unavailable",
        "objects_unavailable",
        "storage_full",
        "migration_blocked",
        "stripe_busy",
        "stripe_failed",
        "stripe_unknown",
        "font_missing",
        "unexpected_reply",
        "inside_transaction",
        "object_damaged",
        "master_key_missing",
        "master_key_wrong",
        "ledger_invalid",
        "account_unknown",
        "overdrawn",
        "charge_mismatch",
        "exact_table_invalid",
        "layout_invalid",
        "profile_invalid",
        "released_invalid",
        "tables_missing",
        "tables_unfit",
        "audit_entry_invalid",
        "audit_leaf_too_large",
        "audit_sequence_broken",
        "audit_log_diverged",
        "audit_head_refused",
        "audit_signer_unavailable",
    )
    hint = "Try again later; nothing is charged twice."


class ConnectionFailed(ServerError):
    """No reply arrived. Repeat the call with ``idempotency_key``: it cannot spend twice."""

    codes = ("connection_failed",)
    hint = (
        "Check the address and the network. A repeated call with the same idempotency_key never spends twice."
    )
    idempotency_key: str | None = None


_BY_STATUS: dict[int, type[ExchangeError]] = {
    400: InvalidRequest,
    401: AuthError,
    402: PaymentRequired,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    410: QuoteExpired,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}
_BY_CATEGORY: dict[str, type[ExchangeError]] = {
    "sql": QueryRefused,
    "licence": LicenceError,
    "upload": UploadRejected,
}


def _tree(kind: type[ExchangeError]) -> Iterator[type[ExchangeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


_BY_CODE: dict[str, type[ExchangeError]] = {
    code: kind for kind in _tree(ExchangeError) for code in kind.__dict__.get("codes", ())
}


def from_problem(problem: Mapping[str, Any], *, status: int) -> ExchangeError:
    """The exception that a problem document stands for: by ``code``, then ``category``, then the status."""
    code = str(problem.get("code") or "")
    category = str(problem.get("category") or "")
    fallback = ServerError if status >= 500 else InvalidRequest
    kind = _BY_CATEGORY["sql"] if category == "sql" else _BY_CODE.get(code)
    kind = kind or _BY_CATEGORY.get(category) or _BY_STATUS.get(status, fallback)
    return kind(
        str(problem.get("detail") or problem.get("title") or f"the exchange answered with status {status}"),
        code=code or None,
        status=status,
        request_id=str(problem.get("request_id") or ""),
        hint=str(problem.get("hint") or "") or None,
        details={k: v for k, v in problem.items() if k not in _COMMON},
    )


_COMMON = {"type", "title", "status", "detail", "code", "hint", "request_id", "instance"}


def missing(package: str, extra: str, purpose: str) -> MissingDependency:
    """The error for an optional package that is not installed."""
    return MissingDependency(
        f"{purpose} needs the package {package}, which is not installed",
        hint=f"Install it: `pip install {package}`, or `pip install 'private-data-exchange[{extra}]'`.",
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
