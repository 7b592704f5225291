"""Objects in a bucket: a put survives a discard, copies that are in use stay, calls end in time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from catalog import NotFound, ObjectDamaged, ObjectsUnavailable, buckets
from catalog.buckets import Address, Bucket
from catalog.object_cache import Cache
from catalog.s3_objects import S3Objects
from tests.market.proxy import Proxy

pytestmark = pytest.mark.s3
MIB = 1 << 20

READER = """
import sys, time
from pathlib import Path
from catalog.object_cache import Cache
cache = Cache(Path(sys.argv[1]), int(sys.argv[2]), clock_ns=time.time_ns)
held = [one for one in map(cache.hold, sys.argv[3:]) if one is not None]
print(len(held), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def proxy(s3_url: str) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(Address.parse(s3_url).endpoint)) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same time-outs, shorter: but a live store on a busy machine is in time."""
    monkeypatch.setattr(buckets, "CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(buckets, "READ_TIMEOUT_S", 2.0)
    monkeypatch.setattr(buckets, "_AWAY_S", 0.3)


def opened(url: str, folder: Path, max_bytes: int = 64 * MIB) -> S3Objects:
    cache = Cache(folder, max_bytes, clock_ns=time.time_ns)
    return S3Objects(Bucket(Address.parse(url)), cache, nonce=partial(secrets.token_hex, 8))


def through(proxy: Proxy, url: str) -> str:
    return f"{url.partition('?')[0]}?endpoint={proxy.url}"


def until(holds: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_put_while_it_is_discarded_is_there(s3_url: str, tmp_path: Path) -> None:
    """However the two meet: a discard removes the keys that it has seen, and a put makes one of its own."""
    objects, fresh = opened(s3_url, tmp_path / "a"), opened(s3_url, tmp_path / "b")
    contents = [f"answer {number}".encode() for number in range(30)]
    digests = objects.put_bytes(*contents)
    moment = time.time() + 1
    until(lambda: time.time() > moment + 1.1)  # a store's clock may have whole seconds
    discarding = opened(s3_url, tmp_path / "c")
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(discarding.discard, one, untouched_since=moment) for one in digests]
        work += [pool.submit(objects.put_bytes, one) for one in contents]
        for one in work:
            one.result()
    assert [fresh.read(one) for one in digests] == contents


def test_a_put_between_the_look_and_the_removal_is_kept(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, other = opened(s3_url, tmp_path / "a"), opened(s3_url, tmp_path / "b")
    (digest,) = objects.put_bytes(b"shared")
    delete, again = Bucket.delete, iter([True])

    def late(self: Bucket, key: str) -> None:
        if next(again, False):
            other.put_bytes(b"shared")
        delete(self, key)

    monkeypatch.setattr(Bucket, "delete", late)
    assert objects.discard(digest, untouched_since=time.time() + 2)
    assert opened(s3_url, tmp_path / "c").read(digest) == b"shared"


def test_what_is_put_again_replaces_what_was_there(s3_url: str, tmp_path: Path) -> None:
    """So that what is put every day does not pile up; whoever reads meanwhile finds one or the other."""
    objects, reader = opened(s3_url, tmp_path / "a"), opened(s3_url, tmp_path / "b")
    (digest,) = objects.put_bytes(b"daily")
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(objects.put_bytes, b"daily") for _ in range(12)]
        while not all(one.done() for one in puts):
            assert reader.read(digest) == b"daily"
            (tmp_path / "b" / digest[:2] / digest[2:4] / digest).unlink()
        assert {one.result() for one in puts} == {(digest,)}
    bucket = Bucket(Address.parse(s3_url))
    newest = max(one.modified.timestamp() for one in bucket.list())
    until(lambda: time.time() > newest + 2)  # those of one second may all have stayed
    assert objects.put_bytes(b"daily") == (digest,)
    assert [one.key.split("/")[2] for one in bucket.list()] == [digest]


def test_other_bytes_under_a_name_are_refused(s3_url: str, tmp_path: Path) -> None:
    """Whoever writes to the bucket itself."""
    objects, bucket = opened(s3_url, tmp_path / "a"), Bucket(Address.parse(s3_url))
    (digest,) = objects.put_bytes(b"original")
    (key,) = (one.key for one in bucket.list())
    forged = tmp_path / "forged"
    forged.write_bytes(b"0riginal")
    with pytest.raises(ObjectsUnavailable):
        bucket.put(key, forged, digest)  # the store compares what it is told
    bucket.delete(key)
    bucket.put(key, forged, hashlib.sha256(b"0riginal").hexdigest())
    with pytest.raises(ObjectDamaged):
        opened(s3_url, tmp_path / "b").read(digest)
    assert not list((tmp_path / "b").glob("??/??/*"))
    place = objects.path(digest)
    place.chmod(0o600)
    place.write_bytes(b"0riginal")
    with pytest.raises(ObjectDamaged):
        objects.read(digest)


def test_a_spoilt_copy_is_fetched_anew(s3_url: str, tmp_path: Path) -> None:
    objects = opened(s3_url, tmp_path / "a")
    (digest,) = objects.put_bytes(b"original")
    place = objects.path(digest)
    place.chmod(0o600)
    place.write_bytes(b"0riginal")
    assert objects.read(digest) == b"original"


def test_copies_in_use_stay_and_the_others_are_bounded(s3_url: str, tmp_path: Path) -> None:
    """Readers open what they hold a while later, in a cache with room for a quarter of what they read."""
    limit, size = 2 * MIB, 128 << 10
    objects = opened(s3_url, tmp_path / "cache", limit)
    contents = [bytes([number]) * size for number in range(64)]
    digests = objects.put_bytes(*contents)
    other = opened(s3_url, tmp_path / "cache", limit)
    stop, most = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            with (tmp_path / "cache" / "tally").open() as tally:
                fcntl.flock(tally, fcntl.LOCK_EX)  # nothing is added meanwhile
                most.append(_bytes_in(tmp_path / "cache"))
            time.sleep(0.002)

    def read(seed: int) -> None:
        chance, store = random.Random(seed), (objects, other)[seed % 2]
        for _ in range(25):
            chosen = chance.sample(range(64), 2)
            with store.held(*(digests[one] for one in chosen)) as paths:
                time.sleep(chance.uniform(0, 0.01))
                assert [path.read_bytes() for path in paths] == [contents[one] for one in chosen]

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        for one in [pool.submit(read, seed) for seed in range(4)]:
            one.result()
        stop.set()
        watching.result()
    assert max(most) <= limit
    assert len(list((tmp_path / "cache").glob("??/??/*"))) < 64


def _bytes_in(cache: Path) -> int:
    sizes = {}
    for path in (*(cache / "incoming").iterdir(), *cache.glob("??/??/*")):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            sizes[state.st_ino] = state.st_size
    return sum(sizes.values())


def test_what_a_process_holds_stays_until_it_ends_however_that_is(s3_url: str, tmp_path: Path) -> None:
    limit, size = MIB, 256 << 10
    objects = opened(s3_url, tmp_path / "cache", limit)
    first = objects.put_bytes(*(bytes([number]) * size for number in range(3)))
    command = [sys.executable, "-c", READER, str(tmp_path / "cache"), str(limit), *first]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "3\n"
            later = objects.put_bytes(*(bytes([9 + number]) * size for number in range(3)))
            for one in later:
                assert objects.read(one)
            assert all((tmp_path / "cache" / one[:2] / one[2:4] / one).exists() for one in first)
            with objects.held(later[0]), pytest.raises(OSError, match="EXCHANGE_OBJECTS_CACHE_BYTES"):
                objects.path(later[1])
        finally:
            process.kill()
    for one in later:
        assert objects.read(one)
    assert objects.put_bytes(b"small")


@pytest.mark.usefixtures("quick")
def test_a_store_that_is_silent_is_away_in_time_and_heals(proxy: Proxy, s3_url: str, tmp_path: Path) -> None:
    objects = opened(through(proxy, s3_url), tmp_path / "a")
    kept, other = objects.put_bytes(b"here", b"there")
    (tmp_path / "a" / other[:2] / other[2:4] / other).unlink()
    for mode in ("silent", "closed"):
        proxy.mode = mode
        calls = [
            lambda: objects.put_bytes(b"more"),
            lambda: objects.read(other),
            lambda: list(objects.untouched(since=0)),
            lambda: objects.discard(other, untouched_since=time.time()),
        ]
        for call in calls if mode == "closed" else calls[:2]:
            time.sleep(0.35)
            began = time.monotonic()
            with pytest.raises(ObjectsUnavailable):
                call()
            assert time.monotonic() - began < 12
            with pytest.raises(ObjectsUnavailable):
                call()
        assert objects.read(kept) == b"here", "the local copy needs no store"
        proxy.mode = "open"
        until(lambda: _answers(objects))
        assert objects.read(other) == b"there"
        (tmp_path / "a" / other[:2] / other[2:4] / other).unlink()
    assert not list((tmp_path / "a" / "incoming").iterdir()), "nothing half-done stays"
    for one in objects.untouched(since=time.time() + 2):  # a put may come through after its answer was lost
        assert one in (kept, other, hashlib.sha256(b"more").hexdigest())
        assert objects.read(one)


@pytest.mark.usefixtures("quick")
def test_one_asks_a_store_that_was_away_and_the_others_are_told_at_once(
    proxy: Proxy, s3_url: str, tmp_path: Path
) -> None:
    """So that a store that is silent for an hour holds one thread, not all of them."""
    objects = opened(through(proxy, s3_url), tmp_path / "a")
    proxy.mode = "silent"
    with pytest.raises(ObjectsUnavailable):
        objects.ensure_writable()
    asked = time.monotonic()
    until(lambda: time.monotonic() > asked + 0.35)
    took: list[float] = []

    def ask(_: int) -> None:
        began = time.monotonic()
        with pytest.raises(ObjectsUnavailable):
            objects.ensure_writable()
        took.append(time.monotonic() - began)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert 1 <= len([one for one in took if one > 1.0]) <= 2, "a second one, if it began once the first knew"
    proxy.mode = "open"
    until(lambda: _answers(objects))


@pytest.mark.usefixtures("quick")
def test_a_transfer_that_drips_is_given_up(
    proxy: Proxy, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and all of them would take for ever."""
    monkeypatch.setattr(buckets, "_SLOWEST_BYTES_S", 64 * MIB)
    objects = opened(through(proxy, s3_url), tmp_path / "a")
    (digest,) = objects.put_bytes(os.urandom(8 * MIB))
    (tmp_path / "a" / digest[:2] / digest[2:4] / digest).unlink()
    proxy.mode = "dripping"
    began = time.monotonic()
    with pytest.raises(ObjectsUnavailable):
        objects.read(digest)
    with pytest.raises(ObjectsUnavailable):
        opened(through(proxy, s3_url), tmp_path / "b").put_bytes(os.urandom(8 * MIB))
    assert time.monotonic() - began < 60
    proxy.mode = "open"
    until(lambda: _answers(objects))
    assert len(objects.read(digest)) == 8 * MIB


def _answers(objects: S3Objects) -> bool:
    try:
        objects.ensure_writable()
        with contextlib.suppress(NotFound):
            objects.read("0" * 64)
    except ObjectsUnavailable:
        return False
    return True


def test_a_bucket_that_is_not_there_or_not_ours_is_away(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = s3_url.replace("s3://exchange/", "s3://missing/")
    with pytest.raises(ObjectsUnavailable):
        opened(missing, tmp_path).read("0" * 64)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(ObjectsUnavailable):
        opened(s3_url, tmp_path).put_bytes(b"x")
    assert "NoSuchBucket" in caplog.text
    assert "SignatureDoesNotMatch" in caplog.text
    assert "hunter2" not in caplog.text
