"""Signed notes, keys, checkpoints: published vectors, every mutation refused, nothing malformed accepted."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.audit import checkpoint, note
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.note import COSIGNATURE, SigningKey, VerifierKey
from tests.exchange.audit.samples import NOW, ORIGIN, SIGNER, STRANGER, WITNESSES, signed_head

# The example of golang.org/x/mod/sumdb/note, which the format was taken from.
NEUMANN_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NEUMANN_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuG"
    "UgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = SIGNER.verifier


def test_published_note_is_verified_and_signed_to_the_same_bytes() -> None:
    parsed = note.parse_note(NEUMANN_NOTE)
    key = VerifierKey.parse(NEUMANN_PUBLIC)
    assert note.verify_note(parsed, [key]) == (key,)
    assert str(key) == NEUMANN_PUBLIC
    signer = SigningKey.parse(NEUMANN_PRIVATE)
    assert signer.verifier == key
    assert signer.encoded() == NEUMANN_PRIVATE
    assert note.sign_note(parsed.text, signer).encoded() == NEUMANN_NOTE.encode()


def test_generated_keys_round_trip_and_hide_their_secret() -> None:
    key = SigningKey.generate("exchange.example/log")
    assert SigningKey.parse(key.encoded()) == key
    assert VerifierKey.parse(str(key.verifier)) == key.verifier
    assert SigningKey.generate("exchange.example/log") != key
    assert key.seed.hex() not in repr(key)
    assert key.encoded() not in f"{key} {key!r}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        NEUMANN_PUBLIC.replace("c74f20a3", "c74f20a4"),
        NEUMANN_PUBLIC.replace("Peter", "Pater"),
        NEUMANN_PUBLIC.replace("c74f20a3", "C74F20A3"),
        NEUMANN_PUBLIC[:-1],
        NEUMANN_PUBLIC + "=",
        NEUMANN_PUBLIC.replace("+ARpc", "+AhpC"),
        NEUMANN_PUBLIC.replace("Neumann", " Neumann"),
        "x" * 300 + "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        VerifierKey.parse(text)
    with pytest.raises(Malformed):
        SigningKey.parse(f"PRIVATE+KEY+{text}")


def test_the_error_about_a_private_key_does_not_repeat_it() -> None:
    with pytest.raises(Malformed) as caught:
        SigningKey.parse(NEUMANN_PRIVATE.replace("c74f20a3", "00000000"))
    assert "AYEKFALVFGyNhPJEMzD1QIDr" not in f"{caught.value} {caught.value.hint}"


def _note(text: str) -> str:
    return note.sign_note(text, SIGNER).encoded().decode()


GOOD = _note("one\ntwo\n")
LINE = GOOD.splitlines()[-1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"one\n",
        b"one\ntwo\n\n",
        GOOD.encode()[:-1],
        GOOD.replace("\n\n", "\n").encode(),
        GOOD.replace("— ", "- ").encode(),
        GOOD.replace("one", "o\x00ne").encode(),
        GOOD.replace("one\n", "one\r\n").encode(),
        GOOD.replace("one", "o\x1b[31mne").encode(),
        GOOD.encode() + b"\xff",
        GOOD.replace("one", "one\udc80").encode("utf-8", "surrogatepass"),
        (GOOD + LINE + "\n").encode(),
        (GOOD + "— a b c\n").encode(),
        (GOOD + "— na+me AAAAAAA=\n").encode(),
        (GOOD + "— name AAAA\n").encode(),
        (GOOD + "— name AAAAAAB=\n").encode(),
        (GOOD + "\n").encode(),
        (GOOD + "".join(f"— n{i} AAAAAAA=\n" for i in range(64))).encode(),
        b"a" * (note.MAX_NOTE_BYTES + 1),
        GOOD.replace(LINE, LINE[:-1]).encode(),
    ],
)
def test_malformed_duplicate_and_oversized_notes_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        note.parse_note(data)


def test_at_least_sixteen_signatures_and_empty_lines_are_accepted() -> None:
    text = "one\n\n\ntwo\n"
    signed = _note(text) + "".join(f"— other{i} AAAAAAA=\n" for i in range(20))
    parsed = note.parse_note(signed)
    assert parsed.text == text
    assert note.verify_note(parsed, [KEY]) == (KEY,)
    assert parsed.encoded() == signed.encode()


def test_unknown_signatures_are_ignored_but_a_known_bad_one_is_not() -> None:
    parsed = note.parse_note(GOOD)
    with pytest.raises(SignatureInvalid, match="No trusted key"):
        note.verify_note(parsed, [STRANGER.verifier])
    with pytest.raises(SignatureInvalid, match="No trusted key"):
        note.verify_note(parsed, [])
    forged = note.Signature(KEY.name, KEY.key_id, bytes(64))
    with pytest.raises(SignatureInvalid, match="does not verify"):
        note.verify_note(note.Note(parsed.text, (forged,)), [KEY])
    short = note.Signature(KEY.name, KEY.key_id, parsed.signatures[0].value[:63])
    with pytest.raises(SignatureInvalid):
        note.verify_note(note.Note(parsed.text, (short,)), [KEY])


def test_every_single_bit_mutation_of_a_note_is_refused() -> None:
    data = GOOD.encode()
    for position in range(len(data)):
        for bit in range(8):
            mutated = bytearray(data)
            mutated[position] ^= 1 << bit
            with pytest.raises((Malformed, SignatureInvalid)):
                note.verify_note(note.parse_note(bytes(mutated)), [KEY])


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_parsers(data: bytes) -> None:
    for parse in (note.parse_note, checkpoint.parse_checkpoint):
        with contextlib.suppress(Malformed):  # anything else fails the test
            assert parse(data) is not None


@given(st.text(max_size=80))
def test_no_text_crashes_the_key_parsers(text: str) -> None:
    for parse in (VerifierKey.parse, SigningKey.parse):
        with pytest.raises(Malformed):
            parse(text)


def test_checkpoints_round_trip_and_match_the_format() -> None:
    root = bytes(range(32))
    ours = checkpoint.sign_checkpoint(ORIGIN, 20852163, root, SIGNER)
    assert ours.encoded() == signed_head(20852163, root)
    opened = checkpoint.open_checkpoint(ours.encoded(), origin=ORIGIN, keys=[KEY])
    assert (opened.origin, opened.size, opened.root) == (ORIGIN, 20852163, root)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n05\n{'A' * 43}=\n",
        f"{ORIGIN}\n-5\n{'A' * 43}=\n",
        f"{ORIGIN}\n+5\n{'A' * 43}=\n",
        f"{ORIGIN}\n٥\n{'A' * 43}=\n",
        f"{ORIGIN}\n{2**63}\n{'A' * 43}=\n",
        f"{ORIGIN}\n5\n{'A' * 42}==\n",
        f"{ORIGIN}\n5\n{'A' * 44}\n",
        f"{ORIGIN}\n5\nAAAA\n",
        f"{ORIGIN}\n5\n{'A' * 43}=\nextension\n",
        f"\n5\n{'A' * 43}=\n",
        "one\n",
    ],
)
def test_malformed_checkpoints_are_refused_although_signed(text: str) -> None:
    signed = note.sign_note(text, SIGNER).encoded()
    with pytest.raises(Malformed):
        checkpoint.open_checkpoint(signed, origin=ORIGIN, keys=[KEY])


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = signed_head(5, bytes(32), origin="other.example/audit")
    with pytest.raises(Malformed, match="another log"):
        checkpoint.open_checkpoint(other, origin=ORIGIN, keys=[KEY])
    with pytest.raises(Malformed):
        checkpoint.sign_checkpoint("two\nlines", 5, bytes(32), SIGNER)


def test_witnesses_count_once_each_and_the_log_is_not_its_own_witness() -> None:
    head = checkpoint.sign_checkpoint(ORIGIN, 5, bytes(32), SIGNER)
    for witness in WITNESSES[:2]:
        head = checkpoint.cosign(head, witness, NOW)
    own = SigningKey("witness.example/own", SIGNER.seed, COSIGNATURE)
    head = checkpoint.cosign(head, own, NOW)
    read = checkpoint.open_checkpoint(head.encoded(), origin=ORIGIN, keys=[KEY])
    pinned = [w.verifier for w in WITNESSES] + [WITNESSES[0].verifier, own.verifier]
    found = checkpoint.cosigners(read, pinned, log_keys=[KEY])
    assert {key.name for key in found} == {"witness.example/1", "witness.example/2"}
    with pytest.raises(Malformed, match="already"):
        checkpoint.cosign(head, WITNESSES[0], NOW)
    with pytest.raises(Malformed, match="0x04"):
        checkpoint.cosign(head, STRANGER, NOW)


def test_a_witness_signature_moved_to_another_checkpoint_or_time_is_refused() -> None:
    one = checkpoint.cosign(checkpoint.sign_checkpoint(ORIGIN, 5, bytes(32), SIGNER), WITNESSES[0], NOW)
    two = checkpoint.sign_checkpoint(ORIGIN, 6, bytes(32), SIGNER)
    moved = note.Note(two.note.text, (*two.note.signatures, one.note.signatures[1]))
    signature = one.note.signatures[1]
    later = (int.from_bytes(signature.value[:8], "big") + 1).to_bytes(8, "big") + signature.value[8:]
    redated = note.Note(
        one.note.text,
        (one.note.signatures[0], note.Signature(signature.name, signature.key_id, later)),
    )
    for forged in (moved, redated):
        head = checkpoint.parse_checkpoint(forged.encoded())
        with pytest.raises(SignatureInvalid, match="witness"):
            checkpoint.cosigners(head, [WITNESSES[0].verifier], log_keys=[KEY])
