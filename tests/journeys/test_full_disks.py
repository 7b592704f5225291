"""A disk that is full: nothing is charged without an answer, nothing half-written stays, and it heals.

The disks are real ones of a few megabytes, each in memory and gone after its test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

import privacy
from exchange.config import Settings
from exchange.operations import observing, running
from exchange.telemetry import traces
from exchange.worker import run_once
from privacy.sandbox import Sandbox
from tests.conftest import only_here
from tests.market import sample
from tests.market.prepared import copied
from tests.market.stand import TUS, Stand, problem

Prepared = Callable[[str], tuple[Any, None]]
MIB = 1 << 20


class Disk:
    """A file system of so many bytes, under ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, *, leave: int = 0) -> None:
        """Take all that is left, but for so many bytes."""
        state = os.statvfs(self.path)
        with self._filler.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), state.f_bavail * state.f_frsize - leave)
        if not leave:
            with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

    def free(self) -> None:
        """Give it all back."""
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk with 48 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={48 * MIB}", "none", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        only_here("file systems can be mounted by root alone: run this test as root")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def stand(
    prepared_markets: Prepared, lent_sandbox: Callable[[], Sandbox], tmp_path: Path
) -> Iterator[Callable[..., Stand]]:
    """Opens a market of the test's own, with its home or its objects on a disk."""
    prepared, _ = prepared_markets("sqlite")
    with contextlib.ExitStack() as stack:

        def open_(home: Path | None = None, objects_url: str = "") -> Stand:
            place = home or tmp_path / "market"
            return stack.enter_context(copied(prepared, place, lent_sandbox, None, objects_url))

        yield open_


def objects(stand: Stand) -> set[str]:
    return set(stand.market.objects.every())


def drafts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "incoming"]


def listing_of(stand: Stand) -> dict[str, Any]:
    sent = {table: stand.upload("provider", data) for table, data in sample.files(seed=9).items()}
    return {"manifest": sample.manifest(title="New"), "files": sent, "manifest_sha256": "0" * 64}


def test_full_objects_refuse_before_anything_is_reserved(stand: Callable[..., Stand], disk: Disk) -> None:
    one = stand(objects_url=f"file:{disk.path}/objects")
    listing, books, there = listing_of(one), one.books(), objects(one)
    disk.fill()
    for reply in (one.run(key="once"), one.post("provider", "/v1/datasets", listing)):
        problem(reply, 503, "storage_full")
        assert int(reply.headers["Retry-After"]) > 0
    assert one.books() == books
    assert observing.Readiness(one.market).parts()["objects"] == "is full"
    assert (objects(one), drafts(disk.path)) == (there, [])
    disk.free()
    assert observing.Readiness(one.market).parts()["objects"] == "ok"
    assert one.run(key="once").status_code == 200
    assert one.post("provider", "/v1/datasets", listing).status_code == 201
    assert one.broken_laws() == []


@pytest.mark.parametrize("in_time", [True, False])
def test_an_answer_that_finds_no_room(
    stand: Callable[..., Stand], disk: Disk, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    """It waits for room for a while; then rho stays, and the money returns."""
    one, answer = stand(objects_url=f"file:{disk.path}/objects"), privacy.answer
    wallet, there = one.wallet(), objects(one)

    def filling(*given: Any, **named: Any) -> Any:
        disk.fill()
        if in_time:
            threading.Timer(0.5, disk.free).start()
        return answer(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(running, "_KEEP_PATIENCE_S", 30.0 if in_time else 0.5)
        patch.setattr(running.privacy, "answer", filling)
        reply = one.run(key="once")
    if in_time:
        assert reply.status_code == 200, reply.text
        assert one.states() == ["SETTLED"]
    else:
        problem(reply, 500, "query_failed")
        assert one.states() == ["FORFEITED"]
        assert one.wallet() == wallet
        assert (objects(one), drafts(disk.path)) == (there, [])
    disk.free()
    assert one.run(sql=sample.BY_ZONE).status_code == 200
    assert one.broken_laws() == []


def test_a_full_home_with_its_database(stand: Callable[..., Stand], disk: Disk) -> None:
    """Database, uploads, log and scratch: each of them fails closed, and none is spoilt."""
    one = stand(home=disk.path / "home")
    one.publish_log()
    listing, books = listing_of(one), one.books()
    waiting = _begun(one, 3 * MIB)
    disk.fill()
    for reply in (one.run(key="once"), one.post("provider", "/v1/datasets", listing)):
        assert reply.status_code == 503, reply.text
        assert reply.json()["code"] in ("storage_full", "store_unavailable")
        assert int(reply.headers["Retry-After"]) > 0
    problem(_append(one, waiting, 0, bytes(3 * MIB)), 503, "storage_full")
    assert one.get("buyer", "/v1/queries").status_code == 200, "what is there can be read"
    assert one.get(None, "/healthz").status_code == 200
    assert one.books() == books
    with pytest.raises((OSError, SQLAlchemyError), match=r"full|space"):
        _worker_round(one)
    disk.free()
    at = int(one.call("provider", "HEAD", waiting).headers["Upload-Offset"])
    assert 0 <= at < 3 * MIB
    assert _append(one, waiting, at, bytes(3 * MIB - at)).status_code == 204
    assert one.run(key="once").status_code == 200
    assert one.post("provider", "/v1/datasets", listing).status_code == 201
    one.publish_log()
    assert one.verify().good
    assert one.broken_laws() == []


def _worker_round(one: Stand) -> None:
    run_once(Settings.from_env(one.environ, worker=True))


def _begun(one: Stand, length: int) -> str:
    made = one.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": str(length)})
    assert made.status_code == 201, made.text
    return str(made.headers["Location"])


def _append(one: Stand, where: str, offset: int, data: bytes) -> Any:
    headers = {"Upload-Offset": str(offset), "Content-Type": TUS}
    return one.call("provider", "PATCH", where, content=data, headers=headers)


def test_a_full_log_folder_keeps_its_checkpoint_and_is_published_later(
    stand: Callable[..., Stand], disk: Disk
) -> None:
    """Answers need no published log; what was published stays whole."""
    one = stand()
    one.publish_log()
    shutil.move(one.home / "log", disk.path / "log")
    (one.home / "log").symlink_to(disk.path / "log")
    before = {path: path.read_bytes() for path in (disk.path / "log").rglob("*") if path.is_file()}
    assert one.run().status_code == 200
    disk.fill()
    with pytest.raises(OSError, match="space"):
        one.publish_log()
    assert all(path.read_bytes() == data for path, data in before.items())
    assert one.run(sql=sample.BY_ZONE).status_code == 200
    assert one.verify().good
    disk.free()
    one.publish_log()
    assert one.verify().good
    assert one.broken_laws() == []


def test_traces_that_find_no_room_are_lost_and_nothing_else(stand: Callable[..., Stand]) -> None:
    one = stand()
    traces.configure("file:/dev/full", process="test")
    try:
        assert one.run().status_code == 200
        traces.flush()
        assert one.run(sql=sample.BY_ZONE).status_code == 200
    finally:
        traces.close()
    assert one.broken_laws() == []


@pytest.mark.parametrize("leave_kib", [0, 12])
def test_ingest_without_room_is_no_fault_of_the_file(
    stand: Callable[..., Stand], disk: Disk, leave_kib: int
) -> None:
    """Its scratch folder is on the disk."""
    one = stand()
    (one.home / "scratch").rmdir()
    (one.home / "scratch").symlink_to(disk.path)
    listing, there = listing_of(one), objects(one)
    disk.fill(leave=leave_kib << 10)
    reply = one.post("provider", "/v1/datasets", listing)
    problem(reply, 503, "storage_full")
    disk.free()
    assert (objects(one), drafts(one.home), list(disk.path.iterdir())) == (there, [], [])
    assert one.post("provider", "/v1/datasets", listing).status_code == 201
    assert one.broken_laws() == []


@pytest.mark.s3
def test_full_copies_of_a_bucket(stand: Callable[..., Stand], disk: Disk, s3_url: str) -> None:
    """The home, and with it the copies, on the disk: the store itself has room."""
    one = stand(home=disk.path / "home", objects_url=s3_url)
    books, there = one.books(), objects(one)
    disk.fill(leave=2 * MIB)
    problem(one.run(key="once"), 503, "storage_full")
    assert one.books() == books
    assert (objects(one), drafts(disk.path)) == (there, [])
    disk.free()
    assert one.run(key="once").status_code == 200
    assert one.broken_laws() == []
