"""Objects: named by their bytes, written once, found damaged when they are."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catalog import NotFound, ObjectDamaged
from catalog.objects import LocalObjects


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "objects")


def _file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def test_an_object_is_found_under_the_hash_of_its_bytes(objects: LocalObjects, tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    sha256 = objects.put(_file(tmp_path, content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert objects.exists(sha256)
    path = objects.path(sha256, verify=True)
    assert path.read_bytes() == content
    assert path.parts[-3:] == (sha256[:2], sha256[2:4], sha256)


def test_writing_again_changes_nothing(objects: LocalObjects, tmp_path: Path) -> None:
    sha256 = objects.put(_file(tmp_path, b"once"))
    before = objects.path(sha256).stat()
    assert objects.put(_file(tmp_path, b"once")) == sha256
    after = objects.path(sha256).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_mode & 0o222 == 0


def test_many_writers_of_one_object_leave_one(objects: LocalObjects, tmp_path: Path) -> None:
    source = _file(tmp_path, b"race" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: objects.put(source), range(40)))) == 1
    files = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert len(files) == 1


def test_a_failed_write_leaves_nothing(objects: LocalObjects, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        objects.put(tmp_path / "missing")
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


def test_a_changed_byte_is_found(objects: LocalObjects, tmp_path: Path) -> None:
    sha256 = objects.put(_file(tmp_path, b"original"))
    path = objects.path(sha256)
    path.chmod(0o600)
    path.write_bytes(b"0riginal")
    with pytest.raises(ObjectDamaged):
        objects.path(sha256, verify=True)


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64, "0" * 63 + "\n"])
def test_what_is_not_here_or_no_hash_is_not_found(name: str, objects: LocalObjects) -> None:
    with pytest.raises(NotFound):
        objects.path(name)
