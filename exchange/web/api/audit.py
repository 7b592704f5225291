"""The officer's half of the log: search, entries, proofs, exports, the books behind them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify

from exchange.errors import RequestInvalid
from exchange.operations import auditing, dossiers, exporting
from exchange.web.api.body import asked, asks, body, page, takes
from exchange.web.auth import actor, market

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market

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


@audit.post("/exports")
@takes({"format": str, **dict.fromkeys(auditing.FILTERS, str)}, required=("format",))
def export() -> Response:
    """Entries as a file: csv, parquet, jsonl with proofs, ocsf, cef; exporting is itself an entry."""
    asked_for = body()
    filters = {name: asked_for[name] for name in auditing.FILTERS if asked_for.get(name)}
    return streamed(market(), actor(), asked_for["format"], filters)


def streamed(at: Market, who: Actor, form: str, filters: dict[str, str]) -> Response:
    """An export on its way out: it ends, and its place is free again, when the client has it or is gone."""
    stack = contextlib.ExitStack()
    with stack:
        export = stack.enter_context(exporting.exported(at, who, form, filters))
        reply = Response(export.chunks, content_type=export.media_type)
        reply.headers.set("Content-Disposition", "attachment", filename=f"audit-log.{export.suffix}")
        reply.headers["X-Entries"] = str(export.entries)
        if export.length is not None:
            reply.content_length = export.length
        reply.call_on_close(stack.pop_all().close)
    return reply


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
    return jsonify({"items": auditing.domains(market(), actor())["items"]})
