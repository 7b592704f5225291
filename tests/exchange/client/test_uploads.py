"""Uploads go on where they stopped, within a call and between processes; every byte arrives once."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import httpx
import pytest

from exchange import ConnectionFailed, Exchange, InvalidRequest
from exchange.client import uploads
from exchange.client.configuration import Address, Token
from exchange.client.connection import Connection, Retry
from tests.exchange.client.desk import problem

CONTENT = bytes(range(256)) * 40


class Tus:
    """A tus server that keeps what arrives and fails where it is told to."""

    def __init__(self, *, fail_at: tuple[int, ...] = (), drop_after: tuple[int, ...] = ()) -> None:
        self.files: dict[str, bytearray] = {}
        self.lengths: dict[str, int] = {}
        self.names: list[str] = []
        self.patches = 0
        self.fail_at = fail_at  # these PATCH requests (from 1) never arrive
        self.drop_after = drop_after  # the replies to these are lost

    def handle(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Tus-Resumable"] == "1.0.0"
        upload = request.url.path.rpartition("/")[2]
        if request.method == "POST":
            return self._create(request)
        if upload not in self.files:
            return problem(404, "not_found") if request.method != "HEAD" else httpx.Response(404)
        if request.method == "PATCH":
            return self._append(request, upload)
        return self._at(200, upload)

    def _create(self, request: httpx.Request) -> httpx.Response:
        upload = f"upl_{len(self.files)}"
        self.files[upload], self.lengths[upload] = bytearray(), int(request.headers["Upload-Length"])
        self.names.append(base64.b64decode(request.headers["Upload-Metadata"].split()[1]).decode())
        return httpx.Response(201, headers={"Location": f"/v1/uploads/{upload}"})

    def _append(self, request: httpx.Request, upload: str) -> httpx.Response:
        self.patches += 1
        if self.patches in self.fail_at:
            raise httpx.WriteError("cut off")
        if int(request.headers["Upload-Offset"]) != len(self.files[upload]):
            return problem(409, "upload_offset")
        self.files[upload] += request.content
        if self.patches in self.drop_after:
            raise httpx.ReadError("reply lost")
        return self._at(204, upload)

    def _at(self, status: int, upload: str) -> httpx.Response:
        offset, length = str(len(self.files[upload])), str(self.lengths[upload])
        return httpx.Response(status, headers={"Upload-Offset": offset, "Upload-Length": length})

    def connection(self) -> Connection:
        address = Address("http://exchange.test", Token("tok"))
        door = httpx.MockTransport(self.handle)
        return Connection(address, transport=door, sleep=lambda _: None, retry=Retry(times=2))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 1000)


@pytest.fixture
def file(alone: Path) -> Path:
    path = alone / "Besuche ü.csv"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    "tus",
    [Tus(), Tus(fail_at=(1, 3, 4)), Tus(drop_after=(1, 5)), Tus(fail_at=(2,), drop_after=(4,))],
    ids=["smooth", "cut off", "replies lost", "both"],
)
def test_every_byte_arrives_once(tus: Tus, file: Path) -> None:
    told: list[int] = []
    upload = uploads.upload(tus.connection(), file, progress=lambda _, done, total: told.append(done))
    assert bytes(tus.files[upload]) == CONTENT
    assert tus.names == ["Besuche ü.csv"]
    assert told[0] == 0
    assert told[-1] == len(CONTENT)
    assert told == sorted(told)


def test_another_process_goes_on_where_this_one_stopped(file: Path) -> None:
    tus = Tus(fail_at=tuple(range(4, 100)))
    with pytest.raises(ConnectionFailed):
        uploads.upload(tus.connection(), file)
    tus.fail_at = ()
    before = tus.patches
    upload = uploads.upload(tus.connection(), file)
    assert len(tus.files) == 1
    assert bytes(tus.files[upload]) == CONTENT
    assert tus.patches - before == 8


def test_another_file_under_the_same_name_starts_anew(file: Path) -> None:
    tus = Tus(fail_at=tuple(range(2, 100)))
    with pytest.raises(ConnectionFailed):
        uploads.upload(tus.connection(), file)
    tus.fail_at = ()
    file.write_bytes(CONTENT[::-1])
    upload = uploads.upload(tus.connection(), file)
    assert bytes(tus.files[upload]) == CONTENT[::-1]
    assert len(tus.files) == 2


def test_an_upload_that_the_server_forgot_starts_anew(file: Path) -> None:
    uploads.upload(Tus().connection(), file)
    fresh = Tus()
    assert bytes(fresh.files[uploads.upload(fresh.connection(), file)]) == CONTENT


def test_an_empty_file_is_a_file(alone: Path) -> None:
    path = alone / "empty.csv"
    path.touch()
    tus = Tus()
    assert tus.files[uploads.upload(tus.connection(), path)] == b""
    assert tus.patches == 0


def test_what_the_server_refuses_is_not_tried_again(file: Path) -> None:
    tus = Tus()

    def refuse(request: httpx.Request) -> httpx.Response:
        return problem(413, "too_large") if request.method == "PATCH" else tus.handle(request)

    door = httpx.MockTransport(refuse)
    with Exchange("http://exchange.test", transport=door) as x, pytest.raises(InvalidRequest):
        x.upload(file)


def test_a_missing_file_is_a_clear_error(alone: Path) -> None:
    with Exchange("http://exchange.test") as x, pytest.raises(InvalidRequest, match="cannot be read"):
        x.upload(alone / "none.csv")


def test_hash_is_that_of_the_bytes(file: Path) -> None:
    assert uploads.file_sha256(file) == hashlib.sha256(CONTENT).hexdigest()
