"""Resumable uploads: tus 1.0 with the creation extension (https://tus.io/protocols/resumable-upload).

An upload that was cut off goes on where it stopped: within a call after asking the server for its offset,
and from one process to the next by a note in the user's cache of what was begun, keyed by the file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from exchange.client import errors
from exchange.client.progress import Meter, meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.client.connection import Connection
    from exchange.client.progress import Progress

CHUNK_BYTES = 64 << 20  # of one request: the server has it on disk before it answers
_BLOCK_BYTES = 1 << 20
_TUS = {"Tus-Resumable": "1.0.0"}
_STALLS = 5
_REMEMBERED = 200


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises ``InvalidRequest`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise errors.InvalidRequest(
            f"{path} cannot be read: {error.strerror}", hint="Check the path."
        ) from None


def upload(
    connection: Connection, path: Path, *, sha256: str | None = None, progress: Progress = "auto"
) -> str:
    """Upload a file and return the upload's id. Raises ``ConnectionFailed`` where it stops moving.

    What was begun before is known by ``sha256`` if it is given, else by the file's place, size and times: no
    byte is read twice.
    """
    told = _status(path)
    digest, size = sha256 or _fingerprint(path, told), told.st_size
    begun = _Begun(connection.url)
    upload_id, offset = _resume(connection, begun.find(digest, size), size) or (
        _create(connection, path, size),
        0,
    )
    begun.remember(digest, size, upload_id)
    with path.open("rb") as file, meter(progress, path.name, size) as bar:
        shown = _Forward(bar)
        shown.update(offset)
        _send(connection, upload_id, file, (offset, size), shown)
    return upload_id


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise errors.InvalidRequest(
            f"{path} cannot be read: {error.strerror}", hint="Check the path."
        ) from None


def _fingerprint(path: Path, told: os.stat_result) -> str:
    """What changes when the file does, as rsync takes it: its place on the disk, size and time of writing."""
    text = (
        f"{path.resolve()} {told.st_dev} {told.st_ino} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns}"
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _send(
    connection: Connection, upload_id: str, file: BinaryIO, span: tuple[int, int], shown: _Forward
) -> None:
    offset, size = span
    stalls = 0
    while offset < size:
        piece = _Piece(file, offset, min(CHUNK_BYTES, size - offset), shown)
        try:
            arrived = _append(connection, upload_id, piece)
        except (errors.ConnectionFailed, errors.Conflict, errors.RateLimited, errors.ServerError) as error:
            arrived = _offset(connection, upload_id)[0]
            if arrived <= offset:
                stalls += 1
                if stalls > _STALLS:
                    raise
                connection.pause(error, stalls)
        stalls = 0 if arrived > offset else stalls
        offset = arrived
        shown.update(offset)


class _Forward:
    """Progress that never goes back, where a piece is sent again."""

    def __init__(self, shown: Meter) -> None:
        self._shown, self._most = shown, -1

    def update(self, done: int) -> None:
        if done > self._most:
            self._most = done
            self._shown.update(done)


class _Piece:
    """A part of the file for one request, read while it is sent; each iteration begins anew."""

    def __init__(self, file: BinaryIO, offset: int, length: int, shown: _Forward) -> None:
        self.offset, self.length = offset, length
        self._file, self._shown = file, shown

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self.offset)
        sent = 0
        while sent < self.length:
            block = self._file.read(min(_BLOCK_BYTES, self.length - sent))
            if not block:
                raise errors.InvalidRequest(
                    "the file became shorter while it was uploaded", hint="Upload it again."
                )
            yield block
            sent += len(block)
            self._shown.update(self.offset + sent)


def _append(connection: Connection, upload_id: str, piece: _Piece) -> int:
    headers = {
        **_TUS,
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(piece.length),
        "Upload-Offset": str(piece.offset),
    }
    # A piece is never sent twice blindly: after a failure the server is asked how much of it has arrived.
    reply = connection.send("PATCH", f"/v1/uploads/{upload_id}", headers=headers, content=piece, retry=False)
    return _number(reply.headers.get("Upload-Offset"))


def _create(connection: Connection, path: Path, size: int) -> str:
    name = base64.b64encode(path.name.encode()).decode("ascii")
    headers = {**_TUS, "Upload-Length": str(size), "Upload-Metadata": f"filename {name}"}
    reply = connection.send("POST", "/v1/uploads", headers=headers)
    upload_id = reply.headers.get("Location", "").rstrip("/").rpartition("/")[2]
    if not upload_id:
        raise errors.ServerError("the exchange did not say where to upload to", code="unexpected_reply")
    return str(upload_id)


def _resume(connection: Connection, upload_id: str | None, size: int) -> tuple[str, int] | None:
    if upload_id is None:
        return None
    try:
        offset, length = _offset(connection, upload_id)
    except (errors.NotFound, errors.PermissionDenied, errors.QuoteExpired, errors.InvalidRequest):
        return None
    return (upload_id, offset) if length == size else None


def _offset(connection: Connection, upload_id: str) -> tuple[int, int]:
    reply = connection.send("HEAD", f"/v1/uploads/{upload_id}", headers=_TUS)
    return _number(reply.headers.get("Upload-Offset")), _number(reply.headers.get("Upload-Length"))


def _number(text: str | None) -> int:
    if text is None or not text.isdecimal():
        raise errors.ServerError("the exchange did not say how much has arrived", code="unexpected_reply")
    return int(text)


class _Begun:
    """What was begun at one exchange, in the user's cache. Losing it costs an upload from the start."""

    def __init__(self, url: str) -> None:
        self._url = url
        cache = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or Path.home()) / ".cache"
        self._path = Path(cache) / "exchange" / "uploads.json"

    def find(self, sha256: str, size: int) -> str | None:
        """The id of an upload of the same bytes."""
        found = self._read().get(self._key(sha256, size))
        return found if isinstance(found, str) and found.replace("_", "").isalnum() else None

    def remember(self, sha256: str, size: int, upload_id: str) -> None:
        """Note an upload; only the latest are kept."""
        kept = self._read()
        kept.pop(self._key(sha256, size), None)
        kept[self._key(sha256, size)] = upload_id
        text = json.dumps(dict(list(kept.items())[-_REMEMBERED:]))
        draft = self._path.with_name(f".uploads.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)

    def _key(self, sha256: str, size: int) -> str:
        return f"{self._url} {sha256} {size}"

    def _read(self) -> dict[str, object]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}
