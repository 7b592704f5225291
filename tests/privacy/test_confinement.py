"""What the kernel forbids a worker, tried from inside: each limit by itself, in a child that ends with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy import confinement

MIB = 2**20
REFUSED = errno.errorcode[errno.EPERM]
needs_landlock = pytest.mark.skipif(
    confinement.landlock_abi() == 0, reason="this kernel has no Landlock: /readyz and the log say so"
)


def inside(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a child of its own; the name of the signal that ended it, if one did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = json.dumps(work()).encode()
            with contextlib.suppress(OSError):
                os.write(writing, found)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else json.loads(told)


def tried(act: Callable[[], Any]) -> str:
    """``done``, or the name of the error."""
    try:
        act()
    except MemoryError:
        return "MemoryError"
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def limited(**limits: int) -> None:
    confinement.limit_resources(**{"memory_bytes": 512 * MIB, "cpu_s": 20, "file_bytes": MIB, **limits})


def test_no_sockets_and_no_programs() -> None:
    def work() -> list[str]:
        before = socket.socketpair()
        assert confinement.forbid_network_and_programs()
        return [
            tried(socket.socket),
            tried(lambda: socket.socket(socket.AF_UNIX)),
            tried(lambda: before[0].connect("\0nobody")),
            tried(lambda: os.execv("/bin/true", ["true"])),
            tried(lambda: os.chroot("/")),
        ]

    assert inside(work) == [REFUSED] * 5


def test_no_processes_and_no_signals_to_others_but_threads() -> None:
    def work() -> list[Any]:
        assert confinement.forbid_processes_and_signals()
        seen: list[int] = []
        thread = threading.Thread(target=seen.append, args=(1,))
        thread.start()
        thread.join(10)
        return [tried(os.fork), tried(lambda: os.kill(os.getppid(), 0)), seen]

    assert inside(work) == [REFUSED, REFUSED, [1]]


def test_the_network_is_empty() -> None:
    def work() -> Any:
        if not confinement.leave_network():
            return None
        lines = Path("/proc/self/net/dev").read_text().splitlines()[2:]
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return [[line.split(":")[0].strip() for line in lines], tried(lambda: out.connect(("192.0.2.1", 9)))]

    found = inside(work)
    if found is None:
        pytest.skip("this kernel grants no network namespace: /readyz and the log say so")
    assert found == [["lo"], errno.errorcode[errno.ENETUNREACH]]


def test_no_privileges_are_left_to_gain() -> None:
    def work() -> list[str]:
        assert confinement.drop_privileges()
        lines = Path("/proc/self/status").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith(("CapEff", "CapPrm", "NoNewPrivs"))]

    effective, permitted, none_new = sorted(inside(work), key=len, reverse=True)
    assert none_new == "1"
    assert int(effective, 16) & ~0b110 == int(permitted, 16) & ~0b110 == 0


def test_memory_is_an_error_and_not_the_machines_end() -> None:
    def work() -> list[str]:
        limited(memory_bytes=64 * MIB)
        return [tried(lambda: bytearray(128 * MIB)), tried(lambda: bytearray(16 * MIB))]

    assert inside(work) == ["MemoryError", "done"]


def test_processor_time_ends_with_the_process() -> None:
    def work() -> None:
        limited(cpu_s=1)
        until = time.process_time() + 10
        while time.process_time() < until:
            pass

    assert inside(work) in ("SIGXCPU", "SIGKILL")


def test_no_file_grows_beyond_its_limit(tmp_path: Path) -> None:
    def work() -> list[str]:
        limited(file_bytes=MIB)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the error instead of the end

        def write(size: int) -> None:
            with (tmp_path / "spilled").open("wb", buffering=0) as file:
                file.write(b"x" * size)
                file.write(b"x")

        return [tried(lambda: write(MIB - 1)), tried(lambda: write(2 * MIB))]

    assert inside(work) == ["done", errno.errorcode[errno.EFBIG]]
    assert (tmp_path / "spilled").stat().st_size == MIB


def test_no_core_and_few_descriptors() -> None:
    def work() -> list[Any]:
        limited()
        return [resource.getrlimit(what) for what in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)]

    (core, _), (_, descriptors) = inside(work)
    assert core == 0
    assert descriptors <= 1024


@needs_landlock
def test_exactly_the_named_files_and_the_scratch_space(tmp_path: Path) -> None:
    named, other, scratch = tmp_path / "named", tmp_path / "other", tmp_path / "scratch"
    named.write_text("one")
    other.write_text("two")
    scratch.mkdir()

    def work() -> list[str]:
        assert confinement.confine_files([str(named)], str(scratch))
        return [
            tried(named.read_text),
            tried(other.read_text),
            tried(lambda: Path("/etc/passwd").read_text()),
            tried(lambda: list(tmp_path.iterdir())),
            tried(lambda: named.write_text("changed")),
            tried(lambda: (tmp_path / "fresh").write_text("x")),
            tried(lambda: (scratch / "spilled").write_text("x")),
            tried(lambda: (scratch / "spilled").rename(tmp_path / "out")),
        ]

    denied = errno.errorcode[errno.EACCES]
    found = inside(work)
    assert found[:7] == ["done", denied, denied, denied, denied, denied, "done"]
    assert found[7] in (denied, errno.errorcode[errno.EXDEV])
    assert named.read_text() == "one"


@needs_landlock
def test_a_file_that_is_not_there_stops_the_worker_before_its_task(tmp_path: Path) -> None:
    assert (
        inside(lambda: tried(lambda: confinement.confine_files([str(tmp_path / "gone")], str(tmp_path))))
        == (errno.errorcode[errno.ENOENT])
    )


def test_without_landlock_it_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forbidden by the engine's own list of files then stands alone."""
    monkeypatch.setattr(confinement, "landlock_abi", lambda: 0)
    assert inside(lambda: confinement.confine_files([], str(tmp_path))) is False


def test_more_than_one_thread_is_not_confined(tmp_path: Path) -> None:
    """The kernel confines the calling thread alone: one that is there already would stay free."""

    def work() -> str:
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        try:
            confinement.require_single_thread()
        except RuntimeError:
            return "refused"
        return "passed"

    assert inside(work) == "refused"


def test_a_child_dies_with_its_parent() -> None:
    def work() -> int:
        parent, (reading, writing) = os.getpid(), os.pipe()
        child = os.fork()
        if child == 0:
            confinement.die_with_parent(parent)
            os.write(writing, b"held")
            threading.Event().wait(60)
            os._exit(0)
        os.read(reading, 4)
        return child

    child = Path("/proc", str(inside(work)), "stat")
    assert ended(child)


def ended(stat: Path) -> bool:
    """Whether a process is gone, or a zombie: whoever adopted it may be slow to reap."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
    return False
