"""Invoices, credit notes and payment receipts as PDF, from the documents that were issued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.printing.pages import WIDTH, Cell, Column, Pages

if TYPE_CHECKING:
    from collections.abc import Mapping

_TITLES = {"invoice": "Invoice", "credit_note": "Credit note", "receipt": "Payment receipt"}
_UNTAXED = "ZZ"


def invoice_pdf(document: Mapping[str, Any], *, sha256: str, font_path: str = "") -> bytes:
    """The document's pages. ``sha256`` is of its canonical JSON, and is printed to check one by the other."""
    kind, number, seller, buyer = (document[name] for name in ("kind", "number", "seller", "buyer"))
    title = "Refund receipt" if document["returned"] else _TITLES[kind]
    pages = Pages(
        document,
        title=f"{title} {number}",
        foot=f"{seller['legal_name']} · {title} {number}",
        issued_at=document["issued_at"],
        country=buyer["country"],
        font_path=font_path,
    )
    pages.opening(title, number, _facts(document))
    pages.parties(("From", _party(seller)), ("To" if kind != "invoice" else "Billed to", _party(buyer)))
    _lines(pages, document)
    _totals(pages, document)
    pages.notes(_notes(document))
    pages.small_print(
        [
            "Each line names its entry in the exchange's ledger; the same document as JSON has the SHA-256",
            sha256,
        ]
    )
    return pages.finished()


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    first, last = document["period"]["first"], document["period"]["last"]
    facts = [("Date of issue", document["issued_at"][:10])]
    facts.append(("Date of supply", first if first == last else f"{first} – {last}"))
    if document["kind"] == "receipt":
        facts[1] = ("Date of payment", first)
    facts.append(("Currency", document["currency"]))
    if document["corrects"]:
        facts.append(("Corrects", document["corrects"]))
    if document["tax"] and document["tax"]["place_of_supply"] != _UNTAXED:
        facts.append(("Place of supply", document["tax"]["place_of_supply"]))
    return facts


def _party(party: Mapping[str, Any]) -> list[str]:
    tax = [f"Tax ID {party['tax_id']}"] if party["tax_id"] else []
    email = [party["email"]] if party["email"] else []
    return [party["legal_name"], *party["address"].split("\n"), party["country"], *tax, *email]


def _lines(pages: Pages, document: Mapping[str, Any]) -> None:
    taxed = bool(document["tax"] and document["tax"]["rate_basis_points"])
    amounts = ("Net", "Total") if taxed else ("Amount",)
    widths = [9.0, 21.0, 0.0, *[24.0] * len(amounts)]
    widths[2] = WIDTH - sum(widths)
    headings = ("#", "Date", "Description", *amounts)
    columns = [
        Column(heading, width, "R" if number > 2 else "L")
        for number, (heading, width) in enumerate(zip(headings, widths, strict=True))
    ]
    rows = []
    for line in document["lines"]:
        shown = [line["net"], line["gross"]] if taxed else [line["gross"]]
        below = " · ".join(filter(None, (line.get("query"), line["journal"])))
        rows.append(
            [
                Cell(str(line["position"])),
                Cell(line["recorded_at"][:10]),
                Cell(line["description"], below),
                *map(Cell, shown),
            ]
        )
    pages.table(columns, rows)


def _totals(pages: Pages, document: Mapping[str, Any]) -> None:
    totals, currency, tax = document["totals"], document["currency"], document["tax"]
    rows = []
    if tax is not None:
        rows = [("Net", f"{totals['net']} {currency}")]
        rate = percent(tax["rate_basis_points"])
        rows.append((f"{tax['label']} {rate}", f"{totals['tax']} {currency}"))
    words = {"invoice": "Total", "credit_note": "Total credited", "receipt": "Received"}[document["kind"]]
    words = "Returned" if document["returned"] else words
    pages.amounts(rows, (words, f"{totals['gross']} {currency}"))


def _notes(document: Mapping[str, Any]) -> list[str]:
    note = document["tax"]["note"] if document["tax"] else ""
    if document["kind"] == "invoice":
        return [note, "Paid in full from the prepaid balance: nothing is due."]
    if document["kind"] == "credit_note":
        corrected = f" It corrects invoice {document['corrects']}." if document["corrects"] else ""
        return [note, f"The amount was returned to the prepaid balance.{corrected}"]
    paid = "was returned from" if document["returned"] else "was added to"
    return [f"The amount {paid} the prepaid balance. This is no invoice: its use is invoiced."]


def percent(basis_points: int) -> str:
    """Hundredths of a percent as text: 2000 -> "20%", 725 -> "7.25%"."""
    whole, hundredths = divmod(basis_points, 100)
    return f"{whole}.{hundredths:02d}".rstrip("0").rstrip(".") + "%"
