"""The officer's half: search the log, prove one entry, verify all of it, export evidence."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.audit.export import EVIDENCE, EVIDENCE_SUFFIX, FORMATS
from exchange.client import errors, html, verdicts
from exchange.client import spending as spendings
from exchange.client.connection import Connection, read
from exchange.client.control import Control
from exchange.client.progress import meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exchange.audit.verify import Finding, LogReport
    from exchange.client.configuration import Keys
    from exchange.client.progress import Progress
    from exchange.client.spending import SpendingReport

_PAGE = 100


@dataclass(frozen=True)
class Entry:
    """One entry of the log, as search shows it. ``document`` is all that the exchange says about it."""

    seq: int
    id: str
    time: str
    kind: str
    outcome: str
    code: str | None
    org: str | None
    org_name: str | None
    leaf_hash: str
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Entry:
        """Read an entry."""
        return cls(
            seq=int(document["seq"]),
            id=document["id"],
            time=document["time"],
            kind=document["kind"],
            outcome=document["outcome"],
            code=document.get("code"),
            org=document.get("org"),
            org_name=document.get("org_name"),
            leaf_hash=document["leaf_hash"],
            document=dict(document),
        )

    def _repr_html_(self) -> str:
        names = ("seq", "time", "kind", "outcome", "code", "org_name", "id", "leaf_hash")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Log entry")


@dataclass(frozen=True)
class Proof:
    """An entry's leaf with its inclusion proof against a signed checkpoint, for :meth:`verify` offline."""

    seq: int
    leaf: bytes = field(repr=False)
    leaf_hash: str
    checkpoint: str = field(repr=False)
    proof: tuple[str, ...] = field(repr=False)
    document: dict[str, Any] = field(repr=False)
    _connection: Connection | None = field(default=None, repr=False, compare=False)
    entry: str = ""

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], connection: Connection | None = None, entry: str = ""
    ) -> Proof:
        """Read a proof; ``entry`` is the id of the entry that it was asked for."""
        return cls(
            seq=int(document["index"]),
            leaf=document["leaf"].encode("utf-8"),
            leaf_hash=document["leaf_hash"],
            checkpoint=document["checkpoint"],
            proof=tuple(document["proof"]),
            document=dict(document),
            _connection=connection,
            entry=entry,
        )

    def tlog_proof(self) -> bytes:
        """The proof as a file of c2sp.org/tlog-proof, with the leaf in it, for ``python verify.py proof``."""
        from exchange.audit.errors import Malformed
        from exchange.audit.tlog_proof import TlogProof

        try:
            path = tuple(bytes.fromhex(step) for step in self.proof)
            return TlogProof(self.seq, path, self.checkpoint.encode(), self.leaf).encoded()
        except (Malformed, ValueError) as error:
            raise _failed(str(error), 15) from None

    def save(self, path: str | Path) -> Path:
        """Write the proof to a file, by custom ``*.tlog-proof``; returns its path."""
        target = Path(path)
        target.write_bytes(self.tlog_proof())
        return target

    def verify(self, *, keys: Keys | None = None) -> int:
        """Check leaf, path and the checkpoint's signature; returns the size of the log that holds the entry.
        The leaf has to be that of the entry that was asked for.

        ``keys`` are the exchange's public keys from a source that you trust; without them those of the
        profile are used, or those that the exchange publishes. Raises ``VerificationFailed`` (``exit_code``
        11, 13, 15).
        """
        from exchange.audit import checkpoint as checkpoints
        from exchange.audit import merkle
        from exchange.audit.errors import CryptographyMissing, Malformed, SignatureInvalid

        trusted = keys or (self._connection.keys() if self._connection else None)
        if trusted is None:
            raise errors.ConfigurationError(
                "a proof from a file needs the exchange's public keys", hint="Pass keys=."
            )
        try:
            head = checkpoints.open_checkpoint(
                self.checkpoint, origin=trusted.origin, keys=verdicts.log_keys(trusted)
            )
            path = [bytes.fromhex(step) for step in self.proof]
        except CryptographyMissing:
            raise errors.missing("cryptography", "verify", "checking signatures") from None
        except SignatureInvalid as error:
            raise _failed(str(error), 13) from None
        except (Malformed, ValueError) as error:
            raise _failed(str(error), 15) from None
        hashed = merkle.leaf_hash(self.leaf)
        if hashed.hex() != self.leaf_hash:
            raise _failed(f"the leaf of entry {self.seq} does not have the hash that was named", 11)
        if not merkle.verify_inclusion(hashed, self.seq, head.size, path, head.root):
            raise _failed(f"the proof does not lead from entry {self.seq} to the checkpoint's root", 11)
        self._check_entry()
        return head.size

    def _check_entry(self) -> None:
        """Whoever answers may have another entry that is in the log."""
        from exchange.audit import leaf as leaves
        from exchange.audit.errors import Malformed

        try:
            found = leaves.decode(self.leaf)
        except Malformed as error:
            raise _failed(str(error), 15) from None
        if found["seq"] != self.seq or self.entry not in ("", found["id"]):
            raise _failed(f"the proof is one of entry {found['id']}, number {found['seq']}", 11)


class Audit(Control):
    """``x.audit``: needs a token of the role officer, except :meth:`checkpoint` and :meth:`spending`."""

    def __repr__(self) -> str:
        return f"Audit({self._connection.url!r})"

    def search(
        self,
        *,
        org: str | None = None,
        dataset: str | None = None,
        domain: str | None = None,
        purpose: str | None = None,
        kind: str | None = None,
        outcome: str | None = None,
        since: str | datetime.datetime | None = None,
        until: str | datetime.datetime | None = None,
        q: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """Entries that match every filter, newest first, page by page. Searching is itself an entry."""
        filters = {
            "org": org,
            "dataset": dataset,
            "domain": domain,
            "purpose": purpose,
            "kind": kind,
            "outcome": outcome,
            "since": _time(since),
            "until": _time(until),
            "q": q,
        }
        return islice(self._pages({k: v for k, v in filters.items() if v is not None}, limit), limit)

    def entry(self, entry_id: str) -> Entry:
        """One entry with its whole leaf and, for a query, the licence clause that allowed it."""
        return read(Entry.from_document, self._connection.get(f"/v1/audit/entries/{entry_id}"))

    def prove(self, entry_id: str) -> Proof:
        """The entry's inclusion proof. Raises ``NotFound`` until the log covers the entry, seconds later."""
        document = self._connection.get(f"/v1/audit/entries/{entry_id}/proof")
        return read(Proof.from_document, document, self._connection, entry_id)

    def query(self, query_id: str) -> dict[str, Any]:
        """Everything about one query: its grant, the clause that allowed it, plan, privacy before and after,
        journals, the entries of its life in order, and whether its entry is under a checkpoint.
        """
        return dict(self._connection.get(f"/v1/audit/queries/{query_id}"))

    def checkpoint(self) -> str:
        """The newest signed checkpoint. Save it: :meth:`verify` holds a later log against it."""
        from exchange.audit.note import MAX_NOTE_BYTES

        return self._connection.fetch("/audit/checkpoint", MAX_NOTE_BYTES).decode("utf-8", "replace")

    def domains(self) -> list[dict[str, Any]]:
        """Every privacy domain's lifetime account over all buyers."""
        return [dict(item) for item in self._connection.get("/v1/audit/domains")["items"]]

    def verify(
        self,
        *,
        pinned: str | bytes | None = None,
        keys: Keys | None = None,
        books: bool = True,
        checkpoint: str | None = None,
        witnesses: Sequence[str] = (),
        witnesses_required: int | None = None,
        follow_keys: bool = False,
    ) -> LogReport:
        """Download the whole log and verify it here: signature, tree, sequences, and the journals it names.

        Args:
            pinned: a checkpoint saved earlier, which this log must continue.
            keys: the exchange's public keys from a source that you trust; else those of the profile or,
                failing these, those that the exchange publishes.
            books: also hold every journal that an entry names against the ledger: the exchange sends each
                one's text, which is hashed here.
            checkpoint: verify the log up to this checkpoint of now, so that it may be saved afterwards.
            witnesses: public keys of witnesses, each from whoever runs it.
            witnesses_required: how many of them must have signed the checkpoint; all, where it is not said.
            follow_keys: from a pinned key of the log that was replaced, follow the published statements to
                the newest; ``Keys(..., log_statements=...)`` follows statements that were saved.

        Returns:
            A report with ``good``, ``exit_code`` (0, 10 to 16), ``findings`` and ``books`` (whether they were
            compared); a bad log does not raise.
        """
        report = self._verified(
            _Published(self._connection, checkpoint),
            self._trusted(keys, follow_keys=follow_keys),
            also=self._books if books else None,
            pinned=pinned,
            witnesses=witnesses,
            required=_required(witnesses, witnesses_required),
        )
        return replace(report, books=books and report.size is not None)

    def spending(
        self,
        *,
        pinned: str | bytes | None = None,
        keys: Keys | None = None,
        witnesses: Sequence[str] = (),
        witnesses_required: int | None = None,
        follow_keys: bool = False,
        wait_s: float = 75.0,
    ) -> SpendingReport:
        """Verify the public log, add up each domain's rho from it, and compare with what the exchange says.

        Needs no token. Args and exit codes as for :meth:`verify`; 11 also where the two differ or the
        exchange speaks of an earlier log than it has signed, 10 where no checkpoint covers what it speaks of
        within ``wait_s`` seconds (it has promised 65), 14 where an entry is missing between two others of a
        domain.
        """
        from exchange.audit.checkpoint import parse_checkpoint

        trusted = self._trusted(keys, follow_keys=follow_keys)
        before, said = self.checkpoint(), list(spendings.said(self._connection))
        newest = spendings.covering(self.checkpoint, max(page.entries for page in said), wait_s)
        reader, tally = _Published(self._connection, newest), spendings.Tally(said)
        report = self._verified(
            reader,
            trusted,
            also=tally.read,
            pinned=pinned,
            witnesses=witnesses,
            required=_required(witnesses, witnesses_required),
        )
        if not report.good:
            return spendings.SpendingReport(report, ())
        least, broken = spendings.grown_from(reader, before, report, trusted)
        known = 0 if pinned is None else parse_checkpoint(pinned).size
        return tally.held(report.with_findings(broken), max(least, known))

    def verify_evidence(
        self,
        path: str | Path,
        *,
        keys: Keys | None = None,
        witnesses: Sequence[str] = (),
        witnesses_required: int | None = None,
        follow_keys: bool = False,
    ) -> LogReport:
        """Check a file of evidence here: every byte, every proof, and what the entries name.

        Args as for :meth:`verify`; ``keys`` with the key of receipts too. A bad file does not raise.
        """
        trusted = self._trusted(keys, follow_keys=follow_keys)
        return verify_evidence(path, trusted, witnesses=witnesses, witnesses_required=witnesses_required)

    def export(
        self,
        path: str | Path,
        *,
        format: str | None = None,  # noqa: A002
        progress: Progress = "auto",
        org: str | None = None,
        dataset: str | None = None,
        domain: str | None = None,
        purpose: str | None = None,
        kind: str | None = None,
        outcome: str | None = None,
        since: str | datetime.datetime | None = None,
        until: str | datetime.datetime | None = None,
        q: str | None = None,
    ) -> int:
        """Write the matching entries to a file, in one request; returns how many there are.

        Args:
            path: written as a whole or not at all.
            format: ``csv``, ``parquet``, ``jsonl`` (with inclusion proofs), ``ocsf``, ``cef`` or ``evidence``
                (:meth:`verify_evidence`); else the ending of the file says it: ``.csv``, ``.parquet``,
                ``.jsonl``, ``.ocsf.jsonl``, ``.cef``, ``.zip``.
            progress: as for uploads: of bytes, whose number in all is not known before the end.

        Entries that come after the export began are left out. Exporting is itself an entry.
        """
        target = Path(path)
        wanted = format or _format_of(target)
        filters = {
            "org": org,
            "dataset": dataset,
            "domain": domain,
            "purpose": purpose,
            "kind": kind,
            "outcome": outcome,
            "since": _time(since),
            "until": _time(until),
            "q": q,
        }
        asked = {"format": wanted, **{name: value for name, value in filters.items() if value is not None}}
        with meter(progress, target.name, 0) as bar:
            headers = self._connection.download(
                "/v1/audit/exports", asked, target, lambda done, total: bar.update(done, max(done, total))
            )
        return read(int, headers.get("X-Entries"))

    def _pages(self, filters: Mapping[str, Any], limit: int | None) -> Iterator[Entry]:
        token: str | None = None
        size = min(_PAGE, limit) if limit else _PAGE
        while True:
            page = self._connection.get("/v1/audit/entries", **filters, limit=size, page_token=token)
            yield from read(_entries, page)
            token = page.get("next_page_token")
            if not token:
                return

    def _trusted(self, keys: Keys | None, *, follow_keys: bool) -> Keys:
        """The keys that were given, or are known of the exchange; with the statements that it publishes."""
        trusted = keys or self._connection.keys()
        if not follow_keys:
            return trusted
        from exchange.audit import succession

        try:
            published = self._connection.fetch(f"/audit/{succession.PATH}", succession.MAX_BYTES)
        except errors.NotFound:
            return trusted
        return replace(trusted, log_statements=published.decode("utf-8", "replace"))

    def _verified(self, reader: _Published, trusted: Keys, **options: Any) -> LogReport:
        """The report of the log's verification, by the keys that statements lead to."""
        from exchange.audit.errors import CryptographyMissing
        from exchange.audit.verify import verify_log

        try:
            return verify_log(reader, origin=trusted.origin, keys=verdicts.log_keys(trusted), **options)
        except CryptographyMissing:
            raise errors.missing("cryptography", "verify", "checking signatures") from None
        except errors.VerificationFailed as broken:
            return _broken(broken, trusted.origin)

    def _books(self, documents: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
        from exchange.audit.verify import verify_journals

        wanted = sorted({one["money"]["journal"] for one in documents if one["money"]} - {None})
        digests = self._digests(wanted) if wanted else {}
        return verify_journals(documents, digests.get)

    def _digests(self, journals: list[str]) -> dict[str, str]:
        found = self._connection.get("/v1/audit/journals", ids=",".join(journals))
        return read(_journal_digests, found)


class _Published:
    """A log's public files over HTTP, in the shape that the verifier reads."""

    def __init__(self, connection: Connection, checkpoint: str | None) -> None:
        self._connection = connection
        self._checkpoint = checkpoint

    def read(self, path: str) -> bytes | None:
        """The file's bytes, or None where there is none. Raises Malformed for what no file of a log has."""
        from exchange.audit.errors import Malformed
        from exchange.audit.tiles import MAX_FILE_BYTES

        if path == "checkpoint" and self._checkpoint is not None:
            return self._checkpoint.encode()
        try:
            data = self._connection.fetch(f"/audit/{path}", MAX_FILE_BYTES)
        except errors.NotFound:
            return None
        if len(data) > MAX_FILE_BYTES:
            raise Malformed(f"{path} is larger than any file of a log.")
        return data


def _entries(page: Mapping[str, Any]) -> list[Entry]:
    return [Entry.from_document(item) for item in page["items"]]


def _journal_digests(found: Mapping[str, Any]) -> dict[str, str]:
    """Of the texts that were sent: the digests beside them are the exchange's word alone."""
    items = found["items"].items()
    return {journal: hashlib.sha256(item["text"].encode()).hexdigest() for journal, item in items}


def _time(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def verify_evidence(
    path: str | Path, keys: Keys, *, witnesses: Sequence[str] = (), witnesses_required: int | None = None
) -> LogReport:
    """Check a file of evidence against the exchange's public keys, without a connection."""
    from exchange.audit import evidence
    from exchange.audit.errors import CryptographyMissing

    try:
        return evidence.verify_evidence(
            path,
            origin=keys.origin,
            keys=verdicts.log_keys(keys),
            receipt_keys=[keys.receipt_key],
            witnesses=witnesses,
            required=_required(witnesses, witnesses_required),
        )
    except CryptographyMissing:
        raise errors.missing("cryptography", "verify", "checking signatures") from None
    except errors.VerificationFailed as broken:
        return _broken(broken, keys.origin)
    except OSError as error:
        raise errors.InvalidRequest(
            f"{path} cannot be read: {error.strerror}", hint="Check the path."
        ) from None


def _required(witnesses: Sequence[str], required: int | None) -> int:
    return len(witnesses) if required is None else required


def _broken(failed: errors.VerificationFailed, origin: str) -> LogReport:
    """The report that the chain of keys cannot be followed."""
    from exchange.audit.verify import Finding, LogReport

    return LogReport(failed.exit_code, (Finding(failed.exit_code, str(failed)),), origin)


def _format_of(path: Path) -> str:
    """The format that the ending of a file's name stands for; the longest ending that fits."""
    endings = {f".{form.suffix}": name for name, form in FORMATS.items()} | {f".{EVIDENCE_SUFFIX}": EVIDENCE}
    found = [ending for ending in endings if path.name.lower().endswith(ending)]
    if not found:
        raise errors.InvalidRequest(
            f"the name {path.name} does not say in which format to write",
            hint=f"Give the format, or one of these endings: {', '.join(sorted(endings))}.",
        )
    return endings[max(found, key=len)]


def _failed(message: str, exit_code: int) -> errors.VerificationFailed:
    failed = errors.VerificationFailed(message, details={"exit_code": exit_code})
    failed.exit_code = exit_code
    return failed
