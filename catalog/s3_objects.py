"""Objects in a bucket, under the SHA-256 of their bytes, with local copies of those that are used.

A key is ``ab/cd/SHA256/NONCE``, and no key is ever written twice: what is put again gets a key of its own. So
whoever discards an object removes the very keys whose age he has seen, and none that was put meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from catalog.errors import NotFound, ObjectDamaged, ObjectsUnavailable
from catalog.objects import BLOCK, DIGEST, digest_of_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from catalog.buckets import Bucket, Stored
    from catalog.object_cache import Cache, Held

_TRIES = 5
"""So often a key is looked for again that was replaced between its listing and its reading."""
_PROBE = "probe"


class S3Objects:
    """A content-addressed store in a bucket, safe for several processes and machines at once.

    Raises ObjectsUnavailable, of every call but those that a local copy answers, while the store is away; and
    OSError where the disk of the copies is full.
    """

    def __init__(self, bucket: Bucket, cache: Cache, *, nonce: Callable[[], str]) -> None:
        """``nonce`` draws a word that was not drawn before: the end of a key."""
        self._nonce = nonce
        self._bucket, self._cache = bucket, cache
        self._fetching = [threading.Lock() for _ in range(64)]

    def put(self, source: Path) -> str:
        """Keep a copy of ``source``; returns its SHA-256 as lower-case hex."""
        with source.open("rb") as file:
            return self._put(source.stat().st_size, iter(partial(file.read, BLOCK), b""))

    def put_bytes(self, *contents: bytes) -> tuple[str, ...]:
        """Keep each of these; returns their SHA-256."""
        return tuple(self._put(len(content), (content,)) for content in contents)

    @contextlib.contextmanager
    def held(self, *sha256: str) -> Iterator[tuple[Path, ...]]:
        """Local copies of objects, which stay where they are until the block is left.

        Raises:
            NotFound: there is no such object.
            ObjectDamaged: the store has other bytes than the name promises.
        """
        with contextlib.ExitStack() as stack:
            yield tuple(stack.enter_context(contextlib.closing(self._held(one))).path for one in sha256)

    def path(self, sha256: str) -> Path:
        """Where a local copy is now; it may go when room is needed: see :meth:`held`."""
        with self.held(sha256) as (path,):
            return path

    def read(self, sha256: str) -> bytes:
        """An object's bytes, compared with its name. A local copy that was spoilt is fetched anew."""
        for _ in range(2):
            with self.held(sha256) as (path,):
                data = path.read_bytes()
            if digest_of_bytes(data) == sha256:
                return data
            self._cache.drop(sha256)
        raise ObjectDamaged(f"The object {sha256} does not have the bytes that its name promises.")

    def untouched(self, *, since: float) -> Iterator[str]:
        """The objects that were not put, nor put again, after ``since`` (seconds since 1970, by the store's
        clock).
        """
        moment = datetime.fromtimestamp(since, UTC)
        for sha256, keys in itertools.groupby(self._bucket.list(), key=lambda one: _named_by(one.key)):
            newest = max(one.modified for one in keys)
            if sha256 and newest <= moment:
                yield sha256

    def discard(self, sha256: str, *, untouched_since: float) -> bool:
        """Remove an object that nothing names any more; whether it is gone.

        One that was put, or put again, after ``untouched_since`` stays: whoever put it may be about to name
        it. What is put from now on has a key that is not among those removed here.
        """
        keys = list(self._bucket.list(_folder(sha256)))
        moment = datetime.fromtimestamp(untouched_since, UTC)
        if any(one.modified > moment for one in keys):
            return False
        for one in keys:
            self._bucket.delete(one.key)
        return True

    def tidy(self, *, untouched_since: float) -> int:
        """Nothing: the folder of local copies looks after its own drafts."""
        del untouched_since
        return 0

    def ensure_writable(self) -> None:
        """Raises ObjectsUnavailable or OSError where nothing could be kept now, or a moment ago."""
        self._cache.ensure_writable()
        self._bucket.probe(_PROBE)

    def _put(self, size: int, blocks: Iterable[bytes]) -> str:
        with self._cache.draft(size, needed=False) as draft:
            for block in blocks:
                draft.write(block)
            sha256 = draft.finish()
            mine = _folder(sha256) + self._nonce()
            self._bucket.put(mine, draft.path, sha256)
            if draft.fits:
                self._cache.keep(draft, sha256).close()
        with contextlib.suppress(ObjectsUnavailable):  # more keys than one do no harm
            self._remove_older(sha256, mine)
        return sha256

    def _remove_older(self, sha256: str, mine: str) -> None:
        """Remove the keys that this one replaces. Of several who do so at once none removes the newest."""
        found = {one.key: (one.modified, one.key) for one in self._bucket.list(_folder(sha256))}
        for key, age in found.items():
            if mine in found and age < found[mine]:
                self._bucket.delete(key)

    def _held(self, sha256: str) -> Held:
        _folder(sha256)
        found = self._cache.hold(sha256)
        if found is None:
            with self._fetching[int(sha256[:2], 16) % len(self._fetching)]:
                found = self._cache.hold(sha256) or self._fetched(sha256)
        return found

    def _fetched(self, sha256: str) -> Held:
        for _ in range(_TRIES):
            newest = max(self._bucket.list(_folder(sha256)), key=lambda one: one.modified, default=None)
            if newest is None:
                break
            with contextlib.suppress(NotFound):  # it was replaced between the two
                return self._downloaded(newest, sha256)
        raise NotFound("There is no such object.")

    def _downloaded(self, stored: Stored, sha256: str) -> Held:
        with self._bucket.get(stored.key) as (size, blocks), self._cache.draft(size) as draft:
            for block in blocks:
                draft.write(block)
            if draft.finish() != sha256:
                raise ObjectDamaged(f"The object {sha256} does not have the bytes that its name promises.")
            return self._cache.keep(draft, sha256)


def _folder(sha256: str) -> str:
    """What the keys of an object begin with. Raises NotFound for what is no SHA-256."""
    if not DIGEST.fullmatch(sha256):
        raise NotFound("There is no such object: its name is not a SHA-256.")
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}/"


def _named_by(key: str) -> str:
    """The object that a key is of; empty for a key that is none of ours."""
    parts = key.split("/")
    mine = len(parts) == 4 and DIGEST.fullmatch(parts[2]) and key.startswith(_folder(parts[2]))
    return parts[2] if mine else ""
