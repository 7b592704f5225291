"""Files kept under the SHA-256 of their bytes: written once, never changed, shared by whoever names them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import NotFound, ObjectDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
            return self._keep([iter(partial(file.read, _BLOCK), b"")])[0]

    def put_bytes(self, *contents: bytes) -> tuple[str, ...]:
        """Keep each of these; returns their SHA-256. Several together are hardly slower than one."""
        return self._keep([(content,) for content in contents])

    def path(self, sha256: str, *, verify: bool = False) -> Path:
        """Where an object's bytes are; with ``verify`` they are read and compared with the name first.

        Raises :class:`NotFound` for an object that is not here, :class:`ObjectDamaged` when verification
        fails.
        """
        place = self._place(sha256)
        if not place.is_file():
            raise NotFound("There is no such object.")
        if verify and sha256_of(place) != sha256:
            raise ObjectDamaged(f"The object {sha256} does not have the bytes that its name promises.")
        return place

    def exists(self, sha256: str) -> bool:
        """Whether an object is here."""
        return self._place(sha256).is_file()

    def _place(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
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
                # A link refuses to replace what is there: an object is written once also when two race.
                with contextlib.suppress(FileExistsError):
                    os.link(draft, place)
            for folder in sorted(folders, reverse=True):
                _sync_folder(folder)
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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
