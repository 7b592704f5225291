"""Licences in the SDK: what one allows, its versions, templates; acceptances with receipts and signatures."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.audit.errors import CryptographyMissing
from exchange.client import errors, html
from exchange.client.connection import Connection, read
from exchange.client.verdicts import failed, good, known_keys, log_keys, proof_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.audit.receipts import ReceiptReport
    from exchange.client.configuration import Keys

DATASPACE = 'application/ld+json; profile="https://w3id.org/dspace/2025/1"'


@dataclass(frozen=True)
class Licence:
    """A licence version: the text for people, the terms that the exchange evaluates, and their hashes.

    ``in_words`` says the terms, a sentence each; ``odrl`` is the same as an ODRL 2.2 policy.
    """

    id: str
    title: str
    text: str
    text_sha256: str
    terms: dict[str, Any]
    odrl: dict[str, Any]
    odrl_sha256: str
    version: int = 0
    in_words: tuple[str, ...] = ()
    withdrawn_at: str | None = None
    approved_at: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Licence:
        """Read the licence of a dataset's description."""
        return cls(
            id=str(document["id"]),
            title=str(document.get("title") or ""),
            text=document["text"],
            text_sha256=document["text_sha256"],
            terms=dict(document.get("terms") or {}),
            odrl=dict(document.get("odrl") or {}),
            odrl_sha256=str(document.get("odrl_sha256") or ""),
            version=int(document.get("version") or 0),
            in_words=tuple(document.get("in_words") or ()),
            withdrawn_at=document.get("withdrawn_at"),
            approved_at=document.get("approved_at"),
        )

    def _repr_html_(self) -> str:
        return f"<h4>{html.escape(self.title)}</h4><pre>{html.escape(self.text)}</pre>"


@dataclass(frozen=True)
class LicenceChange:
    """One difference between two versions: the term, a sentence, and whether it asks to accept anew."""

    term: str
    material: bool
    says: str

    def __str__(self) -> str:
        return f"{self.says} ({'material' if self.material else 'not material'})"


@dataclass(frozen=True)
class LicenceDiff:
    """What one licence version changes against another; ``material`` where any change is."""

    old: str
    new: str
    material: bool
    changes: tuple[LicenceChange, ...]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> LicenceDiff:
        """Read a difference."""
        changes = tuple(LicenceChange(**one) for one in document["changes"])
        return cls(document["from"]["id"], document["to"]["id"], bool(document["material"]), changes)


@dataclass(frozen=True)
class Template:
    """A licence to start from: name it in ``listing.toml`` as ``template``, or copy its text and terms."""

    name: str
    title: str
    about: str
    text: str
    terms: dict[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Template:
        """Read a template."""
        return cls(**{name: document[name] for name in ("name", "title", "about", "text", "terms")})


class Licences:
    """Licences of providers, and acceptances of buyers: ``x.licences``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def templates(self) -> list[Template]:
        """The licences to start from."""
        items = self._connection.get("/v1/licences/templates")["items"]
        return [read(Template.from_document, item) for item in items]

    def template(self, name: str) -> Template:
        """One licence to start from. Raises ``NotFound``."""
        return read(Template.from_document, self._connection.get(f"/v1/licences/templates/{name}"))

    def show(self, licence: str) -> Licence:
        """A licence version by its id: one's own, or one that one's organisation accepted."""
        return read(Licence.from_document, self._connection.get(f"/v1/licences/{licence}"))

    def check(self, terms: Mapping[str, Any], *, title: str = "", text: str = "") -> dict[str, Any]:
        """What a licence of these terms would say: ``in_words``, ``terms``, ``odrl``. Nothing is stored.

        ``terms`` may name a ``template``, or hold an ODRL policy as ``odrl``. Raises ``InvalidRequest``
        naming what is unknown or broken.
        """
        body = {"terms": dict(terms), "title": title, "text": text}
        return dict(self._connection.post("/v1/licences/check", body))

    def approve(self, licence: str, *, idempotency_key: str | None = None) -> Licence:
        """Approve a version that somebody else wrote; an exchange may ask for that before it is offered."""
        made = self._connection.post(f"/v1/licences/{licence}/approve", {}, key=idempotency_key)
        return read(Licence.from_document, made)

    def withdraw(self, licence: str, *, reason: str, idempotency_key: str | None = None) -> Licence:
        """Stop every new use of a version at once; what runs ends under it."""
        body = {"reason": reason}
        made = self._connection.post(f"/v1/licences/{licence}/withdraw", body, key=idempotency_key)
        return read(Licence.from_document, made)

    def acceptance(self, acceptance: str) -> Acceptance:
        """An acceptance of one's own organisation by its id."""
        document = self._connection.get(f"/v1/acceptances/{acceptance}")
        return read(Acceptance.from_document, document, self._connection)


@dataclass(frozen=True)
class Acceptance:
    """What an organisation accepted. ``digest`` fixes all of it in the log; ``to_sign`` is what its own
    signature is over; ``document`` is all that is said of it.
    """

    id: str
    licence: str
    role: str
    purposes: tuple[str, ...]
    territory: str
    accepted_at: str
    digest: str
    to_sign: bytes
    signature: dict[str, str] | None
    document: dict[str, Any] = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Acceptance:
        """Read an acceptance."""
        return cls(
            id=document["acceptance"],
            licence=document["licence_id"],
            role=document["role"],
            purposes=tuple(document["purposes"]),
            territory=document["territory"],
            accepted_at=document["accepted_at"],
            digest=document["digest"],
            to_sign=document["to_sign"].encode(),
            signature=document.get("signature"),
            document=dict(document),
            _connection=connection,
        )

    def sign(
        self, *, algorithm: str, public_key: str, signature: str, idempotency_key: str | None = None
    ) -> Acceptance:
        """Add the organisation's own signature over ``to_sign``: ``Ed25519`` or ``ES256``, all in base64."""
        body = {"algorithm": algorithm, "public_key": public_key, "signature": signature}
        made = self._connection.post(f"/v1/acceptances/{self.id}/signature", body, key=idempotency_key)
        return read(Acceptance.from_document, made, self._connection)

    def receipt(self) -> AcceptanceReceipt:
        """Its receipt, with the inclusion proof once the log has taken it in."""
        document = self._connection.get(f"/v1/acceptances/{self.id}/receipt")
        return AcceptanceReceipt(dict(document), self._connection, self.id)

    def agreement(self) -> dict[str, Any]:
        """As an Agreement of the Dataspace Protocol 2025-1."""
        reply = self._connection.send("GET", f"/v1/acceptances/{self.id}", headers={"Accept": DATASPACE})
        return dict(reply.json())


@dataclass(frozen=True)
class AcceptanceReceipt:
    """The receipt of an acceptance: what was accepted, and the signed promise that the log holds its hash."""

    document: dict[str, Any] = field(repr=False)
    _connection: Connection | None = field(default=None, repr=False, compare=False)
    acceptance: str = ""

    @property
    def accepted(self) -> dict[str, Any]:
        """What was accepted: licence, who, for whom, in which role, purposes, territory, what was shown."""
        return dict(json.loads(self.document["acceptance"]))

    @property
    def included(self) -> bool:
        """Whether it carries the proof that its entry is in the log; until then it is a promise."""
        return (self.document.get("receipt") or {}).get("inclusion") is not None

    def save(self, path: str | Path) -> Path:
        """Write it to a file, which ``exchange receipt verify FILE`` checks; returns its path."""
        target = Path(path)
        text = json.dumps(self.document, indent=2, sort_keys=True, ensure_ascii=False)
        target.write_text(text + "\n", encoding="utf-8")
        return target

    def tlog_proof(self) -> bytes:
        """The proof that it carries, as a file of c2sp.org/tlog-proof; ``NotFound`` while it has none."""
        return proof_file(self.document)

    def verify(
        self,
        *,
        keys: Keys | None = None,
        licence_text: str | None = None,
        now: datetime.datetime | None = None,
    ) -> ReceiptReport:
        """Check log receipt, acceptance and the buyer's signature, and that it is the receipt of
        ``acceptance``, where it was asked for one; no network but for the keys.

        Args:
            keys: the exchange's public keys; else those of the profile, else those that it publishes.
            licence_text: the text that was accepted, to be held against the hash of what was shown.
            now: the time to judge the promise by.

        Raises:
            VerificationFailed: with the finding and ``exit_code`` 10 to 16.
            MissingDependency: ``cryptography`` is not installed.
        """
        from exchange.audit.acceptances import verify_acceptance

        trusted = keys or known_keys(self._connection)
        try:
            report = verify_acceptance(
                self.document,
                receipt_keys=[trusted.receipt_key],
                log_keys=log_keys(trusted),
                origin=trusted.origin,
                now=now or datetime.datetime.now(datetime.UTC),
                licence_text=None if licence_text is None else licence_text.encode(),
            )
        except CryptographyMissing:
            raise errors.missing("cryptography", "verify", "checking signatures") from None
        good(report)
        if self.acceptance not in ("", self.accepted["id"]):
            text = f"the receipt is one of another acceptance: {self.accepted['id']}"
            raise failed(text, 11, [text])
        return report


def accept(
    connection: Connection,
    slug: str,
    licence: Licence,
    *,
    purposes: Sequence[str],
    territory: str,
    role: str,
    publishes: bool,
    key: str | None,
) -> Acceptance:
    """Accept the licence of a dataset by the hash of its text."""
    body = {
        "purposes": list(purposes),
        "territory": territory,
        "licence_sha256": licence.text_sha256,
        "role": role,
        "publishes": publishes,
    }
    made = connection.post(f"/v1/datasets/{slug}/licence/accept", body, key=key)
    return read(Acceptance.from_document, made, connection)
