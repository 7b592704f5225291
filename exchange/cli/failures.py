"""From an exception to a message and an exit code.

0 good, 1 a law of ``exchange check`` is broken, 2 usage (also: not found, a wrong field, no configuration),
3 refused by licence, policy or role, 4 privacy budget, 5 payment, 6 the exchange or the way to it, 10 to 16
verification (see ``exchange.audit.report``).
"""

from __future__ import annotations

from typing import Any

from exchange.client import errors

BROKEN_LAW, USAGE, REFUSED, BUDGET, PAYMENT, SERVER = 1, 2, 3, 4, 5, 6

_EXIT: tuple[tuple[type[errors.ExchangeError], int], ...] = (
    (errors.BudgetExceeded, BUDGET),
    (errors.PaymentRequired, PAYMENT),
    (errors.InProgress, SERVER),
    (errors.KeyReused, USAGE),
    (errors.UploadRejected, REFUSED),
    (errors.InvalidRequest, USAGE),
    (errors.ConfigurationError, USAGE),
    (errors.MissingDependency, USAGE),
    (errors.NotFound, USAGE),
    (errors.AuthError, REFUSED),
    (errors.PermissionDenied, REFUSED),
    (errors.LicenceError, REFUSED),
    (errors.QueryRefused, REFUSED),
    (errors.QuoteExpired, REFUSED),
    (errors.Conflict, REFUSED),
)
_OURS = ("catalog", "exchange", "privacy", "settlement")
_VERIFIER_CODES = {"audit_signature_invalid": 13, "audit_malformed": 15}
_REFUSED_HERE = {"backup_refused", "backup_invalid"}
_LISTING_REFUSED = {"price_arbitrage", "price_invalid", "licence_invalid"}


def exit_code(error: errors.ExchangeError) -> int:
    """The exit code of an error."""
    if error.code in _VERIFIER_CODES:
        return _VERIFIER_CODES[error.code]
    if isinstance(error, errors.VerificationFailed):
        return error.exit_code
    if isinstance(error, errors.LimitExceeded):
        return BUDGET if "rho_nano" in error.details else PAYMENT
    if error.code in _LISTING_REFUSED | _REFUSED_HERE or error.code.startswith("policy_"):
        return REFUSED
    return next((code for kind, code in _EXIT if isinstance(error, kind)), SERVER)


def translated(error: Exception) -> errors.ExchangeError | None:
    """An error of ours as the SDK's; None for a defect. Operators' commands raise the server's own errors."""
    if isinstance(error, errors.ExchangeError):
        return error
    if isinstance(error, OSError) and error.filename:
        return errors.ConfigurationError(
            f"{error.filename}: {error.strerror}", code="file_error", hint="Check it."
        )
    code = getattr(error, "code", None)
    if not isinstance(code, str) or type(error).__module__.partition(".")[0] not in _OURS:
        return None
    if code == "settings_invalid":
        return errors.ConfigurationError(
            str(error), code=code, hint="Run `exchange init`, or set the variable."
        )
    problem: dict[str, Any] = {"code": code, "detail": str(error), "hint": getattr(error, "hint", "")}
    return errors.from_problem(problem, status=422)
