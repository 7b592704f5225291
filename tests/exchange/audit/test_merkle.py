"""Hashing and proofs: published vectors, pymerkle as oracle, every single-bit mutation of small proofs."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree  # type: ignore[import-untyped]

from exchange.audit import merkle
from tests.exchange.audit.samples import mth

# The leaves and roots that Certificate Transparency's reference implementation publishes for RFC 6962.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (index, size): audit path
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {  # (old size, new size): proof
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]


def hashes_of(count: int) -> list[bytes]:
    return [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(count)]


def subproof(old: int, hashes: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2, word for word."""
    if old == len(hashes):
        return [] if whole else [mth(hashes)]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if old <= k:
        return [*subproof(old, hashes[:k], whole=whole), mth(hashes[k:])]
    return [*subproof(old - k, hashes[k:], whole=False), mth(hashes[:k])]


def test_published_roots() -> None:
    assert [merkle.root(HASHES[:n]).hex() for n in range(9)] == ROOTS


@pytest.mark.parametrize("place", INCLUSION)
def test_published_inclusion_proofs(place: tuple[int, int]) -> None:
    index, size = place
    proof = [bytes.fromhex(item) for item in INCLUSION[place]]
    assert merkle.inclusion_proof(HASHES[:size], index) == proof
    assert merkle.verify_inclusion(HASHES[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize("sizes", CONSISTENCY)
def test_published_consistency_proofs(sizes: tuple[int, int]) -> None:
    old, new = sizes
    proof = [bytes.fromhex(item) for item in CONSISTENCY[sizes]]
    assert merkle.consistency_proof(HASHES[:new], old) == proof
    old_root, new_root = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
    assert merkle.verify_consistency(old, new, proof, old_root, new_root)


def test_agrees_with_pymerkle_on_every_size_up_to_300() -> None:
    random.seed(300)
    oracle, ours, leaf_hashes = InmemoryTree("sha256"), merkle.CompactRange(), []
    for size in range(1, 301):
        data = random.randbytes(random.randrange(64))
        oracle.append_entry(data)
        leaf_hashes.append(merkle.leaf_hash(data))
        ours.append(leaf_hashes[-1])
        assert ours.root() == merkle.root(leaf_hashes) == oracle.get_root()
        index, old = random.randrange(size), random.randint(1, size)
        path = oracle.prove_inclusion(index + 1, size).path
        # pymerkle's path begins with the leaf itself.
        assert [leaf_hashes[index], *merkle.inclusion_proof(leaf_hashes, index)] == path
        # pymerkle splits consistency proofs in its own way, so it vouches for the two roots and RFC 6962's
        # recursive definition for the hashes between them.
        proof = merkle.consistency_proof(leaf_hashes, old)
        assert proof == subproof(old, leaf_hashes, whole=True)
        assert merkle.verify_consistency(old, size, proof, oracle.get_root(old), oracle.get_root())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_honest_proof_verifies(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 600))
    leaf_hashes = hashes_of(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    root, old_root = merkle.root(leaf_hashes), merkle.root(leaf_hashes[:old])
    inclusion = merkle.inclusion_proof(leaf_hashes, index)
    assert merkle.verify_inclusion(leaf_hashes[index], index, size, inclusion, root)
    consistency = merkle.consistency_proof(leaf_hashes, old)
    assert merkle.verify_consistency(old, size, consistency, old_root, root)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_proof_is_for_one_place_in_one_tree(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 300))
    leaf_hashes = hashes_of(size)
    index, other = data.draw(
        st.tuples(*[st.integers(0, size - 1)] * 2).filter(lambda pair: pair[0] != pair[1])
    )
    root, proof = merkle.root(leaf_hashes), merkle.inclusion_proof(leaf_hashes, index)
    assert not merkle.verify_inclusion(leaf_hashes[index], other, size, proof, root)
    assert not merkle.verify_inclusion(leaf_hashes[other], index, size, proof, root)
    assert not merkle.verify_inclusion(leaf_hashes[index], index, size, [*proof, proof[-1]], root)
    assert not merkle.verify_inclusion(leaf_hashes[index], index, size, proof[:-1], root)
    old = data.draw(st.integers(1, size - 1))
    consistency, old_root = merkle.consistency_proof(leaf_hashes, old), merkle.root(leaf_hashes[:old])
    assert not merkle.verify_consistency(old, size, [*consistency, root], old_root, root)
    assert not merkle.verify_consistency(old, size, consistency[:-1], old_root, root)
    assert not merkle.verify_consistency(old, size, consistency, root, root)
    assert not merkle.verify_consistency(old, size, consistency, old_root, old_root)


@pytest.mark.parametrize("size", range(1, 10))
def test_every_single_bit_mutation_of_a_proof_is_rejected(size: int) -> None:
    leaf_hashes = hashes_of(size)
    root = merkle.root(leaf_hashes)
    for index in range(size):
        proof = merkle.inclusion_proof(leaf_hashes, index)
        parts = [leaf_hashes[index], *proof, root]
        for mutated in _mutations(parts):
            assert not merkle.verify_inclusion(mutated[0], index, size, mutated[1:-1], mutated[-1])
    for old in range(1, size):
        proof = merkle.consistency_proof(leaf_hashes, old)
        parts = [merkle.root(leaf_hashes[:old]), *proof, root]
        for mutated in _mutations(parts):
            assert not merkle.verify_consistency(old, size, mutated[1:-1], mutated[0], mutated[-1])


def _mutations(parts: list[bytes]) -> list[list[bytes]]:
    mutations = []
    for number, part in enumerate(parts):
        for bit in range(len(part) * 8):
            flipped = (int.from_bytes(part, "big") ^ 1 << bit).to_bytes(len(part), "big")
            mutations.append([*parts[:number], flipped, *parts[number + 1 :]])
    return mutations


def test_proofs_of_wrong_shape_are_rejected() -> None:
    leaf_hashes = hashes_of(5)
    root, proof = merkle.root(leaf_hashes), merkle.inclusion_proof(leaf_hashes, 2)
    assert not merkle.verify_inclusion(leaf_hashes[2], 5, 5, proof, root)
    assert not merkle.verify_inclusion(leaf_hashes[2], -1, 5, proof, root)
    assert not merkle.verify_inclusion(leaf_hashes[2], 2, 5, [item[:31] for item in proof], root)
    assert not merkle.verify_inclusion(leaf_hashes[2] + b"\x00", 2, 5, proof, root)
    assert not merkle.verify_inclusion(b"", 0, 0, [], merkle.EMPTY_ROOT)
    assert not merkle.verify_consistency(6, 5, [], root, root)
    assert not merkle.verify_consistency(3, 5, [], merkle.root(leaf_hashes[:3]), root)
    assert merkle.verify_consistency(0, 5, [], merkle.EMPTY_ROOT, root)
    assert not merkle.verify_consistency(0, 5, [], root, root)


def test_leaves_and_nodes_are_hashed_apart() -> None:
    left, right = merkle.leaf_hash(b"l"), merkle.leaf_hash(b"r")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    assert merkle.leaf_hash(b"l") == hashlib.sha256(b"\x00l").digest()


def test_compact_range_takes_whole_subtrees() -> None:
    leaf_hashes = hashes_of(300)
    grown = merkle.CompactRange()
    grown.append(merkle.root(leaf_hashes[:256]), 8)
    for leaf in leaf_hashes[256:]:
        grown.append(leaf)
    assert grown.root() == merkle.root(leaf_hashes)
    with pytest.raises(ValueError, match="multiple"):
        grown.append(leaf_hashes[0], 8)
    with pytest.raises(ValueError, match="set bit"):
        merkle.CompactRange(3, [leaf_hashes[0]])
