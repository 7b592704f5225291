"""Receipts in the buyer's hands: save them, check them offline, fetch the inclusion proof."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.audit.errors import CryptographyMissing
from exchange.client import errors, html
from exchange.client.verdicts import failed, good, known_keys, log_keys, proof_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.audit.receipts import ReceiptReport
    from exchange.client.configuration import Keys
    from exchange.client.connection import Connection
    from exchange.client.licences import AcceptanceReceipt

_SHOWN = (
    "query_id",
    "dataset",
    "purpose",
    "rho_nano",
    "delta_pico",
    "amount_minor",
    "currency",
    "result_sha256",
)
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Receipt:
    """A signed promise that the answer's entry is, or soon will be, in the log; ``document`` is all of it."""

    document: dict[str, Any] = field(repr=False)
    query: str = ""
    _connection: Connection | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Receipt:
        """Read a saved receipt. Raises :class:`~exchange.client.errors.VerificationFailed` if it is none."""
        data = Path(path).read_bytes()
        try:
            document = json.loads(data) if len(data) <= _LARGEST else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise failed(f"{path} is not a receipt: it is not a JSON object of at most 1 MiB", 15)
        summary = document.get("summary")
        query = summary.get("query_id") if isinstance(summary, dict) else ""
        return cls(document, str(query or ""))

    @property
    def of_acceptance(self) -> AcceptanceReceipt | None:
        """The receipt of a licence acceptance, if this document is one and not that of an answer."""
        from exchange.audit.acceptances import is_acceptance
        from exchange.client.licences import AcceptanceReceipt

        return AcceptanceReceipt(self.document, self._connection) if is_acceptance(self.document) else None

    @property
    def included(self) -> bool:
        """Whether the receipt carries the proof that its entry is in the log; until then it is a promise."""
        return self.document.get("inclusion") is not None

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the entry says: dataset, purpose, privacy spent, charge, hashes."""
        of_log = self.document.get("receipt", self.document)  # within that of an acceptance
        found = of_log.get("summary") if isinstance(of_log, dict) else None
        return found if isinstance(found, dict) else {}

    def save(self, path: str | Path) -> Path:
        """Write the receipt to a file, which ``exchange receipt verify FILE`` checks; returns its path."""
        target = Path(path)
        text = json.dumps(self.document, indent=2, sort_keys=True, ensure_ascii=False)
        target.write_text(text + "\n", encoding="utf-8")
        return target

    def tlog_proof(self) -> bytes:
        """The proof that it carries, as a file of c2sp.org/tlog-proof; ``NotFound`` while it has none."""
        return proof_file(self.document)

    def refresh(self) -> Receipt:
        """The receipt as the exchange gives it now: with the inclusion proof, seconds after the answer."""
        if self._connection is None or not self.query:
            raise errors.ConfigurationError(
                "a receipt from a file has no exchange to ask; use x.receipt(query)"
            )
        document = self._connection.get(f"/v1/queries/{self.query}/receipt")
        if not isinstance(document, dict):
            raise errors.ServerError("the exchange's reply is not a receipt", code="unexpected_reply")
        return Receipt(document, self.query, self._connection)

    def verify(
        self, *, keys: Keys | None = None, result: bytes | None = None, now: datetime.datetime | None = None
    ) -> ReceiptReport:
        """Check signature, leaf, summary, that it is the receipt of ``query``, and, once included, the
        inclusion proof; no network but for the keys.

        Args:
            keys: the exchange's public keys, from a source that you trust. Without them those of the profile
                are used, and where it has none, those that the exchange publishes (fetched once per client).
            result: the delivered Arrow bytes, to be held against the receipt's hash.
            now: the time to judge the promise by.

        Raises:
            VerificationFailed: with the finding and ``exit_code`` 10 to 16, ``details["findings"]``.
            MissingDependency: ``cryptography`` is not installed.
        """
        from exchange.audit.receipts import verify_receipt

        trusted = keys or known_keys(self._connection)
        try:
            report = verify_receipt(
                self.document,
                receipt_keys=[trusted.receipt_key],
                log_keys=log_keys(trusted),
                origin=trusted.origin,
                now=now or datetime.datetime.now(datetime.UTC),
                result=result,
            )
        except CryptographyMissing:
            raise errors.missing("cryptography", "verify", "checking signatures") from None
        good(report)
        if self.query and self.summary.get("query_id") != self.query:
            text = f"the receipt is one of another query: {self.summary.get('query_id')}"
            raise failed(text, 11, [text])
        return report

    def _repr_html_(self) -> str:
        state = "in the log" if self.included else "promised"
        return html.facts([(n, self.summary.get(n)) for n in _SHOWN], caption=f"Receipt ({state})")
