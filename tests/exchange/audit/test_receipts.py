"""Receipts: promised, then proved; every change to one is found, and nothing makes the check crash."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.audit import checkpoint, leaf, merkle, note
from exchange.audit.errors import Malformed
from exchange.audit.note import VerifierKey
from exchange.audit.receipts import (
    ReceiptReport,
    ReceiptSigner,
    attach_inclusion,
    build_receipt,
    verify_receipt,
)
from exchange.audit.tiles import Fetched
from tests.exchange.audit.samples import (
    KEYS,
    NOW,
    ORIGIN,
    RECEIPTS,
    SIGNER,
    STRANGER,
    WITNESSES,
    publish,
    records,
    sha,
    signed_head,
)

SEQ = 6  # an answered query with every group filled
RECEIPT_KEYS = [str(RECEIPTS.verifier)]
LEAF = records(40)[SEQ].leaf
FILES = publish([record.leaf for record in records(40)])
HEAD = checkpoint.parse_checkpoint(FILES["checkpoint"])
BARE = ReceiptSigner(RECEIPTS, ORIGIN).issue(LEAF, NOW)
PROVED = attach_inclusion(BARE, Fetched(FILES), HEAD)


def verify(receipt: Any, **options: Any) -> ReceiptReport:
    given = {"receipt_keys": RECEIPT_KEYS, "log_keys": KEYS, "origin": ORIGIN, "now": NOW, **options}
    return verify_receipt(receipt, **given)


def test_a_fresh_receipt_is_a_promise_until_its_time() -> None:
    report = verify(BARE)
    assert (report.good, report.state, report.exit_code) == (True, "promised", 0)
    assert (report.seq, report.leaf_hash) == (SEQ, merkle.leaf_hash(LEAF).hex())
    assert str(report.integrate_by) in str(report)
    assert report.document == leaf.decode(LEAF)
    late = verify(BARE, now=NOW + timedelta(seconds=66))
    assert (late.good, late.state, late.exit_code) == (False, "overdue", 10)


@pytest.mark.parametrize(
    ("after", "within", "code"),
    [
        (timedelta(0), timedelta(hours=1), 0),
        (timedelta(minutes=59), timedelta(seconds=65), 0),
        (timedelta(0), timedelta(hours=1, microseconds=1), 15),
        (timedelta(0), timedelta(days=365_000), 15),
        (timedelta(0), timedelta(microseconds=-1), 15),
        (timedelta(days=365_000), timedelta(seconds=65), 15),
    ],
)
def test_no_promise_is_one_for_ever(after: timedelta, within: timedelta, code: int) -> None:
    """A receipt key that promises the year 9999 has promised nothing."""
    issued = NOW + after
    made = build_receipt(LEAF, origin=ORIGIN, signer=RECEIPTS, now=issued, integrate_by=issued + within)
    assert verify(made).exit_code == code


def test_without_a_proof_no_witness_has_signed() -> None:
    """Whoever asks for witnesses is not content with a promise."""
    asked: dict[str, Any] = {"witnesses": [str(WITNESSES[0].verifier)], "required": 1}
    report = verify(BARE, **asked)
    assert (report.good, report.exit_code) == (False, 16)
    assert verify(BARE, **{**asked, "required": 0}).good
    assert verify(BARE, **asked, now=NOW + timedelta(seconds=66)).exit_code == 10


def test_a_receipt_with_a_proof_is_good_at_any_time() -> None:
    report = verify(PROVED, now=NOW + timedelta(days=3650))
    assert (report.good, report.state, report.checkpoint_size) == (True, "included", 40)
    assert verify(json.dumps(PROVED)).good
    assert verify(json.dumps(PROVED, indent=2).encode()).good


def test_the_receipt_shows_what_its_leaf_says() -> None:
    summary = BARE["summary"]
    assert summary["query_id"] == f"qry_{SEQ}"
    assert summary["rho_nano"] == str(1_000 + SEQ)
    assert summary["amount_minor"] == str(100 + SEQ)
    assert summary["result_sha256"] == sha(f"result{SEQ}")
    assert base64.b64decode(BARE["leaf"]) == LEAF


def test_the_delivered_result_is_held_against_the_receipt() -> None:
    assert verify(PROVED, result=f"result{SEQ}".encode()).good
    assert verify(PROVED, result=b"another result").exit_code == 11
    assert hashlib.sha256(f"result{SEQ}".encode()).hexdigest() == BARE["summary"]["result_sha256"]


@pytest.mark.parametrize("index", [0, 5, 7, 39])
def test_every_kind_of_entry_has_a_receipt(index: int) -> None:
    receipt = ReceiptSigner(RECEIPTS, ORIGIN).issue(records(40)[index].leaf, NOW)
    assert verify(attach_inclusion(receipt, Fetched(FILES), HEAD)).good


def resigned(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """What a dishonest holder of the receipt key could issue."""
    body = {name: copy.deepcopy(value) for name, value in BARE.items() if name != "signature"}
    change(body)
    value = RECEIPTS.sign(b"exchange-receipt/v1\n" + leaf.canonical(body))
    return {**body, "signature": {**BARE["signature"], "value": base64.b64encode(value).decode()}}


def test_resigning_without_a_change_is_good() -> None:
    assert resigned(lambda body: None) == BARE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body["summary"].update(rho_nano="1"), 11),
        (lambda body: body["summary"].update(amount_minor=106), 11),
        (lambda body: body["summary"].update(result_sha256=None), 11),
        (lambda body: body.update(seq=SEQ + 1), 11),
        (lambda body: body.update(leaf_hash="0" * 64), 11),
        (lambda body: body["promise"].update(origin="other.example"), 11),
        (lambda body: body.update(leaf=base64.b64encode(records(40)[5].leaf).decode()), 11),
        (lambda body: body.update(leaf=base64.b64encode(b"\x02{}").decode()), 11),
        (lambda body: body.update(leaf="x"), 15),
        (lambda body: body.update(leaf=base64.b64encode(LEAF).decode() + "\n"), 15),
    ],
)
def test_a_signed_receipt_that_contradicts_its_leaf_is_found(
    change: Callable[[dict[str, Any]], None], code: int
) -> None:
    report = verify(resigned(change))
    assert (report.exit_code, report.state) == (code, "invalid")


def test_a_receipt_signed_by_another_key_is_refused() -> None:
    forged = ReceiptSigner(note.SigningKey(RECEIPTS.name, STRANGER.seed), ORIGIN).issue(LEAF, NOW)
    assert verify(forged).exit_code == 13
    assert verify(BARE, receipt_keys=[]).exit_code == 13
    assert verify(BARE, receipt_keys=KEYS).exit_code == 13
    # A log key's signature over a checkpoint is no receipt, nor the other way round.
    other = build_receipt(LEAF, origin=ORIGIN, signer=SIGNER, now=NOW, integrate_by=NOW)
    assert verify(other).exit_code == 13


def _changed(receipt: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(receipt)
    inner: Any = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return changed


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [p for name, item in inner for p in _paths(item, (*path, name))]


@pytest.mark.parametrize("path", _paths(PROVED), ids=lambda path: ".".join(map(str, path)))
def test_every_member_replaced_is_found(path: tuple[str | int, ...]) -> None:
    original: Any = PROVED
    for name in path:
        original = original[name]
    values: tuple[Any, ...] = (None, "", "x", 0, 10**30, 1.5, [], {}, True, "\ud800", b"x", [[]] * 80)
    for value in values:
        if value == original and type(value) is type(original):
            continue
        if path == ("inclusion",) and value is None:
            continue  # a receipt whose proof was taken away is a promise again
        assert verify(_changed(PROVED, path, value)).exit_code in {11, 13, 15}


def test_every_flipped_character_of_a_receipt_is_found() -> None:
    text = json.dumps(PROVED, sort_keys=True, ensure_ascii=False)
    for position in range(0, len(text), 3):
        flipped = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
        assert verify(flipped).exit_code in {11, 13, 15}


ANYTHING = st.recursive(
    st.none() | st.text() | st.integers() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=100, deadline=None)
@given(ANYTHING)
def test_no_document_crashes_the_check(document: Any) -> None:
    assert verify(document if isinstance(document, dict | str) else {"format": document}).exit_code == 15


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b"null", b"[" * 50_000, b" " * 2_000_000, b'{"a":1,"a":2}']
)
def test_malformed_documents_are_named_so(data: bytes) -> None:
    assert verify(data).exit_code == 15


def test_malformed_keys_are_named_so() -> None:
    assert verify(BARE, receipt_keys=["nonsense"]).exit_code == 15
    assert verify(BARE, log_keys=["nonsense"]).exit_code == 15


def test_proofs_to_another_tree_place_or_checkpoint_are_found() -> None:
    inclusion = PROVED["inclusion"]
    other = attach_inclusion(
        ReceiptSigner(RECEIPTS, ORIGIN).issue(records(40)[SEQ + 1].leaf, NOW), Fetched(FILES), HEAD
    )["inclusion"]
    cases = {
        11: [
            other,
            {**inclusion, "proof": other["proof"]},
            {**inclusion, "proof": inclusion["proof"][:-1]},
            {**inclusion, "proof": [*inclusion["proof"], inclusion["proof"][0]]},
            {**inclusion, "index": SEQ + 1},
            {**inclusion, "checkpoint": signed_head(40, bytes(32)).decode()},
            {**inclusion, "checkpoint": signed_head(0, merkle.EMPTY_ROOT).decode()},
        ],
        13: [
            {**inclusion, "checkpoint": signed_head(40, HEAD.root, STRANGER).decode()},
            {**inclusion, "checkpoint": inclusion["checkpoint"].replace("\n40\n", "\n41\n")},
        ],
        15: [
            {**inclusion, "checkpoint": "nonsense"},
            {**inclusion, "checkpoint": signed_head(40, HEAD.root, origin="other.example").decode()},
            {**inclusion, "proof": ["?"]},
            {**inclusion, "proof": inclusion["proof"] * 30},
        ],
    }
    for code, variants in cases.items():
        for variant in variants:
            assert verify({**BARE, "inclusion": variant}).exit_code == code


def test_witnesses_are_required_where_asked_for() -> None:
    head = HEAD
    for witness in WITNESSES[:2]:
        head = checkpoint.cosign(head, witness, NOW)
    receipt = attach_inclusion(BARE, Fetched(FILES), head)
    pinned = [str(witness.verifier) for witness in WITNESSES]
    assert verify(receipt, witnesses=pinned, required=2).good
    assert verify(receipt, witnesses=pinned, required=3).exit_code == 16
    assert verify(PROVED, witnesses=pinned, required=1).exit_code == 16
    # A key under the name and id of another: its signature does not verify.
    known = WITNESSES[0].verifier
    impostor = note.Signature(known.name, known.key_id, bytes(72))
    forged = note.Note(HEAD.note.text, (*HEAD.note.signatures, impostor)).encoded().decode()
    changed = {**BARE, "inclusion": {**PROVED["inclusion"], "checkpoint": forged}}
    assert verify(changed, witnesses=pinned, required=1).exit_code == 13


def test_a_proof_is_attached_only_where_the_tiles_prove_it() -> None:
    early = checkpoint.parse_checkpoint(signed_head(SEQ, bytes(32)))
    with pytest.raises(Malformed, match="not under this checkpoint"):
        attach_inclusion(BARE, Fetched(FILES), early)
    wrong = checkpoint.parse_checkpoint(signed_head(40, bytes(32)))
    with pytest.raises(Malformed, match="do not prove"):
        attach_inclusion(BARE, Fetched(FILES), wrong)
    with pytest.raises(Malformed):
        build_receipt(b"no leaf", origin=ORIGIN, signer=RECEIPTS, now=NOW, integrate_by=NOW)


ALONE = """
import sys
for name in ("cryptography", "sqlalchemy", "rfc8785", "httpx", "flask"):
    sys.modules[name] = None
from exchange.audit import checkpoint, leaf, merkle, note, receipts, tiles, verify
key = note.VerifierKey.parse(sys.argv[1])
try:
    key.verify(b"", bytes(64))
except Exception as error:
    print(error.code, error.hint)
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module}
outside = loaded - set(sys.stdlib_module_names)
print(sorted(name for name in outside if not name.startswith("_")))
"""


def test_the_verifiers_import_with_the_standard_library_alone() -> None:
    key = str(VerifierKey(RECEIPTS.name, RECEIPTS.verifier.public))
    command = [sys.executable, "-P", "-c", ALONE, key]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said, modules = done.stdout.splitlines()
    assert said == 'cryptography_missing Run: pip install "private-data-exchange[verify]"'
    assert "exchange" in modules
    for name in ("sqlalchemy", "httpx", "cryptography", "rfc8785", "flask", "pyarrow"):
        assert name not in modules
