"""Providers' statements as PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.printing.pages import WIDTH, Cell, Column, Pages

if TYPE_CHECKING:
    from collections.abc import Mapping

_CATEGORIES = (
    ("refunded", "Returned to buyers, less the fee"),
    ("dispute", "Disputes"),
    ("platform", "Platform: other entries"),
    ("payout", "Paid out"),
    ("holdback", "Between payable and holdback"),
    ("other", "Other entries"),
)
_NAMES = {
    "earned": "Answer sold",
    "refunded": "Returned to the buyer",
    "payout": "Payout",
    "dispute": "Dispute",
    "platform": "Platform",
    "holdback": "Holdback",
    "other": "Other",
}


def statement_pdf(document: Mapping[str, Any], *, sha256: str, font_path: str = "") -> bytes:
    """The statement's pages. ``sha256`` is of its canonical JSON."""
    provider, issuer = document["provider"], document["issuer"]
    period = document["period"]
    title = "Provider statement"
    pages = Pages(
        document,
        title=f"{title} {document['id']}",
        foot=f"{issuer['legal_name']} · {title} {document['id']} · {provider['legal_name']}",
        issued_at=period["until"],
        country=provider["country"],
        font_path=font_path,
    )
    state = "provisional: the month is not over" if document["provisional"] else "final"
    facts = [("Period", f"{period['since'][:10]} – {period['last_day']}"), ("Currency", document["currency"])]
    pages.opening(title, document["id"], [*facts, ("State", state)])
    pages.parties(("Issued by", _party(issuer)), ("Provider", _party(provider)))
    _summary(pages, document)
    _listings(pages, document)
    _lines(pages, document)
    pages.small_print(
        [
            "Amounts are the ledger's; each line names its entry, and each answer sold the receipt of its "
            "query. The same statement as JSON has the SHA-256",
            sha256,
        ]
    )
    return pages.finished()


def _party(party: Mapping[str, Any]) -> list[str]:
    tax = [f"Tax ID {party['tax_id']}"] if party["tax_id"] else []
    return [
        line for line in (party["legal_name"], *party["address"].split("\n"), party["country"]) if line
    ] + tax


def _summary(pages: Pages, document: Mapping[str, Any]) -> None:
    totals, currency = document["totals"], document["currency"]
    rows = [("Opening balance", document["opening"]["total"])]
    rows += [("Buyers paid", totals["gross"]), ("Platform fee", _negative(totals["fees"]))]
    rows += [(name, totals[key]) for key, name in _CATEGORIES if key in totals and not _zero(totals[key])]
    pages.heading("Balance")
    pages.amounts(
        [(name, f"{amount} {currency}") for name, amount in rows],
        ("Closing balance", f"{document['closing']['total']} {currency}"),
    )
    closing = document["closing"]
    pages.notes(
        [
            f"Of the closing balance {closing['payable']} {currency} is payable and {closing['holdback']} "
            f"{currency} is held back; {_negative(closing['clawback'])} {currency} is owed by the provider."
        ]
    )
    pages.ln(4)


def _listings(pages: Pages, document: Mapping[str, Any]) -> None:
    if not document["listings"]:
        return
    pages.heading("By listing")
    columns = _columns(("Dataset", "Answers", "Buyers paid", "Fee", "Earned"), (0.0, 20.0, 27.0, 27.0, 27.0))
    pages.table(
        columns,
        [
            [Cell(str(one[name])) for name in ("dataset", "answers", "gross", "fee", "net")]
            for one in document["listings"]
        ],
    )


def _lines(pages: Pages, document: Mapping[str, Any]) -> None:
    pages.heading("Entries")
    columns = _columns(("Date", "Entry", "Buyers paid", "Fee", "Change"), (20.0, 0.0, 22.0, 17.0, 20.0), 1)
    rows = []
    for line in document["lines"]:
        sold = line["category"] in ("earned", "refunded")
        about = " · ".join(filter(None, (_NAMES[line["category"]], line.get("dataset"))))
        below = " · ".join(filter(None, (line.get("query"), line["journal"])))
        shown = (line["gross"] if sold else "", line["fee"] if sold else "", line["net"])
        rows.append([Cell(line["recorded_at"][:10]), Cell(about, below), *map(Cell, shown)])
    pages.table(columns, rows)


def _columns(headings: tuple[str, ...], widths: tuple[float, ...], left: int = 0) -> list[Column]:
    """Columns of which the one of width 0 takes the rest; those after ``left`` are numbers."""
    rest = WIDTH - sum(widths)
    return [
        Column(heading, width or rest, "R" if number > left else "L")
        for number, (heading, width) in enumerate(zip(headings, widths, strict=True))
    ]


def _negative(amount: str) -> str:
    """The amount with the other sign."""
    return amount if _zero(amount) else amount[1:] if amount.startswith("-") else f"-{amount}"


def _zero(amount: str) -> bool:
    return not amount.strip("-0.")
