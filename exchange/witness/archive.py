"""Storage that is written once: a folder, or a bucket of S3. What a name holds, it holds for ever.

A witness that is told to forget, by whoever restores an old copy of its state, finds here what it cosigned.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import os
import re
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from exchange.audit.errors import Malformed
from exchange.audit.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TIMEOUT_S = 5.0
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_REGION, _BUCKET = re.compile(r"[a-z0-9-]{1,40}"), re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class ArchiveUnavailable(Exception):
    """The archive does not answer, or refuses; nothing is known of what it holds."""

    code = "archive_unavailable"


class Archive(Protocol):
    """Names with bytes, of which none is ever replaced."""

    def put_new(self, name: str, data: bytes) -> bool:
        """Keep bytes under a name, durably; False where the name holds something already."""

    def get(self, name: str) -> bytes | None:
        """What a name holds, None where nothing. Raises ArchiveUnavailable."""


def open_archive(
    text: str, base: Path, environ: Mapping[str, str], *, retain_days: int = 0
) -> Archive | None:
    """The archive that a configuration names: a folder, `s3://BUCKET/PREFIX?region=R&endpoint=URL`, or none.

    Raises:
        Malformed: the address cannot be read, or credentials are missing.
        ArchiveUnavailable: it does not answer, or does not keep what was written once.
    """
    if not text:
        return None
    archive = (
        S3Archive(text, environ, retain_days=retain_days) if "://" in text else FolderArchive(base / text)
    )
    require_write_once(archive)
    return archive


def require_write_once(archive: Archive) -> None:
    """Raises ArchiveUnavailable where a name can be written twice, or nobody is told that one is free."""
    name = f"tried/{secrets.token_hex(8)}"
    if archive.get(name) is not None:
        raise ArchiveUnavailable("the archive shows something under every name")
    if not archive.put_new(name, b"once\n") or archive.put_new(name, b"twice\n"):
        raise ArchiveUnavailable("the archive does not keep what is written once: it ignores If-None-Match")
    if archive.get(name) != b"once\n":
        raise ArchiveUnavailable("the archive replaced what it was told to keep")


class FolderArchive:
    """A folder, best on a file system that another user mounts append-only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put_new(self, name: str, data: bytes) -> bool:
        """Keep bytes under a name; False where it holds something."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.parent / f".{secrets.token_hex(8)}"
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o444)
        try:
            os.link(draft, target)  # fails where the name is taken, which a rename does not
        except FileExistsError:
            return False
        finally:
            with contextlib.suppress(PermissionError):  # append-only: the second name stays
                draft.unlink()
        with contextlib.closing(_Descriptor(target.parent)) as folder:
            os.fsync(folder.number)
        return True

    def get(self, name: str) -> bytes | None:
        """What a name holds, or None."""
        try:
            with (self._root / name).open("rb") as file:
                return file.read(MAX_NOTE_BYTES + 1)
        except FileNotFoundError:
            return None


class _Descriptor:
    def __init__(self, folder: Path) -> None:
        self.number = os.open(folder, os.O_RDONLY)

    def close(self) -> None:
        os.close(self.number)


class S3Archive:
    """Keys of a bucket, put with `If-None-Match: *`, and with a lock of objects where days are given."""

    def __init__(self, url: str, environ: Mapping[str, str], *, retain_days: int = 0) -> None:
        """Raises Malformed for an address that cannot be read, or without credentials."""
        found, told = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
        endpoint = urlsplit(told.pop("endpoint", ""))
        self._region = told.pop("region", "us-east-1")
        prefix = found.path.strip("/")
        if found.scheme != "s3" or told or not _BUCKET.fullmatch(found.netloc) or found.fragment:
            raise Malformed("The archive is a folder, or s3://BUCKET/PREFIX?region=REGION&endpoint=URL.")
        if not _REGION.fullmatch(self._region) or (prefix and not _NAME.fullmatch(prefix)):
            raise Malformed("The archive's region or prefix cannot be read.")
        if endpoint.scheme not in ("", "http", "https") or endpoint.path.strip("/") or endpoint.query:
            raise Malformed("The archive's endpoint is https://HOST or https://HOST:PORT.")
        self._host = endpoint.netloc or f"s3.{self._region}.amazonaws.com"
        self._plain = endpoint.scheme == "http"
        self._path = "/" + "/".join(part for part in (found.netloc, prefix) if part)
        self._days = retain_days
        try:
            self._id, self._secret = environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
        except KeyError:
            raise Malformed("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the archive.") from None
        self._token = environ.get("AWS_SESSION_TOKEN", "")

    def put_new(self, name: str, data: bytes) -> bool:
        """Put bytes under a key; False where it holds something. Raises ArchiveUnavailable."""
        headers = {"if-none-match": "*", "content-type": "text/plain; charset=utf-8"}
        if self._days:
            until = datetime.now(UTC) + timedelta(days=self._days)
            headers["x-amz-object-lock-mode"] = "COMPLIANCE"
            headers["x-amz-object-lock-retain-until-date"] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        status, _ = self._ask("PUT", name, data, headers)
        if status not in (200, 201, 412):
            raise ArchiveUnavailable(f"the archive answers {status}")
        return status != 412

    def get(self, name: str) -> bytes | None:
        """What a key holds, or None. Raises ArchiveUnavailable."""
        status, data = self._ask("GET", name, b"", {})
        if status == 403:
            text = (
                "the archive refuses to be read (403): its credentials need s3:GetObject and s3:ListBucket,"
            )
            raise ArchiveUnavailable(f"{text} without which a key that is free is refused too")
        if status not in (200, 404):
            raise ArchiveUnavailable(f"the archive answers {status}")
        return data if status == 200 else None

    def _ask(self, method: str, name: str, data: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        path = quote(f"{self._path}/{name}", safe="/-_.~")
        now = datetime.now(UTC)
        signed = {**headers, "host": self._host, "x-amz-content-sha256": hashlib.sha256(data).hexdigest()}
        if self._token:
            signed["x-amz-security-token"] = self._token
        authorized = signature_v4(
            method, path, signed, region=self._region, key_id=self._id, secret=self._secret, now=now
        )
        made: http.client.HTTPConnection
        if self._plain:
            made = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
        else:
            context = ssl.create_default_context()
            made = http.client.HTTPSConnection(self._host, timeout=TIMEOUT_S, context=context)
        with contextlib.closing(made):
            try:
                made.request(method, path, body=data or None, headers=authorized)
                reply = made.getresponse()
                return reply.status, reply.read(MAX_NOTE_BYTES + 1)
            except (OSError, http.client.HTTPException) as error:
                raise ArchiveUnavailable(f"the archive does not answer: {type(error).__name__}") from None


def signature_v4(
    method: str,
    path: str,
    headers: Mapping[str, str],
    *,
    region: str,
    key_id: str,
    secret: str,
    now: datetime,
) -> dict[str, str]:
    """The headers of a request to S3 with its signature (AWS Signature Version 4); `path` has no query.

    `headers` have lower-case names, among them `host` and `x-amz-content-sha256`.
    """
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    signed = {**headers, "x-amz-date": moment}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{signed['x-amz-content-sha256']}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    value = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={key_id}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={value}"
    return {**signed, "authorization": authorization}
