"""A zip from anybody: good logs are read, and every trick is refused before anything is unpacked."""

from __future__ import annotations

import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.audit import archive, tiles
from exchange.audit.archive import Archive
from exchange.audit.errors import Malformed
from exchange.audit.verify import verify_log
from tests.exchange.audit.samples import KEYS, ORIGIN, publish, records

LEAVES = [record.leaf for record in records(300)]
FILES = publish(LEAVES)


def member(name: str, *, kind: int = 0o100644, packed: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr, made.compress_type = kind << 16, packed
    return made


def written(path: Path, *more: tuple[zipfile.ZipInfo | str, bytes], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in FILES.items():
            made.writestr(prefix + name, data)
        for name, data in more:
            made.writestr(name, data)
    return path


def code(path: Path) -> int:
    with Archive(path) as opened:
        return verify_log(opened.beneath_checkpoint(), origin=ORIGIN, keys=KEYS).exit_code


def test_a_log_is_read_from_the_top_or_from_the_folder_of_its_checkpoint(tmp_path: Path) -> None:
    assert code(written(tmp_path / "a.zip")) == 0
    assert code(written(tmp_path / "b.zip", prefix="exported/2026/log/")) == 0
    assert code(written(tmp_path / "c.zip", (member("notes/readme.txt"), b"x"), (member("empty/"), b""))) == 0


NAMES = [
    "../x",
    "a/../../x",
    "/x",
    "a//x",
    "./x",
    "a/./x",
    "C:/x",
    "C:x",
    "a\\x",
    "..",
    "a\nb",
    "a\x1bb",
    "é",
    "x" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_of_a_file_beneath_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Malformed, match="name in the zip"):
        Archive(written(tmp_path / "log.zip", (member(name), b"x")))


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "log.zip", (member("extra_name"), b"x"))
    path.write_bytes(path.read_bytes().replace(b"extra_name", b"extra\x00name"))
    with pytest.raises(Malformed):
        Archive(path)


@pytest.mark.parametrize("name", ["checkpoint", "CHECKPOINT", "tile", "tile/0/000/"])
def test_two_members_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a repeated name, and writes it
        path = written(tmp_path / "log.zip", (member(name), b""))
    if name == "tile":  # a file where others are beneath: harmless, and nothing looks at it
        assert code(path) == 0
        return
    with pytest.raises(Malformed, match="two members of one name"):
        Archive(path)


def test_two_logs_in_one_zip_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "log.zip", (member("other/checkpoint"), FILES["checkpoint"]))
    with Archive(path) as opened, pytest.raises(Malformed, match="more than one log"):
        opened.beneath_checkpoint()


@pytest.mark.parametrize("kind", [0o120777, 0o010644, 0o020644, 0o060644, 0o140644])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(Malformed, match="link or a device"):
        Archive(written(tmp_path / "log.zip", (member("tile/9/000", kind=kind), b"elsewhere")))


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(tmp_path: Path, packed: int) -> None:
    with pytest.raises(Malformed, match="encrypted or packed"):
        Archive(written(tmp_path / "log.zip", (member("x", packed=packed), b"x")))


def altered_directory(path: Path, name: bytes, change: Callable[[bytearray, int], None]) -> Path:
    """The zip with the entry of a member in its table of contents changed."""
    data = bytearray(path.read_bytes())
    change(data, data.rindex(name) - 46)
    path.write_bytes(data)
    return path


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    def encrypt(data: bytearray, start: int) -> None:
        data[start + 8] |= 1

    with pytest.raises(Malformed, match="encrypted"):
        Archive(altered_directory(written(tmp_path / "log.zip"), b"tile/1/000.p/1", encrypt))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    def elsewhere(data: bytearray, start: int) -> None:
        struct.pack_into("<L", data, start + 42, 0)

    with pytest.raises(Malformed, match="overlap"):
        Archive(altered_directory(written(tmp_path / "log.zip"), b"tile/1/000.p/1", elsewhere))


def test_a_member_beyond_the_table_of_contents_is_refused(tmp_path: Path) -> None:
    def beyond(data: bytearray, start: int) -> None:
        struct.pack_into("<L", data, start + 42, start)

    with pytest.raises(Malformed, match="overlap"):
        Archive(altered_directory(written(tmp_path / "log.zip"), b"checkpoint", beyond))


def test_a_bomb_is_refused_by_its_ratio_and_a_large_member_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="unpacks"):
        Archive(written(tmp_path / "bomb.zip", (member("x"), bytes(50_000_000))))
    stored = member("tile/5/000", packed=zipfile.ZIP_STORED)
    with Archive(written(tmp_path / "large.zip", (stored, bytes(tiles.MAX_FILE_BYTES + 1)))) as opened:
        assert opened.read("checkpoint") == FILES["checkpoint"]
        with pytest.raises(Malformed, match="larger than any file"):
            opened.read("tile/5/000")


def test_a_member_that_lies_about_its_size_is_not_unpacked_beyond_it(tmp_path: Path) -> None:
    """The table of contents says 10 bytes; the deflated bytes behind it are a million."""

    def small(data: bytearray, start: int) -> None:
        struct.pack_into("<L", data, start + 24, 10)

    path = altered_directory(
        written(tmp_path / "log.zip", (member("bomb"), bytes(1_000_000))), b"bomb", small
    )
    with Archive(path) as opened, pytest.raises(Malformed):
        opened.read("bomb")


def test_a_member_with_a_wrong_checksum_is_altered_and_never_good(tmp_path: Path) -> None:
    path = written(tmp_path / "log.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"tile/0/000") + 40] ^= 1
    path.write_bytes(data)
    assert code(path) == 11


def test_too_many_members_and_too_large_a_table_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "log.zip")
    monkeypatch.setattr(archive, "MAX_MEMBERS", len(FILES) - 1)
    with pytest.raises(Malformed, match="too many members"):
        Archive(path)
    monkeypatch.setattr(archive, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(Malformed, match="table of contents is too large"):
        Archive(path)


def zip64(path: Path, *, length: int | None = None, offset: int = 0) -> Path:
    """The zip with the records of zip64 before its last one, as for more than 65,535 members."""
    data = path.read_bytes()
    body, end = data[:-22], data[-22:]
    count, size, start = struct.unpack("<HLL", end[10:20])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length or size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body) + offset, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(body + record + locator + last)
    return path


def test_zip64_is_read_and_its_lies_are_refused(tmp_path: Path) -> None:
    assert code(zip64(written(tmp_path / "log.zip"))) == 0
    with pytest.raises(Malformed, match="too large"):
        Archive(zip64(written(tmp_path / "log.zip"), length=1 << 40))
    with pytest.raises(Malformed, match="belong"):
        Archive(zip64(written(tmp_path / "log.zip"), offset=1))


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"x" * 200, b"PK\x05\x06" + bytes(18) + b"x"])
def test_what_is_no_zip_is_malformed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log.zip").write_bytes(data)
    with pytest.raises(Malformed):
        Archive(tmp_path / "log.zip")


def test_an_empty_zip_is_a_log_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "log.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    assert code(tmp_path / "log.zip") == 15


def test_a_zip_with_a_comment_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "log.zip")
    with zipfile.ZipFile(path, "a") as made:
        made.comment = b"x"
    with pytest.raises(Malformed, match="comment"):
        Archive(path)


def test_damaged_zips_never_crash_and_are_never_falsely_good(tmp_path: Path) -> None:
    random.seed(7)
    whole = written(tmp_path / "log.zip").read_bytes()
    path, good = tmp_path / "damaged.zip", 0
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            # Most of the damage where it hurts: in the table of contents at the end.
            place = (
                random.randrange(len(data) - 900, len(data))
                if random.random() < 0.8
                else random.randrange(len(data))
            )
            data[place] = random.randrange(256)
        path.write_bytes(data if random.random() < 0.9 else data[: random.randrange(len(data))])
        try:
            with Archive(path) as opened:
                log = opened.beneath_checkpoint()
                found = verify_log(log, origin=ORIGIN, keys=KEYS).exit_code
                if found == 0:  # times and the like may be anything: then every file is what it was
                    assert all(log.read(name) == content for name, content in FILES.items())
                    good += 1
        except Malformed:
            continue
    assert good < 100
