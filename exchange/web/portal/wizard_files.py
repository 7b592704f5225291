"""The files of a draft: sent whole by a form, or in pieces by our script (tus 1.0), which pauses and resumes.

The pieces take the same road as the API's uploads, with the session in place of a token: each request carries
the session's token against forged requests in the header ``X-CSRF-Token``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, redirect, request, url_for

from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations import composing, uploading
from exchange.store import REFUSALS
from exchange.web.api.uploads import VERSION, appended, file_name, printable, whole
from exchange.web.auth import market
from exchange.web.errors import problem_of
from exchange.web.portal import portal
from exchange.web.portal.pages import takes, visitor_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

    from exchange.identity import Actor

_AROUND = 1 << 20  # what a form has besides its files


def _largest_plain() -> int:
    return min(market().settings.max_upload_bytes, composing.LARGEST_PLAIN) + _AROUND


@portal.post("/provide/<draft>/send")
@takes(Role.PROVIDER, _largest_plain, "multipart/form-data")
@visitor_page(Role.PROVIDER)
def send_files(visitor: Actor, draft: str) -> BaseResponse:
    """Take the files of a form, each whole; what is larger than a form may be is sent by the script."""
    composing.look(market(), visitor, draft)
    chosen = [one for one in request.files.getlist("files") if one.filename]
    if not chosen:
        raise RequestInvalid("no file was chosen", hint="Choose one or more files, then press Send.")
    for one in chosen:
        length = one.stream.seek(0, 2)
        one.stream.seek(0)
        name = printable(one.filename or "")
        upload = composing.start_upload(market(), visitor, draft, length=length, name=name)
        uploading.append(market(), visitor, upload, offset=0, stream=one.stream)
    return redirect(url_for("portal.step_page", draft=draft, step="files"))


@portal.post("/provide/<draft>/files/<upload>/remove")
@visitor_page(Role.PROVIDER)
def remove_file(visitor: Actor, draft: str, upload: str) -> BaseResponse:
    """Take a file out of a draft; the page offers to put it back."""
    composing.set_removed(market(), visitor, draft, upload, removed=True)
    return redirect(url_for("portal.step_page", draft=draft, step="files"))


@portal.post("/provide/<draft>/files/<upload>/restore")
@visitor_page(Role.PROVIDER)
def restore_file(visitor: Actor, draft: str, upload: str) -> BaseResponse:
    """Put a file back that was taken out."""
    composing.set_removed(market(), visitor, draft, upload, removed=False)
    composing.inspect(market(), visitor, draft)
    return redirect(url_for("portal.step_page", draft=draft, step="files"))


@portal.post("/provide/<draft>/uploads")
@visitor_page(Role.PROVIDER)
def start_upload(visitor: Actor, draft: str) -> Any:
    """Announce a file, as tus's creation does."""
    try:
        composing.look(market(), visitor, draft)
        length, name = whole("Upload-Length"), file_name()
        made = composing.start_upload(market(), visitor, draft, length=length, name=name)
    except REFUSALS as refused:
        return problem_of(refused)
    where = url_for("portal.upload_offset", upload=made)
    return Response(status=201, headers={**VERSION, "Location": where, "Upload-Offset": "0"})


@portal.route("/provide/uploads/<upload>", methods=["HEAD"])
@visitor_page(Role.PROVIDER)
def upload_offset(visitor: Actor, upload: str) -> Any:
    """How much of a file has arrived."""
    try:
        state = uploading.state(market(), visitor, upload)
    except REFUSALS as refused:
        return problem_of(refused)
    headers = {"Upload-Offset": str(state.offset), "Upload-Length": str(state.length)}
    return Response(status=200, headers={**VERSION, **headers})


@portal.route("/provide/uploads/<upload>", methods=["PATCH"])
@takes(Role.PROVIDER, lambda: market().settings.max_upload_bytes, "application/offset+octet-stream")
@visitor_page(Role.PROVIDER)
def append_upload(visitor: Actor, upload: str) -> Any:
    """Append a piece at the offset that the exchange has."""
    try:
        arrived = appended(visitor, upload)
    except REFUSALS as refused:
        return problem_of(refused)
    return Response(status=204, headers={**VERSION, "Upload-Offset": str(arrived)})
