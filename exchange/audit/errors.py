"""The audit log's exceptions: AuditError and its leaves, each with a stable `code` and a `hint`.

AuditError
├── EntryInvalid          a fact that cannot become a leaf
├── SequenceBroken        the stored sequence has a hole, nothing may be added
├── PageTokenInvalid      a search was continued with a token that search did not give
├── Malformed             a note, key, tile, leaf or receipt that is not what its format says
├── SignatureInvalid      a signature that does not verify, or none by a trusted key
├── LogDiverged           publishing would contradict what was published before
├── HeadRefused           a tree head that does not continue the last one signed
├── SignerUnavailable     the signer process does not answer
└── CryptographyMissing   signatures cannot be checked in this installation
"""

from __future__ import annotations


class AuditError(Exception):
    """Base of the audit log's errors. `str(error)` is a sentence for a person and holds no data value."""

    code: str = "audit_error"
    hint: str = "Report this with the request id."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class EntryInvalid(AuditError):
    """The entry breaks the leaf's format, so the action that it records must not happen either."""

    code = "audit_entry_invalid"
    hint = "Correct the named field: texts have at most 512 characters, digests are lower-case SHA-256 hex."


class SequenceBroken(AuditError):
    """The stored entries do not end where the counter says; nothing is added until a person has looked."""

    code = "audit_sequence_broken"
    hint = "Run `exchange audit verify` and restore the missing entries before writing again."


class PageTokenInvalid(AuditError):
    """The page token was not given by a search."""

    code = "page_token_invalid"
    hint = "Start the search again without a page token."


class Malformed(AuditError):
    """Bytes that do not follow their format (signed note, checkpoint, key, tile, bundle, leaf, receipt)."""

    code = "audit_malformed"
    hint = "Fetch the file again; if it stays malformed, keep it as evidence."


class SignatureInvalid(AuditError):
    """A trusted key's signature does not verify, or no trusted key signed."""

    code = "audit_signature_invalid"
    hint = "Check the pinned keys; if they are right, the document was altered or forged."


class LogDiverged(AuditError):
    """The database or the published files contradict the published checkpoint; nothing new is published."""

    code = "audit_log_diverged"
    hint = "Keep both copies, run `exchange audit verify`, and find out which one was altered or restored."


class HeadRefused(AuditError):
    """The signer, or a witness, refuses a tree head: it does not continue the last one that was signed.

    `status` is the number of C2SP tlog-witness for it, `size` that of the last head where it is told.
    """

    code = "audit_head_refused"
    hint = (
        "The log here is older or another than what was signed. Change nothing, and read docs/witnesses.md."
    )

    def __init__(self, message: str, *, status: int, size: int | None = None) -> None:
        super().__init__(message)
        self.status, self.size = status, size


class SignerUnavailable(AuditError):
    """The signer process does not answer; the log is published when it does."""

    code = "audit_signer_unavailable"
    hint = "Start `exchange signer serve`, and look whether EXCHANGE_SIGNER names its socket."


class CryptographyMissing(AuditError):
    """The `cryptography` package is not installed, so Ed25519 signatures cannot be made or checked."""

    code = "cryptography_missing"
    hint = 'Run: pip install "private-data-exchange[verify]"'
