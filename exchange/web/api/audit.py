"""The officer's half of the log: search, entries, proofs, the books behind them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.errors import RequestInvalid
from exchange.operations import auditing, dossiers
from exchange.web.api.body import asked, asks, page
from exchange.web.auth import actor, market

audit = Blueprint("audit", __name__, url_prefix="/v1/audit")

_MOST_JOURNALS = 500


@audit.get("/entries")
@asks(*auditing.FILTERS, "limit", "page_token")
def search() -> Response:
    """Search the log; searching is itself an entry."""
    limit, token = page()
    filters = {name: value for name in auditing.FILTERS if (value := asked(name))}
    return jsonify(auditing.search(market(), actor(), filters, limit=limit, page_token=token))


@audit.get("/entries/<entry_id>")
def entry(entry_id: str) -> Response:
    """One entry with everything its leaf says."""
    return jsonify(auditing.entry(market(), actor(), entry_id))


@audit.get("/entries/<entry_id>/proof")
def proof(entry_id: str) -> Response:
    """The entry's inclusion proof against the published checkpoint."""
    return jsonify(auditing.prove(market(), actor(), entry_id))


@audit.get("/journals")
@asks("ids")
def journals() -> Response:
    """The postings of journals by id, so that leaves can be held against the books."""
    ids = [part for part in (asked("ids") or "").split(",") if part]
    if len(ids) > _MOST_JOURNALS:
        raise RequestInvalid(f"at most {_MOST_JOURNALS} journals at once")
    return jsonify(auditing.journals(market(), actor(), ids))


@audit.get("/queries/<query_id>")
def query(query_id: str) -> Response:
    """Everything about one query: grant, clause, plan, privacy before and after, books, its life, proof."""
    return jsonify(dossiers.dossier(market(), actor(), query_id))


@audit.get("/domains")
def domains() -> Response:
    """Every privacy domain's lifetime account."""
    return jsonify(auditing.domains(market(), actor()))
