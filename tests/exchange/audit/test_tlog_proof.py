"""Proof files of c2sp.org/tlog-proof: the format's example, round trips, a parser that nothing crashes."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.audit import checkpoint, leaf, merkle
from exchange.audit.errors import Malformed
from exchange.audit.receipts import ReceiptSigner, attach_inclusion
from exchange.audit.tiles import Fetched
from exchange.audit.tlog_proof import (
    MAX_PROOF_BYTES,
    ProofReport,
    TlogProof,
    parse_tlog_proof,
    proof_of_receipt,
    verify_tlog_proof,
)
from tests.exchange.audit.samples import (
    KEYS,
    NOW,
    ORIGIN,
    RECEIPTS,
    SIGNER,
    STRANGER,
    WITNESSES,
    mth,
    publish,
    records,
    signed_head,
)

SIZE, SEQ = 40, 6
RECORDS = records(SIZE)
LEAVES = [record.leaf for record in RECORDS]
FILES = publish(LEAVES)
HEAD = checkpoint.parse_checkpoint(FILES["checkpoint"])


def proof(seq: int = SEQ, extra: bytes | None = LEAVES[SEQ]) -> TlogProof:
    hashes = merkle.inclusion_proof([record.leaf_hash for record in RECORDS], seq)
    return TlogProof(seq, tuple(hashes), FILES["checkpoint"], extra)


DATA = proof().encoded()


def verify(data: bytes | str = DATA, **options: Any) -> ProofReport:
    return verify_tlog_proof(data, **{"origin": ORIGIN, "keys": KEYS, **options})


# The shape of the format's own example: https://c2sp.org/tlog-proof
EXAMPLE = b"""c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

\xe2\x80\x94 example.com/fancylog hI2DJwAAAAA=
"""


def test_a_file_is_read_and_written_as_the_format_says() -> None:
    read = parse_tlog_proof(EXAMPLE)
    assert (read.index, len(read.hashes), read.extra) == (73_894, 2, b"age-v1.2.1-darwin-arm64.tar.gz")
    assert read.hashes[0][:4].hex() == "8122b25e"
    assert checkpoint.parse_checkpoint(read.checkpoint).size == 109_482
    assert read.encoded() == EXAMPLE
    bare = EXAMPLE.replace(EXAMPLE.split(b"\n")[1] + b"\n", b"")
    assert parse_tlog_proof(bare).extra is None
    assert parse_tlog_proof(bare).encoded() == bare


def test_our_file_is_the_format_line_by_line() -> None:
    lines = DATA.decode().split("\n")
    path = merkle.inclusion_proof([record.leaf_hash for record in RECORDS], SEQ)
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + base64.b64encode(LEAVES[SEQ]).decode()
    assert lines[2] == f"index {SEQ}"
    assert lines[3 : 3 + len(path)] == [base64.b64encode(step).decode() for step in path]
    assert "\n".join(lines[3 + len(path) :]).encode() == b"\n" + FILES["checkpoint"]


@pytest.mark.parametrize("seq", [0, 1, 31, 32, 39])
def test_every_entry_has_a_file_that_proves_it(seq: int) -> None:
    report = verify(proof(seq, LEAVES[seq]).encoded())
    assert (report.good, report.seq, report.size, report.findings) == (True, seq, SIZE, ())
    assert report.leaf_hash == RECORDS[seq].leaf_hash.hex()
    assert report.document == RECORDS[seq].document
    assert str(report) == f"Entry {seq} is in the log of {SIZE} entries."
    assert verify(proof(seq, None).encoded(), leaf=LEAVES[seq]).good


def test_a_log_of_one_leaf_has_a_proof_without_hashes() -> None:
    data = TlogProof(0, (), publish(LEAVES[:1])["checkpoint"], LEAVES[0]).encoded()
    assert verify(data).good
    assert data.count(b"\n") == 4 + publish(LEAVES[:1])["checkpoint"].count(b"\n")


def test_a_receipt_gives_the_proof_that_it_carries() -> None:
    receipt = ReceiptSigner(RECEIPTS, ORIGIN).issue(LEAVES[SEQ], NOW)
    proved = attach_inclusion(receipt, Fetched(FILES), HEAD)
    assert proof_of_receipt(proved).encoded() == DATA
    assert proof_of_receipt({"acceptance": "", "receipt": proved}).encoded() == DATA
    for none in (
        receipt,
        {},
        {"inclusion": None},
        {"inclusion": 3},
        {**proved, "leaf": 3},
        {**proved, "leaf": "?"},
    ):
        with pytest.raises(Malformed):
            proof_of_receipt(none)
    for change in ({"index": "6"}, {"index": -1}, {"proof": ["AA=="]}, {"checkpoint": ""}):
        with pytest.raises(Malformed):
            proof_of_receipt({**proved, "inclusion": {**proved["inclusion"], **change}}).encoded()


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (lambda: proof(extra=LEAVES[7]).encoded(), 11),
        (lambda: replace(proof(), index=7).encoded(), 11),
        (lambda: replace(proof(), index=SIZE).encoded(), 11),
        (lambda: replace(proof(), hashes=proof().hashes[:-1]).encoded(), 11),
        (lambda: replace(proof(), hashes=proof().hashes[::-1]).encoded(), 11),
        (lambda: replace(proof(), checkpoint=signed_head(SIZE, bytes(32))).encoded(), 11),
        (lambda: replace(proof(), checkpoint=signed_head(SIZE, HEAD.root, STRANGER)).encoded(), 13),
        (lambda: DATA.replace(b"\n40\n", b"\n41\n"), 13),
        (lambda: replace(proof(), checkpoint=signed_head(SIZE, HEAD.root, origin="other")).encoded(), 15),
        (lambda: replace(proof(), checkpoint=b"nonsense\n").encoded(), 15),
        (lambda: proof(extra=None).encoded(), 15),
        (lambda: b"", 15),
    ],
)
def test_each_forgery_has_its_code(what: Any, code: int) -> None:
    report = verify(what())
    assert (report.good, report.exit_code) == (False, code)
    assert str(report).startswith("[")


def test_a_leaf_that_contradicts_the_file_or_its_own_place_is_found() -> None:
    assert verify(leaf=LEAVES[7]).exit_code == 11
    moved = publish([LEAVES[0], LEAVES[0]])
    data = TlogProof(1, (RECORDS[0].leaf_hash,), moved["checkpoint"], LEAVES[0]).encoded()
    assert [f.message for f in verify(data).findings] == ["The leaf carries another number than its place."]
    odd = b"\x01{}"
    data = TlogProof(0, (), publish([odd])["checkpoint"], odd).encoded()
    assert verify(data).exit_code == 15


def test_witnesses_are_required_where_they_are_pinned() -> None:
    pinned = [str(witness.verifier) for witness in WITNESSES]
    head = checkpoint.cosign(HEAD, WITNESSES[0], NOW)
    data = replace(proof(), checkpoint=head.encoded()).encoded()
    assert [verify(data, witnesses=pinned, required=n).exit_code for n in (0, 1, 2)] == [0, 0, 16]
    assert verify(data, witnesses=pinned).witnesses == (WITNESSES[0].name,)


CHECKPOINT = FILES["checkpoint"].decode()
HASH = base64.b64encode(bytes(32)).decode()
ODD = [
    "",
    "c2sp.org/tlog-proof@v1",
    "c2sp.org/tlog-proof@v1\n",
    "c2sp.org/tlog-proof@v1\n\n" + CHECKPOINT,
    f"c2sp.org/tlog-proof@v2\nindex 1\n\n{CHECKPOINT}",
    f"\nc2sp.org/tlog-proof@v1\nindex 1\n\n{CHECKPOINT}",
    f"c2sp.org/tlog-proof@v1\r\nindex 1\r\n\r\n{CHECKPOINT}",
    f"c2sp.org/tlog-proof@v1\nindex 1\n{CHECKPOINT}",
    "c2sp.org/tlog-proof@v1\nindex 1\n\n",
    *(
        f"c2sp.org/tlog-proof@v1\n{head}\n\n{CHECKPOINT}"
        for head in (
            *(
                f"index{value}"
                for value in ("", " ", " 01", " -1", " +1", " 1 ", " 1.0", " 0x1", " ١", "  1", "\t1")
            ),
            f"index {2**63}",
            "index 9" + "9" * 5_000,
            "INDEX 1",
            "extra\nindex 1",
            "extra \nindex 1",
            "extra ?\nindex 1",
            "extra QQ\nindex 1",
            "extra QR==\nindex 1",
            "extra QQ==\nextra QQ==\nindex 1",
            "index 1\nextra QQ==",
            f"index 1\n{HASH[:-1]}",
            f"index 1\n{HASH} ",
            f"index 1\n {HASH}",
            "index 1\nQQ==",
            "index 1\n" + "\n".join([HASH] * 64),
            f"index 1\n{HASH}é",
        )
    ),
]


@pytest.mark.parametrize("text", ODD)
def test_another_spelling_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_tlog_proof(text)
    assert verify(text).exit_code == 15
    assert verify(text.encode()).exit_code == 15


def test_limits_are_held() -> None:
    with pytest.raises(Malformed, match="too large"):
        parse_tlog_proof(DATA + b"\n" * MAX_PROOF_BYTES)
    assert verify("c2sp.org/tlog-proof@v1\nindex 1\n\n\ud800").exit_code == 15
    longest = TlogProof(2**63 - 1, (bytes(32),) * 63, FILES["checkpoint"], bytes(leaf.MAX_BYTES))
    assert parse_tlog_proof(longest.encoded()) == longest
    for wrong in (replace(proof(), index=-1), replace(proof(), checkpoint=b""), replace(proof(), extra=b"")):
        with pytest.raises(Malformed):
            wrong.encoded()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_parsed_is_written_the_same(data: st.DataObject) -> None:
    changed = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        with_what = data.draw(st.binary(max_size=3))
        changed[place : place + data.draw(st.integers(0, 4))] = with_what
    mutated = bytes(changed)
    report = verify(mutated)
    assert report.good is (mutated == DATA)
    try:
        assert parse_tlog_proof(mutated).encoded() == mutated
    except Malformed:
        assert report.exit_code == 15


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), st.text(max_size=300).map(lambda t: "c2sp.org/tlog-proof@v1\n" + t))
)
def test_any_bytes_are_malformed_and_nothing_else(data: bytes | str) -> None:
    assert verify(data).exit_code in {13, 15}


def test_every_flipped_bit_is_found() -> None:
    random.seed(4)
    for place in random.sample(range(len(DATA)), 300):
        changed = bytearray(DATA)
        changed[place] ^= 1 << random.randrange(8)
        assert verify(bytes(changed)).exit_code in {11, 13, 15}


def test_the_root_is_that_of_the_leaves() -> None:
    assert HEAD.root == mth([record.leaf_hash for record in RECORDS])
    assert str(SIGNER.verifier) == KEYS[0]
