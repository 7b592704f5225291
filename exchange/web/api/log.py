"""The public part: checkpoint, tiles and keys as static files (C2SP tlog-tiles), and what the exchange says
was spent, which these files prove or refute. No token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, jsonify, request, send_from_directory

from exchange.audit import single_file
from exchange.operations import disclosing
from exchange.web.api.body import asked, asks, page
from exchange.web.auth import market

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

log = Blueprint("log", __name__, url_prefix="/audit")


@log.get("/checkpoint")
def checkpoint() -> BaseResponse:
    """The newest signed checkpoint."""
    return _file("checkpoint", "text/plain; charset=utf-8", cache="no-cache")


@log.get("/key")
def key() -> BaseResponse:
    """The verifier key of the checkpoint's signature."""
    return _file("key", "text/plain; charset=utf-8", cache="no-cache")


@log.get("/keys")
def keys() -> BaseResponse:
    """Statements of how one key of the log followed another; 404 where none ever did."""
    return _file("keys", "text/plain; charset=utf-8", cache="no-cache")


@log.get("/receipt-key")
def receipt_key() -> BaseResponse:
    """The verifier key of receipts."""
    return Response(market().receipts.verifier_key, content_type="text/plain; charset=utf-8")


@log.get("/verify.py")
def verifier() -> BaseResponse:
    """The verifier as one file that needs no server; its ETag is its SHA-256 in hex."""
    reply = Response(single_file.source(), content_type="text/x-python; charset=utf-8")
    reply.set_etag(single_file.sha256())
    reply.headers["Cache-Control"] = "no-cache"
    reply.headers["Content-Disposition"] = "attachment; filename=verify.py"
    return reply.make_conditional(request)


@log.get("/tile/<path:path>")
def tile(path: str) -> BaseResponse:
    """A hash tile or an entry bundle; full ones never change."""
    lasting = ".p/" not in path
    return _file(
        f"tile/{path}",
        "application/octet-stream",
        cache="public, max-age=31536000, immutable" if lasting else "no-cache",
    )


@log.get("/spending")
@asks("limit", "page_token")
def spending() -> Response:
    """What every privacy domain has spent, as the books say; add it up from the log to check."""
    limit, token = page()
    return jsonify(disclosing.domains(market(), limit=limit, page_token=token))


@log.get("/spending/entries")
@asks("domain", "limit", "page_token")
def spending_entries() -> Response:
    """The entries that spent of one domain, newest first."""
    limit, token = page()
    return jsonify(disclosing.entries(market(), asked("domain") or "", limit=limit, page_token=token))


def _file(path: str, kind: str, *, cache: str) -> BaseResponse:
    folder = market().settings.log_path
    if not folder.is_dir():
        abort(404, "nothing has been published yet: the worker writes a checkpoint every few seconds")
    reply = send_from_directory(folder, path, mimetype=kind.split(";")[0])
    reply.headers["Cache-Control"] = cache
    return reply
