"""The officer's pages: the log, one entry with its dossier and proof, the privacy domains."""

from __future__ import annotations

from typing import Any

from flask import render_template, request

from exchange.errors import NotFound
from exchange.identity import Actor, Role
from exchange.operations import auditing, saved_searches
from exchange.operations.receipting import newest_checkpoint
from exchange.web.api.audit import streamed
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, visitor_page

FORMATS = (
    ("csv", "CSV, for a spreadsheet"),
    ("parquet", "Parquet, with types"),
    ("jsonl", "JSON lines, with proofs"),
    ("evidence", "Evidence (zip), for a regulator"),
    ("ocsf", "OCSF, for a SIEM"),
    ("cef", "CEF, for a SIEM"),
)
_DOMAINS = 20
_READERS = (Role.OFFICER, Role.OPERATOR)


@portal.get("/officer")
@visitor_page(*_READERS)
def log_page(visitor: Actor) -> Any:
    """Search the log; the newest checkpoint and the domains stand beside it."""
    filters = {
        name: request.args[name].strip() for name in auditing.FILTERS if request.args.get(name, "").strip()
    }
    found = auditing.search(market(), visitor, filters, limit=50, page_token=request.args.get("page"))
    domains = auditing.domains(market(), visitor, limit=_DOMAINS)
    return render_template(
        "log.html",
        found=found,
        filters=filters,
        domains=domains["items"],
        more_domains=domains["next_page_token"] is not None,
        saved=market().store.read(lambda session: saved_searches.of_owner(session, visitor)),
        checkpoint=newest_checkpoint(market()),
        formats=FORMATS,
    )


@portal.post("/officer/exports")
@visitor_page(*_READERS)
def export_log(visitor: Actor) -> Any:
    """The entries that the page's filters find, as a file; exporting is itself an entry."""
    filters = {name: text for name in auditing.FILTERS if (text := form(name).strip())}
    return streamed(market(), visitor, form("format"), filters)


@portal.get("/officer/entries/<entry_id>")
@visitor_page(*_READERS)
def entry_page(visitor: Actor, entry_id: str) -> Any:
    """One entry: what stood behind it, and its proof."""
    entry = auditing.entry(market(), visitor, entry_id)
    try:
        proof = auditing.prove(market(), visitor, entry_id)
    except NotFound:
        proof = None
    journal = (entry["document"]["money"] or {}).get("journal")
    books = auditing.journals(market(), visitor, [journal])["items"].get(journal) if journal else None
    return render_template("entry.html", entry=entry, proof=proof, journal=journal, books=books)
