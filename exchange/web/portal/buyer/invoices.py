"""Invoices, credit notes and payment receipts, and who they name."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, redirect, render_template, url_for

from exchange.identity import Actor, Role
from exchange.operations import billing, invoicing
from exchange.store import REFUSALS
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.buyer.forms import kept, key_of
from exchange.web.portal.pages import LARGEST_FORM, downloaded, form, takes, visitor_page

_FIELDS = ("legal_name", "address", "country", "tax_id", "email")


@portal.get("/invoices")
@visitor_page(Role.BUYER)
def invoices_page(visitor: Actor) -> str:
    """The organisation's documents, newest first, and who they are made out to."""
    return render_template("buyer/invoices.html", **_values(visitor))


@portal.post("/invoices")
@visitor_page(Role.BUYER)
def issue_invoice(visitor: Actor) -> Any:
    """Issue what is due now instead of at the end of the month."""
    try:
        made = invoicing.issue(market(), visitor)["items"]
    except REFUSALS as refusal:
        return kept(refusal, "buyer/invoices.html", **_values(visitor))
    return redirect(url_for("portal.invoices_page", issued=len(made)))


@portal.post("/invoices/profile")
@takes(Role.BUYER, lambda: LARGEST_FORM, kept=True)
@visitor_page(Role.BUYER)
def set_billing_profile(visitor: Actor) -> Any:
    """Set who invoices are made out to from now on."""
    given = {name: form(name, 1000).strip().replace("\r\n", "\n") for name in _FIELDS}
    try:
        billing.set_profile(market(), visitor, given, key=key_of("billing", *given.values()))
    except REFUSALS as refusal:
        at = getattr(refusal, "path", "")
        return kept(refusal, "buyer/invoices.html", at=at, **{**_values(visitor), "profile": given})
    return redirect(url_for("portal.invoices_page"))


@portal.get("/invoices/<invoice_id>")
@visitor_page(Role.BUYER)
def invoice_page(visitor: Actor, invoice_id: str) -> str:
    """One document as it was issued."""
    found = invoicing.show(market(), visitor, invoice_id)
    return render_template("buyer/invoice.html", found=found, document=found["document"])


@portal.get("/invoices/<invoice_id>.pdf")
@visitor_page(Role.BUYER)
def invoice_pdf(visitor: Actor, invoice_id: str) -> Response:
    """The document's pages."""
    return downloaded(invoicing.as_pdf(market(), visitor, invoice_id), "application/pdf", f"{invoice_id}.pdf")


@portal.get("/invoices/<invoice_id>.json")
@visitor_page(Role.BUYER)
def invoice_json(visitor: Actor, invoice_id: str) -> Response:
    """The document for machines, as it was issued."""
    text = json.dumps(invoicing.show(market(), visitor, invoice_id), indent=2, ensure_ascii=False)
    return downloaded(text, "application/json", f"{invoice_id}.json")


def _values(visitor: Actor) -> dict[str, Any]:
    return {
        "found": invoicing.invoices_of(market(), visitor)["items"],
        "profile": billing.show_profile(market(), visitor),
    }
