"""Resumable uploads: the core of tus 1.0 with the creation extension (tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from exchange.errors import RequestInvalid
from exchange.operations import uploading
from exchange.web.auth import actor, market

if TYPE_CHECKING:
    from exchange.identity import Actor

uploads = Blueprint("uploads", __name__, url_prefix="/v1/uploads")

VERSION = {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store"}


@uploads.post("")
def create() -> Response:
    """Start an upload of a declared length."""
    made = uploading.start(market(), actor(), length=whole("Upload-Length"), name=file_name())
    return Response(status=201, headers={**VERSION, "Location": f"/v1/uploads/{made}", "Upload-Offset": "0"})


@uploads.route("/<upload>", methods=["HEAD"])
def offset(upload: str) -> Response:
    """How much has arrived."""
    state = uploading.state(market(), actor(), upload)
    headers = {**VERSION, "Upload-Offset": str(state.offset), "Upload-Length": str(state.length)}
    return Response(status=200, headers=headers)


@uploads.patch("/<upload>")
def append(upload: str) -> Response:
    """Append bytes at the offset that the server has; another offset is answered with 409."""
    request.max_content_length = market().settings.max_upload_bytes
    arrived = appended(actor(), upload)
    return Response(status=204, headers={**VERSION, "Upload-Offset": str(arrived)})


def appended(who: Actor, upload: str) -> int:
    """Append the request's body to an upload; returns how much is there then. Raises RequestInvalid, and what
    :func:`exchange.operations.uploading.append` raises.
    """
    if request.content_type != "application/offset+octet-stream":
        raise RequestInvalid("send Content-Type: application/offset+octet-stream")
    offset = whole("Upload-Offset")
    return uploading.append(market(), who, upload, offset=offset, stream=request.stream)


def whole(header: str) -> int:
    """A header that is a whole number. Raises RequestInvalid."""
    text = request.headers.get(header, "")
    if not text.isdecimal() or len(text) > 18:
        raise RequestInvalid(f"the header {header} must be a whole number")
    return int(text)


def file_name() -> str:
    """The ``filename`` of Upload-Metadata, for people only: it never becomes a path."""
    for pair in request.headers.get("Upload-Metadata", "").split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            try:
                name = base64.b64decode(value, validate=True).decode("utf-8")
                return printable(name)
            except (binascii.Error, UnicodeDecodeError):
                raise RequestInvalid("Upload-Metadata: filename is not base64 of UTF-8") from None
    return ""


def printable(name: str) -> str:
    """A file's name as it is kept and shown."""
    return "".join(letter for letter in name if letter.isprintable())[:200]
