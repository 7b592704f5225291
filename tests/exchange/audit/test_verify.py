"""The verifier: each tampering has its exact exit code and is named, clean logs raise no alarm."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from exchange.audit import checkpoint, leaf, merkle
from exchange.audit.log import Record
from exchange.audit.note import SigningKey
from exchange.audit.report import Finding
from exchange.audit.tiles import Fetched
from exchange.audit.verify import LogReport, verify_books, verify_log
from tests.exchange.audit.samples import (
    KEYS,
    NOW,
    ORIGIN,
    SIGNER,
    STRANGER,
    WITNESSES,
    mth,
    publish,
    records,
    sha,
    signed_head,
)

SIZE = 600
RECORDS = records(SIZE)
LEAVES = [record.leaf for record in RECORDS]
FILES = publish(LEAVES)


def verify(files: dict[str, bytes], **options: Any) -> LogReport:
    return verify_log(Fetched(files), origin=ORIGIN, keys=KEYS, **options)


def code(files: dict[str, bytes], **options: Any) -> int:
    return verify(files, **options).exit_code


def flipped(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def seqs(report: LogReport) -> set[int | None]:
    return {finding.seq for finding in report.findings}


# ---- clean logs


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 600])
def test_clean_logs_raise_no_alarm(size: int) -> None:
    pinned = checkpoint.sign_checkpoint(ORIGIN, size // 2, mth(_hashes(size // 2)), SIGNER).encoded()
    promised = {record.seq: record.leaf_hash for record in RECORDS[:size:7]}
    report = verify(publish(LEAVES[:size]), pinned=pinned, database_leaves=RECORDS, promised=promised)
    assert report.findings == ()
    assert (report.exit_code, report.good, report.size, report.entries) == (0, True, size, size)
    assert (report.unpublished, report.root) == (SIZE - size, mth(_hashes(size)))


def test_every_prefix_of_a_clean_log_is_clean_against_every_older_checkpoint() -> None:
    random.seed(8)
    for size in random.sample(range(1, SIZE), 25):
        for old in {0, 1, size, random.randrange(size), size // 256 * 256}:
            pinned = signed_head(old, mth(_hashes(old)))
            assert code(publish(LEAVES[:size]), pinned=pinned, database_leaves=iter(RECORDS[:size])) == 0


def test_an_old_checkpoint_is_verified_with_the_files_of_a_grown_log() -> None:
    """Partial tiles may be gone once their full tile is there."""
    old = {**FILES, "checkpoint": publish(LEAVES[:300])["checkpoint"]}
    old["tile/1/000.p/1"] = FILES["tile/1/000.p/2"][:32]
    assert code(old) == 0
    # Tile 2 of the grown log is still partial, so a checkpoint of 550 needs its own partial files.
    assert code({**FILES, "checkpoint": publish(LEAVES[:550])["checkpoint"]}) == 10


def _hashes(count: int) -> list[bytes]:
    return [record.leaf_hash for record in RECORDS[:count]]


# ---- altered bytes


def test_every_flipped_byte_of_a_tile_is_found() -> None:
    random.seed(1)
    for path in [p for p in FILES if p.startswith("tile/") and "entries" not in p]:
        for position in random.sample(range(len(FILES[path])), min(12, len(FILES[path]))):
            data = flipped(FILES[path], position, random.randrange(8))
            report = verify({**FILES, path: data})
            assert report.exit_code == 11
            assert path in {finding.path for finding in report.findings}


def test_every_flipped_byte_of_a_bundle_is_found_and_its_entry_named() -> None:
    random.seed(2)
    for path in [p for p in FILES if p.startswith("tile/entries/")]:
        first = int(path.split("/")[2][:3]) * 256
        for position in random.sample(range(len(FILES[path])), 34):
            report = verify({**FILES, path: flipped(FILES[path], position, random.randrange(8))})
            assert report.exit_code == 11
            assert path in {finding.path for finding in report.findings}
            seq = first + _entry_at(FILES[path], position)
            # Where a length prefix was hit, the entries behind it cannot be told apart any more.
            assert seq in seqs(report) or None in seqs(report)


def _entry_at(data: bytes, position: int) -> int:
    start = number = 0
    while True:
        start += 2 + int.from_bytes(data[start : start + 2], "big")
        if position < start:
            return number
        number += 1


def test_every_flipped_bit_of_a_checkpoint_is_found() -> None:
    data = FILES["checkpoint"]
    for position in range(len(data)):
        for bit in range(8):
            assert code({**FILES, "checkpoint": flipped(data, position, bit)}) in {13, 15}
    text = data.index(b"\n\n")
    printable = [p for p in range(text) if 0x21 <= data[p] ^ 1 < 0x7F]
    for position in printable:
        assert code({**FILES, "checkpoint": flipped(data, position, 0)}) == 13


def test_an_altered_leaf_with_matching_tiles_is_found_by_the_signed_root() -> None:
    changed = LEAVES[70].replace(b"research", b"Research")
    files = publish([*LEAVES[:70], changed, *LEAVES[71:]])
    report = verify({**files, "checkpoint": FILES["checkpoint"]})
    assert report.exit_code == 11
    named = verify({**files, "checkpoint": FILES["checkpoint"]}, database_leaves=RECORDS)
    assert {(f.seq, f.id) for f in named.findings} >= {(70, RECORDS[70].id)}


def test_an_altered_leaf_is_named_with_its_id() -> None:
    position = FILES["tile/entries/000"].index(b"qry_70")
    report = verify({**FILES, "tile/entries/000": flipped(FILES["tile/entries/000"], position, 0)})
    (finding,) = report.findings
    assert (finding.exit_code, finding.seq, finding.id) == (11, 70, RECORDS[70].id)
    assert finding.path == "tile/entries/000"
    assert "entry 70" in str(finding)


# ---- entries dropped, inserted, moved, with and without the log's key


@pytest.mark.parametrize("seq", [0, 1, 70, 255, 256, 300, 511, 598])
def test_moved_entries_are_found(seq: int) -> None:
    swapped = [*LEAVES[:seq], LEAVES[seq + 1], LEAVES[seq], *LEAVES[seq + 2 :]]
    assert code({**publish(swapped), "checkpoint": FILES["checkpoint"]}) == 11
    report = verify(publish(swapped))  # with the log's key
    assert report.exit_code == 11
    assert seq in seqs(report)


@pytest.mark.parametrize("seq", [0, 1, 70, 255, 256, 300, 598])
def test_dropped_entries_are_found(seq: int) -> None:
    dropped = [*LEAVES[:seq], *LEAVES[seq + 1 :]]
    assert code({**publish(dropped), "checkpoint": FILES["checkpoint"]}) in {10, 11}
    report = verify(publish(dropped))  # with the log's key: one number is missing
    assert report.exit_code == 14
    assert f"Entries {seq} to {seq}" in report.findings[0].message
    assert verify(publish(dropped), database_leaves=RECORDS).exit_code == 11


def renumbered(documents: list[dict[str, Any]]) -> list[bytes]:
    """Leaves whose `seq` is made to fit, as a dishonest operator with the key would do."""
    return [leaf.encode({**document, "seq": seq}) for seq, document in enumerate(documents)]


def test_a_dropped_entry_shows_in_its_organisation_s_chain_although_the_log_was_renumbered() -> None:
    for seq in range(20):
        documents = [leaf.decode(item) for item in LEAVES[:100]]
        removed = documents.pop(seq)
        report = verify(publish(renumbered(documents)))
        if removed["org_seq"] is None:
            continue  # nobody's entry: the renumbered leaves of the others no longer match their chains
        assert report.exit_code in {11, 14}
        assert 14 in {finding.exit_code for finding in report.findings}


@pytest.mark.parametrize("gone", [0, 4, 8])
def test_a_spending_that_was_taken_out_shows_although_everything_was_signed_anew(gone: int) -> None:
    """Numbers and chains are repaired, tree and checkpoint are the operator's own: the account tells."""
    documents = []
    for number in range(10):
        document = leaf.decode(LEAVES[0])
        document |= {
            "seq": number,
            "id": f"ent_{number}",
            "org_seq": None,
            "prev_org_leaf": None,
            "actor": None,
        }
        document["privacy"] |= {"domain": "people:town", "rho_nano": "7", "spent_after": str(7 * number + 7)}
        documents.append(document)
    assert code(publish(renumbered(documents))) == 0
    del documents[gone]
    report = verify(publish(renumbered(documents)))
    assert (report.exit_code, seqs(report)) == (14, {gone})
    assert "an entry is missing" in str(report.findings[0])


@pytest.mark.parametrize("seq", [0, 70, 256, 599])
def test_inserted_entries_are_found(seq: int) -> None:
    inserted = [*LEAVES[: seq + 1], LEAVES[seq], *LEAVES[seq + 1 :]]
    assert code({**publish(inserted), "checkpoint": FILES["checkpoint"]}) == (10 if seq == 599 else 11)
    assert code(publish(inserted)) == 11


def test_an_entry_with_a_broken_chain_is_found() -> None:
    documents = [leaf.decode(item) for item in LEAVES]
    later = next(d for d in documents[50:] if d["org_seq"])
    later["prev_org_leaf"] = "0" * 64
    report = verify(publish([leaf.encode(document) for document in documents]))
    assert report.exit_code == 11
    assert report.findings[0].seq == later["seq"]


def test_a_malformed_leaf_in_the_signed_tree_is_malformed() -> None:
    report = verify(publish([*LEAVES[:70], b"\x01{}", *LEAVES[71:]]))
    assert report.exit_code == 15
    assert {(f.exit_code, f.seq) for f in report.findings} == {(15, 70)}


def test_a_bundle_that_lacks_or_adds_entries_is_found() -> None:
    path = "tile/entries/001"
    data = FILES[path]
    starts = [_start_of(data, number) for number in (0, 100, 255)]
    assert code({**FILES, path: data[: starts[2]]}) == 10
    assert code({**FILES, path: data[: starts[1]]}) == 10
    assert code({**FILES, path: b""}) == 10
    assert code({**FILES, path: data[starts[1] :]}) == 11
    assert code({**FILES, path: data[:-1]}) == 11
    assert code({**FILES, path: data + data[starts[2] :]}) == 11
    assert code({**FILES, path: data + b"\x00"}) == 11


def _start_of(data: bytes, number: int) -> int:
    start = 0
    for _ in range(number):
        start += 2 + int.from_bytes(data[start : start + 2], "big")
    return start


# ---- missing files, truncation, old backups


@pytest.mark.parametrize("path", [p for p in FILES if p != "checkpoint"])
def test_a_missing_file_is_a_truncation(path: str) -> None:
    report = verify({name: data for name, data in FILES.items() if name != path})
    assert report.exit_code == 10
    assert path in {finding.path for finding in report.findings}


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("tile/") and "entries" not in p])
def test_a_tile_of_another_length_is_altered(path: str) -> None:
    for data in (FILES[path][:-1], FILES[path][:-32], FILES[path] + bytes(32), b""):
        assert code({**FILES, path: data}) == 11


def test_no_files_at_all_is_malformed() -> None:
    assert code({}) == 15
    assert code({"checkpoint": FILES["checkpoint"]}) == 10


def test_a_log_cut_back_to_an_older_state_is_caught_by_a_pinned_checkpoint() -> None:
    for size in (0, 1, 256, 599):
        older = publish(LEAVES[:size])
        assert code(older) == 0
        assert code(older, pinned=FILES["checkpoint"]) == 10


def test_an_old_database_backup_is_caught() -> None:
    for size in (0, 1, 255, 300, 599):
        report = verify(FILES, database_leaves=RECORDS[:size])
        assert report.exit_code == 10
        assert seqs(report) == {size}


def test_a_restored_database_that_went_on_is_caught() -> None:
    other = [*RECORDS[:400], *_rewritten(RECORDS[400:])]
    report = verify(FILES, database_leaves=other)
    assert report.exit_code == 11
    assert {400, 599} <= seqs(report)


def _rewritten(tail: Any) -> Iterator[Record]:
    for record in tail:
        document = {**record.document, "id": f"ent_again_{record.seq}"}
        encoded = leaf.encode(document)
        yield Record(record.seq, document["id"], encoded, merkle.leaf_hash(encoded))


# ---- forks


def test_a_fork_is_caught_by_a_pinned_checkpoint() -> None:
    for seq in (0, 100, 299):
        changed = LEAVES[seq].replace(b"usr_", b"usR_").replace(b"req_", b"reQ_")
        fork = [*LEAVES[:seq], changed, *LEAVES[seq + 1 :]]
        pinned = publish(LEAVES[:300])["checkpoint"]
        assert 12 in {finding.exit_code for finding in verify(publish(fork), pinned=pinned).findings}
        assert code(publish(fork), pinned=pinned) == 12
        assert code(publish(fork[:300]), pinned=pinned) == 12
        assert code(publish(fork), pinned=signed_head(seq, mth(_hashes(seq)))) in {0, 11}


def test_two_checkpoints_of_one_size_are_a_fork_whatever_the_files_are() -> None:
    pinned = signed_head(SIZE, sha("another tree").encode()[:32])
    assert code(FILES, pinned=pinned) == 12
    assert code({"checkpoint": FILES["checkpoint"]}, pinned=pinned) == 12


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [
        (b"", 15),
        (b"nonsense", 15),
        (signed_head(3, bytes(32), STRANGER), 13),
        (signed_head(3, bytes(32), origin="other.example"), 15),
    ],
)
def test_a_bad_pinned_checkpoint_is_named(pinned: bytes, expected: int) -> None:
    report = verify(FILES, pinned=pinned)
    assert report.exit_code == expected
    assert "pinned" in report.findings[0].message


# ---- signatures and witnesses


def test_checkpoints_by_others_are_refused() -> None:
    root = mth(_hashes(SIZE))
    assert code({**FILES, "checkpoint": signed_head(SIZE, root, STRANGER)}) == 13
    renamed = SigningKey("other.example", SIGNER.seed)
    assert code({**FILES, "checkpoint": signed_head(SIZE, root, renamed)}) == 13
    assert code({**FILES, "checkpoint": signed_head(SIZE, root, origin="other.example")}) == 15
    assert code({**FILES, "checkpoint": signed_head(SIZE, bytes(32))}) == 11
    assert code({**FILES, "checkpoint": signed_head(SIZE + 1, root)}) == 10
    assert verify_log(Fetched(FILES), origin=ORIGIN, keys=[]).exit_code == 13
    assert verify_log(Fetched(FILES), origin=ORIGIN, keys=["nonsense"]).exit_code == 15
    assert verify_log(Fetched(FILES), origin=ORIGIN, keys=[str(STRANGER.verifier), *KEYS]).exit_code == 0


def test_the_report_says_when_the_newest_witness_signed() -> None:
    """Old signatures under an old checkpoint are good: only their age gives them away."""
    files = publish([record.leaf for record in records(40)])
    pinned, head = (
        [str(one.verifier) for one in WITNESSES[:2]],
        checkpoint.parse_checkpoint(files["checkpoint"]),
    )
    for witness, year in zip(WITNESSES, (2001, 2002, 2003), strict=True):
        head = checkpoint.cosign(head, witness, datetime(year, 1, 1, tzinfo=UTC))
    files["checkpoint"] = head.encoded()
    report = verify(files, witnesses=pinned, required=2)
    assert (report.exit_code, report.cosigned_at) == (0, 1_009_843_200), "of those that were pinned"
    assert "2 witnesses, the last at 2002-01-01T00:00:00+00:00" in str(report)
    assert report.as_document()["cosigned_at"] == report.cosigned_at
    assert verify(files).cosigned_at is None


def test_too_few_witnesses() -> None:
    head = checkpoint.parse_checkpoint(FILES["checkpoint"])
    pinned = [str(witness.verifier) for witness in WITNESSES]
    for count in range(4):
        files = {**FILES, "checkpoint": head.encoded()}
        report = verify(files, witnesses=pinned, required=2)
        assert report.exit_code == (0 if count >= 2 else 16)
        assert len(report.witnesses) == count
        assert code(files, witnesses=pinned[:1] * 3, required=2) == 16
        if count < 3:
            head = checkpoint.cosign(head, WITNESSES[count], NOW)
    moved = checkpoint.parse_checkpoint(signed_head(5, mth(_hashes(5))))
    forged = replace(moved.note, signatures=(*moved.note.signatures, head.note.signatures[1]))
    files = {**publish(LEAVES[:5]), "checkpoint": forged.encoded()}
    assert code(files, witnesses=pinned, required=1) == 13


# ---- the database's copy


@pytest.mark.parametrize("seq", [0, 70, 255, 256, 599])
def test_a_changed_database_leaf_is_named(seq: int) -> None:
    record = RECORDS[seq]
    random.seed(seq)
    for _ in range(10):
        data = flipped(record.leaf, random.randrange(len(record.leaf)), random.randrange(8))
        for hashed in (record.leaf_hash, merkle.leaf_hash(data)):
            report = verify(FILES, database_leaves=_with(seq, replace(record, leaf=data, leaf_hash=hashed)))
            assert [(f.exit_code, f.seq, f.id) for f in report.findings] == [(11, seq, record.id)]


def _with(seq: int, record: Record) -> list[Record]:
    return [*RECORDS[:seq], record, *RECORDS[seq + 1 :]]


def test_other_changes_of_the_database_are_found() -> None:
    record = RECORDS[70]
    for changed in (replace(record, id="ent_other"), replace(record, leaf_hash=bytes(32))):
        assert seqs(verify(FILES, database_leaves=_with(70, changed))) == {70}
        assert code(FILES, database_leaves=_with(70, changed)) == 11
    missing = verify(FILES, database_leaves=[*RECORDS[:70], *RECORDS[75:]])
    assert [(f.exit_code, f.seq) for f in missing.findings] == [(14, 70)]
    assert code(FILES, database_leaves=[*RECORDS[:71], RECORDS[70], *RECORDS[71:]]) == 11
    assert code(FILES, database_leaves=[*RECORDS[:70], RECORDS[71], RECORDS[70], *RECORDS[72:]]) == 11


def test_the_database_s_unpublished_entries_are_checked_too() -> None:
    files, last = publish(LEAVES[:500]), RECORDS[550]
    assert verify(files, database_leaves=RECORDS).unpublished == 100
    assert code(files, database_leaves=[*RECORDS[:550], *RECORDS[551:]]) == 14
    data = last.leaf.replace(b"2026", b"2025")
    assert code(files, database_leaves=_with(550, replace(last, leaf=data))) == 11
    assert code(files, database_leaves=_with(550, replace(last, leaf=b"\x00"))) == 11
    assert code(files, database_leaves=_with(550, replace(last, id="ent_other"))) == 11
    broken = replace(last, leaf=b"\x00", leaf_hash=merkle.leaf_hash(b"\x00"))
    assert code(files, database_leaves=_with(550, broken)) == 15
    rehashed = replace(RECORDS[551], leaf=data, leaf_hash=merkle.leaf_hash(data))
    assert code(files, database_leaves=_with(551, rehashed)) == 11


def test_promised_leaves_must_be_there() -> None:
    good = {70: RECORDS[70].leaf_hash, 599: RECORDS[599].leaf_hash}
    assert code(FILES, promised=good) == 0
    other = verify(FILES, promised={70: RECORDS[71].leaf_hash})
    assert [(f.exit_code, f.seq) for f in other.findings] == [(11, 70)]
    dropped = verify(publish(LEAVES[:500]), promised=good)
    assert [(f.exit_code, f.seq) for f in dropped.findings] == [(10, 599)]


# ---- the books


def test_the_books_are_held_against_the_leaves() -> None:
    ledger = {f"jrn_{number}": sha(f"journal{number}") for number in range(SIZE)}
    assert list(verify_books(LEAVES, ledger.get)) == []
    ledger["jrn_3"] = sha("another amount")
    del ledger["jrn_11"]
    findings = list(verify_books(LEAVES, ledger.get))
    assert [(f.exit_code, f.journal, f.seq, f.id) for f in findings] == [
        (11, "jrn_3", 3, RECORDS[3].id),
        (11, "jrn_11", 11, RECORDS[11].id),
    ]
    assert [f.exit_code for f in verify_books([b"broken"], ledger.get)] == [15]
    report = verify(FILES).with_findings(findings)
    assert (report.exit_code, len(report.findings)) == (11, 2)
    assert "jrn_3" in str(report.findings[0])
    assert verify(FILES).with_findings([]).exit_code == 0


def test_the_gravest_finding_gives_the_exit_code() -> None:
    report = verify(FILES)
    order = [16, 15, 14, 10, 11, 12, 13]
    for worst in order:
        report = report.with_findings([Finding(worst, "found")])
        assert report.exit_code == worst


def test_findings_are_listed_up_to_a_limit_and_counted_beyond() -> None:
    report = verify(FILES).with_findings(Finding(11, "found", seq=i) for i in range(1_200))
    assert (len(report.findings), report.more_findings, report.exit_code) == (1_000, 200, 11)


# ---- random tampering, and memory


def test_random_tamperings_are_all_found() -> None:
    random.seed(20261122)
    paths = list(FILES)
    for _ in range(200):
        path = random.choice(paths)
        data = FILES[path]
        start, end = sorted(random.choices(range(len(data) + 1), k=2))
        changed = random.choice(
            [
                data[:start] + data[end:],
                data[:start] + random.randbytes(end - start) + data[end:],
                data[:start] + random.randbytes(7) + data[start:],
                data[:start] + data[start:end] * 2 + data[end:],
                FILES[random.choice(paths)],
            ]
        )
        if changed != data:
            assert code({**FILES, path: changed}) in {10, 11, 13, 15}


class Repeated:
    """A log of any length that is made while it is read: only the reader's memory counts."""

    def __init__(self, bundles: int) -> None:
        self._bundle = FILES["tile/entries/000"]
        self._tile = FILES["tile/0/000"]
        self._size = bundles * 256

    def read(self, path: str) -> bytes | None:
        if path == "checkpoint":
            return signed_head(self._size, bytes(32))
        if path.startswith("tile/entries/"):
            return self._bundle
        return self._tile if path.startswith("tile/0/") else None


def test_memory_does_not_grow_with_the_log() -> None:
    def peak(bundles: int) -> int:
        gc.collect()
        tracemalloc.start()
        report = verify_log(Repeated(bundles), origin=ORIGIN, keys=KEYS)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert report.exit_code == 11
        return used

    peak(2)
    assert peak(28) < 1.1 * peak(4)  # what 24 bundles hold is several times a tenth of it
