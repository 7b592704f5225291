"""Objects that are encrypted before they are stored: each has a key of its own, wrapped under a master key.

Files of a listing are encrypted by the ingest process that writes them, answers here: AES-256-GCM, bound to
the digest of what is encrypted. The store below is given encrypted bytes and names them by their own digest:
neither its names nor its bytes tell of what they hold, and any copy of it can be verified without a key.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from catalog.errors import CatalogError, ObjectDamaged
from exchange import data_keys, sealing
from exchange.config import SettingsError
from exchange.data_keys import Sealed
from exchange.store import assert_outside_transaction
from privacy.sealed import sealed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.keyring import KeyRing
    from exchange.market import OutsideObjects
    from exchange.store import Store

_REMEMBERED = 4_096


class Vault:
    """Keeps and opens encrypted objects. Safe for several threads and processes at once."""

    def __init__(self, ring: KeyRing, store: Store, objects: OutsideObjects) -> None:
        self.ring = ring
        self._store = store
        self._objects = objects
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, bytes] = OrderedDict()

    # what is stored

    def seal(self, *contents: bytes) -> tuple[Sealed, ...]:
        """Encrypt and keep each of these; they are found once :func:`exchange.data_keys.record` was told."""
        self.ring.refresh()
        keys = [sealing.new_key() for _ in contents]
        digests = [hashlib.sha256(content).hexdigest() for content in contents]
        objects = self._objects.put_bytes(*map(_encrypted, contents, keys, digests))
        return tuple(map(Sealed, objects, keys, digests))

    def keep(self, path: Path, key: bytes) -> Sealed:
        """Keep a file that was encrypted under a key."""
        self.ring.refresh()
        return Sealed(self._objects.put(path), key)

    def drop(self, objects: Iterable[str]) -> None:
        """Remove objects of this process that nothing came to name; what cannot be is collected later."""
        with contextlib.suppress(CatalogError, OSError):
            for one in objects:
                self._objects.discard(one, untouched_s=0)

    def read(self, sha256: str) -> bytes:
        """The bytes of this digest, from an encrypted object, or a plain one of an older release.

        Raises:
            ObjectDamaged: what is stored is not what was encrypted.
            MasterKeyMissing, MasterKeyWrong: it cannot be opened with the master keys that are here.
        """
        assert_outside_transaction()
        row = self._store.read(lambda session: data_keys.of_plain(session, sha256))
        if row is None:
            return self._objects.read(sha256)
        data = self._objects.read(row.object)
        content = _decrypted(data, self.ring.unwrap(row.master, row.wrapped, row.object), sha256)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ObjectDamaged(f"The object {row.object} does not hold what its digest promises.")
        return content

    @contextlib.contextmanager
    def files(self, view: ListingView) -> Iterator[dict[str, tuple[str, ...]]]:
        """Table name -> Parquet files of a version, which an engine may read until the block is left; those
        that are encrypted have their keys.
        """
        assert_outside_transaction()
        keys = self._keys_of({one for table in view.tables for one in table.stored if one})
        parts = [
            (table.name, plain if stored is None else stored)
            for table in view.tables
            for plain, stored in zip(table.objects, table.stored, strict=True)
        ]
        with self._objects.all_held([name for _, name in parts]) as paths:
            found: dict[str, tuple[str, ...]] = {table.name: () for table in view.tables}
            for (table, name), path in zip(parts, paths, strict=True):
                found[table] += (sealed(path, keys.get(name)),)
            yield found

    def _keys_of(self, objects: Collection[str]) -> dict[str, bytes]:
        """Their data keys; an object's never changes, so what was unwrapped once is remembered."""
        with self._lock:
            found = {one: self._keys[one] for one in objects if one in self._keys}
        missing = set(objects) - found.keys()
        if missing:
            for row in self._store.read(lambda session: data_keys.of_objects(session, missing)):
                found[row.object] = self.ring.unwrap(row.master, row.wrapped, row.object)
            if set(objects) - found.keys():
                raise ObjectDamaged("A stored file has no key: its row is gone.")
        with self._lock:
            self._keys.update(found)
            while len(self._keys) > _REMEMBERED:
                self._keys.popitem(last=False)
        return found

    # the master keys

    def require(self) -> None:
        """Raise SettingsError unless every master key that something may be under is here, and is that."""
        assert_outside_transaction()
        rows = self._store.read(data_keys.masters)
        for row in rows:
            if row.retired_at is not None:
                continue
            if not self.ring.knows(row.id):
                raise _lost(f"the master key {row.id} is not in {self.ring.path}")
            if self.ring.proof_of(row.id) != row.proof:
                raise _lost(f"the master key {row.id} of {self.ring.path} is not the one of this database")

    def begin(self) -> None:
        """On the first start, make a master key where none is given, and write down which it is. Raises what
        :meth:`require` raises, and SettingsError for a file without a key: one is made for a database that
        knows none, and for no other.
        """
        assert_outside_transaction()
        if not self._store.read(data_keys.masters):
            self._register_first()
        self.require()

    def _register_first(self) -> None:
        if not self.ring.ids():
            self.ring.create()
        known = self.ring.ids()
        if not known:
            raise SettingsError(
                f"{self.ring.path} holds no master key: remove the file, and one is made at the next start, "
                "or put one there that was made before (EXCHANGE_MASTER_KEYS)"
            )
        newest, proof = known[-1], self.ring.proof_of(known[-1])

        def register(session: Session, now: datetime) -> None:
            if not data_keys.masters(session):
                data_keys.register(session, newest, proof, now=now)

        self._store.jot(register)


def _lost(what: str) -> SettingsError:
    return SettingsError(
        f"{what}: put back the file of master keys that belongs to this database (EXCHANGE_MASTER_KEYS; no "
        "backup holds it). Without it nothing that is stored can be read"
    )


def _encrypted(content: bytes, key: bytes, sha256: str) -> bytes:
    return sealing.seal(key, content, _bound(sha256))


def _decrypted(data: bytes, key: bytes, sha256: str) -> bytes:
    try:
        return sealing.opened(key, data, _bound(sha256))
    except InvalidTag:
        raise ObjectDamaged("A stored object does not have the bytes that were encrypted.") from None


def _bound(sha256: str) -> str:
    return f"exchange object\n{sha256}"
