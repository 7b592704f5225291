"""Tiles and the integrator: the layout of tlog-tiles, proofs from files alone, and death at every step."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from exchange.audit import checkpoint, leaf, merkle, tiles
from exchange.audit.errors import AuditError, LogDiverged, Malformed, SequenceBroken
from exchange.audit.integrate import integrate
from exchange.audit.log import Record
from exchange.audit.signing import LogSigner
from exchange.audit.tiles import Fetched, Folder
from exchange.audit.verify import verify_log
from tests.exchange.audit.samples import (
    KEYS,
    ORIGIN,
    SIGNER,
    STRANGER,
    load,
    publish,
    records,
    signed_head,
    signer_of,
)

SIZES = [1, 2, 255, 256, 257, 300, 511, 512, 513, 700]


def leaves(count: int) -> list[bytes]:
    return [record.leaf for record in records(700)[:count]]


def source(all_leaves: Sequence[bytes]):  # type: ignore[no-untyped-def]
    return lambda start: iter(all_leaves[start:])


def run(folder: Folder, count: int) -> checkpoint.Checkpoint:
    return integrate(source(leaves(count)), folder, signer_of(folder), ORIGIN)


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"),
        (7, 256, "tile/0/007"),
        (999, 1, "tile/0/999.p/1"),
        (1_000, 256, "tile/0/x001/000"),
        (1_234_067, 255, "tile/0/x001/x234/067.p/255"),
        (12_345_678_901, 256, "tile/0/x012/x345/x678/901"),
    ],
)
def test_paths(index: int, width: int, path: str) -> None:
    assert tiles.tile_path(0, index, width) == path
    assert tiles.bundle_path(index, width) == path.replace("tile/0", "tile/entries")


def test_widths_of_the_specification_s_example() -> None:
    widths = {level: [] for level in range(4)}  # type: dict[int, list[int]]
    for level in widths:
        index = 0
        while width := tiles.width_of(level, index, 70_000):
            widths[level].append(width)
            index += 1
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1], 3: []}
    assert [tiles.width_of(1, 0, 256), tiles.width_of(0, 1, 256)] == [1, 0]


@pytest.mark.parametrize("size", SIZES)
def test_files_are_those_of_an_independent_publisher(tmp_path: Path, size: int) -> None:
    head = run(Folder(tmp_path), size)
    files = load(tmp_path)
    assert files.pop("key") == f"{SIGNER.verifier}\n".encode()
    assert files == publish(leaves(size))
    assert (head.size, head.origin) == (size, ORIGIN)


def test_growing_in_steps_gives_the_same_tree_and_valid_files_at_each(tmp_path: Path) -> None:
    random.seed(5)
    folder, size = Folder(tmp_path), 0
    old: list[checkpoint.Checkpoint] = []
    while size < 700:
        size = min(700, size + random.choice([1, 3, 100, 170]))
        head = run(folder, size)
        assert head.root == merkle.root([merkle.leaf_hash(item) for item in leaves(size)])
        assert verify_log(folder, origin=ORIGIN, keys=KEYS).exit_code == 0
        for earlier in old:
            proof = tiles.consistency_proof(folder, earlier.size, size)
            assert merkle.verify_consistency(earlier.size, size, proof, earlier.root, head.root)
            assert tiles.root(folder, earlier.size) == earlier.root
        old.append(head)
    final, direct = load(tmp_path), publish(leaves(700))
    assert direct.items() <= final.items()
    # Partial files stay for as long as their full file is not there.
    assert {path.partition(".p/")[0] for path in final if ".p/" in path} <= {
        path.partition(".p/")[0] for path in direct if ".p/" in path
    }


@pytest.mark.parametrize("size", [1, 2, 256, 257, 700])
def test_inclusion_proofs_from_files_alone(size: int) -> None:
    reader = Fetched(publish(leaves(size)))
    hashes = [merkle.leaf_hash(item) for item in leaves(size)]
    for index in {0, size // 2, size - 1, min(255, size - 1), min(256, size - 1)}:
        proof = tiles.inclusion_proof(reader, index, size)
        assert proof == merkle.inclusion_proof(hashes, index)
        assert merkle.verify_inclusion(hashes[index], index, size, proof, merkle.root(hashes))


def test_an_empty_log_is_published_and_grows(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert run(folder, 0).root == merkle.EMPTY_ROOT
    assert load(tmp_path).keys() == {"checkpoint", "key"}
    assert verify_log(folder, origin=ORIGIN, keys=KEYS).exit_code == 0
    assert run(folder, 2).size == 2


def test_running_again_changes_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    head = run(folder, 300)
    before = {path: (tmp_path / path).stat().st_mtime_ns for path in load(tmp_path)}
    again = run(folder, 300)
    assert again == head
    assert {path: (tmp_path / path).stat().st_mtime_ns for path in load(tmp_path)} == before


class DyingFolder(Folder):
    """A folder whose process dies before its n-th change."""

    def __init__(self, root: Path, changes: int) -> None:
        super().__init__(root)
        self.changes = changes

    def replace(self, path: str, data: bytes) -> None:
        self._count()
        super().replace(path, data)

    def remove(self, path: str) -> None:
        self._count()
        super().remove(path)

    def _count(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise SystemExit("killed")


def test_death_before_any_change_leaves_a_valid_log_that_continues(tmp_path: Path) -> None:
    steps = 0
    while True:
        root = tmp_path / str(steps)
        first = run(Folder(root), 250)
        try:
            dying = DyingFolder(root, steps)
            integrate(source(leaves(530)), dying, signer_of(dying), ORIGIN)
        except SystemExit:
            report = verify_log(Folder(root), origin=ORIGIN, keys=KEYS, pinned=first.encoded())
            assert (report.exit_code, report.size in (250, 530)) == (0, True)
        else:
            break
        # More entries have come before the restart, so the right edge is another one.
        assert run(Folder(root), 600).size == 600
        report = verify_log(Folder(root), origin=ORIGIN, keys=KEYS, pinned=first.encoded())
        assert (report.exit_code, report.size) == (0, 600)
        steps += 1
    assert steps >= 10


def _integrate_slowly(root: str) -> None:
    class Slow(Folder):
        def replace(self, path: str, data: bytes) -> None:
            super().replace(path, data)
            if path == "tile/0/001":
                os.kill(os.getpid(), signal.SIGKILL)

    integrate(source(leaves(700)), Slow(root), signer_of(Folder(root)), ORIGIN)


def test_a_killed_process_holds_no_lock_and_leaves_a_valid_log(tmp_path: Path) -> None:
    first = run(Folder(tmp_path), 100)
    process = multiprocessing.get_context("fork").Process(target=_integrate_slowly, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "tile/0/001").exists()
    (tmp_path / ".writing").mkdir(exist_ok=True)
    (tmp_path / ".writing" / "1-1").write_bytes(b"half a ti")
    assert verify_log(Folder(tmp_path), origin=ORIGIN, keys=KEYS, pinned=first.encoded()).size == 100
    assert run(Folder(tmp_path), 700).size == 700
    assert list((tmp_path / ".writing").iterdir()) == []
    assert verify_log(Folder(tmp_path), origin=ORIGIN, keys=KEYS, pinned=first.encoded()).exit_code == 0


def _refused(folder: Folder, given: Iterable[bytes], error: type[AuditError], **options: object) -> None:
    """Integrating `given` is refused and leaves the published checkpoint as it was."""
    before = folder.read("checkpoint")
    signer = options.get("signer") or signer_of(folder)
    with pytest.raises(error):
        integrate(source(list(given)), folder, signer, options.get("origin", ORIGIN))  # type: ignore[arg-type]
    assert folder.read("checkpoint") == before


def test_a_smaller_or_different_database_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run(folder, 300)
    _refused(folder, leaves(200), LogDiverged)
    _refused(folder, [], LogDiverged)
    other = [*leaves(299), leaves(301)[300]]
    _refused(folder, other, LogDiverged)
    _refused(folder, leaves(400), LogDiverged, signer=LogSigner([STRANGER], Folder(tmp_path / ".other")))
    _refused(folder, leaves(400), LogDiverged, origin="other.example")


def test_leaves_out_of_sequence_or_malformed_are_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run(folder, 3)
    _refused(folder, [*leaves(3), leaves(5)[4]], SequenceBroken)
    _refused(folder, [*leaves(3), leaves(3)[2]], SequenceBroken)
    _refused(folder, [*leaves(3), b"\x01{}"], Malformed)


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"])
def test_damaged_published_files_are_not_continued(tmp_path: Path, path: str) -> None:
    folder = Folder(tmp_path)
    run(folder, 300)
    damaged = bytearray((tmp_path / path).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / path).write_bytes(damaged)
    _refused(folder, leaves(400), LogDiverged)
    if path != "checkpoint":
        (tmp_path / path).unlink()
        _refused(folder, leaves(400), LogDiverged)


def test_a_full_tile_is_never_changed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run(folder, 200)
    for path in ("tile/0/000", "tile/entries/000"):
        (tmp_path / path).write_bytes(b"left by somebody else")
        _refused(folder, leaves(256), LogDiverged)
        assert (tmp_path / path).read_bytes() == b"left by somebody else"
        (tmp_path / path).unlink()
    assert run(folder, 256).size == 256


def test_broken_tiles_and_bundles_are_refused() -> None:
    files = publish(leaves(300))
    with pytest.raises(Malformed):
        tiles.root(Fetched({**files, "tile/0/001.p/44": files["tile/0/001.p/44"][:-1]}), 300)
    with pytest.raises(Malformed):
        tiles.root(Fetched({k: v for k, v in files.items() if k != "tile/1/000.p/1"}), 300)
    for data in (b"\x00", b"\x00\x05abcd", b"\x00\x01a\x00"):
        with pytest.raises(Malformed):
            tiles.decode_bundle(data)
    with pytest.raises(Malformed):
        tiles.encode_bundle([b"x" * 65_536])
    assert tiles.decode_bundle(tiles.encode_bundle([b"", b"a" * 65_535])) == [b"", b"a" * 65_535]
    with pytest.raises(Malformed):
        tiles.read_bundle(Fetched({"tile/entries/000.p/2": b"\x00\x01a"}), 0, 2)


def test_a_file_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(tiles.MAX_FILE_BYTES + 1)
    with pytest.raises(Malformed):
        Folder(tmp_path).read("checkpoint")
    assert verify_log(Folder(tmp_path), origin=ORIGIN, keys=KEYS).exit_code == 15


def test_another_log_s_head_is_not_continued(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    run(folder, 10)
    hashes = [merkle.leaf_hash(item) for item in leaves(9)]
    folder.replace("checkpoint", signed_head(9, merkle.root(hashes)))
    _refused(folder, leaves(12), LogDiverged)  # the tiles of nine leaves were never published
    assert isinstance(records(700)[0], Record)
    assert leaf.decode(leaves(1)[0])["seq"] == 0
