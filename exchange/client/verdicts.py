"""What verifying any receipt shares: the keys that are trusted, and the exception for what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.client import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.audit.note import VerifierKey
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


def log_keys(trusted: Keys) -> tuple[VerifierKey, ...]:
    """The log's keys: the pinned one, and those that statements lead to from it.

    Raises:
        VerificationFailed: 13 where the chain of statements is broken, 15 where it cannot be read.
        MissingDependency: ``cryptography`` is not installed.
    """
    from exchange.audit import note, succession
    from exchange.audit.errors import CryptographyMissing, Malformed, SignatureInvalid

    try:
        return succession.follow(note.VerifierKey.parse(trusted.log_key), trusted.log_statements)
    except CryptographyMissing:
        raise errors.missing("cryptography", "verify", "checking signatures") from None
    except SignatureInvalid as error:
        raise failed(str(error), 13) from None
    except Malformed as error:
        raise failed(str(error), 15) from None


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


def proof_file(document: Mapping[str, Any]) -> bytes:
    """The proof that a receipt carries, as a file of c2sp.org/tlog-proof. Raises NotFound without one."""
    from exchange.audit.errors import Malformed
    from exchange.audit.tlog_proof import proof_of_receipt

    try:
        return proof_of_receipt(document).encoded()
    except Malformed as error:
        raise errors.NotFound(str(error), hint="Fetch the receipt again in a few seconds.") from None
