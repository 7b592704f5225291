"""C2SP tlog-tiles (https://c2sp.org/tlog-tiles): tree and entries as static files, and proofs from them.

Whatever can give the bytes under a path is a `Reader`: a `Folder` on disk, `Fetched` bytes, a client over
HTTP. Of the standard library alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from exchange.audit import merkle
from exchange.audit.errors import LogDiverged, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes in a full tile, entries in a full bundle."""
MAX_FILE_BYTES = WIDTH * (2 + 65_535)
"""Size of the largest possible entry bundle, which no file of a log exceeds."""
_TEMPORARY = ".writing"


class Reader(Protocol):
    """Gives a log's files by their path beneath the log's prefix."""

    def read(self, path: str) -> bytes | None:
        """The bytes under `path`, or None where there are none."""


class Fetched:
    """Files of a log that are already in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes | None:
        """The bytes under `path`, or None."""
        return self._files.get(path)


class Folder:
    """A log's files in a folder, written so that a crash at any moment leaves each file whole or absent."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._numbers = itertools.count()

    def read(self, path: str) -> bytes | None:
        """The bytes under `path`, or None. Raises Malformed for what is no plain file, or larger than any
        file of a log.
        """
        try:
            with open_plain(self.root / path) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if len(data) > MAX_FILE_BYTES:
            raise Malformed(f"{path} is larger than any file of a log.")
        return data

    def write_once(self, path: str, data: bytes) -> None:
        """Writes a file that never changes again; writing the same bytes again does nothing.

        Raises:
            LogDiverged: the file exists with other bytes.
        """
        existing = self.read(path)
        if existing is None:
            self.replace(path, data)
        elif existing != data:
            raise LogDiverged(f"{path} was written before with other bytes.")

    def replace(self, path: str, data: bytes) -> None:
        """Writes or replaces a file atomically: temporary file, fsync, rename, fsync of the folder."""
        target = self.root / path
        self._make_folder(target.parent)
        self._make_folder(self.root / _TEMPORARY)
        temporary = self.root / _TEMPORARY / f"{os.getpid()}-{next(self._numbers)}"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Removes a file if it is there."""
        (self.root / path).unlink(missing_ok=True)

    def list(self, path: str) -> list[str]:
        """Paths of the files directly in a folder beneath the log's prefix."""
        try:
            return sorted(f"{path}/{entry.name}" for entry in (self.root / path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Waits until no other process publishes into this folder, and clears what a killed one left."""
        import fcntl  # not on every system that reads logs

        self._make_folder(self.root)
        with (self.root / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in self.list(_TEMPORARY):
                self.remove(leftover)
            yield

    def _make_folder(self, folder: Path) -> None:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _sync_folder(path.parent)


def open_plain(path: Path | str) -> BinaryIO:
    """A plain file, open for reading. Raises OSError; Malformed for a pipe or a device, which whoever packed
    a folder may have put in a file's place, and which would keep its reader waiting for ever.
    """
    return open(path, "rb", opener=_opened)


def _opened(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder is refused by `open` itself
        os.close(descriptor)
        raise Malformed(f"{path} is not a plain file.")
    return descriptor


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Path of a hash tile: `tile/<L>/<N>[.p/<W>]`."""
    return f"tile/{level}/{_number(index, width)}"


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Path of an entry bundle: `tile/entries/<N>[.p/<W>]`."""
    return f"tile/entries/{_number(index, width)}"


def width_of(level: int, index: int, size: int) -> int:
    """Hashes in tile `index` of `level` in a tree of `size` leaves, 0 to 256."""
    return min(WIDTH, max(0, (size >> HEIGHT * level) - index * WIDTH))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each after its length as big-endian uint16. Raises Malformed for one above 65,535 bytes."""
    if any(len(entry) > 65_535 for entry in entries):
        raise Malformed("An entry is too long for an entry bundle.")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises Malformed where lengths and bytes do not add up."""
    entries, position = [], 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 2], "big")
        entry = data[position + 2 : position + 2 + length]
        if len(data) - position < 2 + length:
            raise Malformed("The entry bundle ends inside an entry.")
        entries.append(entry)
        position += 2 + length
    return entries


def find(reader: Reader, full_path: str, width: int) -> tuple[str, bytes] | None:
    """The partial file of `width`, or the full one that may have replaced it: its path and bytes, or None."""
    paths = [full_path] if width == WIDTH else [f"{full_path}.p/{width}", full_path]
    for path in paths:
        data = reader.read(path)
        if data is not None:
            return path, data
    return None


def read_tile(reader: Reader, level: int, index: int, width: int) -> list[bytes]:
    """The first `width` hashes of a tile. Raises Malformed where the file is missing or of another length."""
    found = find(reader, tile_path(level, index), width)
    if found is None:
        raise Malformed(f"{tile_path(level, index, width)} is missing.")
    path, data = found
    expected = width if path.endswith(f".p/{width}") else WIDTH
    if len(data) != expected * merkle.HASH_BYTES:
        raise Malformed(f"{path} does not have {expected} hashes.")
    return [data[i : i + merkle.HASH_BYTES] for i in range(0, width * merkle.HASH_BYTES, merkle.HASH_BYTES)]


def read_bundle(reader: Reader, index: int, width: int) -> list[bytes]:
    """The first `width` entries of a bundle. Raises Malformed where the file is missing or has others."""
    found = find(reader, bundle_path(index), width)
    if found is None:
        raise Malformed(f"{bundle_path(index, width)} is missing.")
    path, data = found
    entries = decode_bundle(data)
    expected = width if path.endswith(f".p/{width}") else WIDTH
    if len(entries) != expected:
        raise Malformed(f"{path} does not have {expected} entries.")
    return entries[:width]


def nodes(reader: Reader, size: int) -> merkle.Node:
    """The nodes of the tree of `size` leaves, read from tiles alone; each tile is read and hashed once, so
    that proofs of many leaves cost little more than looking them up.
    """

    @lru_cache(maxsize=64)
    def tile(level: int, index: int) -> list[list[bytes]]:
        """The tile's hashes, and above them those of the perfect subtrees that it holds whole."""
        rows = [read_tile(reader, level, index, width_of(level, index, size))]
        while len(rows[-1]) > 1 and len(rows) < HEIGHT:
            row = rows[-1]
            rows.append([merkle.node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
        return rows

    def node(height: int, index: int) -> bytes:
        level, rest = divmod(height, HEIGHT)
        number, offset = divmod(index << rest, WIDTH)
        return tile(level, number)[rest][offset >> rest]

    return node


def root(reader: Reader, size: int) -> bytes:
    """Root of the tree of `size` leaves. Raises Malformed where a tile is missing or broken."""
    return merkle.root_of(nodes(reader, size), size)


def inclusion_proof(reader: Reader, index: int, size: int) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves, from tiles alone."""
    return merkle.inclusion_proof_of(nodes(reader, size), index, size)


def consistency_proof(reader: Reader, old_size: int, new_size: int) -> list[bytes]:
    """Proof that the tree of `old_size` is a prefix of that of `new_size`, from tiles alone."""
    return merkle.consistency_proof_of(nodes(reader, new_size), old_size, new_size)


def _number(index: int, width: int) -> str:
    digits = f"{index:d}"
    padded = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [padded[i : i + 3] for i in range(0, len(padded), 3)]
    path = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return path if width == WIDTH else f"{path}.p/{width}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
