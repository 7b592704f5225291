"""A bucket of an S3 store: the one door to botocore. Every call ends in time, and no credential is in a URL.

Asked for are PUT, GET, DELETE and LIST alone, and of LIST that it tells at once of what was put or deleted
before: Amazon S3 does since 2020, and so do the stores that speak its protocol.
"""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from catalog.errors import NotFound, ObjectsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, TRIES = 2.0, 5.0, 2
"""Seconds until an address that does not answer, or a connection that is silent, is taken as away; and how
often a call is tried. So a call that gets no answer ends within 16 seconds, a pause of up to 2 included.
"""
_SLOWEST_BYTES_S = 256 << 10
"""A transfer that is slower is given up."""
_AWAY_S, _TRIAL_S = 2.0, 16.0
"""For so long nobody asks again after a call that got no answer: they are told at once. Then one asks, and
the others are told at once until it knows, or for so long.
"""
_FRESH_S = 1.0
"""Whoever could store a moment ago does not try whether he can."""
_BLOCK = 1 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"([A-Za-z0-9_.=-]{1,100}/){0,8}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_SOURCES = {"env", "shared-credentials-file", "config-file"}
"""Where credentials come from. Others ask the network for them, and one of them any program."""
_LOG = logging.getLogger("exchange.objects")


@dataclass(frozen=True)
class Address:
    """Where a bucket is: ``s3://BUCKET/PREFIX?region=REGION&endpoint=URL``."""

    bucket: str
    prefix: str
    region: str
    endpoint: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address. Raises ValueError with what to write instead; it repeats none of it."""
        found = urlsplit(url)
        if found.scheme != "s3":
            raise ValueError("write `file:PATH` or `s3://BUCKET/PREFIX?region=REGION&endpoint=URL`")
        if "@" in found.netloc or ":" in found.netloc:
            raise ValueError(
                "keys and ports do not belong into it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "and write the store's own address as `endpoint=https://HOST:PORT`"
            )
        given = parse_qsl(found.query, keep_blank_values=True)
        told = dict(given)
        if len(told) != len(given) or not set(told) <= {"region", "endpoint"} or found.fragment:
            raise ValueError("after the `?` only `region=` and `endpoint=` are known, each once")
        if not _BUCKET.fullmatch(found.netloc):
            raise ValueError("the bucket's name is 3 to 63 lower-case letters, digits, dots and hyphens")
        prefix = f"{found.path.strip('/')}/".lstrip("/")
        if not _PREFIX.fullmatch(prefix) or ".." in prefix:
            raise ValueError("the prefix is up to 8 words of letters, digits and `_.=-`, joined by `/`")
        endpoint = told.get("endpoint", "")
        if endpoint and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError("the endpoint is `https://HOST` or `https://HOST:PORT`, with nothing after it")
        region = told.get("region", "us-east-1" if endpoint else "")
        if not _REGION.fullmatch(region):
            raise ValueError("name the bucket's region, such as `region=eu-central-1`")
        return cls(found.netloc, prefix, region, endpoint)


@dataclass(frozen=True)
class Stored:
    """A key of the bucket, without its prefix; when it was put, by the store's clock."""

    key: str
    modified: datetime
    bytes: int


class Bucket:
    """Keys under a prefix. Thread-safe.

    Raises:
        ObjectsUnavailable: of every call: the store gave no answer in time, or refused. The log names the
            store's own code for it.
    """

    def __init__(self, address: Address) -> None:
        """Nothing is asked of the store here. Raises ValueError where there are no credentials."""
        self._address = address
        self._client = _client(address)
        self._away, self._away_until, self._fresh_until = False, 0.0, 0.0
        self._lock = threading.Lock()

    def put(self, key: str, source: Path, sha256: str) -> None:
        """Store a file under a key. The store compares its SHA-256: all of it is there, or nothing."""
        size = source.stat().st_size
        with _Timed(source, _deadline(size)) as body, self._asked():
            self._client.put_object(
                **self._at(key),
                Body=body,
                ContentLength=size,
                ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
            )
        self._fresh_until = time.monotonic() + _FRESH_S

    def probe(self, key: str) -> None:
        """Store no bytes under a key, again and again: whether anything can be kept now, or a moment ago."""
        if time.monotonic() < self._fresh_until:
            return
        with self._asked():
            self._client.put_object(**self._at(key), Body=b"")
        self._fresh_until = time.monotonic() + _FRESH_S

    @contextlib.contextmanager
    def get(self, key: str) -> Iterator[tuple[int, Iterator[bytes]]]:
        """How many bytes a key has, and the bytes. Raises NotFound where there is no such key any more."""
        with self._asked():
            reply = self._client.get_object(**self._at(key))
        size = int(reply["ContentLength"])
        with contextlib.closing(reply["Body"]) as body:
            # What has arrived, not what was asked for: a body that drips would be waited for whole.
            yield size, self._blocks(body._raw_stream.read1, size, _deadline(size))

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The keys that begin so, in the order of their bytes; a thousand are asked for at a time."""
        begin = self._address.prefix
        pages = iter(
            self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._address.bucket, Prefix=begin + prefix
            )
        )
        while True:
            with self._asked():
                page = next(pages, None)
            if page is None:
                return
            for one in page.get("Contents", ()):
                yield Stored(one["Key"].removeprefix(begin), one["LastModified"], int(one["Size"]))

    def delete(self, key: str) -> None:
        """Remove a key; one that is gone is gone."""
        with self._asked():
            self._client.delete_object(**self._at(key))

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._address.prefix + key}

    def _blocks(self, read: Callable[[int], bytes], size: int, deadline: float) -> Iterator[bytes]:
        left = size
        while True:
            with self._asked():
                block = read(_BLOCK)
            if not block and left > 0:  # the connection ended as if all were there
                raise self._gone("Truncated")
            if not block:
                return
            left -= len(block)
            if time.monotonic() > deadline:
                raise self._gone("TooSlow")
            yield block

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        self._begin()
        try:
            yield
        except ClientError as refused:
            self._away = False
            code = str(refused.response.get("Error", {}).get("Code", ""))[:60]
            if code in ("NoSuchKey", "404"):
                raise NotFound("There is no such object.") from None
            _LOG.error("the object store refuses: %s", code)
            raise ObjectsUnavailable("the object store does not serve at the moment") from None
        except (BotoCoreError, HTTPError, TimeoutError) as error:
            raise self._gone(type(error).__name__) from None
        else:
            self._away = False

    def _begin(self) -> None:
        with self._lock:
            if self._away and time.monotonic() < self._away_until:
                raise ObjectsUnavailable("the object store does not answer at the moment")
            self._away_until = time.monotonic() + _TRIAL_S

    def _gone(self, why: str) -> ObjectsUnavailable:
        with self._lock:
            self._away, self._away_until, self._fresh_until = True, time.monotonic() + _AWAY_S, 0.0
        _LOG.error("the object store does not answer: %s", why)
        return ObjectsUnavailable("the object store does not answer at the moment")


class _Timed(io.FileIO):
    """A file that is read until a moment, and not after it: who takes its bytes too slowly is given up."""

    def __init__(self, path: Path, deadline: float) -> None:
        super().__init__(path, "rb")
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._deadline:
            raise TimeoutError
        return super().read(-1 if size is None else size) or b""


def _deadline(size: int) -> float:
    return time.monotonic() + TRIES * (CONNECT_TIMEOUT_S + READ_TIMEOUT_S) + size / _SLOWEST_BYTES_S


def _client(address: Address) -> Any:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session()
    try:
        known = session.get_component("credential_provider")
        for provider in list(known.providers):
            if provider.METHOD not in _SOURCES:
                known.remove(provider.METHOD)
        found = session.get_credentials()
    except BotoCoreError as error:  # its words repeat what stands in the files
        raise ValueError(
            f"the credentials of the environment cannot be read ({type(error).__name__}): correct "
            "AWS_PROFILE and its files"
        ) from None
    if found is None:
        raise ValueError("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE")
    return session.create_client(
        "s3",
        region_name=address.region,
        endpoint_url=address.endpoint or None,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            max_pool_connections=32,
            tcp_keepalive=True,
            s3={"addressing_style": "path" if address.endpoint else "auto"},
            # Ours are SHA-256, given and compared by us; other stores may not know those of new clients.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
