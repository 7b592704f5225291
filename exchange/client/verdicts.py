"""What verifying any receipt shares: the keys that are trusted, and the exception for what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.client import errors

if TYPE_CHECKING:
    from exchange.audit.receipts import ReceiptReport
    from exchange.client.configuration import Keys
    from exchange.client.connection import Connection


def known_keys(connection: Connection | None) -> Keys:
    """The keys of the exchange that a receipt came from. Raises ConfigurationError for one from a file."""
    if connection is None:
        raise errors.ConfigurationError(
            "a receipt from a file needs the exchange's public keys",
            hint="Pass keys=, for example x.keys() of a client of that exchange.",
        )
    return connection.keys()


def good(report: ReceiptReport) -> ReceiptReport:
    """The report, if it found nothing. Raises VerificationFailed with what it found."""
    if not report.good:
        raise failed(str(report), report.exit_code, [str(finding) for finding in report.findings])
    return report


def failed(message: str, exit_code: int, findings: list[str] | None = None) -> errors.VerificationFailed:
    """The exception for what a verification found; ``exit_code`` is one of 10 to 16."""
    found = errors.VerificationFailed(message, details={"findings": findings or [], "exit_code": exit_code})
    found.exit_code = exit_code
    return found
