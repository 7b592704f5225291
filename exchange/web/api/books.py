"""The books: invoices, statements, billing profiles, and the ledger from outside."""

from __future__ import annotations

import io
import tempfile

from flask import Blueprint, Response, jsonify, request, send_file

from exchange.errors import RequestInvalid
from exchange.operations import billing, bookkeeping, invoicing, stating
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, takes
from exchange.web.auth import actor, market

books = Blueprint("books", __name__, url_prefix="/v1")

_PDF = "application/pdf"
_PROFILE = {"legal_name": str, "address": str, "country": str, "tax_id": str, "email": str}


@books.get("/billing-profile")
def profile() -> Response:
    """Who the organisation is on its invoices; for an operator, who the exchange is."""
    return jsonify(billing.show_profile(market(), actor()))


@books.post("/billing-profile")
@takes(_PROFILE, required=("legal_name", "address", "country"))
@keyed
def set_profile() -> Response:
    """Set legal name, address, country, tax id and e-mail for invoices from now on."""
    given = body()
    return jsonify(billing.set_profile(market(), actor(), given, key=idempotency_key()))


@books.get("/invoices")
def invoices() -> Response:
    """Invoices, credit notes and payment receipts, newest first."""
    return jsonify(invoicing.invoices_of(market(), actor()))


@books.post("/invoices")
@takes({"org": str})
def issue() -> tuple[Response, int]:
    """Issue what is due now; an operator may name the organisation."""
    given = body()
    return jsonify(invoicing.issue(market(), actor(), org=given.get("org"))), 201


@books.get("/invoices/<invoice_id>")
def invoice(invoice_id: str) -> Response:
    """One invoice, credit note or receipt by id or number, as JSON or PDF (Accept)."""
    if _wants_pdf():
        return _pdf(invoicing.as_pdf(market(), actor(), invoice_id), invoice_id)
    return jsonify(invoicing.show(market(), actor(), invoice_id))


@books.get("/statements")
@asks("org")
def statements() -> Response:
    """A provider's months, newest first; operators and officers name the provider (org)."""
    return jsonify(stating.statements_of(market(), actor(), org=asked("org")))


@books.get("/statements/<statement_id>")
@asks("org")
def statement(statement_id: str) -> Response:
    """One statement of a provider by its id, such as 2026-11-USD, as JSON or PDF (Accept)."""
    org = asked("org")
    if _wants_pdf():
        return _pdf(stating.as_pdf(market(), actor(), statement_id, org=org), statement_id)
    return jsonify(stating.show(market(), actor(), statement_id, org=org))


@books.get("/ledger/trial-balance")
@asks("until")
def trial_balance() -> Response:
    """Debits and credits of every account, or of the organisation's own; until: as the books were then."""
    return jsonify(bookkeeping.trial_balance(market(), actor(), until=asked("until")))


@books.get("/ledger/statement")
@asks("account", "since", "until")
def account_statement() -> Response:
    """The postings of one account, with the running balance."""
    account = asked("account")
    if not account:
        raise RequestInvalid("name the account: account=ID", hint="The trial balance lists their ids.")
    since, until = asked("since"), asked("until")
    return jsonify(bookkeeping.account_statement(market(), actor(), account, since=since, until=until))


@books.get("/ledger/export")
def export() -> Response:
    """The whole ledger as Beancount text, for operators and officers."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
    text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
    try:
        bookkeeping.export(market(), actor(), text)
    except BaseException:
        text.close()
        raise
    text.flush()
    text.detach()
    file.seek(0)
    return send_file(file, mimetype="text/plain", download_name="ledger.beancount")


def _wants_pdf() -> bool:
    return request.accept_mimetypes.best_match(("application/json", _PDF)) == _PDF


def _pdf(data: bytes, name: str) -> Response:
    reply = Response(data, mimetype=_PDF)
    reply.headers.set("Content-Disposition", "inline", filename=f"{name}.pdf")
    return reply
