"""Invoices, statements and the ledger, as documents and as PDF."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read
from exchange.client.price import Price

if TYPE_CHECKING:
    from collections.abc import Mapping

_PDF = {"Accept": "application/pdf"}


@dataclass(frozen=True)
class Invoice:
    """An invoice, credit note or payment receipt; ``kind`` is "invoice", "credit_note" or "receipt".

    ``sha256`` is of the document's canonical JSON, and is printed on the PDF.
    """

    id: str
    kind: str
    number: str
    issued_at: str
    net: Price
    tax: Price
    gross: Price
    sha256: str
    _connection: Connection = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Invoice:
        """Read an invoice's summary."""
        return cls(
            id=document["invoice"],
            kind=document["kind"],
            number=document["number"],
            issued_at=document["issued_at"],
            net=Price.from_document(document["net"]),
            tax=Price.from_document(document["tax"]),
            gross=Price.from_document(document["gross"]),
            sha256=document["sha256"],
            _connection=connection,
        )

    def document(self) -> dict[str, Any]:
        """The document as it was issued: parties, lines with their ledger entries, tax, totals."""
        return dict(self._connection.get(f"/v1/invoices/{self.id}")["document"])

    def pdf(self, path: str | Path) -> Path:
        """Write the document as PDF; returns its path."""
        return _written(self._connection, f"/v1/invoices/{self.id}", path)

    def _repr_html_(self) -> str:
        names = ("number", "kind", "issued_at", "net", "tax", "gross")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Invoice")


@dataclass(frozen=True)
class Statement:
    """A provider's month in one currency: what it opened and closed with. ``id`` is such as "2026-11-USD"."""

    id: str
    currency: str
    opening: Decimal
    closing: Decimal
    provisional: bool
    provider: str
    _connection: Connection = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Statement:
        """Read a statement's summary."""
        return cls(
            id=document["statement"],
            currency=document["currency"],
            opening=Decimal(str(document["opening"])),
            closing=Decimal(str(document["closing"])),
            provisional=bool(document["provisional"]),
            provider=document["provider"],
            _connection=connection,
        )

    def document(self) -> dict[str, Any]:
        """The whole statement: balances, totals, listings, and each entry with its query."""
        return dict(self._connection.get(f"/v1/statements/{self.id}", org=self.provider)["document"])

    def pdf(self, path: str | Path) -> Path:
        """Write the statement as PDF; returns its path."""
        return _written(self._connection, f"/v1/statements/{self.id}", path, org=self.provider)

    def _repr_html_(self) -> str:
        names = ("id", "provider", "currency", "opening", "closing", "provisional")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Statement")


class Ledger:
    """The ledger from outside: all of it for operators and officers, the own accounts for everybody else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def trial_balance(self, *, until: str | None = None) -> dict[str, Any]:
        """Debits, credits and balance of each account; ``until`` (ISO 8601): as the books were then."""
        return dict(self._connection.get("/v1/ledger/trial-balance", until=until))

    def statement(
        self, account: str, *, since: str | None = None, until: str | None = None
    ) -> dict[str, Any]:
        """One account's postings with the running balance. Raises ``NotFound``."""
        return dict(self._connection.get("/v1/ledger/statement", account=account, since=since, until=until))

    def export(self, path: str | Path) -> Path:
        """Write the whole ledger as Beancount text, for ``bean-check``; returns its path."""
        target = Path(path)
        target.write_bytes(self._connection.send("GET", "/v1/ledger/export").content)
        return target


def invoices(connection: Connection) -> list[Invoice]:
    """The latest documents, newest first."""
    items = connection.get("/v1/invoices")["items"]
    return [read(Invoice.from_document, item, connection) for item in items]


def issue(connection: Connection, org: str | None, key: str | None) -> list[Invoice]:
    """Issue what is due; returns the new documents."""
    items = connection.post("/v1/invoices", {} if org is None else {"org": org}, key=key)["items"]
    return [read(Invoice.from_document, item, connection) for item in items]


def invoice(connection: Connection, invoice_id: str) -> Invoice:
    """One document by id or number."""
    return read(Invoice.from_document, connection.get(f"/v1/invoices/{invoice_id}"), connection)


def statements(connection: Connection, org: str | None) -> list[Statement]:
    """A provider's months, newest first."""
    items = connection.get("/v1/statements", org=org)["items"]
    return [read(Statement.from_document, item, connection) for item in items]


def statement(connection: Connection, statement_id: str, org: str | None) -> Statement:
    """One statement by its id."""
    found = connection.get(f"/v1/statements/{statement_id}", org=org)
    return read(Statement.from_document, found, connection)


def _written(connection: Connection, address: str, path: str | Path, **params: str | None) -> Path:
    given = {name: value for name, value in params.items() if value is not None}
    reply = connection.send("GET", address, headers=_PDF, params=given)
    target = Path(path)
    target.write_bytes(reply.content)
    return target
