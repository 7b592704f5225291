"""Files kept under the SHA-256 of their bytes: written once, never changed, shared by whoever names them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from catalog.errors import NotFound, ObjectDamaged

_BLOCK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LocalObjects:
    """A content-addressed store in a local folder, safe for several processes at once.

    An object lies at ``ab/cd/abcd...`` (two levels of 256 folders). It appears by an atomic rename after its
    bytes and its folder are on disk, so that a reader, or a crash, never meets half of one.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._incoming = self._root / "incoming"

    def put(self, source: Path) -> str:
        """Keep a copy of ``source``; returns its SHA-256 as lower-case hex. Repeating it changes nothing."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._incoming)
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as target, Path(source).open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(_BLOCK):
                    digest.update(block)
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())
            return self._keep(draft, digest.hexdigest())
        finally:
            draft.unlink(missing_ok=True)

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

    def _keep(self, draft: Path, sha256: str) -> str:
        place = self._place(sha256)
        draft.chmod(0o440)
        for folder in (place.parent.parent, place.parent):
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
        # A link refuses to replace what is there, so an object is written once even when two processes race.
        with contextlib.suppress(FileExistsError):
            os.link(draft, place)
        _sync_folder(place.parent)
        return sha256


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
