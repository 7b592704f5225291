"""A tree computed again from one source of leaf hashes, held against the stored tiles of the levels above."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.audit import merkle, tiles
from exchange.audit.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.audit.tiles import Reader

MISSING, DIFFERENT = "missing", "different"


class Rebuild:
    """Adds bundles of leaf hashes and compares each upper tile as soon as all its hashes are known.

    `problems` lists the upper tiles that are MISSING or DIFFERENT. `pinned_root` is the root that the tree
    had at `pinned_size`. Memory: one tile per level.
    """

    def __init__(self, reader: Reader, *, pinned_size: int | None = None, most_problems: int = 100) -> None:
        self._reader = reader
        self._pinned_size = pinned_size
        self._most_problems = most_problems
        self._edges: list[list[bytes]] = []  # by level, from 1: hashes of the tile in the making
        self._numbers: list[int] = []
        self.range = merkle.CompactRange()
        self.problems: list[tuple[str, str]] = []
        self.pinned_root = merkle.EMPTY_ROOT if pinned_size == 0 else None

    def extend(self, hashes: Sequence[bytes], perfect: bytes | None) -> None:
        """Adds one bundle's leaf hashes; `perfect` is their root where the bundle is full."""
        start = self.range.size
        if self._pinned_size is not None and start < self._pinned_size <= start + len(hashes):
            self.pinned_root = self._root_with(hashes[: self._pinned_size - start])
        if perfect is None:
            for leaf in hashes:
                self.range.append(leaf)
        else:
            self.range.append(perfect, tiles.HEIGHT)
            self._add(1, perfect)

    def finish(self) -> None:
        """Compares the partial upper tiles of the right edge."""
        for level, edge in enumerate(self._edges, start=1):
            if edge:
                self._compare(level, edge)

    def _root_with(self, hashes: Sequence[bytes]) -> bytes:
        grown = self.range.copy()
        for leaf in hashes:
            grown.append(leaf)
        return grown.root()

    def _add(self, level: int, hashed: bytes) -> None:
        if level > len(self._edges):
            self._edges.append([])
            self._numbers.append(0)
        edge = self._edges[level - 1]
        edge.append(hashed)
        if len(edge) == tiles.WIDTH:
            self._compare(level, edge)
            self._edges[level - 1] = []
            self._numbers[level - 1] += 1
            self._add(level + 1, merkle.root(edge))

    def _compare(self, level: int, edge: Sequence[bytes]) -> None:
        number = self._numbers[level - 1]
        try:
            found = tiles.find(self._reader, tiles.tile_path(level, number), len(edge))
        except Malformed:
            self._note(tiles.tile_path(level, number, len(edge)), DIFFERENT)
            return
        expected = b"".join(edge)
        if found is None:
            self._note(tiles.tile_path(level, number, len(edge)), MISSING)
        elif found[1] != expected and not _continues(found, expected):
            self._note(found[0], DIFFERENT)

    def _note(self, path: str, problem: str) -> None:
        if len(self.problems) < self._most_problems:
            self.problems.append((path, problem))


def _continues(found: tuple[str, bytes], expected: bytes) -> bool:
    """True where the full tile that replaced a partial one begins with its hashes."""
    path, data = found
    return ".p/" not in path and len(data) == tiles.WIDTH * merkle.HASH_BYTES and data.startswith(expected)
