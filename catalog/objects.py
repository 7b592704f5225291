"""Files kept under the SHA-256 of their bytes: written once, never changed, shared by whoever names them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from catalog.errors import NotFound, ObjectDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

BLOCK = 1 << 20
DIGEST = re.compile(r"[0-9a-f]{64}")
ROOM_BYTES = 16 << 20
"""A disk with less room than this is full: what is begun is to be kept, too."""


class Objects(Protocol):
    """The door to objects, wherever they are: :class:`LocalObjects` says what each of these promises."""

    def put(self, source: Path) -> str:
        """Keep a copy of a file; returns its SHA-256."""
        ...

    def put_bytes(self, *contents: bytes) -> tuple[str, ...]:
        """Keep each of these; returns their SHA-256."""
        ...

    def held(self, *sha256: str) -> AbstractContextManager[tuple[Path, ...]]:
        """Where objects are on this machine, for as long as the block lasts."""
        ...

    def path(self, sha256: str) -> Path:
        """Where an object is on this machine now."""
        ...

    def read(self, sha256: str) -> bytes:
        """An object's bytes, compared with its name."""
        ...

    def untouched(self, *, since: float) -> Iterator[str]:
        """The objects that were not put since a moment."""
        ...

    def discard(self, sha256: str, *, untouched_since: float) -> bool:
        """Remove one that nothing names, unless it was put since a moment."""
        ...

    def tidy(self, *, untouched_since: float) -> int:
        """Remove what processes that died left of their work; returns how much."""
        ...

    def ensure_writable(self) -> None:
        """Raises where nothing could be kept now."""
        ...


class LocalObjects:
    """A content-addressed store in a local folder, safe for several processes at once.

    An object lies at ``ab/cd/abcd...`` (two levels of 256 folders). It appears by an atomic link after its
    bytes are on disk, so that a reader, or a crash, never meets half of one; once it is put, so is its name.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._incoming = self._root / "incoming"

    def put(self, source: Path) -> str:
        """Keep a copy of ``source``; returns its SHA-256 as lower-case hex. Repeating it changes nothing."""
        with Path(source).open("rb") as file:
            return self._keep([iter(partial(file.read, BLOCK), b"")])[0]

    def put_bytes(self, *contents: bytes) -> tuple[str, ...]:
        """Keep each of these; returns their SHA-256. Several together are hardly slower than one."""
        return self._keep([(content,) for content in contents])

    @contextlib.contextmanager
    def held(self, *sha256: str) -> Iterator[tuple[Path, ...]]:
        """Where objects are. Raises :class:`NotFound` for one that is not here."""
        yield tuple(self.path(one) for one in sha256)

    def path(self, sha256: str) -> Path:
        """Where an object's bytes are. Raises :class:`NotFound` for an object that is not here."""
        place = self._place(sha256)
        if not place.is_file():
            raise NotFound("There is no such object.")
        return place

    def read(self, sha256: str) -> bytes:
        """An object's bytes. Raises :class:`NotFound`, and :class:`ObjectDamaged` where they are not those
        that its name promises.
        """
        data = self.path(sha256).read_bytes()
        if digest_of_bytes(data) != sha256:
            raise ObjectDamaged(f"The object {sha256} does not have the bytes that its name promises.")
        return data

    def untouched(self, *, since: float) -> Iterator[str]:
        """The objects that were not put, nor put again, after ``since`` (seconds since 1970)."""
        for place in self._root.glob("??/??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process removes it
                if DIGEST.fullmatch(place.name) and place.stat().st_mtime <= since:
                    yield place.name

    def discard(self, sha256: str, *, untouched_since: float) -> bool:
        """Remove an object that nothing names any more; whether it is gone.

        One that was put, or put again, after ``untouched_since`` (seconds since 1970) stays: whoever put it
        may be about to name it. It is set aside before its age is looked at, so that a put either finds it
        gone, and writes it anew, or shows in its age.
        """
        place = self._place(sha256)
        self._incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._incoming) as folder:
            aside = Path(folder, sha256)
            try:
                place.rename(aside)
            except FileNotFoundError:
                return True
            young = aside.stat().st_mtime > untouched_since
            if young:
                self._put_back(aside)
            sync_folder(place.parent)
        return not young

    def tidy(self, *, untouched_since: float) -> int:
        """Remove the drafts of processes that died, which nobody wrote to after ``untouched_since`` (seconds
        since 1970); returns how many.

        What was set aside for :meth:`discard` is put back first: it may have been put again just before.
        """
        gone = 0
        for draft in self._incoming.glob("tmp*"):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # another's, who removes it
                if draft.stat().st_mtime <= untouched_since:
                    self._remove_draft(draft)
                    gone += 1
        return gone

    def _remove_draft(self, draft: Path) -> None:
        if not draft.is_dir():
            draft.unlink()
            return
        for aside in draft.iterdir():
            with contextlib.suppress(NotFound):
                self._put_back(aside)
        shutil.rmtree(draft)

    def _put_back(self, aside: Path) -> None:
        """Give an object its place again, unless it was put there meanwhile: that one is younger."""
        place = self._place(aside.name)
        try:
            os.link(aside, place)
        except FileExistsError:
            return
        except PermissionError:  # of another user of the group, whose files the kernel may let nobody link
            aside.rename(place)

    def ensure_writable(self) -> None:
        """Raises OSError where nothing could be kept now."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        require_room(self._incoming)

    def _place(self, sha256: str) -> Path:
        if not DIGEST.fullmatch(sha256):
            raise NotFound("There is no such object: its name is not a SHA-256.")
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def _keep(self, contents: Iterable[Iterable[bytes]]) -> tuple[str, ...]:
        """Write the drafts, link them into their places, then sync the folders: a sync that follows another
        finds little left to write."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            drafts = [_draft(self._incoming, blocks, stack) for blocks in contents]
            folders = {self._root}
            for draft, sha256 in drafts:
                place = self._place(sha256)
                place.parent.mkdir(parents=True, exist_ok=True)
                folders |= {place.parent, place.parent.parent}
                _link(draft, place)
            for folder in sorted(folders, reverse=True):
                sync_folder(folder)
        return tuple(sha256 for _, sha256 in drafts)


def _draft(folder: Path, blocks: Iterable[bytes], stack: contextlib.ExitStack) -> tuple[Path, str]:
    """A file with these bytes, on disk, and their SHA-256; it is gone when the stack is left."""
    handle, name = tempfile.mkstemp(dir=folder)
    draft, digest = Path(name), hashlib.sha256()
    stack.callback(draft.unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as target:
        for block in blocks:
            digest.update(block)
            target.write(block)
        target.flush()
        os.fchmod(target.fileno(), 0o440)
        os.fsync(target.fileno())
    return draft, digest.hexdigest()


def _link(draft: Path, place: Path) -> None:
    """Put a draft into its place. A link refuses to replace what is there: an object is written once also
    when two race. What is there says that it was put again, so that nobody discards it now.
    """
    while True:
        try:
            os.link(draft, place)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # it was discarded between the two
                os.utime(place)
                return
        else:
            return


def require_room(folder: Path) -> None:
    """Write a byte into a folder and remove it, and look how much room there is. Raises OSError where that
    fails, or where it is too little.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\0")
    if lacks_room(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lacks_room(folder: Path) -> bool:
    """Whether the disk of a folder has too little room for what may be begun."""
    return shutil.disk_usage(folder).free < ROOM_BYTES


def digest_of_bytes(data: bytes) -> str:
    """SHA-256 of bytes, as lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk: else a new file may have none after a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
