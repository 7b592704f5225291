"""The published log: checkpoint, tiles and keys as static files (C2SP tlog-tiles). Public, no token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, send_from_directory

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


@log.get("/receipt-key")
def receipt_key() -> BaseResponse:
    """The verifier key of receipts."""
    return Response(market().receipts.verifier_key, content_type="text/plain; charset=utf-8")


@log.get("/tile/<path:path>")
def tile(path: str) -> BaseResponse:
    """A hash tile or an entry bundle; full ones never change."""
    lasting = ".p/" not in path
    return _file(
        f"tile/{path}",
        "application/octet-stream",
        cache="public, max-age=31536000, immutable" if lasting else "no-cache",
    )


def _file(path: str, kind: str, *, cache: str) -> BaseResponse:
    folder = market().settings.log_path
    if not folder.is_dir():
        abort(404, "nothing has been published yet: the worker writes a checkpoint every few seconds")
    reply = send_from_directory(folder, path, mimetype=kind.split(";")[0])
    reply.headers["Cache-Control"] = cache
    return reply
