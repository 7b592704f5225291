"""Merkle tree hashing and proofs of RFC 6962 section 2.1 and RFC 9162 section 2.1, over SHA-256.

Pure and of the standard library alone. Sizes and indexes count leaves from zero. A *node* is addressed as
(height, index): the root of the perfect subtree over leaves [index << height, (index + 1) << height).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = Callable[[int, int], bytes]
"""Gives the hash of the perfect subtree at (height, index)."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Merkle tree hash over leaf hashes; SHA-256 of nothing for no leaves."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        # A lone last node moves up unchanged: the tree's right edge is not padded.
        level = paired + level[len(level) - len(level) % 2 :]
    return level[0]


class CompactRange:
    """The roots of the perfect subtrees of a growing tree, O(log n) hashes: all that appending needs."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Continues a tree of `size` leaves whose perfect subtrees, largest first, hash to `hashes`."""
        if size < 0 or len(hashes) != size.bit_count():
            raise ValueError("a compact range has one hash for each set bit of its size")
        self.size = size
        self._hashes = list(hashes)

    def append(self, subtree: bytes, height: int = 0) -> None:
        """Adds a leaf hash, or the root of a perfect subtree of 2**height leaves where the size allows it."""
        if self.size % (1 << height):
            raise ValueError("a subtree must start at a multiple of its size")
        rising = height
        while self.size >> rising & 1:
            subtree = node_hash(self._hashes.pop(), subtree)
            rising += 1
        self._hashes.append(subtree)
        self.size += 1 << height

    def root(self) -> bytes:
        """Root of the tree so far."""
        return _fold(self._hashes)

    def copy(self) -> CompactRange:
        """An independent range with the same leaves."""
        return CompactRange(self.size, self._hashes)


def root_of(node: Node, size: int) -> bytes:
    """Root of the tree of `size` leaves whose nodes `node` gives."""
    return _range_hash(node, 0, size) if size else EMPTY_ROOT


def inclusion_proof_of(node: Node, index: int, size: int) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1), leaf's sibling first."""
    if not 0 <= index < size:
        raise ValueError("the leaf is not in the tree")
    return [_range_hash(node, start, end) for start, end in _inclusion_ranges(index, size)]


def consistency_proof_of(node: Node, old_size: int, new_size: int) -> list[bytes]:
    """Proof that the tree of `old_size` is a prefix of that of `new_size` (RFC 6962 section 2.1.2)."""
    if not 0 <= old_size <= new_size:
        raise ValueError("the old tree is not smaller than the new one")
    return [_range_hash(node, start, end) for start, end in _consistency_ranges(old_size, new_size)]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf `index` in the tree over `leaf_hashes`."""
    return inclusion_proof_of(_nodes(leaf_hashes), index, len(leaf_hashes))


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the first `old_size` leaves are a prefix of the tree over `leaf_hashes`."""
    return consistency_proof_of(_nodes(leaf_hashes), old_size, len(leaf_hashes))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """True if `proof` leads from leaf hash `leaf` at `index` to `tree_root` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes((leaf, tree_root, *proof)):
        return False
    first, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            result = node_hash(sibling, result)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and result == tree_root


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """True if `proof` shows that the old tree is a prefix of the new one (RFC 9162 section 2.1.4.2).

    The empty tree is a prefix of every tree and is shown by the empty proof, as every tree is of itself.
    """
    if not 0 <= old_size <= new_size or not _are_hashes((old_root, new_root, *proof)):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    return _climb_consistency(old_size, new_size, path) == (old_root, new_root)


def _climb_consistency(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The old and the new root that `path` leads to, or None where its length does not fit the sizes."""
    if not path:
        return None
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if first & 1 or first == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        first, last = first >> 1, last >> 1
    return (old, new) if last == 0 else None


def _are_hashes(values: Iterable[bytes]) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_BYTES for value in values)


def _split(width: int) -> int:
    """Largest power of two smaller than `width` (>= 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    start, end, ranges = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def _consistency_ranges(old_size: int, new_size: int) -> list[tuple[int, int]]:
    start, end, ranges = 0, new_size, []
    if old_size == 0:
        return []
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:  # otherwise the remaining range is the old tree itself, whose root the verifier has
        ranges.append((start, end))
    return ranges[::-1]


def _range_hash(node: Node, start: int, end: int) -> bytes:
    """Hash of the subtree over leaves [start, end), which begins at a multiple of its rounded-up size."""
    hashes, width = [], end - start
    for height in range(width.bit_length() - 1, -1, -1):
        if width >> height & 1:
            hashes.append(node(height, start >> height))
            start += 1 << height
    return _fold(hashes)


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Joins the roots of perfect subtrees, largest first, into one root."""
    if not hashes:
        return EMPTY_ROOT
    result = hashes[-1]
    for left in reversed(hashes[:-1]):
        result = node_hash(left, result)
    return result


def _nodes(leaf_hashes: Sequence[bytes]) -> Node:
    return lambda height, index: root(leaf_hashes[index << height : (index + 1) << height])
