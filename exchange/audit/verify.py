"""The offline verifier: everything that a log's files, and a copy of its database, can be caught at.

Needs the standard library and, for signatures, `cryptography`; no database and no network. Files are read one
bundle of 256 entries at a time, so memory does not grow with the log, only with the organisations in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves
from exchange.audit import note
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.report import (
    ALTERED,
    FORK,
    GOOD,
    MALFORMED,
    SIGNATURE,
    TRUNCATED,
    WITNESSES,
    Finding,
    exit_code_of,
)
from exchange.audit.scan import MOST_FINDINGS, Findings, Scan, StoredLeaf
from exchange.audit.tiles import Fetched, Folder, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.note import VerifierKey
    from exchange.audit.scan import Also

__all__ = [
    "Fetched",
    "Finding",
    "Folder",
    "LogReport",
    "Reader",
    "StoredLeaf",
    "verify_books",
    "verify_journals",
    "verify_log",
]


@dataclass(frozen=True)
class LogReport:
    """What was verified: the checkpoint's `size` and `root`, `entries` read, `unpublished` database rows, and
    whether the journals that entries name were compared too (`books`). `cosigned_at` is the newest witness's
    time in seconds since 1970: nothing shows that the log is newer.
    """

    exit_code: int
    findings: tuple[Finding, ...]
    origin: str
    size: int | None = None
    root: bytes | None = None
    entries: int = 0
    unpublished: int = 0
    witnesses: tuple[str, ...] = ()
    more_findings: int = 0
    books: bool = False
    cosigned_at: int | None = None

    @property
    def good(self) -> bool:
        """True if nothing is wrong."""
        return self.exit_code == GOOD

    def as_document(self) -> dict[str, Any]:
        """The report as JSON: what `--json` prints."""
        return {
            "good": self.good,
            "exit_code": self.exit_code,
            "origin": self.origin,
            "size": self.size,
            "root": self.root.hex() if self.root else None,
            "entries": self.entries,
            "unpublished": self.unpublished,
            "witnesses": list(self.witnesses),
            "cosigned_at": self.cosigned_at,
            "books": self.books,
            "findings": [vars(finding) for finding in self.findings],
            "more_findings": self.more_findings,
        }

    def __str__(self) -> str:
        if not self.good:
            return "\n".join(str(finding) for finding in self.findings)
        told = f"{self.origin}, {self.size} entries, root {self.root.hex() if self.root else ''}"
        if self.cosigned_at is not None:
            told += f"\nsigned by {len(self.witnesses)} witnesses, the last at {_utc(self.cosigned_at)}"
        if self.unpublished:
            told += f"\n{self.unpublished} newer entries are not under a checkpoint yet"
        return told

    def with_findings(self, findings: Iterable[Finding]) -> LogReport:
        """The report with further findings, such as those of `verify_books` or `log.check`."""
        more = tuple(findings)
        listed = (*self.findings, *more)
        return replace(
            self,
            exit_code=exit_code_of([self.exit_code, *(finding.exit_code for finding in more)]),
            findings=listed[:MOST_FINDINGS],
            more_findings=self.more_findings + len(listed[MOST_FINDINGS:]),
        )


def verify_log(
    reader: Reader,
    *,
    origin: str,
    keys: Sequence[str | VerifierKey],
    witnesses: Sequence[str | VerifierKey] = (),
    required: int = 0,
    pinned: bytes | str | None = None,
    database_leaves: Iterable[StoredLeaf] | None = None,
    promised: Mapping[int, bytes] | None = None,
    also: Also | None = None,
) -> LogReport:
    """Verifies a published log; never raises for a bad one.

    Args:
        reader: the log's files: a `Folder`, or `Fetched` bytes by path.
        origin, keys: what the log must call itself and the keys that it may sign with, known from elsewhere;
            those `before_pinned` sign an older checkpoint alone, and never this one.
        witnesses, required: pinned witness keys, and how many of them must have signed the checkpoint.
        pinned: an older checkpoint of this log, as it was saved.
        database_leaves: the database's copy, in order of seq (`log.entries(session)`).
        promised: leaf hashes by sequence number from receipts whose time of integration has passed.
        also: is given the documents of each bundle of 256 entries, in order and as they were verified, and
            says what is wrong with them. Only where the report is good were they those of the signed root:
            whoever adds up or compares entries does it here, and never with bytes that are read again.

    Returns:
        A report whose exit code is 0, 10 truncated, 11 altered, inserted or reordered, 12 fork against the
        pinned checkpoint, 13 signature, 14 gap in a sequence, 15 malformed, 16 too few witnesses. A
        checkpoint that is not signed or cannot be read ends the verification, because nothing else can then
        be held against anything.

    Raises:
        CryptographyMissing: signatures cannot be checked here.
    """
    findings = Findings()
    try:
        trusted = [note.as_verifier(key) for key in keys]
        observers = [note.as_verifier(key) for key in witnesses]
        checkpoint = _open_newest(reader, origin, trusted)
        cosigners = checkpoints.cosigners(checkpoint, observers, log_keys=trusted)
        saved = None if pinned is None else _open_pinned(pinned, origin, trusted)
    except SignatureInvalid as error:
        return LogReport(SIGNATURE, (Finding(SIGNATURE, str(error)),), origin)
    except Malformed as error:
        return LogReport(MALFORMED, (Finding(MALFORMED, str(error)),), origin)
    if len(cosigners) < required:
        text = f"{len(cosigners)} pinned witnesses signed the checkpoint; {required} are required."
        findings.add(WITNESSES, text)
    _compare_heads(checkpoint, saved, findings)
    scan = Scan(
        reader,
        checkpoint,
        findings,
        pinned=saved,
        database=database_leaves,
        promised=promised or {},
        also=also,
    )
    scan.run()
    return _report(checkpoint, cosigners, scan, findings)


def verify_books(
    published: Iterable[bytes], journal_digest: Callable[[str], str | None]
) -> Iterator[Finding]:
    """Holds every leaf that names a journal against the ledger, as `verify_journals`; code 15 for what is
    no leaf.
    """
    for data in published:
        try:
            document = leaves.decode(data)
        except Malformed as error:
            yield Finding(MALFORMED, str(error))
            continue
        yield from verify_journals([document], journal_digest)


def verify_journals(
    documents: Iterable[Mapping[str, Any]], journal_digest: Callable[[str], str | None]
) -> Iterator[Finding]:
    """Holds the documents of leaves that name a journal against the ledger.

    `journal_digest` gives the SHA-256 hex of a journal as the ledger holds it now, or None where there is
    none. Yields a finding with code 11 for each journal that is missing or differs, naming journal and
    entry.
    """
    for document in documents:
        money = document["money"] or {}
        journal = money.get("journal")
        if journal is None:
            continue
        place = {"seq": document["seq"], "id": document["id"], "journal": journal}
        actual = journal_digest(journal)
        if actual is None:
            yield Finding(ALTERED, "The ledger has no such journal.", **place)
        elif actual != money["journal_sha256"]:
            yield Finding(ALTERED, "The ledger's journal is not the one that was logged.", **place)


def _open_newest(reader: Reader, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    data = reader.read(checkpoints.PATH)
    if data is None:
        raise Malformed("There is no checkpoint.")
    checkpoint = checkpoints.open_checkpoint(data, origin=origin, keys=keys)
    # Older keys vouch for what was saved then. A past that is shown today is a thief's, or out of date.
    if all(key.before_pinned for key in note.verify_note(checkpoint.note, keys)):
        raise SignatureInvalid(
            "The checkpoint is signed by keys alone that were replaced before the pinned one."
        )
    return checkpoint


def _report(
    checkpoint: Checkpoint, cosigners: Sequence[VerifierKey], scan: Scan, findings: Findings
) -> LogReport:
    return LogReport(
        exit_code_of(findings.codes),
        tuple(findings.listed),
        checkpoint.origin,
        checkpoint.size,
        checkpoint.root,
        scan.entries,
        scan.unpublished,
        tuple(key.name for key in cosigners),
        findings.more,
        cosigned_at=checkpoints.cosigned_at(checkpoint, cosigners),
    )


def _utc(seconds: int) -> str:
    """A time for a person, whatever a witness wrote."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OSError, OverflowError, ValueError):
        return f"{seconds} seconds since 1970"


def _open_pinned(pinned: bytes | str, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    try:
        return checkpoints.open_checkpoint(pinned, origin=origin, keys=keys)
    except SignatureInvalid as error:
        raise SignatureInvalid(f"The pinned checkpoint: {error}") from None
    except Malformed as error:
        raise Malformed(f"The pinned checkpoint: {error}") from None


def _compare_heads(checkpoint: Checkpoint, pinned: Checkpoint | None, findings: Findings) -> None:
    if pinned is None:
        return
    if pinned.size > checkpoint.size:
        text = (
            f"The log has {checkpoint.size} entries, fewer than the {pinned.size} of the pinned checkpoint."
        )
        findings.add(TRUNCATED, text)
    elif pinned.size == checkpoint.size and pinned.root != checkpoint.root:
        findings.add(FORK, f"Two signed checkpoints of {pinned.size} entries have different roots.")
