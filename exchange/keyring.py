"""Master keys: AES keys of 256 bits in one file, under which the data keys of stored objects are wrapped.

A line of the file is the id of a key and the key in base 64; a line that begins with ``#`` says something to
people. A key that is added is another line, so that old ones stay good for what is still wrapped under them.
The file is read again whenever it changed: processes that run take up a new key by themselves.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from catalog.objects import sync_folder
from exchange import sealing, sharing
from exchange.config import SettingsError
from exchange.errors import MasterKeyMissing, MasterKeyWrong
from exchange.sealing import KEY_BYTES
from exchange.sharing import is_open_to_group

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_KEYS = 64
_ID = re.compile(r"mk_[0-9a-f]{12}")
_HEADER = "# Master keys of an exchange: without them nothing that it stores can be read. docs/security.md\n"


class KeyRing:
    """The master keys of one file. Safe for several threads; other processes may add and remove keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int, int] | None = None
        self._keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"KeyRing({str(self.path)!r})"

    def ids(self) -> tuple[str, ...]:
        """The keys of the file as it is now, in its order; none where there is no file.

        Raises SettingsError for a file that is not one of master keys, or that others may read.
        """
        return tuple(self._read())

    def refresh(self) -> None:
        """Look whether the file changed; where it cannot be read, what was read before stays."""
        with contextlib.suppress(OSError, SettingsError):
            self._read()

    def loaded(self) -> tuple[str, ...]:
        """The keys that were read last: no file is looked at, so this may be asked in a transaction."""
        return tuple(self._keys)

    def knows(self, key_id: str) -> bool:
        """Whether the key is there."""
        return key_id in self._read()

    def proof_of(self, key_id: str) -> str:
        """What tells a key from another of the same id, and nothing else of it: HMAC-SHA-256, in hex."""
        return hmac.new(self._key(key_id), b"exchange master key", hashlib.sha256).hexdigest()

    def wrap(self, key_id: str, data_key: bytes, about: str) -> str:
        """A data key under a master key, in base 64, of use for this object alone. No file is looked at:
        raises :class:`MasterKeyMissing` for a key that is not among :meth:`loaded`.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise self._missing(key_id)
        return base64.b64encode(sealing.seal(key, data_key, _bound(key_id, about))).decode()

    def unwrap(self, key_id: str, wrapped: str, about: str) -> bytes:
        """The data key of an object. Raises :class:`MasterKeyMissing`, and :class:`MasterKeyWrong` where the
        master key is another of that id, or what was stored is not what was wrapped.
        """
        try:
            return sealing.opened(self._key(key_id), base64.b64decode(wrapped), _bound(key_id, about))
        except InvalidTag:
            raise MasterKeyWrong(f"the master key {key_id} does not open what is stored under it") from None

    def create(self) -> None:
        """Make the file with one key; nothing where it is there already.

        It is for its owner alone or, where its folder is open to a group, for that group too: web and worker
        processes may be of two users.
        """
        draft = _draft(self.path, {_new_id(): sealing.new_key()}, _mode(self.path))
        with contextlib.suppress(
            FileExistsError
        ):  # two processes start at once: one file is whole, and stays
            os.link(draft, self.path)
        draft.unlink()
        sync_folder(self.path.parent)

    def add(self) -> str:
        """Add a new key after the others; returns its id. Raises OSError where the file cannot be written."""
        added = _new_id()
        with self._alone():
            keys = self._read()
            if len(keys) >= MOST_KEYS:
                raise SettingsError(f"{self.path} holds {MOST_KEYS} master keys already: retire some")
            self._write({**keys, added: sealing.new_key()})
        return added

    def remove(self, key_id: str) -> None:
        """Remove a key from the file, if it is there. Raises OSError where the file cannot be replaced."""
        with self._alone():
            keys = self._read()
            if key_id in keys:
                self._write({known: key for known, key in keys.items() if known != key_id})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold what every writer of the file holds: each reads what the one before it wrote."""
        place = self.path.resolve()  # where there are several links to it, the lock is one
        place = place.with_name(f".{place.name}.lock")
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.suppress(PermissionError):  # of another user, who shared it
                sharing.share(place, 0o660)
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _key(self, key_id: str) -> bytes:
        found = self._keys.get(key_id)
        if found is None:
            try:
                found = self._read().get(key_id)
            except (OSError, SettingsError):
                raise MasterKeyMissing(f"{self.path.name} cannot be read") from None
        if found is None:
            raise self._missing(key_id)
        return found

    def _missing(self, key_id: str) -> MasterKeyMissing:
        return MasterKeyMissing(f"the master key {key_id} is not in {self.path.name}")

    def _read(self) -> dict[str, bytes]:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return {}
        seen = state.st_size, state.st_mtime_ns, state.st_ino, state.st_mode
        with self._lock:
            if seen != self._seen:
                if state.st_mode & 0o077 & ~_mode(self.path):
                    raise SettingsError(f"{self.path} is open to others: `chmod {_mode(self.path):o}` it")
                self._keys = _parsed(self.path)
                self._seen = seen
            return self._keys

    def _write(self, keys: dict[str, bytes]) -> None:
        """The whole file anew, in the place of the one before; a link to it stays one."""
        place = self.path.resolve()
        before = place.stat()
        draft = _draft(place, keys, before.st_mode & 0o777)
        for owner in (-1, before.st_uid):  # the group at least: who may not give it away is of that group
            with contextlib.suppress(PermissionError):
                os.chown(draft, owner, before.st_gid)
        draft.replace(place)
        sync_folder(place.parent)


def _draft(place: Path, keys: dict[str, bytes], mode: int) -> Path:
    """A file of these keys beside its place, on disk."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}-")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(_HEADER + "".join(_line(*one) for one in keys.items()))
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    return Path(name)


def _mode(path: Path) -> int:
    """Who may read the file: its owner, and the group that its folder is open to."""
    return 0o640 if is_open_to_group(path.parent) else 0o600


def _parsed(path: Path) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except PermissionError:
        raise SettingsError(
            f"{path} cannot be read: give it to the group of web and worker processes, with mode 640"
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, _, encoded = line.partition(" ")
        try:
            key = base64.b64decode(encoded.strip(), validate=True)
        except ValueError:
            key = b""
        if not _ID.fullmatch(key_id) or len(key) != KEY_BYTES or key_id in keys:
            raise SettingsError(f"{path}: line {number} is not an id of its own and a key of 32 bytes")
        keys[key_id] = key
    return keys


def _new_id() -> str:
    return f"mk_{secrets.token_hex(6)}"


def _line(key_id: str, key: bytes) -> str:
    return f"{key_id} {base64.b64encode(key).decode()}\n"


def _bound(key_id: str, about: str) -> str:
    return f"exchange data key\n{key_id}\n{about}"
