"""Objects in a folder and in a bucket: named by their bytes, written once, found damaged when they are."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from catalog import NotFound, ObjectDamaged
from catalog.buckets import Address, Bucket
from catalog.object_cache import Cache
from catalog.objects import LocalObjects, Objects
from catalog.s3_objects import S3Objects

BOTH = ["local", pytest.param("s3", marks=pytest.mark.s3)]


@pytest.fixture(params=BOTH)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "local":
        return LocalObjects(tmp_path / "objects")
    address = Address.parse(request.getfixturevalue("s3_url"))
    return S3Objects(
        Bucket(address),
        Cache(tmp_path / "objects", 64 << 20, clock_ns=time.time_ns),
        nonce=partial(secrets.token_hex, 8),
    )


def _file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def now() -> float:
    """A moment after all that was put, whatever fractions of a second a store's clock has."""
    return time.time() + 2


def an_hour_ago() -> float:
    return time.time() - 3600


def test_an_object_is_found_under_the_hash_of_its_bytes(objects: Objects, tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    sha256 = objects.put(_file(tmp_path, content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert objects.read(sha256) == content
    path = objects.path(sha256)
    assert path.read_bytes() == content
    assert path.parts[-3:] == (sha256[:2], sha256[2:4], sha256)
    (other,) = objects.put_bytes(b"")
    with objects.held(sha256, other) as paths:
        assert [one.read_bytes() for one in paths] == [content, b""]


def test_writing_again_changes_nothing(objects: Objects, tmp_path: Path) -> None:
    sha256 = objects.put(_file(tmp_path, b"once"))
    before = objects.path(sha256).stat()
    assert objects.put(_file(tmp_path, b"once")) == sha256
    after = objects.path(sha256).stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert after.st_mode & 0o222 == 0
    assert list(objects.untouched(since=now())) == [sha256]


def test_its_age_says_that_it_was_wanted_again(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    (sha256,) = objects.put_bytes(b"once")
    os.utime(objects.path(sha256), (0, 0))
    assert list(objects.untouched(since=an_hour_ago())) == [sha256]
    assert objects.put_bytes(b"once") == (sha256,)
    assert list(objects.untouched(since=an_hour_ago())) == []


def test_many_writers_of_one_object_leave_one(objects: Objects, tmp_path: Path) -> None:
    source = _file(tmp_path, b"race" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        (sha256,) = set(pool.map(lambda _: objects.put(source), range(40)))
    files = [path for path in (tmp_path / "objects").rglob("*") if path.is_file() and path.name != "tally"]
    assert len(files) == 1
    assert list(objects.untouched(since=now())) == [sha256]
    assert objects.read(sha256) == source.read_bytes()


def test_a_failed_write_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        objects.put(tmp_path / "missing")
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    sha256 = objects.put(_file(tmp_path, b"original"))
    path = objects.path(sha256)
    path.chmod(0o600)
    path.write_bytes(b"0riginal")
    with pytest.raises(ObjectDamaged):
        objects.read(sha256)


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64, "0" * 63 + "\n"])
def test_what_is_not_here_or_no_hash_is_not_found(name: str, objects: Objects) -> None:
    for look in (objects.path, objects.read):
        with pytest.raises(NotFound):
            look(name)


def test_what_is_old_is_discarded_and_can_be_put_again(objects: Objects) -> None:
    (digest, other) = objects.put_bytes(b"an answer", b"another")
    assert objects.discard(digest, untouched_since=now())
    assert list(objects.untouched(since=now())) == [other]
    assert objects.discard(digest, untouched_since=now()), "what is gone is gone"
    assert objects.put_bytes(b"an answer") == (digest,)
    assert objects.read(digest) == b"an answer"
    assert sorted(objects.untouched(since=now())) == sorted((digest, other))


def test_what_was_put_again_a_moment_ago_stays(objects: Objects) -> None:
    (digest,) = objects.put_bytes(b"an answer")
    assert list(objects.untouched(since=an_hour_ago())) == []
    assert not objects.discard(digest, untouched_since=an_hour_ago())
    assert objects.read(digest) == b"an answer"
    with pytest.raises(NotFound):
        objects.discard("../etc/passwd", untouched_since=0)


def test_what_is_put_while_it_is_discarded_is_there(tmp_path: Path) -> None:
    """Whoever was told that it is kept finds it, however the two meet."""
    objects = LocalObjects(tmp_path / "objects")
    for _ in range(60):
        (digest,) = objects.put_bytes(b"shared")
        os.utime(objects.path(digest), (0, 0))
        start = Barrier(2)

        def discard(digest: str = digest, start: Barrier = start) -> None:
            start.wait()
            objects.discard(digest, untouched_since=an_hour_ago())

        with ThreadPoolExecutor(1) as pool:
            gone = pool.submit(discard)
            start.wait()
            objects.put_bytes(b"shared")
            gone.result()
        assert objects.read(digest) == b"shared"


def test_there_is_room_for_what_is_begun(objects: Objects) -> None:
    objects.ensure_writable()
    assert list(objects.untouched(since=now())) == [], "looking leaves nothing"


def test_what_a_process_left_that_died_is_removed_after_a_day(tmp_path: Path) -> None:
    objects, incoming = LocalObjects(tmp_path), tmp_path / "incoming"
    (kept,) = objects.put_bytes(b"set aside")
    aside, half, fresh = incoming / "tmpaside", incoming / "tmphalf", incoming / "tmpfresh"
    aside.mkdir()
    objects.path(kept).rename(aside / kept)
    half.write_bytes(b"ha")
    fresh.write_bytes(b"fre")
    for one in (half, aside):
        os.utime(one, (1000.0, 1000.0))
    assert objects.tidy(untouched_since=time.time() - 60) == 2
    assert list(incoming.iterdir()) == [fresh]
    assert objects.read(kept) == b"set aside", "it may have been put again just before"
    assert objects.tidy(untouched_since=time.time() - 60) == 0


def test_what_the_kernel_lets_nobody_link_is_put_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's file, which this one may neither write nor link: losing it would lose an answer."""
    objects = LocalObjects(tmp_path)
    (digest,) = objects.put_bytes(b"of another user")

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert not objects.discard(digest, untouched_since=an_hour_ago())
    assert objects.read(digest) == b"of another user"
